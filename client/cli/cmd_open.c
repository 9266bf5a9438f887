/* redd open: a file, device or fifo as a port, connected to our stdin and stdout.
 */
#include <stdio.h>
#include <unistd.h>

#include "client/cli/options.h"
#include "client/cli/port_options.h"
#include "client/cli/relay.h"
#include "client/cli/say.h"

static const char usage[] = "open [OPTION...] FILE";

struct open_options {
	struct run_options run;
	struct redd_open_options open;
	struct given mode;
};

static const struct option_row rows[] = {
	OPTION('r', "read", NULL, "read it (so it is when nothing else is said)", option_flag,
	       struct open_options, open.read),
	OPTION('w', "write", NULL, "write it; without --read it is emptied first", option_flag,
	       struct open_options, open.write),
	OPTION('a', "append", NULL, "write to its end", option_flag, struct open_options,
	       open.append),
	OPTION(0, "exclusive", NULL, "it must not exist yet", option_flag, struct open_options,
	       open.exclusive),
	OPTION(0, "no-create", NULL, "it must exist", option_flag, struct open_options,
	       open.no_create),
	OPTION(0, "mode", "MODE", "of one that is created, octal (666)", option_octal,
	       struct open_options, mode),
	OPTION(0, "umask", "MASK", "octal (ours)", option_octal, struct open_options, run.umask),
	PORT_OPTIONS(struct open_options),
	OPTIONS_END,
};

static bool writes(const struct redd_open_options *o)
{
	return o->write || o->append;
}

static int open_detached(const struct cli *cli, struct open_options *o)
{
	struct redd *r = cli_connect(cli, true);
	struct redd_port *port;
	int status;

	if (!r)
		return CLI_TROUBLE;
	status = redd_open(r, &o->open, &port) < 0 ? say_failure(r, NULL)
						   : port_print(&o->run, port, stdout);
	redd_free(r);
	return status;
}

/* A file without output has a subscription too: its end is told by it. */
static int relay_file(struct relay *l, struct open_options *o)
{
	static const uint32_t stream = 1;
	struct redd_call call = { .done = relay_on_spawned, .user = l };
	struct redd_subscribe_options watch;

	relay_outlet(l, 0, &stream, &watch);
	watch.n_streams = o->open.read;
	watch.verify = o->open.port.checksum;
	o->open.port.subscribe = &watch;
	if (redd_open_start(l->r, &o->open, &l->port, &call) < 0)
		return say_failure(l->r, NULL);
	l->subscriptions[0] = redd_port_subscription(l->port);
	l->is_file = true;
	if (writes(&o->open))
		inlet_init(&l->in, STDIN_FILENO, l->port);
	else
		l->in.port = l->port;
	return relay_run(l);
}

static int open_connected(const struct cli *cli, struct open_options *o)
{
	sigset_t signals;
	struct redd *r;
	struct relay l;
	int status = CLI_TROUBLE;

	relay_block_signals(&signals);
	r = cli_connect(cli, true);
	if (!r)
		return CLI_TROUBLE;
	if (relay_init(&l, r, &signals) == 0) {
		status = relay_file(&l, o);
		/* The errno in the exit is not our status. */
		if (status > 0 && !l.left_by)
			status = port_status(o->open.path, &l.exit);
	}
	redd_free(r);
	relay_deinit(&l);
	return status;
}

int cmd_open(struct cli *cli, int argc, char **argv)
{
	struct open_options o = { 0 };
	int first, status = options_words(cli, rows, usage, &o, argc, argv, 1, 1, &first);

	if (!status)
		status = port_options_take(cli, &o.run, &o.open.port);
	if (!status) {
		o.open.path = argv[first];
		o.open.mode = (mode_t)o.mode.value;
		o.open.read |= !writes(&o.open);
		status = o.run.detach ? open_detached(cli, &o) : open_connected(cli, &o);
	} else if (status > 0) {
		status = cli_flush(0); /* help was printed */
	}
	run_options_deinit(&o.run);
	return status;
}
