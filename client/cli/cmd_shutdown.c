/* redd shutdown: ends the broker, and waits until it has gone.
 */
#include <errno.h>
#include <stdio.h>

#include "client/cli/options.h"
#include "client/cli/say.h"

static const char usage[] = "shutdown [--drain DURATION] [--no-wait]";

struct shutdown_options {
	struct given drain;
	bool no_wait;
};

static const struct option_row rows[] = {
	OPTION(0, "drain", "DURATION", "between TERM and KILL for every port (5s)", option_duration,
	       struct shutdown_options, drain),
	OPTION(0, "no-wait", NULL, "do not wait for the end", option_flag, struct shutdown_options,
	       no_wait),
	OPTIONS_END,
};

/* The connection ends with the broker. */
static void await_end(struct redd *r)
{
	while (redd_run_once(r, -1) == 0)
		;
}

int cmd_shutdown(struct cli *cli, int argc, char **argv)
{
	struct shutdown_options o = { 0 };
	int first, status = 0, e = options_words(cli, rows, usage, &o, argc, argv, 0, 0, &first);
	struct redd *r;

	if (e)
		return e > 0 ? cli_flush(0) : e;
	r = cli_connect(cli, false);
	if (!r)
		return CLI_TROUBLE;
	if (redd_shutdown(r, o.drain.is ? (int64_t)o.drain.value : -1) < 0)
		status = say_failure(r, NULL);
	else if (!o.no_wait)
		await_end(r);
	redd_free(r);
	return status;
}
