/* redd adopt: hands our own descriptors over as a port, and waits until it is over.
 */
#include <stdio.h>
#include <unistd.h>

#include "client/cli/options.h"
#include "client/cli/port_options.h"
#include "client/cli/say.h"

static const char usage[] = "adopt [OPTION...]";

struct adopt {
	struct run_options run;
	struct redd_adopt_options adopt;
	struct given fd, read, write;
};

static const struct option_row rows[] = {
	OPTION(0, "fd", "N", "descriptor N, in both directions", option_number, struct adopt, fd),
	OPTION(0, "read", "N", "descriptor N to be read; stdin when none is named", option_number,
	       struct adopt, read),
	OPTION(0, "write", "N", "descriptor N to be written; stdout when none is named",
	       option_number, struct adopt, write),
	PORT_OPTIONS(struct adopt),
	OPTIONS_END,
};

static int take_numbers(const struct cli *cli, struct adopt *o)
{
	bool none = !o->fd.is && !o->read.is && !o->write.is;

	if (o->fd.is && (o->read.is || o->write.is))
		return say_usage(cli, "--fd means both directions; leave it, or the others, out");
	o->adopt.reads = none || o->fd.is || o->read.is;
	o->adopt.writes = none || o->fd.is || o->write.is;
	if (o->fd.is)
		o->read = o->write = o->fd;
	else if (none)
		o->write.value = STDOUT_FILENO;
	if (o->read.value > 1 << 30 || o->write.value > 1 << 30)
		return say_usage(cli, "there are no descriptors of such a number");
	o->adopt.read_fd = (int)o->read.value;
	o->adopt.write_fd = (int)o->write.value;
	return 0;
}

/* Where nobody else reads it. */
static FILE *place_to_print(const struct adopt *o)
{
	return o->adopt.writes && o->adopt.write_fd == STDOUT_FILENO ? stderr : stdout;
}

static int adopt(const struct cli *cli, struct adopt *o)
{
	struct redd *r = cli_connect(cli, true);
	struct redd_waited waited;
	struct redd_port *port;
	int status;

	if (!r)
		return CLI_TROUBLE;
	if (redd_adopt(r, &o->adopt, &port) < 0)
		status = say_failure(r, NULL);
	else if (o->run.detach)
		status = port_print(&o->run, port, place_to_print(o));
	else if (redd_wait(port, REDD_UNTIL_CLOSED, -1, &waited) < 0)
		status = say_failure(r, NULL);
	else
		status = port_status("the descriptors", &waited.exit);
	redd_free(r);
	return status;
}

int cmd_adopt(struct cli *cli, int argc, char **argv)
{
	struct adopt o = { 0 };
	int first, status = options_words(cli, rows, usage, &o, argc, argv, 0, 0, &first);

	if (!status)
		status = port_options_take(cli, &o.run, &o.adopt.port);
	if (!status)
		status = take_numbers(cli, &o);
	if (!status)
		status = adopt(cli, &o);
	else if (status > 0)
		status = cli_flush(0); /* help was printed */
	run_options_deinit(&o.run);
	return status;
}
