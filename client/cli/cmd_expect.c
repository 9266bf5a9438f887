/* redd expect: waits until an output says something, with a line sent in the same step.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/cli/options.h"
#include "client/cli/say.h"
#include "client/cli/show.h"

#define NOT_FOUND 1
#define TIMED_OUT 124

static const char usage[] = "expect [OPTION...] PORT";

/* Patterns in the order in which they were given, of either kind. */
struct patterns {
	struct redd_pattern *list;
	size_t n;
};

struct expect {
	struct patterns patterns;
	struct given from, stream, idle, timeout;
	const char *send;
	bool now, bare, exit, block, ignore_case, json;
};

static const char *pattern_add(struct patterns *p, const char *text, bool regex)
{
	struct redd_pattern *list;

	if (!*text)
		return "is empty";
	list = realloc(p->list, (p->n + 1) * sizeof(*list));
	if (!list)
		return "cannot be kept: no memory";
	p->list = list;
	p->list[p->n++] = (struct redd_pattern){ .text = text, .regex = regex };
	return NULL;
}

static const char *option_text(void *member, const char *value)
{
	return pattern_add(member, value, false);
}

static const char *option_regex(void *member, const char *value)
{
	return pattern_add(member, value, true);
}

static const struct option_row rows[] = {
	OPTION('t', "text", "TEXT", "wait for this text", option_text, struct expect, patterns),
	OPTION('e', "regex", "RE", "wait for a match of this regular expression", option_regex,
	       struct expect, patterns),
	OPTION('i', "ignore-case", NULL, "of all of them", option_flag, struct expect, ignore_case),
	OPTION('s', "send", "TEXT", "write this first, with a newline", option_string,
	       struct expect, send),
	OPTION('n', "no-newline", NULL, "no newline behind what is sent", option_flag,
	       struct expect, bare),
	OPTION(0, "from", "OFFSET", "look from this byte of the output on", option_number,
	       struct expect, from),
	OPTION(0, "now", NULL, "look at what comes from now on (default)", option_flag,
	       struct expect, now),
	OPTION(0, "stream", "N", "another output than stdout or the terminal", option_stream,
	       struct expect, stream),
	OPTION(0, "idle", "DURATION", "until nothing came for so long", option_duration,
	       struct expect, idle),
	OPTION(0, "exit", NULL, "until the program has ended", option_flag, struct expect, exit),
	OPTION(0, "timeout", "DURATION", "no longer than this (status 124)", option_duration,
	       struct expect, timeout),
	OPTION(0, "block", NULL, "hold the program back rather than miss a byte", option_flag,
	       struct expect, block),
	OPTION(0, "json", NULL, "print all that is known as an object", option_flag, struct expect,
	       json),
	OPTIONS_END,
};

/* --- what came of it ------------------------------------------------------------------------- */

static const char *name_of(enum redd_matched_what what)
{
	static const char *const names[] = {
		"unknown", "match", "idle", "exited", "ended", "deadline", "lost",
	};

	return (size_t)what < sizeof(names) / sizeof(names[0]) ? names[what] : names[0];
}

static void print_match(struct json *j, const struct redd_matched *m)
{
	json_unsigned(j, "pattern", m->pattern);
	json_unsigned(j, "offset", m->offset);
	json_unsigned(j, "end", m->end);
	if (m->data)
		json_bytes(j, "data", m->data, m->size);
	json_array(j, "groups");
	for (size_t i = 0; i < m->n_groups; i++) {
		json_object(j, NULL);
		if (m->groups[i].is_set) {
			json_unsigned(j, "offset", m->groups[i].offset);
			json_unsigned(j, "end", m->groups[i].end);
		}
		json_object_end(j);
	}
	json_array_end(j);
}

static void print_json(const struct redd_matched *m)
{
	struct json j = { .file = stdout };

	json_object(&j, NULL);
	json_string(&j, "what", name_of(m->what));
	json_unsigned(&j, "port", m->port);
	json_unsigned(&j, "stream", m->stream);
	if (m->what == REDD_MATCH)
		print_match(&j, m);
	json_unsigned(&j, "from", m->from);
	json_unsigned(&j, "searched", m->searched);
	json_unsigned(&j, "next", m->next);
	if (m->has_exit)
		json_exit(&j, "exit", &m->exit);
	if (m->has_written)
		json_unsigned(&j, "written_at", m->written.offset);
	json_object_end(&j);
	json_line(&j);
}

/* 0: what was waited for has come. */
static int status_of(const struct expect *o, const struct redd_matched *m)
{
	switch (m->what) {
	case REDD_MATCH:
		return 0;
	case REDD_MATCHED_DEADLINE:
		return TIMED_OUT;
	case REDD_MATCHED_IDLE:
	case REDD_MATCHED_EXITED:
	case REDD_MATCHED_ENDED:
		return o->patterns.n ? NOT_FOUND : 0;
	case REDD_MATCHED_LOST:
		return say("bytes up to offset %" PRIu64
			   " were gone before they were searched; see "
			   "--block, or a larger log",
			   m->next);
	default:
		return say("the broker told an end that this command does not know");
	}
}

static int print(const struct expect *o, const struct redd_matched *m)
{
	if (o->json)
		print_json(m);
	else if (m->what == REDD_MATCH && m->data)
		fwrite(m->data, 1, m->size, stdout);
	return cli_flush(status_of(o, m));
}

/* --- asking ---------------------------------------------------------------------------------- */

static int expect(const struct cli *cli, struct expect *o, const char *word, const char *send,
		  size_t size)
{
	struct redd_expect_options x = {
		.patterns = o->patterns.list,
		.n_patterns = o->patterns.n,
		.other_stream = o->stream.is,
		.stream = (uint32_t)o->stream.value,
		.has_from = o->from.is,
		.from = o->from.value,
		.idle_ms = (uint32_t)o->idle.value,
		.exit = o->exit,
		.block = o->block,
		.data = send,
		.data_size = size,
	};
	struct redd_port *port = cli_port(cli, word);
	struct redd_matched *matched;
	struct redd *r;
	int status;

	if (!port)
		return CLI_TROUBLE;
	r = redd_port_connection(port);
	if (redd_expect(port, &x, o->timeout.is ? (int64_t)o->timeout.value : -1, &matched) < 0) {
		status = say_failure(r, word);
	} else {
		status = print(o, matched);
		redd_matched_free(matched);
	}
	redd_free(r);
	return status;
}

/* With its newline; owned. */
static char *line_of(const struct expect *o, size_t *ret_size)
{
	size_t size = strlen(o->send);
	char *line = malloc(size + 2);

	if (!line)
		return NULL;
	stpcpy(stpcpy(line, o->send), o->bare ? "" : "\n");
	*ret_size = size + !o->bare;
	return line;
}

static int checked(const struct cli *cli, struct expect *o, const char *word)
{
	size_t size = 0;
	char *line = NULL;
	int status;

	if (o->now && o->from.is)
		return say_usage(cli, "--now and --from are two different beginnings");
	for (size_t i = 0; i < o->patterns.n; i++)
		o->patterns.list[i].ignore_case = o->ignore_case;
	if (o->send) {
		line = line_of(o, &size);
		if (!line)
			return say("no memory");
	}
	status = expect(cli, o, word, line, size);
	free(line);
	return status;
}

int cmd_expect(struct cli *cli, int argc, char **argv)
{
	struct expect o = { 0 };
	int first, e = options_words(cli, rows, usage, &o, argc, argv, 1, 1, &first);

	if (!e)
		e = checked(cli, &o, argv[first]);
	else if (e > 0)
		e = cli_flush(0);
	free(o.patterns.list);
	return e;
}
