/* redd ping: a round trip; prints how long it took.
 */
#include <stdio.h>
#include <time.h>

#include "client/cli/options.h"
#include "client/cli/say.h"

static const char usage[] = "ping";

static const struct option_row rows[] = {
	OPTIONS_END,
};

static double now_us(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)now.tv_sec * 1e6 + (double)now.tv_nsec / 1e3;
}

int cmd_ping(struct cli *cli, int argc, char **argv)
{
	int first, status, e = options_words(cli, rows, usage, NULL, argc, argv, 0, 0, &first);
	struct redd *r;
	double begin;

	if (e)
		return e > 0 ? cli_flush(0) : e;
	r = cli_connect(cli, false);
	if (!r)
		return CLI_TROUBLE;
	begin = now_us();
	if (redd_ping(r) < 0) {
		status = say_failure(r, NULL);
	} else {
		printf("%.0f us\n", now_us() - begin);
		status = cli_flush(0);
	}
	redd_free(r);
	return status;
}
