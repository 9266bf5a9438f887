/* redd shutdown: ends the broker, and waits until it has gone: a next one can be started then.
 */
#include <poll.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

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

#define LEAVING_MS 5000 /* of the service, once the connection has ended */

/* The service's process, which holds socket and lock to the end, where it made the socket itself.
 * -1: it is not to be seen from here. */
static int service_pidfd(const struct redd *r)
{
	struct ucred peer = { 0 };
	socklen_t size = sizeof(peer);

	if (getsockopt(redd_fd(r), SOL_SOCKET, SO_PEERCRED, &peer, &size) < 0 || peer.pid <= 0 ||
	    peer.pid != redd_welcome(r)->broker_pid)
		return -1;
	return (int)syscall(SYS_pidfd_open, peer.pid, 0);
}

/* The connection ends with the broker, and the service a moment later. */
static void await_end(struct redd *r, int service)
{
	struct pollfd p = { .fd = service, .events = POLLIN };

	while (redd_run_once(r, -1) == 0)
		;
	if (service >= 0)
		poll(&p, 1, LEAVING_MS);
}

static int end_it(struct redd *r, const struct shutdown_options *o)
{
	int service = service_pidfd(r), status = 0;

	if (redd_shutdown(r, o->drain.is ? (int64_t)o->drain.value : -1) < 0)
		status = say_failure(r, NULL);
	else if (!o->no_wait)
		await_end(r, service);
	if (service >= 0)
		close(service);
	return status;
}

int cmd_shutdown(struct cli *cli, int argc, char **argv)
{
	struct shutdown_options o = { 0 };
	int first, status, e = options_words(cli, rows, usage, &o, argc, argv, 0, 0, &first);
	struct redd *r;

	if (e)
		return e > 0 ? cli_flush(0) : e;
	r = cli_connect(cli, false);
	if (!r)
		return CLI_TROUBLE;
	status = end_it(r, &o);
	redd_free(r);
	return status;
}
