#include "client/cli/show.h"

#include <stdio.h>
#include <string.h>

#include "client/cli/rights_options.h"
#include "client/cli/units.h"

static const char *name_of(const char *const *names, size_t n, unsigned value)
{
	return value < n ? names[value] : "unknown";
}

#define NAME_OF(names, value) \
	name_of((names), sizeof(names) / sizeof((names)[0]), (unsigned)(value))

const char *show_state(enum redd_port_state state)
{
	static const char *const names[] = { "starting", "running", "draining", "ended" };

	return NAME_OF(names, state);
}

const char *show_kind(enum redd_port_kind kind)
{
	static const char *const names[] = { "process", "file", "descriptors" };

	return NAME_OF(names, kind);
}

const char *show_orphan(enum redd_orphan orphan)
{
	static const char *const names[] = { "kill", "close-stdin", "keep", "keep-for" };

	return NAME_OF(names, orphan);
}

const char *show_overflow(enum redd_overflow overflow)
{
	static const char *const names[] = { "default", "block", "drop", "cancel" };

	return NAME_OF(names, overflow);
}

const char *show_end(enum redd_end_cause cause)
{
	static const char *const names[] = { "end-of-file", "idle",	      "limit",
					     "read-error",  "broker-stopped", "closed" };

	return NAME_OF(names, cause);
}

const char *show_what(enum redd_what what)
{
	static const char *const names[] = { "unknown",	  "started", "exited",	"closed",
					     "forgotten", "missed",  "granted", "revoked" };

	return what == REDD_LIFE_LOST ? "lost" : NAME_OF(names, what);
}

const char *show_exit(const struct redd_exit *e, char out[SHOW_SIZE])
{
	char name[UNITS_TEXT_SIZE];
	const char *timed_out = e->timed_out ? ", timed out" : "";

	if (e->state == REDD_EXIT_CODE)
		snprintf(out, SHOW_SIZE, "%d%s", e->code, timed_out);
	else if (e->state == REDD_EXIT_SIGNAL)
		snprintf(out, SHOW_SIZE, "signal %s%s%s", units_signal_name(e->signal, name),
			 e->core ? " (core)" : "", timed_out);
	else
		snprintf(out, SHOW_SIZE, "unknown%s", timed_out);
	return out;
}

void show_text(FILE *f, const char *text)
{
	for (const unsigned char *p = (const unsigned char *)text; *p; p++) {
		if (*p < 0x20 || *p == 0x7f || *p == '\\')
			fprintf(f, "\\x%02x", *p);
		else
			fputc(*p, f);
	}
}

static void show_word(FILE *f, const char *word)
{
	static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
				    "@%+=:,./_-";

	if (*word && strspn(word, plain) == strlen(word)) {
		fputs(word, f);
		return;
	}
	fputc('\'', f);
	show_text(f, word);
	fputc('\'', f);
}

void show_command(FILE *f, const struct redd_port_info *p)
{
	if (p->kind != REDD_PROCESS)
		fprintf(f, "[%s] ", show_kind(p->kind));
	if (p->kind == REDD_DESCRIPTORS)
		return;
	show_word(f, p->program);
	for (size_t i = 0; i < p->n_args; i++) {
		fputc(' ', f);
		show_word(f, p->args[i]);
	}
	if (p->args_cut)
		fputs(" ...", f);
}

void show_holder(FILE *f, const struct redd_holder *h)
{
	fprintf(f, "subscription %llu of '", (unsigned long long)h->subscription);
	show_text(f, h->client);
	fprintf(f, "' (pid %d)", (int)h->pid);
}

/* --- JSON ------------------------------------------------------------------------------------ */

void json_exit(struct json *j, const char *key, const struct redd_exit *e)
{
	static const char *const states[] = { "unknown", "code", "signal" };

	json_object(j, key);
	json_string(j, "state", NAME_OF(states, e->state));
	if (e->state == REDD_EXIT_CODE)
		json_number(j, "code", e->code);
	if (e->state == REDD_EXIT_SIGNAL) {
		json_number(j, "signal", e->signal);
		json_bool(j, "core", e->core);
	}
	if (e->state == REDD_EXIT_UNKNOWN)
		json_string(j, "reason", e->reason);
	json_bool(j, "timed_out", e->timed_out);
	json_number(j, "start_ns", e->start_ns);
	json_number(j, "end_ns", e->end_ns);
	json_unsigned(j, "user_us", e->user_us);
	json_unsigned(j, "system_us", e->system_us);
	json_unsigned(j, "max_rss", e->max_rss);
	json_unsigned(j, "minor_faults", e->minor_faults);
	json_unsigned(j, "major_faults", e->major_faults);
	json_unsigned(j, "voluntary_switches", e->voluntary_switches);
	json_unsigned(j, "involuntary_switches", e->involuntary_switches);
	json_unsigned(j, "blocks_in", e->blocks_in);
	json_unsigned(j, "blocks_out", e->blocks_out);
	json_object_end(j);
}

static void json_holder(struct json *j, const struct redd_holder *h)
{
	json_object(j, NULL);
	json_unsigned(j, "subscription", h->subscription);
	json_number(j, "pid", h->pid);
	json_string(j, "client", h->client);
	json_object_end(j);
}

void json_stream(struct json *j, const struct redd_stream_info *s)
{
	char hash[17];

	json_object(j, NULL);
	json_unsigned(j, "stream", s->stream);
	json_string(j, "direction", s->direction == REDD_INPUT ? "input" : "output");
	json_unsigned(j, "total", s->total);
	if (s->direction == REDD_INPUT) {
		json_unsigned(j, "queued", s->queued);
		json_bool(j, "busy", s->busy);
		json_unsigned(j, "waiting", s->waiting);
		if (s->high != REDD_MARKS_OFF) {
			json_unsigned(j, "high", s->high);
			json_unsigned(j, "low", s->low);
		}
		json_unsigned(j, "bound", s->bound);
	} else {
		json_unsigned(j, "oldest", s->oldest);
		json_bool(j, "held", s->held);
		json_unsigned(j, "held_ms", s->held_ms);
		json_unsigned(j, "held_total_ms", s->held_total_ms);
		json_array(j, "held_by");
		for (size_t i = 0; i < s->n_held_by; i++)
			json_holder(j, &s->held_by[i]);
		json_array_end(j);
		json_unsigned(j, "expects", s->expects);
		json_unsigned(j, "log_size", s->log_size);
	}
	json_bool(j, "ended", s->ended);
	if (s->ended)
		json_string(j, "cause", show_end(s->cause));
	if (s->has_xxh3) {
		snprintf(hash, sizeof(hash), "%016llx", (unsigned long long)s->xxh3);
		json_string(j, "xxh3", hash);
	}
	json_object_end(j);
}

static void json_subscription(struct json *j, const struct redd_subscription_info *s)
{
	json_object(j, NULL);
	json_unsigned(j, "subscription", s->subscription);
	json_string(j, "client", s->client);
	json_number(j, "pid", s->pid);
	json_unsigned(j, "uid", s->uid);
	json_string(j, "overflow", show_overflow(s->overflow));
	json_array(j, "offsets");
	for (size_t i = 0; i < s->n_offsets; i++) {
		json_object(j, NULL);
		json_unsigned(j, "stream", s->offsets[i].stream);
		json_unsigned(j, "offset", s->offsets[i].offset);
		json_object_end(j);
	}
	json_array_end(j);
	json_unsigned(j, "lag", s->lag);
	if (s->has_credit)
		json_unsigned(j, "credit", s->credit);
	json_unsigned(j, "lag_ms", s->lag_ms);
	json_bool(j, "blocking", s->blocking);
	json_unsigned(j, "blocking_ms", s->blocking_ms);
	json_unsigned(j, "blocked_total_ms", s->blocked_total_ms);
	json_bool(j, "stalled", s->stalled);
	json_unsigned(j, "skipped", s->skipped);
	json_bool(j, "shared", s->shared);
	json_object_end(j);
}

void json_pids(struct json *j, const char *key, const int32_t *pids, size_t n)
{
	json_array(j, key);
	for (size_t i = 0; i < n; i++)
		json_number(j, NULL, pids[i]);
	json_array_end(j);
}

static void json_grant(struct json *j, const struct redd_grant_info *g)
{
	static const char *const to[] = { "uid", "gid", "everyone" };

	json_object(j, NULL);
	json_unsigned(j, "grant", g->grant);
	json_string(j, "to", NAME_OF(to, g->to));
	if (g->to != REDD_GRANT_EVERYONE)
		json_unsigned(j, "number", g->number);
	rights_json(j, &g->rights);
	if (g->has_left)
		json_unsigned(j, "left_ms", g->left_ms);
	json_object_end(j);
}

static void json_claim(struct json *j, const char *key, const struct redd_claim_info *c)
{
	json_object(j, key);
	json_unsigned(j, "lease", c->lease);
	json_string(j, "client", c->client);
	json_number(j, "pid", c->pid);
	json_unsigned(j, "uid", c->uid);
	json_object_end(j);
}

static void json_lease(struct json *j, const struct redd_lease_info *l)
{
	json_object(j, "lease");
	json_claim(j, "holder", &l->holder);
	if (l->has_left)
		json_unsigned(j, "left_ms", l->left_ms);
	json_array(j, "waiting");
	for (size_t i = 0; i < l->n_waiting; i++)
		json_claim(j, NULL, &l->waiting[i]);
	json_array_end(j);
	json_object_end(j);
}

static void json_details(struct json *j, const struct redd_port_info *p)
{
	if (p->has_terminal_size) {
		json_object(j, "terminal_size");
		json_unsigned(j, "rows", p->terminal_size.rows);
		json_unsigned(j, "columns", p->terminal_size.columns);
		json_unsigned(j, "x_pixels", p->terminal_size.x_pixels);
		json_unsigned(j, "y_pixels", p->terminal_size.y_pixels);
		json_object_end(j);
	}
	json_array(j, "streams");
	for (size_t i = 0; i < p->n_streams; i++)
		json_stream(j, &p->streams[i]);
	json_array_end(j);
	json_array(j, "subscriptions");
	for (size_t i = 0; i < p->n_subscriptions; i++)
		json_subscription(j, &p->subscriptions[i]);
	json_array_end(j);
	json_pids(j, "holders", p->holders, p->n_holders);
	json_array(j, "grants");
	for (size_t i = 0; i < p->n_grants; i++)
		json_grant(j, &p->grants[i]);
	json_array_end(j);
	if (p->has_lease)
		json_lease(j, &p->lease);
}

static const char *cut_name(enum redd_cut cut)
{
	static const char *const names[] = { "default", "raw", "lines", "packets" };

	return NAME_OF(names, cut);
}

const char *show_framing(const struct redd_framing *f, char out[SHOW_SIZE])
{
	if (f->cut == REDD_PACKETS)
		snprintf(out, SHOW_SIZE, "packets of up to %u, length in %u", f->maximum,
			 f->header);
	else
		snprintf(out, SHOW_SIZE, "%s of up to %u", cut_name(f->cut), f->maximum);
	return out;
}

static void json_framing(struct json *j, const struct redd_framing *f)
{
	json_object(j, "framing");
	json_string(j, "cut", cut_name(f->cut));
	if (f->cut != REDD_RAW)
		json_unsigned(j, "maximum", f->maximum);
	if (f->cut == REDD_PACKETS)
		json_unsigned(j, "header", f->header);
	json_object_end(j);
}

void json_port(struct json *j, const struct redd_port_info *p, bool details)
{
	json_object(j, NULL);
	json_unsigned(j, "port", p->port);
	json_string(j, "name", p->name);
	json_string(j, "state", show_state(p->state));
	json_string(j, "kind", show_kind(p->kind));
	if (p->pid)
		json_number(j, "pid", p->pid);
	json_unsigned(j, "owner_uid", p->owner_uid);
	json_string(j, "program", p->program);
	json_array(j, "args");
	for (size_t i = 0; i < p->n_args; i++)
		json_string(j, NULL, p->args[i]);
	json_array_end(j);
	json_bool(j, "args_cut", p->args_cut);
	json_string(j, "directory", p->directory);
	json_object(j, "labels");
	for (size_t i = 0; i < p->n_labels; i++)
		json_string(j, p->labels[i].key, p->labels[i].value);
	json_object_end(j);
	if (p->start_ns)
		json_number(j, "start_ns", p->start_ns);
	if (p->has_exit)
		json_exit(j, "exit", &p->exit);
	json_bool(j, "terminal", p->terminal);
	json_string(j, "on_disconnect", show_orphan(p->orphan));
	json_bool(j, "orphaned", p->orphaned);
	json_unsigned(j, "timeout_ms", p->timeout_ms);
	json_unsigned(j, "retention_ms", p->retention_ms);
	json_framing(j, &p->framing);
	if (details)
		json_details(j, p);
	json_object_end(j);
}

struct redd_label label_of(char *text)
{
	char *equals = strchr(text, '=');

	if (equals)
		*equals++ = '\0';
	return (struct redd_label){ text, equals };
}
