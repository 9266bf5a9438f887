/* redd wait: waits for ports and leaves as the last one did.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "client/cli/options.h"
#include "client/cli/say.h"
#include "client/cli/show.h"

#define TIMED_OUT 124

static const char usage[] = "wait [OPTION...] (PORT... | -l KEY[=VALUE]...)";

struct wait_options {
	const char *until;
	struct given timeout;
	struct words labels;
	bool json;
};

static const struct option_row rows[] = {
	OPTION(0, "until", "exited|closed", "the program's end (default), or its last output's",
	       option_string, struct wait_options, until),
	OPTION(0, "timeout", "DURATION", "no longer than this (status 124)", option_duration,
	       struct wait_options, timeout),
	OPTION('l', "label", "KEY[=VALUE]", "for the first of all ports with this label",
	       option_words, struct wait_options, labels),
	OPTION(0, "json", NULL, "print an object for each", option_flag, struct wait_options, json),
	OPTIONS_END,
};

static int64_t now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static void print_waited(const struct redd_waited *w)
{
	struct json j = { .file = stdout };

	json_object(&j, NULL);
	json_unsigned(&j, "port", w->port);
	json_exit(&j, "exit", &w->exit);
	json_array(&j, "streams");
	for (int i = 0; i < w->n_streams; i++)
		json_stream(&j, &w->streams[i]);
	json_array_end(&j);
	json_pids(&j, "holders", w->holders, (size_t)w->n_holders);
	json_object_end(&j);
	json_line(&j);
}

static int status_of(const char *word, const struct redd_exit *e)
{
	if (e->state == REDD_EXIT_UNKNOWN)
		return say("%s: nobody knows how it ended: %s", word, e->reason);
	return e->timed_out ? TIMED_OUT : redd_exit_status(e);
}

#define LABELS_MAX 32

/* Tells which one it was. */
static int wait_labelled(struct redd *r, const struct wait_options *o)
{
	enum redd_until until =
		o->until && !strcmp(o->until, "closed") ? REDD_UNTIL_CLOSED : REDD_UNTIL_EXITED;
	struct redd_label labels[LABELS_MAX];
	struct redd_waited waited;
	int e;

	for (size_t i = 0; i < o->labels.n; i++)
		labels[i] = label_of((char *)o->labels.list[i]);
	e = redd_wait_labels(r, labels, o->labels.n, until,
			     o->timeout.is ? (int64_t)o->timeout.value : -1, &waited);
	if (e == -ETIMEDOUT)
		return TIMED_OUT;
	if (e < 0)
		return say_failure(r, NULL);
	if (o->json)
		print_waited(&waited);
	else
		printf("%" PRIu64 "\n", waited.port);
	return status_of("port", &waited.exit);
}

/* deadline_ms < 0: none. */
static int wait_one(struct redd *r, const struct wait_options *o, int64_t deadline_ms,
		    const char *word)
{
	enum redd_until until =
		o->until && !strcmp(o->until, "closed") ? REDD_UNTIL_CLOSED : REDD_UNTIL_EXITED;
	int64_t left = deadline_ms < 0 ? -1 : deadline_ms - now_ms();
	struct redd_waited waited;
	struct redd_port *port;
	int e = redd_port_find(r, word, &port);

	if (e == 0)
		e = redd_wait(port, until, deadline_ms < 0 ? -1 : left < 0 ? 0 : left, &waited);
	if (e == -ETIMEDOUT)
		return TIMED_OUT;
	if (e < 0)
		return say_failure(r, word);
	if (o->json)
		print_waited(&waited);
	return status_of(word, &waited.exit);
}

int cmd_wait(struct cli *cli, int argc, char **argv)
{
	struct wait_options o = { 0 };
	int first, status = 0, e = options_words(cli, rows, usage, &o, argc, argv, 0, -1, &first);
	int64_t deadline_ms;
	struct redd *r;

	if (e)
		return e > 0 ? cli_flush(0) : e;
	if (o.until && strcmp(o.until, "exited") && strcmp(o.until, "closed"))
		return say_usage(cli, "--until: '%s' is not exited or closed", o.until);
	if ((o.labels.n > 0) == (first < argc))
		return say_usage(cli, "either ports or --label is wanted");
	if (o.labels.n > LABELS_MAX)
		return say_usage(cli, "at most %d labels", LABELS_MAX);
	deadline_ms = o.timeout.is ? now_ms() + (int64_t)o.timeout.value : -1;
	r = cli_connect(cli, false);
	if (!r)
		return CLI_TROUBLE;
	if (o.labels.n)
		status = wait_labelled(r, &o);
	for (int i = first; i < argc && status != CLI_TROUBLE; i++)
		status = wait_one(r, &o, deadline_ms, argv[i]);
	redd_free(r);
	free(o.labels.list);
	return cli_flush(status);
}
