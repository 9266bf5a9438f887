/* The options of `redd run`: a table of what is taken as it is, and one function for each that has
 * parts of its own.
 */
#include "client/cli/spawn_options.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "client/cli/say.h"
#include "client/cli/units.h"

static const char *take_nice(void *member, const char *value)
{
	struct run_options *o = member;
	char *end;
	long n = strtol(value, &end, 10);

	if (end == value || *end || n < -20 || n > 19)
		return "is no niceness from -20 to 19";
	o->nice = (int)n;
	o->has_nice = true;
	return NULL;
}

const char *option_octal(void *member, const char *value)
{
	struct given *g = member;
	char *end;

	g->value = strtoul(value, &end, 8);
	g->is = true;
	return end == value || *end || g->value > 0777 ? "is no octal mask, such as 027" : NULL;
}

/* Signal 0 only asks. */
static const char *take_ending_signal(void *member, const char *value)
{
	const char *wrong = option_signal(member, value);

	return wrong || *(int *)member ? wrong : "is no signal that ends anything, such as TERM";
}

static const char *take_drain(void *member, const char *value)
{
	struct run_options *o = member;

	if (!strcmp(value, "never")) {
		o->drain = (struct given){ true, REDD_DRAIN_NEVER };
		return NULL;
	}
	return option_duration(&o->drain, value);
}

/* Zero would mean the default to the library, and is what the broker refuses. */
static bool mark_parse(const char *text, uint32_t *ret)
{
	uint64_t size;

	if (!units_size(text, &size) || size == 0 || size >= REDD_MARKS_OFF)
		return false;
	*ret = (uint32_t)size;
	return true;
}

const char *option_marks(void *member, const char *value)
{
	struct run_options *o = member;
	const char *colon = strchrnul(value, ':');
	char high[32];

	if (!strcmp(value, "off")) {
		o->spawn.input_high = REDD_MARKS_OFF;
		return NULL;
	}
	if ((size_t)(colon - value) >= sizeof(high))
		return "is no HIGH[:LOW]";
	*(char *)mempcpy(high, value, (size_t)(colon - value)) = '\0';
	if (!mark_parse(high, &o->spawn.input_high) ||
	    (*colon && !mark_parse(colon + 1, &o->spawn.input_low)))
		return "is no HIGH[:LOW] of sizes from 1 on, such as 64K:16K, or off";
	return NULL;
}

#define ROW(letter, name, value, help, take, member) \
	OPTION(letter, name, value, help, take, struct run_options, member)

static const struct option_row rows[] = {
	ROW('d', "detach", NULL, "print the port's id and leave", option_flag, detach),
	ROW('t', "terminal", NULL, "give the program a terminal", option_flag, terminal),
	ROW('i', "interactive", NULL, "with -d: keep stdin open for `redd write`", option_flag,
	    interactive),
	ROW(0, "shell", NULL, "PROGRAM is a command for /bin/sh -c", option_flag, shell),
	ROW('e', "set", "NAME=VALUE", "set a variable", option_words, set_env),
	ROW(0, "unset", "NAME", "unset a variable", option_words, unset),
	ROW(0, "env", "client|broker|empty", "where the environment starts from", option_string,
	    environment),
	ROW('w', "directory", "DIR", "run it there", option_string, spawn.directory),
	ROW(0, "name", "NAME", "name the port", option_string, spawn.name),
	ROW('l', "label", "KEY=VALUE", "label the port", option_words, labels),
	ROW(0, "timeout", "DURATION", "end it after so long (status 124)", option_duration,
	    timeout),
	ROW(0, "timeout-signal", "SIGNAL", "with this signal (TERM)", take_ending_signal,
	    spawn.timeout_signal),
	ROW(0, "grace", "DURATION", "and with KILL so much later (5s)", option_duration, grace),
	ROW('u', "user", "UID[:GID]", "run it as another user", option_string, user),
	ROW(0, "umask", "MASK", "octal (ours)", option_octal, umask),
	ROW(0, "nice", "N", "niceness, -20 to 19", take_nice, spawn),
	ROW(0, "limit", "NAME=SOFT[:HARD]", "a resource limit, as nofile=1024", option_words,
	    limits),
	ROW(0, "no-new-privileges", NULL, "ignore set-user-ID programs", option_flag,
	    spawn.no_new_privileges),
	ROW(0, "new-group", NULL, "a group of its own instead of a session", option_flag,
	    spawn.new_group),
	ROW(0, "log-size", "SIZE", "of each output's log (256K)", option_room, log_size),
	ROW(0, "retention", "DURATION", "keep log and status so long after the end (60s)",
	    option_duration, retention),
	ROW(0, "on-disconnect", "kill|close-stdin|keep|keep:DURATION",
	    "when we go first (kill; with -d: keep)", option_string, orphan),
	ROW(0, "drain", "DURATION|never", "wait for silence after the exit (1s)", take_drain,
	    spawn),
	ROW(0, "drain-limit", "DURATION", "but no longer than this", option_duration, drain_limit),
	ROW(0, "token", "TEXT", "a repeat with the same token starts nothing", option_string,
	    token),
	ROW(0, "null-stdin", NULL, "stdin is the null device", option_flag, null_stdin),
	ROW(0, "null-stdout", NULL, "stdout is the null device", option_flag, null_stdout),
	ROW(0, "nouse-stdio", NULL, "it reads descriptor 3 and writes 4 instead of 0 and 1",
	    option_flag, nouse_stdio),
	ROW(0, "merge", NULL, "stderr goes where stdout goes", option_flag, merge),
	ROW(0, "input-marks", "HIGH[:LOW]|off", "stdin is busy from so many queued bytes (8K:4K)",
	    option_marks, spawn),
	ROW(0, "input-bound", "SIZE", "and refuses what goes beyond this (1M)", option_room,
	    input_bound),
	ROW(0, "checksum", NULL, "keep and compare checksums of the outputs", option_flag,
	    spawn.checksum),
	ROW(0, "packet", "1|2|4", "it speaks packets behind a length of so many bytes",
	    option_packet, spawn.framing),
	ROW(0, "framing", "lines[:MAX]|packets:1|2|4[:MAX]", "it speaks lines, or packets",
	    option_framing, spawn.framing),
	ROW(0, "json", NULL, "with -d: print a JSON object", option_flag, json),
	OPTIONS_END,
};

/* --- parts ----------------------------------------------------------------------------------- */

/* A copy of text that may be cut apart; NULL without memory. */
static char *text_copy(struct run_options *o, const char *text)
{
	char **list = realloc(o->texts, (o->n_texts + 1) * sizeof(*list));

	if (!list)
		return NULL;
	o->texts = list;
	list[o->n_texts] = strdup(text);
	return list[o->n_texts] ? list[o->n_texts++] : NULL;
}

void run_options_deinit(struct run_options *o)
{
	while (o->n_texts)
		free(o->texts[--o->n_texts]);
	free(o->texts);
	free(o->set_env.list);
	free(o->unset.list);
	free(o->labels.list);
	free(o->limits.list);
}

static int take_labels(const struct cli *cli, struct run_options *o)
{
	for (size_t i = 0; i < o->labels.n; i++) {
		char *key = text_copy(o, o->labels.list[i]);
		char *equals = key ? strchr(key, '=') : NULL;

		if (!equals || i == LABELS_MAX)
			return say_usage(cli,
					 "--label: '%s' is no KEY=VALUE, or one of more than %d",
					 o->labels.list[i], LABELS_MAX);
		*equals = '\0';
		o->label_list[i] = (struct redd_label){ key, equals + 1 };
	}
	o->spawn.labels = o->label_list;
	o->spawn.n_labels = o->labels.n;
	return 0;
}

static bool limit_value(const char *text, bool *ret_has, uint64_t *ret)
{
	*ret_has = *text != '\0';
	if (!strcmp(text, "unlimited")) {
		*ret = REDD_UNLIMITED;
		return true;
	}
	return !*ret_has || units_size(text, ret);
}

/* NAME=SOFT sets both, NAME=SOFT: the soft one, NAME=:HARD the hard one. */
static bool limit_parse(char *text, struct redd_limit *ret)
{
	char *equals = strchr(text, '='), *colon;

	if (!equals)
		return false;
	*equals++ = '\0';
	*ret = (struct redd_limit){ .name = text };
	colon = strchr(equals, ':');
	if (colon)
		*colon++ = '\0';
	if (!limit_value(equals, &ret->has_soft, &ret->soft) ||
	    !limit_value(colon ? colon : equals, &ret->has_hard, &ret->hard))
		return false;
	return ret->has_soft || ret->has_hard;
}

static int take_limits(const struct cli *cli, struct run_options *o)
{
	for (size_t i = 0; i < o->limits.n; i++) {
		char *text = text_copy(o, o->limits.list[i]);

		if (!text || i == LIMITS_MAX || !limit_parse(text, &o->limit_list[i]))
			return say_usage(cli,
					 "--limit: '%s' is no NAME=SOFT[:HARD], such as "
					 "nofile=1024 or core=0:unlimited",
					 o->limits.list[i]);
	}
	o->spawn.limits = o->limit_list;
	o->spawn.n_limits = o->limits.n;
	return 0;
}

static int take_environment(const struct cli *cli, struct run_options *o)
{
	static const char *const names[] = { "client", "broker", "empty" };

	for (size_t i = 0; i < o->set_env.n; i++) {
		if (!strchr(o->set_env.list[i] + (o->set_env.list[i][0] != '\0'), '='))
			return say_usage(cli, "-e: '%s' is no NAME=VALUE", o->set_env.list[i]);
	}
	o->spawn.set_env = o->set_env.list;
	o->spawn.unset = o->unset.list;
	if (!o->environment)
		return 0;
	for (int i = 0; i < 3; i++) {
		if (!strcmp(o->environment, names[i])) {
			o->spawn.environment_base = (enum redd_environment)i;
			return 0;
		}
	}
	return say_usage(cli, "--env: '%s' is not client, broker or empty", o->environment);
}

static int take_user(const struct cli *cli, struct run_options *o)
{
	uint64_t uid, gid = 0;
	char *text, *colon;

	if (!o->user)
		return 0;
	text = text_copy(o, o->user);
	colon = text ? strchr(text, ':') : NULL;
	if (colon)
		*colon++ = '\0';
	if (!text || !units_number(text, &uid) || uid >= UINT32_MAX ||
	    (colon && (!units_number(colon, &gid) || gid >= UINT32_MAX)))
		return say_usage(cli, "--user: '%s' is no UID[:GID] in numbers", o->user);
	o->spawn.uid = (uint32_t)uid;
	o->spawn.gid = (uint32_t)gid;
	o->spawn.set |= REDD_SET_UID | (colon ? REDD_SET_GID : 0);
	return 0;
}

static int take_orphan(const struct cli *cli, struct run_options *o)
{
	static const char *const names[] = { "kill", "close-stdin", "keep" };
	uint64_t ms;

	if (!o->orphan) {
		o->spawn.orphan = o->detach ? REDD_ORPHAN_KEEP : REDD_ORPHAN_KILL;
		return 0;
	}
	for (int i = 0; i < 3; i++) {
		if (!strcmp(o->orphan, names[i])) {
			o->spawn.orphan = (enum redd_orphan)i;
			return 0;
		}
	}
	if (strncmp(o->orphan, "keep:", 5) || !units_duration(o->orphan + 5, &ms) ||
	    ms >= UINT32_MAX)
		return say_usage(cli,
				 "--on-disconnect: '%s' is not kill, close-stdin, keep or "
				 "keep:DURATION",
				 o->orphan);
	o->spawn.orphan = REDD_ORPHAN_KEEP_FOR;
	o->spawn.orphan_ms = (uint32_t)ms;
	return 0;
}

/* It can only be asked for by setting it. */
static mode_t own_umask(void)
{
	mode_t mask = umask(077);

	umask(mask);
	return mask;
}

static void take_numbers(struct run_options *o)
{
	struct redd_spawn_options *s = &o->spawn;

	s->timeout_ms = (uint32_t)o->timeout.value;
	s->timeout_grace_ms = (uint32_t)o->grace.value;
	s->umask = o->umask.is ? (mode_t)o->umask.value : own_umask();
	s->nice = o->nice;
	s->log_size = (uint32_t)(o->log_size.value < UINT32_MAX ? o->log_size.value : UINT32_MAX);
	s->input_bound =
		(uint32_t)(o->input_bound.value < UINT32_MAX ? o->input_bound.value : UINT32_MAX);
	s->retention_ms = (uint32_t)o->retention.value;
	s->drain_ms = (uint32_t)o->drain.value;
	s->drain_limit_ms = (uint32_t)o->drain_limit.value;
	s->token = o->token;
	s->token_size = o->token ? strlen(o->token) : 0;
	s->set |= REDD_SET_UMASK | (o->grace.is ? REDD_SET_TIMEOUT_GRACE : 0) |
		  (o->has_nice ? REDD_SET_NICE : 0) | (o->retention.is ? REDD_SET_RETENTION : 0) |
		  (o->drain.is ? REDD_SET_DRAIN : 0) |
		  (o->drain_limit.is ? REDD_SET_DRAIN_LIMIT : 0);
}

static int check_together(const struct cli *cli, const struct run_options *o)
{
	if (o->json && !o->detach)
		return say_usage(cli, "--json goes with -d: else stdout is the program's");
	if (o->interactive && !o->detach)
		return say_usage(cli, "-i goes with -d: else stdin is connected anyway");
	if (o->null_stdin && o->interactive)
		return say_usage(cli, "--null-stdin and -i exclude each other");
	if (o->terminal && (o->merge || o->null_stdin || o->null_stdout || o->nouse_stdio))
		return say_usage(cli, "-t makes all three a terminal: no --merge, --null-stdin, "
				      "--null-stdout or --nouse-stdio");
	return 0;
}

int run_options_take_common(const struct cli *cli, struct run_options *o)
{
	int e = take_labels(cli, o);

	if (!e)
		e = take_orphan(cli, o);
	if (!e)
		take_numbers(o);
	return e;
}

int run_options_parse(const struct cli *cli, const char *usage, int argc, char **argv,
		      struct run_options *o, int *ret_first)
{
	int e = options_parse(cli, rows, usage, o, argc, argv, ret_first);

	if (!e)
		e = check_together(cli, o);
	if (!e)
		e = take_limits(cli, o);
	if (!e)
		e = take_environment(cli, o);
	if (!e)
		e = take_user(cli, o);
	return e ? e : run_options_take_common(cli, o);
}
