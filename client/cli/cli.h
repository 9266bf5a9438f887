/* What the commands share: their table's row, and what they end with.
 */
#ifndef REDD_CLI_CLI_H
#define REDD_CLI_CLI_H

#include "client/redd.h"

/* A command returns its exit status, or one of these, after it has said why. No errno is one. */
#define CLI_TROUBLE (-10001) /* becomes the row's `trouble` */
#define CLI_USAGE   (-10002) /* becomes 2, or the row's `trouble` when that is 125 */

struct cli {
	const char *socket; /* --socket; NULL: where libredd looks */
	const char *verb;
};

struct command {
	const char *name;
	const char *summary; /* one line, for `redd help` */
	int trouble;	     /* exit status when redd itself failed: 125 where a status may be a
				program's, else 1 */
	int (*run)(struct cli *cli, int argc, char **argv);
};

/* argv[0] is the verb. */
int cmd_adopt(struct cli *cli, int argc, char **argv);
int cmd_attach(struct cli *cli, int argc, char **argv);
int cmd_close(struct cli *cli, int argc, char **argv);
int cmd_delegate(struct cli *cli, int argc, char **argv);
int cmd_events(struct cli *cli, int argc, char **argv);
int cmd_expect(struct cli *cli, int argc, char **argv);
int cmd_forget(struct cli *cli, int argc, char **argv);
int cmd_grant(struct cli *cli, int argc, char **argv);
int cmd_inspect(struct cli *cli, int argc, char **argv);
int cmd_kill(struct cli *cli, int argc, char **argv);
int cmd_logs(struct cli *cli, int argc, char **argv);
int cmd_open(struct cli *cli, int argc, char **argv);
int cmd_ping(struct cli *cli, int argc, char **argv);
int cmd_ps(struct cli *cli, int argc, char **argv);
int cmd_resize(struct cli *cli, int argc, char **argv);
int cmd_revoke(struct cli *cli, int argc, char **argv);
int cmd_run(struct cli *cli, int argc, char **argv);
int cmd_shutdown(struct cli *cli, int argc, char **argv);
int cmd_stats(struct cli *cli, int argc, char **argv);
int cmd_version(struct cli *cli, int argc, char **argv);
int cmd_wait(struct cli *cli, int argc, char **argv);
int cmd_write(struct cli *cli, int argc, char **argv);

/* Longer than all that execve(2) takes at once, arguments and environment. */
#define CLI_FRAME_MAX (8u << 20)

/* Connects; `start` allows a broker to be started. NULL after having said why. Freed with
 * redd_free(), or not at all when the program ends anyway. */
struct redd *cli_connect(const struct cli *cli, bool start);

/* A port by id or name on a new connection; that connection is redd_port_connection(). NULL after
 * having said why. */
struct redd_port *cli_port(const struct cli *cli, const char *id_or_name);

/* Makes us the only writer, in turn or (take) in the place of who is. *ret_over becomes true when
 * that has an end, after having said why: it must stay valid. A negative errno, not said. */
int cli_lease(struct redd_port *port, bool take, bool *ret_over);

/* Ends output to stdout: CLI_TROUBLE, said, when some of it could not be written; else status. */
int cli_flush(int status);

#endif
