/* redd run: spawns a program and is, for whoever started us, that program.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "client/cli/options.h"
#include "client/cli/port_options.h"
#include "client/cli/relay.h"
#include "client/cli/say.h"
#include "client/cli/tty.h"

static const char usage[] = "run [OPTION...] [--] PROGRAM [ARG...]";

/* --- what the child gets --------------------------------------------------------------------- */

/* Nobody is behind the null device, and nobody behind a descriptor that is not open. */
static bool stdin_is_null(void)
{
	struct stat st;

	return fstat(STDIN_FILENO, &st) < 0 || (S_ISCHR(st.st_mode) && st.st_rdev == makedev(1, 3));
}

static bool has_input(const struct run_options *o)
{
	if (o->terminal)
		return true;
	return o->detach ? o->interactive : !o->null_stdin && !stdin_is_null();
}

/* Which of its descriptors the program reads, and writes. */
static uint32_t input_of(const struct run_options *o)
{
	return o->nouse_stdio ? 3 : 0;
}

static uint32_t output_of(const struct run_options *o)
{
	return o->nouse_stdio ? 4 : 1;
}

#define DESCRIPTORS 5

static void terminal_descriptors(struct run_options *o, struct redd_descriptor out[DESCRIPTORS])
{
	for (uint32_t fd = 0; fd < 3; fd++)
		out[fd] = (struct redd_descriptor){ .fd = fd, .kind = REDD_TTY };
	o->spawn.n_descriptors = 3;
}

/* Pipes where nothing else was asked for; what is not used of 0 and 1 is the null device. */
static void descriptors(struct run_options *o, struct redd_descriptor out[DESCRIPTORS])
{
	uint32_t n = o->nouse_stdio ? 5 : 3, in = input_of(o), to = output_of(o);

	for (uint32_t fd = 0; fd < n; fd++)
		out[fd] = (struct redd_descriptor){ .fd = fd, .kind = REDD_NULL };
	if (has_input(o))
		out[in].kind = REDD_PIPE;
	out[in].direction = REDD_INPUT;
	if (!o->null_stdout)
		out[to].kind = REDD_PIPE;
	out[2].kind = o->merge ? REDD_SAME : REDD_PIPE;
	out[2].same_as = o->merge ? to : 0;
	o->spawn.n_descriptors = n;
}

/* --- detached -------------------------------------------------------------------------------- */

static int spawn_status(const struct redd *r)
{
	const struct redd_error *e = redd_last_error(r);

	say_failure(r, NULL);
	if (!e->from_broker || e->stage != REDD_STAGE_EXEC)
		return CLI_TROUBLE;
	return e->sys_errno == ENOENT || e->sys_errno == ENOTDIR ? 127 : 126;
}

static int run_detached(const struct cli *cli, struct run_options *o)
{
	struct redd *r = cli_connect(cli, true);
	struct redd_port *port;
	int status;

	if (!r)
		return CLI_TROUBLE;
	status =
		redd_spawn(r, &o->spawn, &port) < 0 ? spawn_status(r) : port_print(o, port, stdout);
	redd_free(r);
	return status;
}

/* --- connected ------------------------------------------------------------------------------- */

static const uint32_t stderr_stream = 2;

/* The subscription that goes with the spawn: stdout's, where there is one. Without any output it
 * tells the end. */
static void first_outlet(struct relay *l, const struct run_options *o, const uint32_t *stream,
			 struct redd_subscribe_options *ret)
{
	if (o->null_stdout && !o->merge)
		stream = &stderr_stream;
	relay_outlet(l, stream == &stderr_stream, stream, ret);
	if (o->null_stdout && o->merge)
		ret->n_streams = 0;
}

/* Goes out behind the Hello, in one packet, unless it is so long that a Welcome must allow it. */
static int spawn(struct relay *l, struct run_options *o)
{
	struct redd_call call = { .done = relay_on_spawned, .user = l };
	int e = redd_spawn_start(l->r, &o->spawn, &l->port, &call);

	if (e != -EMSGSIZE || redd_welcome(l->r))
		return e;
	for (e = 0; e >= 0 && !redd_welcome(l->r);)
		e = redd_run_once(l->r, -1);
	return e < 0 ? e : redd_spawn_start(l->r, &o->spawn, &l->port, &call);
}

/* Stdout's subscription goes with the spawn, stderr's right behind it: each has its own credit, so
 * that one that is not read does not hold the other. Until the second is there, an unread output
 * is not dropped but held, where nobody is to be left behind without a reader. */
static int start(struct relay *l, struct run_options *o)
{
	bool two = !o->terminal && !o->merge && !o->null_stdout;
	uint32_t stream = o->terminal ? REDD_TERMINAL : output_of(o);
	struct redd_subscribe_options first, second;
	int e;

	first_outlet(l, o, &stream, &first);
	o->spawn.subscribe = &first;
	if (two && o->spawn.orphan == REDD_ORPHAN_KILL)
		o->spawn.hold_unread = true;
	e = spawn(l, o);
	if (e < 0)
		return e;
	l->subscriptions[first.streams == &stderr_stream] = redd_port_subscription(l->port);
	if (!two)
		return 0;
	relay_outlet(l, 1, &stderr_stream, &second);
	return redd_subscribe_start(l->port, &second, &l->subscriptions[1], NULL);
}

/* Our terminal becomes the port's. */
static int connect_terminal(struct relay *l)
{
	int e = tty_raw(STDIN_FILENO);

	if (e < 0)
		return say("the terminal cannot be made raw: %s", strerror(-e));
	l->terminal = true;
	l->in.keep_open = true;
	return 0;
}

static int relay_port(struct relay *l, struct run_options *o, bool input)
{
	int e = start(l, o);

	if (e < 0)
		return say_failure(l->r, NULL);
	l->forwards = true;
	l->is_starting = true;
	if (input)
		inlet_init(&l->in, STDIN_FILENO, l->port);
	else
		l->in.port = l->port;
	l->in.stream = input_of(o);
	if (o->terminal && connect_terminal(l) < 0)
		return CLI_TROUBLE;
	return relay_run(l);
}

static int run_connected(const struct cli *cli, struct run_options *o, bool input)
{
	struct redd_connect_options connect = { .socket = cli->socket, .frame_max = CLI_FRAME_MAX };
	struct redd *r;
	struct relay l;
	sigset_t signals;
	int status = CLI_TROUBLE;

	relay_block_signals(&signals);
	r = redd_new();
	if (!r)
		return say("no memory");
	if (relay_init(&l, r, &signals) < 0)
		return CLI_TROUBLE;
	if (redd_connect_start(r, &connect, NULL) < 0)
		say_failure(r, NULL);
	else
		status = relay_port(&l, o, input);
	redd_free(r);
	relay_deinit(&l);
	return status;
}

/* --- the command ----------------------------------------------------------------------------- */

static int terminal_of(const struct cli *cli, struct run_options *o, struct redd_terminal *size)
{
	if (!o->terminal)
		return 0;
	if (!o->detach && !isatty(STDIN_FILENO))
		return say_usage(cli, "-t needs a terminal as stdin; leave it out, or add -d");
	if (!tty_size(STDIN_FILENO, size))
		*size = (struct redd_terminal){ 24, 80, 0, 0 };
	o->spawn.terminal = size;
	return 0;
}

/* The words behind the options: a program and its arguments, or a command for the shell. */
static int program_of(const struct cli *cli, struct run_options *o, int n, char **words)
{
	if (o->shell && n != 1)
		return say_usage(cli, "--shell takes one command; quote it");
	if (n < 1)
		return say_usage(cli, "a program is missing: redd %s", usage);
	if (o->shell)
		o->spawn.shell = words[0];
	else
		o->spawn.argv = (const char *const *)words;
	return 0;
}

int cmd_run(struct cli *cli, int argc, char **argv)
{
	struct run_options o = { 0 };
	struct redd_descriptor fds[DESCRIPTORS];
	struct redd_terminal size;
	int first, status = run_options_parse(cli, usage, argc, argv, &o, &first);

	if (!status)
		status = program_of(cli, &o, argc - first, argv + first);
	if (!status)
		status = terminal_of(cli, &o, &size);
	if (!status) {
		o.terminal ? terminal_descriptors(&o, fds) : descriptors(&o, fds);
		o.spawn.descriptors = fds;
		status = o.detach ? run_detached(cli, &o) : run_connected(cli, &o, has_input(&o));
	} else if (status > 0) {
		status = cli_flush(0); /* help was printed */
	}
	run_options_deinit(&o);
	return status;
}
