/* redd inspect: all that the broker tells of one port.
 */
#include <inttypes.h>
#include <stdio.h>

#include "client/cli/options.h"
#include "client/cli/rights_options.h"
#include "client/cli/say.h"
#include "client/cli/show.h"
#include "client/cli/units.h"

static const char usage[] = "inspect [--json] PORT";

struct inspect {
	bool json;
};

static const struct option_row rows[] = {
	OPTION(0, "json", NULL, "as a JSON object", option_flag, struct inspect, json),
	OPTIONS_END,
};

static void line(const char *key, const char *value)
{
	printf("%-14s ", key);
	show_text(stdout, value);
	printf("\n");
}

static void print_input(const struct redd_stream_info *s)
{
	printf(" queued=%" PRIu64 " waiting=%" PRIu32, s->queued, s->waiting);
	if (s->high == REDD_MARKS_OFF)
		printf(" marks=off");
	else
		printf(" marks=%" PRIu32 ":%" PRIu32, s->high, s->low);
	printf(" bound=%" PRIu32 "%s", s->bound, s->busy ? " busy" : "");
}

static void print_stream(const struct redd_stream_info *s)
{
	printf("%-14s %" PRIu32 " %s total=%" PRIu64, "stream", s->stream,
	       s->direction == REDD_INPUT ? "input" : "output", s->total);
	if (s->direction == REDD_INPUT)
		print_input(s);
	else
		printf(" oldest=%" PRIu64 " log=%" PRIu32 "%s", s->oldest, s->log_size,
		       s->held ? " held" : "");
	if (s->held_total_ms)
		printf(" held_ms=%" PRIu64 " held_total_ms=%" PRIu64, s->held_ms, s->held_total_ms);
	if (s->expects)
		printf(" expects=%" PRIu32, s->expects);
	if (s->has_xxh3)
		printf(" xxh3=%016" PRIx64, s->xxh3);
	printf("%s%s\n", s->ended ? " ended: " : "", s->ended ? show_end(s->cause) : "");
	for (size_t i = 0; i < s->n_held_by; i++) {
		printf("%-14s %" PRIu32 " ", "held by", s->stream);
		show_holder(stdout, &s->held_by[i]);
		printf("\n");
	}
}

static void print_subscription(const struct redd_subscription_info *s)
{
	printf("%-14s %" PRIu64 " ", "subscription", s->subscription);
	show_text(stdout, s->client);
	printf(" pid=%d uid=%" PRIu32 " %s%s lag=%" PRIu64 " lag_ms=%" PRIu64, (int)s->pid, s->uid,
	       show_overflow(s->overflow), s->stalled ? " (stalled)" : "", s->lag, s->lag_ms);
	if (s->has_credit)
		printf(" credit=%" PRIu64, s->credit);
	for (size_t i = 0; i < s->n_offsets; i++)
		printf(" %" PRIu32 "@%" PRIu64, s->offsets[i].stream, s->offsets[i].offset);
	if (s->skipped)
		printf(" skipped=%" PRIu64, s->skipped);
	if (s->shared)
		printf(" shared");
	if (s->blocked_total_ms)
		printf(" blocking_ms=%" PRIu64 " blocked_total_ms=%" PRIu64, s->blocking_ms,
		       s->blocked_total_ms);
	printf("%s\n", s->blocking ? " blocking" : "");
}

static void print_grant(const struct redd_grant_info *g)
{
	printf("%-14s %" PRIu64 " ", "grant", g->grant);
	if (g->to == REDD_GRANT_EVERYONE)
		printf("everyone ");
	else
		printf("%s=%" PRIu32 " ", g->to == REDD_GRANT_GID ? "gid" : "uid", g->number);
	rights_show(stdout, &g->rights);
	if (g->has_left)
		printf(" left=%" PRIu64 "ms", g->left_ms);
	printf("\n");
}

static void print_claim(const char *key, const struct redd_claim_info *c)
{
	printf("%-14s %" PRIu64 " ", key, c->lease);
	show_text(stdout, c->client);
	printf(" pid=%d uid=%" PRIu32, (int)c->pid, c->uid);
}

static void print_lease(const struct redd_lease_info *l)
{
	print_claim("lease", &l->holder);
	if (l->has_left)
		printf(" left=%" PRIu64 "ms", l->left_ms);
	printf("\n");
	for (size_t i = 0; i < l->n_waiting; i++) {
		print_claim("lease wanted", &l->waiting[i]);
		printf("\n");
	}
}

static void print_lists(const struct redd_port_info *p)
{
	for (size_t i = 0; i < p->n_labels; i++) {
		printf("%-14s ", "label");
		show_text(stdout, p->labels[i].key);
		printf("=");
		show_text(stdout, p->labels[i].value);
		printf("\n");
	}
	for (size_t i = 0; i < p->n_streams; i++)
		print_stream(&p->streams[i]);
	for (size_t i = 0; i < p->n_subscriptions; i++)
		print_subscription(&p->subscriptions[i]);
	for (size_t i = 0; i < p->n_grants; i++)
		print_grant(&p->grants[i]);
	if (p->has_lease)
		print_lease(&p->lease);
	for (size_t i = 0; i < p->n_holders; i++)
		printf("%-14s pid %" PRId32 "\n", "holder", p->holders[i]);
}

static void print_port(const struct redd_port_info *p)
{
	char text[SHOW_SIZE], when[UNITS_TEXT_SIZE];

	printf("%-14s %" PRIu64 "\n", "port", p->port);
	if (p->name)
		line("name", p->name);
	line("state", show_state(p->state));
	line("kind", show_kind(p->kind));
	if (p->pid)
		printf("%-14s %d\n", "pid", (int)p->pid);
	printf("%-14s %" PRIu32 "\n", "owner", p->owner_uid);
	printf("%-14s ", "command");
	show_command(stdout, p);
	printf("\n");
	line("directory", p->directory);
	if (p->has_terminal_size)
		printf("%-14s %" PRIu32 " rows, %" PRIu32 " columns\n", "terminal",
		       p->terminal_size.rows, p->terminal_size.columns);
	else
		line("terminal", p->terminal ? "yes" : "no");
	if (p->start_ns) /* else it is starting still */
		line("started", units_time(p->start_ns, when));
	if (p->has_exit) {
		line("ended", units_time(p->exit.end_ns, when));
		line("status", show_exit(&p->exit, text));
		if (p->exit.reason)
			line("unknown since", p->exit.reason);
		printf("%-14s user %" PRIu64 " us, system %" PRIu64 " us, memory %" PRIu64 "\n",
		       "used", p->exit.user_us, p->exit.system_us, p->exit.max_rss);
	}
	printf("%-14s %s%s\n", "on disconnect", show_orphan(p->orphan),
	       p->orphaned ? " (orphaned)" : "");
	printf("%-14s %" PRIu32 " ms\n", "retention", p->retention_ms);
	if (p->framing.cut != REDD_RAW)
		line("framing", show_framing(&p->framing, text));
	if (p->timeout_ms)
		printf("%-14s %" PRIu32 " ms\n", "timeout", p->timeout_ms);
	print_lists(p);
}

static int inspect(const struct cli *cli, const struct inspect *o, const char *word)
{
	struct redd_port *port = cli_port(cli, word);
	struct json j = { .file = stdout };
	struct redd_ports *ports;
	struct redd *r;
	int status;

	if (!port)
		return CLI_TROUBLE;
	r = redd_port_connection(port);
	status = redd_inspect(port, &ports) < 0 ? say_failure(r, word) : 0;
	if (status == 0) {
		if (o->json) {
			json_port(&j, ports->ports, true);
			json_line(&j);
		} else {
			print_port(ports->ports);
		}
		redd_ports_free(ports);
		status = cli_flush(0);
	}
	redd_free(r);
	return status;
}

int cmd_inspect(struct cli *cli, int argc, char **argv)
{
	struct inspect o = { 0 };
	int first, e = options_words(cli, rows, usage, &o, argc, argv, 1, 1, &first);

	return e ? (e > 0 ? cli_flush(0) : e) : inspect(cli, &o, argv[first]);
}
