/* redd-broker: started by a user it opens the sockets and becomes the keeper (startup.c); started
 * by the keeper it is the broker (broker.c).
 */
#include <stdio.h>

#include "broker/broker.h"
#include "broker/settings.h"
#include "broker/startup.h"
#include "proto/base/log.h"
#include "proto/limits.h"

static const char usage[] =
	"usage: redd-broker [--socket PATH]... [--public-socket PATH]... [--config FILE] "
	"[--SETTING VALUE]...\n"
	"Serves process ports to the clients of its sockets, in the foreground, until SIGTERM or\n"
	"'redd shutdown'. Without --socket: $XDG_RUNTIME_DIR/redd/redd.sock, else "
	"/tmp/redd-UID/redd.sock.\n"
	"At a --public-socket every user may connect.\n"
	"Settings, here or in the file as 'name = value' (least, most, default); redd-broker(8) "
	"says\n"
	"what they are:\n";

static void help(void)
{
	struct setting s;

	fputs(usage, stdout);
	for (unsigned i = 0; settings_describe(i, &s); i++)
		printf("  %-24s %llu, %llu, %llu\n", s.name, (unsigned long long)s.lowest,
		       (unsigned long long)s.highest, (unsigned long long)s.preset);
}

int main(int argc, char **argv)
{
	struct start start;
	char error[256];

	if (settings_parse(&start, argc, argv, error)) {
		fprintf(stderr, "redd-broker: %s\n", error);
		return 2;
	}
	if (start.show_help) {
		help();
		return 0;
	}
	if (start.show_version) {
		puts("redd-broker " REDD_VERSION);
		return 0;
	}
	log_init("redd-broker", (enum log_level)start.settings.log_level);
	return start.keeper_fd >= 0 ? broker_run(start.keeper_fd) : startup(&start);
}
