/* redd forget: drops ended ports with their logs and names.
 */
#include "client/cli/options.h"
#include "client/cli/say.h"

static const char usage[] = "forget PORT...";

static const struct option_row rows[] = {
	OPTIONS_END,
};

int cmd_forget(struct cli *cli, int argc, char **argv)
{
	int first, status = 0, e = options_words(cli, rows, usage, NULL, argc, argv, 1, -1, &first);
	struct redd *r;

	if (e)
		return e > 0 ? cli_flush(0) : e;
	r = cli_connect(cli, false);
	if (!r)
		return CLI_TROUBLE;
	for (int i = first; i < argc; i++) {
		struct redd_port *port;

		if (redd_port_find(r, argv[i], &port) < 0 || redd_forget(port) < 0)
			status = say_failure(r, argv[i]);
	}
	redd_free(r);
	return status;
}
