/* redd events: life events as they happen, until a signal ends us.
 */
#include <stdio.h>
#include <stdlib.h>

#include "client/cli/options.h"
#include "client/cli/say.h"
#include "client/cli/show.h"
#include "client/cli/units.h"

static const char usage[] = "events [OPTION...]";

#define LABELS_MAX 32

struct events {
	struct given after;
	struct words labels;
	bool json;
	int status; /* CLI_TROUBLE, or what ends us; 0: go on */
};

static const struct option_row rows[] = {
	OPTION(0, "after", "N", "those behind event N as well, as far as they are known",
	       option_number, struct events, after),
	OPTION('l', "label", "KEY[=VALUE]", "only of ports with this label", option_words,
	       struct events, labels),
	OPTION(0, "json", NULL, "an object a line", option_flag, struct events, json),
	OPTIONS_END,
};

static void print_text(const struct redd_life *l)
{
	char when[UNITS_TEXT_SIZE], status[SHOW_SIZE];

	printf("%s %llu %s port=%llu", units_time(l->time_ns, when),
	       (unsigned long long)l->sequence, show_what(l->what), (unsigned long long)l->port);
	if (l->name) {
		printf(" name=");
		show_text(stdout, l->name);
	}
	if (l->pid)
		printf(" pid=%d", (int)l->pid);
	if (l->has_exit)
		printf(" status=%s", show_exit(&l->exit, status));
	if (l->n_holders)
		printf(" holders=%d", l->n_holders);
	printf("\n");
}

static void print_json(const struct redd_life *l)
{
	struct json j = { .file = stdout };

	json_object(&j, NULL);
	json_unsigned(&j, "sequence", l->sequence);
	json_string(&j, "event", show_what(l->what));
	json_unsigned(&j, "port", l->port);
	json_string(&j, "name", l->name);
	json_number(&j, "pid", l->pid);
	json_number(&j, "time_ns", l->time_ns);
	if (l->has_exit)
		json_exit(&j, "exit", &l->exit);
	if (l->n_holders)
		json_pids(&j, "holders", l->holders, (size_t)l->n_holders);
	json_object_end(&j);
	json_line(&j);
}

static void on_life(struct redd_watch *watch, const struct redd_life *life, void *user)
{
	struct events *e = user;

	(void)watch;
	if (life->what == REDD_LIFE_LOST)
		return; /* the call that waits tells it */
	if (life->what == REDD_LIFE_MISSED)
		say("events up to %llu are missing: we were too slow, or the broker died",
		    (unsigned long long)life->sequence);
	if (e->json)
		print_json(life);
	else
		print_text(life);
	e->status = cli_flush(0);
}

static int watch(const struct cli *cli, struct events *e)
{
	struct redd_label labels[LABELS_MAX];
	struct redd_watch_options o = {
		.on_life = on_life,
		.user = e,
		.has_after = e->after.is,
		.after = e->after.value,
		.labels = labels,
		.n_labels = e->labels.n,
	};
	struct redd_watch *w;
	struct redd *r;

	if (e->labels.n > LABELS_MAX)
		return say_usage(cli, "at most %d labels", LABELS_MAX);
	for (size_t i = 0; i < e->labels.n; i++)
		labels[i] = label_of((char *)e->labels.list[i]);
	r = cli_connect(cli, true);
	if (!r)
		return CLI_TROUBLE;
	if (redd_watch(r, &o, &w) < 0)
		e->status = say_failure(r, NULL);
	while (e->status == 0) {
		if (redd_run_once(r, -1) < 0 && e->status == 0)
			e->status = say_failure(r, NULL);
	}
	redd_free(r);
	return e->status;
}

int cmd_events(struct cli *cli, int argc, char **argv)
{
	struct events o = { 0 };
	int first, e = options_words(cli, rows, usage, &o, argc, argv, 0, 0, &first);

	e = e ? (e > 0 ? cli_flush(0) : e) : watch(cli, &o);
	free(o.labels.list);
	return e;
}
