/* redd write: to a port's input, from words or from stdin.
 *
 * Words are joined by blanks and end with a newline, as echo does it, and go as one write, which is
 * a packet for a port that speaks packets; stdin goes byte for byte, with --packet as one.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "client/cli/options.h"
#include "client/cli/say.h"

static const char usage[] = "write [OPTION...] PORT [WORD...]";

struct write_options {
	bool close, bare, no_wait, force, lease, take;
	struct given stream, offset, hand_to;
	uint32_t packet; /* bytes of its length; 0: the words as the port speaks, stdin as it is */
};

static const struct option_row rows[] = {
	OPTION('n', "no-newline", NULL, "no newline behind the words", option_flag,
	       struct write_options, bare),
	OPTION('c', "close", NULL, "close the input behind it", option_flag, struct write_options,
	       close),
	OPTION(0, "no-wait", NULL, "fail instead of waiting while the input is busy", option_flag,
	       struct write_options, no_wait),
	OPTION(0, "packet", "1|2|4", "one packet behind a length of so many bytes", option_header,
	       struct write_options, packet),
	OPTION(0, "force", NULL, "busy or not, as long as the bound allows it", option_flag,
	       struct write_options, force),
	OPTION(0, "lease", NULL, "wait until nobody else writes, and keep others out meanwhile",
	       option_flag, struct write_options, lease),
	OPTION(0, "take", NULL, "as --lease, from who has it now", option_flag,
	       struct write_options, take),
	OPTION(0, "hand-to", "CLAIM", "who of those that wait has it next, as 'redd inspect' tells",
	       option_number, struct write_options, hand_to),
	OPTION(0, "offset", "N", "where in the input it goes: a repeat writes nothing twice",
	       option_number, struct write_options, offset),
	OPTION(0, "stream", "N", "another input than stdin or the terminal", option_stream,
	       struct write_options, stream),
	OPTIONS_END,
};

/* Owned by the caller; NULL without memory. */
static char *join(int n, char **words, bool newline, size_t *ret_size)
{
	size_t size = 0;
	char *text, *end;

	for (int i = 0; i < n; i++)
		size += strlen(words[i]) + 1;
	text = end = malloc(size + 1);
	if (!text)
		return NULL;
	for (int i = 0; i < n; i++)
		end = stpcpy(stpcpy(end, words[i]), i + 1 < n ? " " : newline ? "\n" : "");
	*ret_size = (size_t)(end - text);
	return text;
}

static int write_words(struct redd_port *port, const struct redd_write_options *o, bool newline,
		       int n, char **words)
{
	size_t size;
	char *text = join(n, words, newline, &size);
	int e;

	if (!text)
		return say("no memory");
	e = redd_write(port, text, size, o, NULL);
	free(text);
	return e;
}

/* What came while we waited for stdin. False when the lease, if it was asked for, is over: said. */
static bool may_go_on(struct redd_port *port, const bool *over)
{
	redd_run_once(redd_port_connection(port), 0); /* a loss shows with the next write */
	return !*over;
}

static int write_stdin(struct redd_port *port, struct redd_write_options *o, bool close_after,
		       const bool *over)
{
	static char buffer[256 << 10] __attribute__((aligned(4096)));
	ssize_t n;
	int e = 0;

	o->close = false;
	while (e == 0 && (n = read(STDIN_FILENO, buffer, sizeof(buffer))) != 0) {
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return say("stdin: %s; what came before is written", strerror(errno));
		if (!may_go_on(port, over))
			return CLI_TROUBLE;
		e = redd_write_all(port, buffer, (size_t)n, o, NULL);
		o->offset += (uint64_t)n;
	}
	if (e == 0 && close_after && !may_go_on(port, over))
		return CLI_TROUBLE;
	if (e == 0 && close_after)
		e = redd_close(port, o->other_stream ? o->stream : REDD_STREAM_DEFAULT, NULL);
	return e;
}

/* All of stdin as one packet, which must fit into one write. */
static int write_packet(struct redd_port *port, const struct redd_write_options *o)
{
	size_t most = redd_welcome(redd_port_connection(port))->frame_max - 1024, size = 0;
	char *packet = malloc(most + 1);
	ssize_t n = 1;
	int e;

	if (!packet)
		return say("no memory");
	while (size <= most && n != 0) {
		n = read(STDIN_FILENO, packet + size, most + 1 - size);
		if (n < 0 && errno != EINTR) {
			free(packet);
			return say("stdin: %s; nothing is written", strerror(errno));
		}
		size += n > 0 ? (size_t)n : 0;
	}
	e = size > most ? say("stdin has more than the %zu bytes that one packet can have; nothing "
			      "is written",
			      most)
			: redd_write(port, packet, size, o, NULL);
	free(packet);
	return e;
}

/* Of a lease that is over already nothing more is to be said. */
static int hand_over(struct redd_port *port, uint64_t claim, const bool *over)
{
	struct redd *r = redd_port_connection(port);

	if (redd_release(port, claim) == 0)
		return 0;
	if (*over)
		return CLI_TROUBLE;
	return say("all is written, but the lease goes to the next who waits: %s",
		   redd_last_error(r)->message);
}

static int check_hand_to(const struct cli *cli, const struct write_options *o)
{
	if (!o->hand_to.is)
		return 0;
	if (!o->lease && !o->take)
		return say_usage(cli, "--hand-to is about the lease: add --lease or --take");
	if (o->close)
		return say_usage(cli, "--hand-to: of an input that -c closes nobody has anything");
	return 0;
}

int cmd_write(struct cli *cli, int argc, char **argv)
{
	struct write_options o = { 0 };
	/* Options stand before the port: the words behind it may begin with a dash. */
	int first, e = options_parse(cli, rows, usage, &o, argc, argv, &first);
	struct redd_write_options w;
	struct redd_port *port;
	struct redd *r;
	bool over = false; /* of the lease */

	if (!e)
		e = options_count(cli, usage, argc - first, argv + first, 1, -1);
	if (!e)
		e = check_hand_to(cli, &o);
	if (e)
		return e > 0 ? cli_flush(0) : e;
	w = (struct redd_write_options){
		.close = o.close,
		.no_wait = o.no_wait,
		.force = o.force,
		.patient = !o.no_wait,
		.other_stream = o.stream.is,
		.stream = (uint32_t)o.stream.value,
		.at_offset = o.offset.is,
		.offset = o.offset.value,
		.header = o.packet,
	};
	port = cli_port(cli, argv[first]);
	if (!port)
		return CLI_TROUBLE;
	r = redd_port_connection(port);
	if ((o.lease || o.take) && cli_lease(port, o.take, &over) < 0) {
		e = say_failure(r, argv[first]);
		redd_free(r);
		return e;
	}
	if (argc - first > 1)
		e = write_words(port, &w, !o.bare, argc - first - 1, argv + first + 1);
	else
		e = o.packet ? write_packet(port, &w) : write_stdin(port, &w, o.close, &over);
	if (e == 0 && o.hand_to.is)
		e = hand_over(port, o.hand_to.value, &over);
	if (e < 0 && e != CLI_TROUBLE)
		e = over ? CLI_TROUBLE : say_failure(r, argv[first]);
	redd_free(r);
	return e;
}
