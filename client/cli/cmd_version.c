/* redd version: ours, and the broker's when one answers.
 */
#include <stdio.h>

#include "client/cli/options.h"
#include "client/cli/say.h"

static const char usage[] = "version";

static const struct option_row rows[] = {
	OPTIONS_END,
};

int cmd_version(struct cli *cli, int argc, char **argv)
{
	struct redd_connect_options o = { .socket = cli->socket, .no_start = true };
	int first, e = options_words(cli, rows, usage, NULL, argc, argv, 0, 0, &first);
	struct redd *r;

	if (e)
		return e > 0 ? cli_flush(0) : e;
	printf("redd %s\n", REDD_VERSION);
	r = redd_new();
	if (r && redd_connect(r, &o) == 0) {
		const struct redd_welcome *w = redd_welcome(r);

		printf("broker %s, protocol %u, pid %d\n", w->broker, w->version,
		       (int)w->broker_pid);
	}
	redd_free(r);
	return cli_flush(0);
}
