/* redd resize: sets the size of a port's terminal.
 */
#include <stdio.h>

#include "client/cli/options.h"
#include "client/cli/say.h"
#include "client/cli/tty.h"
#include "client/cli/units.h"

static const char usage[] = "resize PORT [ROWS COLUMNS]";

static const struct option_row rows[] = {
	OPTIONS_END,
};

/* As given, or as our own terminal is. */
static int size_of(const struct cli *cli, int n, char **words, struct redd_terminal *ret)
{
	uint64_t lines, columns;

	if (n == 0)
		return tty_size(0, ret) ? 0 : say_usage(cli, "stdin is no terminal; give a size");
	if (n != 2 || !units_number(words[0], &lines) || !units_number(words[1], &columns) ||
	    lines > 65535 || columns > 65535)
		return say_usage(cli, "a size is ROWS COLUMNS, each at most 65535");
	*ret = (struct redd_terminal){ .rows = (uint32_t)lines, .columns = (uint32_t)columns };
	return 0;
}

int cmd_resize(struct cli *cli, int argc, char **argv)
{
	int first, e = options_words(cli, rows, usage, NULL, argc, argv, 1, 3, &first);
	struct redd_terminal size;
	struct redd_port *port;

	if (e)
		return e > 0 ? cli_flush(0) : e;
	e = size_of(cli, argc - first - 1, argv + first + 1, &size);
	if (e)
		return e;
	port = cli_port(cli, argv[first]);
	if (!port)
		return CLI_TROUBLE;
	if (redd_resize(port, &size) < 0)
		e = say_failure(redd_port_connection(port), argv[first]);
	redd_free(redd_port_connection(port));
	return e;
}
