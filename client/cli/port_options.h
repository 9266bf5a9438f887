/* What `redd open` and `redd adopt` take besides what is opened, and what they have in common with
 * `redd run`.
 */
#ifndef REDD_CLI_PORT_OPTIONS_H
#define REDD_CLI_PORT_OPTIONS_H

#include <stdio.h>

#include "client/cli/spawn_options.h"

/* Rows for a struct `type` that has a struct run_options `run`. */
#define PORT_OPTIONS(type)                                                                        \
	OPTION('d', "detach", NULL, "print the port's id and leave", option_flag, type,           \
	       run.detach),                                                                       \
		OPTION(0, "name", "NAME", "name the port", option_string, type, run.spawn.name),  \
		OPTION('l', "label", "KEY=VALUE", "label the port", option_words, type,           \
		       run.labels),                                                               \
		OPTION(0, "log-size", "SIZE", "of the log of what is read (256K)", option_room,   \
		       type, run.log_size),                                                       \
		OPTION(0, "retention", "DURATION",                                                \
		       "keep log and status so long after the end (60s)", option_duration, type,  \
		       run.retention),                                                            \
		OPTION(0, "on-disconnect", "kill|close-stdin|keep|keep:DURATION",                 \
		       "when we go first (kill: as `redd close --all`; with -d: keep)",           \
		       option_string, type, run.orphan),                                          \
		OPTION(0, "token", "TEXT", "a repeat with the same token opens nothing",          \
		       option_string, type, run.token),                                           \
		OPTION(0, "checksum", NULL, "keep and compare a checksum of what is read",        \
		       option_flag, type, run.spawn.checksum),                                    \
		OPTION(0, "input-marks", "HIGH[:LOW]|off",                                        \
		       "its input is busy from so many queued bytes (8K:4K)", option_marks, type, \
		       run),                                                                      \
		OPTION(0, "input-bound", "SIZE", "and refuses what goes beyond this (1M)",        \
		       option_room, type, run.input_bound),                                       \
		OPTION(0, "packet", "1|2|4", "packets behind a length of so many bytes pass",     \
		       option_packet, type, run.spawn.framing),                                   \
		OPTION(0, "framing", "lines[:MAX]|packets:1|2|4[:MAX]", "lines, or packets, do",  \
		       option_framing, type, run.spawn.framing),                                  \
		OPTION(0, "json", NULL, "with -d: print a JSON object", option_flag, type,        \
		       run.json)

/* What was taken, for libredd. It points at what *o has. 0 or CLI_USAGE, said. */
int port_options_take(const struct cli *cli, struct run_options *o, struct redd_port_options *ret);

/* The port's id, or the object of --json, to f. The status to leave with. */
int port_print(const struct run_options *o, const struct redd_port *port, FILE *f);

/* How a file or descriptors ended, after which it is `what`: 0, or CLI_TROUBLE, said. */
int port_status(const char *what, const struct redd_exit *exit);

#endif
