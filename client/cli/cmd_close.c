/* redd close: ends a port's input behind what was written.
 */
#include "client/cli/options.h"
#include "client/cli/say.h"

static const char usage[] = "close [--stream N] PORT";

struct close_options {
	struct given stream;
};

static const struct option_row rows[] = {
	OPTION(0, "stream", "N", "another input than stdin or the terminal", option_number,
	       struct close_options, stream),
	OPTIONS_END,
};

int cmd_close(struct cli *cli, int argc, char **argv)
{
	struct close_options o = { 0 };
	int first, status = 0, e = options_words(cli, rows, usage, &o, argc, argv, 1, 1, &first);
	struct redd_port *port;

	if (e)
		return e > 0 ? cli_flush(0) : e;
	port = cli_port(cli, argv[first]);
	if (!port)
		return CLI_TROUBLE;
	if (redd_close(port, o.stream.is ? (uint32_t)o.stream.value : REDD_STREAM_DEFAULT, NULL) <
	    0)
		status = say_failure(redd_port_connection(port), argv[first]);
	redd_free(redd_port_connection(port));
	return status;
}
