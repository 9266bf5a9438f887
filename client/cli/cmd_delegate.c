/* redd delegate: runs a command that has a door: it can do with these ports what is said here, and
 * nothing more, in whatever sandbox it goes. The door is an inherited descriptor; REDD_SOCKET names
 * it, so that redd and libredd use it by themselves.
 *
 * We exec the command. So the door is the only thing of ours that is left, and the delegation ends
 * when the command and all to whom it gave the door have gone.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "client/cli/options.h"
#include "client/cli/rights_options.h"
#include "client/cli/say.h"
#include "client/cli/show.h"

#define LABELS_MAX 32

static const char usage[] =
	"delegate RIGHT... [OPTION...] (PORT... | -l KEY[=VALUE]...) -- COMMAND [ARG...]";

struct delegate {
	struct rights_options rights;
	struct words labels;
	bool spawn;
};

static const struct option_row rows[] = {
	RIGHTS_ROWS(struct delegate, rights),
	OPTION('l', "label", "KEY[=VALUE]", "all ports with this label, later ones too",
	       option_words, struct delegate, labels),
	OPTION(0, "spawn", NULL, "start programs, as we could", option_flag, struct delegate,
	       spawn),
	OPTIONS_END,
};

/* The index of "--"; argc when there is none. */
static int dashes(int argc, char **argv)
{
	int i = 1;

	while (i < argc && strcmp(argv[i], "--"))
		i++;
	return i;
}

static int find_ports(struct redd *r, struct redd_delegate_options *d, struct redd_port **ports,
		      char **words)
{
	for (size_t i = 0; i < d->n_ports; i++)
		if (redd_port_find(r, words[i], &ports[i]) < 0)
			return say_failure(r, words[i]);
	d->ports = ports;
	return 0;
}

static int run(int door, char **command)
{
	char place[32];

	snprintf(place, sizeof(place), "fd:%d", door);
	if (setenv("REDD_SOCKET", place, 1) < 0 || fcntl(door, F_SETFD, 0) < 0)
		return say("the door cannot be handed on: %s", strerror(errno));
	execvp(command[0], command);
	say("%s: %s", command[0], strerror(errno));
	return errno == ENOENT ? 127 : 126;
}

static int delegate(const struct cli *cli, struct redd_delegate_options *d, char **words,
		    char **command)
{
	struct redd_port *ports[REDD_DELEGATION_PORTS];
	struct redd *r = cli_connect(cli, false);
	struct redd_delegated door;
	int e;

	if (!r)
		return CLI_TROUBLE;
	e = find_ports(r, d, ports, words);
	if (e == 0 && redd_delegate(r, d, &door) < 0)
		e = say_failure(r, NULL);
	redd_free(r);
	if (e < 0)
		return e;
	e = run(door.door, command);
	close(door.door);
	return e;
}

static int check(const struct cli *cli, const struct delegate *o, int n_ports, int n_command)
{
	if (n_command < 1)
		return say_usage(cli, "the command is missing, behind '--'");
	if (!n_ports && !o->labels.n && !o->spawn)
		return say_usage(cli, "no port is named, nor a label, nor --spawn");
	if (n_ports && o->labels.n)
		return say_usage(cli, "ports and --label exclude each other");
	if (n_ports > REDD_DELEGATION_PORTS || o->labels.n > LABELS_MAX)
		return say_usage(cli, "at most %d ports, or %d labels", REDD_DELEGATION_PORTS,
				 LABELS_MAX);
	return 0;
}

int cmd_delegate(struct cli *cli, int argc, char **argv)
{
	struct delegate o = { 0 };
	int end = dashes(argc, argv), n = argc - end - 1, first;
	int e = options_words(cli, rows, usage, &o, end, argv, 0, -1, &first);
	uint32_t streams[RIGHTS_STREAMS_MAX];
	struct redd_label labels[LABELS_MAX];
	struct redd_delegate_options d = { .labels = labels, .n_labels = o.labels.n };

	if (e)
		return e > 0 ? cli_flush(0) : e;
	e = check(cli, &o, end - first, n);
	if (!e)
		e = rights_take(cli, &o.rights, streams, &d.rights);
	for (size_t i = 0; !e && i < o.labels.n; i++)
		labels[i] = label_of((char *)o.labels.list[i]);
	d.n_ports = (size_t)(end - first);
	d.duration_ms = o.rights.duration.value;
	d.spawn = o.spawn;
	if (!e)
		e = delegate(cli, &d, argv + first, argv + end + 1);
	free(o.labels.list);
	free(o.rights.streams.list);
	return e;
}
