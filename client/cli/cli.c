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

static void on_lease_end(struct redd *r, uint64_t port, uint64_t lease, enum redd_lease_end why,
			 void *user)
{
	static const char *const reasons[] = {
		[0] = "why, is not known here",
		[REDD_LEASE_RELEASED] = "it was given back by another of us",
		[REDD_LEASE_TAKEN] = "it was taken by force",
		[REDD_LEASE_EXPIRED] = "its time is up",
		[REDD_LEASE_REVOKED] = "the right to write was taken back",
		[REDD_LEASE_ABANDONED] = "the connection was away for too long",
	};

	(void)r;
	(void)lease;
	say("the lease of port %llu's input is over: %s; others may write there now",
	    (unsigned long long)port, reasons[why <= REDD_LEASE_ABANDONED ? why : 0]);
	*(bool *)user = true;
}

int cli_lease(struct redd_port *port, bool take, bool *ret_over)
{
	const struct redd_lease_options o = { .wait = !take, .force = take };

	*ret_over = false;
	redd_on_lease_end(redd_port_connection(port), on_lease_end, ret_over);
	return redd_lease(port, &o, NULL);
}

int cli_flush(int status)
{
	if (fflush(stdout) == 0 && !ferror(stdout))
		return status;
	if (errno == EPIPE)
		return 128 + 13; /* as if SIGPIPE had come: the reader has seen enough */
	return say("stdout: %s; see where it leads", strerror(errno));
}
