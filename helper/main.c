/* redd-helper keeper --config-fd N | forker --keeper-fd N | opener | pump ...: only redd starts it.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>

#include "helper/forker.h"
#include "helper/keeper.h"
#include "helper/opener.h"
#include "helper/pump_role.h"
#include "helper/signals.h"
#include "proto/base/log.h"

static int usage(void)
{
	fprintf(stderr, "redd-helper is a part of redd and is started by redd-broker; "
			"run redd-broker or redd instead\n");
	return 2;
}

/* The number behind `option`, which must be the only argument of the role; -1 if it is not. */
static int descriptor(int argc, char **argv, const char *option)
{
	char *end;
	long fd;

	if (argc != 4 || strcmp(argv[2], option) != 0)
		return -1;
	fd = strtol(argv[3], &end, 10);
	return *end || end == argv[3] || fd < 0 || fd > 1 << 24 ? -1 : (int)fd;
}

static int run_keeper(int argc, char **argv)
{
	int fd = descriptor(argc, argv, "--config-fd");

	if (fd < 0)
		return usage();
	log_init("redd-keeper", LOG_LEVEL_WARNING);
	prctl(PR_SET_NAME, "redd-keeper");
	signals_reset();
	return keeper_main(fd);
}

static int run_forker(int argc, char **argv)
{
	int fd = descriptor(argc, argv, "--keeper-fd");

	if (fd < 0)
		return usage();
	log_init("redd-forker", LOG_LEVEL_WARNING);
	prctl(PR_SET_NAME, "redd-forker");
	prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
	signals_reset();
	return forker_main(fd);
}

int main(int argc, char **argv)
{
	if (argc >= 2 && strcmp(argv[1], "keeper") == 0)
		return run_keeper(argc, argv);
	if (argc >= 2 && strcmp(argv[1], "forker") == 0)
		return run_forker(argc, argv);
	if (argc == 2 && strcmp(argv[1], "opener") == 0)
		return opener_main();
	if (argc >= 2 && strcmp(argv[1], "pump") == 0)
		return pump_main(argc - 1, argv + 1);
	return usage();
}
