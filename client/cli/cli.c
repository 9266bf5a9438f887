#include "client/cli/cli.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "client/cli/say.h"

struct redd *cli_connect(const struct cli *cli, bool start)
{
	struct redd_connect_options o = { .socket = cli->socket,
					  .no_start = !start,
					  .frame_max = CLI_FRAME_MAX };
	struct redd *r = redd_new();

	if (!r) {
		say("no memory");
		return NULL;
	}
	if (redd_connect(r, &o) < 0) {
		say_failure(r, NULL);
		redd_free(r);
		return NULL;
	}
	return r;
}

struct redd_port *cli_port(const struct cli *cli, const char *id_or_name)
{
	struct redd *r = cli_connect(cli, false);
	struct redd_port *port;

	if (!r)
		return NULL;
	if (redd_port_find(r, id_or_name, &port) < 0) {
		say_failure(r, NULL);
		redd_free(r);
		return NULL;
	}
	return port;
}

int cli_flush(int status)
{
	if (fflush(stdout) == 0 && !ferror(stdout))
		return status;
	if (errno == EPIPE)
		return 128 + 13; /* as if SIGPIPE had come: the reader has seen enough */
	return say("stdout: %s; see where it leads", strerror(errno));
}
