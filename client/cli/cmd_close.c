/* redd close: ends a port's input behind what was written, or a file as a whole.
 */
#include "client/cli/options.h"
#include "client/cli/say.h"

static const char usage[] = "close [OPTION...] PORT";

struct close_options {
	struct given stream;
	bool all, discard;
};

static const struct option_row rows[] = {
	OPTION(0, "stream", "N", "another input than stdin or the terminal", option_stream,
	       struct close_options, stream),
	OPTION(0, "all", NULL, "all of a file or descriptors, not the input alone", option_flag,
	       struct close_options, all),
	OPTION(0, "discard", NULL, "with --all: what is not written yet is lost", option_flag,
	       struct close_options, discard),
	OPTIONS_END,
};

static int close_port(struct redd_port *port, const struct close_options *o)
{
	if (o->all)
		return redd_close_whole(port, o->discard, NULL);
	return redd_close(port, o->stream.is ? (uint32_t)o->stream.value : REDD_STREAM_DEFAULT,
			  NULL);
}

int cmd_close(struct cli *cli, int argc, char **argv)
{
	struct close_options o = { 0 };
	int first, status = 0, e = options_words(cli, rows, usage, &o, argc, argv, 1, 1, &first);
	struct redd_port *port;

	if (e)
		return e > 0 ? cli_flush(0) : e;
	if (o.all ? o.stream.is : o.discard)
		return say_usage(cli, "--all goes without --stream, and --discard with --all");
	port = cli_port(cli, argv[first]);
	if (!port)
		return CLI_TROUBLE;
	if (close_port(port, &o) < 0)
		status = say_failure(redd_port_connection(port), argv[first]);
	redd_free(redd_port_connection(port));
	return status;
}
