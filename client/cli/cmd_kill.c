/* redd kill: sends a signal to a port's leader, its group, or all that came of it.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

#include "client/cli/options.h"
#include "client/cli/say.h"
#include "client/cli/show.h"

static const char usage[] = "kill [-s SIGNAL] [--group|--tree] (PORT... | -l KEY[=VALUE]...)";

struct kill_options {
	int signal;
	bool group, tree;
	struct words labels;
};

static const struct option_row rows[] = {
	OPTION('s', "signal", "SIGNAL", "which (TERM)", option_signal, struct kill_options, signal),
	OPTION('g', "group", NULL, "the leader's process group", option_flag, struct kill_options,
	       group),
	OPTION('a', "tree", NULL, "all descendants, whatever session they moved to", option_flag,
	       struct kill_options, tree),
	OPTION('l', "label", "KEY[=VALUE]", "all ports with this label; prints how many",
	       option_words, struct kill_options, labels),
	OPTIONS_END,
};

#define LABELS_MAX 32

static int kill_labelled(const struct cli *cli, const struct kill_options *o)
{
	enum redd_target target = o->tree ? REDD_TREE : o->group ? REDD_GROUP : REDD_LEADER;
	struct redd_label labels[LABELS_MAX];
	struct redd *r;
	uint32_t n;
	int e;

	if (o->labels.n > LABELS_MAX)
		return say_usage(cli, "at most %d labels", LABELS_MAX);
	for (size_t i = 0; i < o->labels.n; i++)
		labels[i] = label_of((char *)o->labels.list[i]);
	r = cli_connect(cli, false);
	if (!r)
		return CLI_TROUBLE;
	e = redd_signal_labels(r, labels, o->labels.n, o->signal, target, &n);
	e = e < 0 ? say_failure(r, NULL) : 0;
	if (!e)
		printf("%u\n", (unsigned)n);
	redd_free(r);
	return cli_flush(e);
}

/* With KILL to a tree nobody should be left: that is worth a word. */
static int tell_survivors(const char *word, const struct redd_signalled *s)
{
	if (!s->n_survivors)
		return 0;
	return say("%s: %d processes are still there, pid %d among them; try again", word,
		   s->n_survivors, (int)s->survivors[0]);
}

static int kill_one(struct redd *r, const struct kill_options *o, const char *word)
{
	enum redd_target target = o->tree ? REDD_TREE : o->group ? REDD_GROUP : REDD_LEADER;
	struct redd_signalled done;
	struct redd_port *port;

	if (redd_port_find(r, word, &port) < 0 || redd_signal(port, o->signal, target, &done) < 0)
		return say_failure(r, word);
	return tell_survivors(word, &done);
}

int cmd_kill(struct cli *cli, int argc, char **argv)
{
	struct kill_options o = { .signal = SIGTERM };
	int first, status = 0, e = options_words(cli, rows, usage, &o, argc, argv, 0, -1, &first);
	struct redd *r;

	if (e)
		return e > 0 ? cli_flush(0) : e;
	if (o.group && o.tree)
		return say_usage(cli, "--group and --tree exclude each other");
	if ((o.labels.n > 0) == (first < argc))
		return say_usage(cli, "either ports or --label is wanted");
	if (o.labels.n) {
		status = kill_labelled(cli, &o);
		free(o.labels.list);
		return status;
	}
	r = cli_connect(cli, false);
	if (!r)
		return CLI_TROUBLE;
	for (int i = first; i < argc; i++) {
		if (kill_one(r, &o, argv[i]) < 0)
			status = CLI_TROUBLE;
	}
	redd_free(r);
	return status;
}
