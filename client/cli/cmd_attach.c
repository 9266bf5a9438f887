/* redd attach: connects to a port that runs already; our stdin goes to its input, its outputs come
 * here, and we leave with its status. A signal ends us, not it, unless --signals.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "client/cli/options.h"
#include "client/cli/relay.h"
#include "client/cli/say.h"
#include "client/cli/tty.h"

static const char usage[] = "attach [OPTION...] PORT";

struct attach {
	bool no_stdin, signals, replay, close, lease, take;
};

static const struct option_row rows[] = {
	OPTION(0, "no-stdin", NULL, "only watch", option_flag, struct attach, no_stdin),
	OPTION(0, "close", NULL, "the end of our stdin closes the port's", option_flag,
	       struct attach, close),
	OPTION(0, "lease", NULL, "nobody else writes meanwhile; waits until it can be so",
	       option_flag, struct attach, lease),
	OPTION(0, "take", NULL, "as --lease, from who has it now", option_flag, struct attach,
	       take),
	OPTION(0, "signals", NULL, "pass signals on to the port's group", option_flag,
	       struct attach, signals),
	OPTION(0, "replay", NULL, "begin with what the log still has", option_flag, struct attach,
	       replay),
	OPTIONS_END,
};

/* Of one direction: the usual one, the terminal, else the first other one but stderr; 2: none. */
static uint32_t stream_of(const struct redd_port_info *p, bool input)
{
	uint32_t usual = input ? 0 : 1, found = 2;

	for (size_t i = 0; i < p->n_streams; i++) {
		const struct redd_stream_info *s = &p->streams[i];
		if ((s->direction == REDD_INPUT) != input)
			continue;
		if (s->stream == usual || s->stream == REDD_TERMINAL)
			return s->stream;
		if (s->stream != 2 && (found == 2 || s->stream < found))
			found = s->stream;
	}
	return found;
}

/* Subscribes to one stream; stderr goes to ours, another to our stdout. */
static int follow(struct relay *l, const struct attach *o, uint32_t stream)
{
	int i = stream == 2;
	struct redd_subscribe_options s;

	relay_outlet(l, i, &stream, &s);
	s.from = o->replay ? REDD_FROM_BEGINNING : REDD_FROM_NOW;
	return redd_subscribe(l->port, &s, &l->subscriptions[i]);
}

/* What the port has decides what is connected. */
static int connect_all(struct relay *l, const struct attach *o, const struct redd_port_info *p)
{
	uint32_t to = stream_of(p, true), from = stream_of(p, false);
	bool input = false;
	int e = 0;

	for (size_t i = 0; i < p->n_streams && e == 0; i++) {
		const struct redd_stream_info *s = &p->streams[i];

		if (s->direction == REDD_INPUT)
			input |= s->stream == to && !s->ended;
		else if (s->stream == from || s->stream == 2)
			e = follow(l, o, s->stream);
	}
	if (e < 0) /* what was refused is said already */
		return l->trouble ? CLI_TROUBLE : say_failure(l->r, NULL);
	l->in.port = l->port;
	l->is_file = p->kind != REDD_PROCESS;
	if (!input || o->no_stdin || l->has_exit)
		return 0;
	inlet_init(&l->in, STDIN_FILENO, l->port);
	l->in.stream = to == REDD_TERMINAL ? 0 : to;
	l->in.keep_open = !o->close;
	if (!p->terminal || !isatty(STDIN_FILENO))
		return 0;
	e = tty_raw(STDIN_FILENO);
	l->terminal = e == 0;
	return e < 0 ? say("the terminal cannot be made raw: %s", strerror(-e)) : 0;
}

static void take_size(struct relay *l)
{
	struct redd_terminal size;

	if (l->terminal && tty_size(STDIN_FILENO, &size))
		redd_resize_start(l->port, &size, NULL);
}

static int attach(struct relay *l, const struct attach *o, const char *word)
{
	struct redd_ports *ports;
	bool over; /* of the lease: said, and no reason to leave */
	int e;

	if (redd_port_find(l->r, word, &l->port) < 0 || redd_inspect(l->port, &ports) < 0)
		return say_failure(l->r, word);
	if ((o->lease || o->take) && cli_lease(l->port, o->take, &over) < 0)
		e = say_failure(l->r, word);
	else
		e = connect_all(l, o, ports->ports);
	redd_ports_free(ports);
	if (e < 0)
		return e;
	if (!l->subscriptions[0] && !l->subscriptions[1])
		return say("%s has no output to show; see 'redd wait'", word);
	l->forwards = o->signals;
	take_size(l);
	return relay_run(l);
}

int cmd_attach(struct cli *cli, int argc, char **argv)
{
	struct attach o = { 0 };
	int first, status = CLI_TROUBLE;
	int e = options_words(cli, rows, usage, &o, argc, argv, 1, 1, &first);
	sigset_t signals;
	struct redd *r;
	struct relay l;

	if (e)
		return e > 0 ? cli_flush(0) : e;
	r = cli_connect(cli, false);
	if (!r)
		return CLI_TROUBLE;
	relay_block_signals(&signals);
	if (relay_init(&l, r, &signals) == 0)
		status = attach(&l, &o, argv[first]);
	redd_free(r);
	relay_deinit(&l);
	return status;
}
