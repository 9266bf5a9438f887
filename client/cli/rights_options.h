/* Options for rights, as grant and delegate take them.
 */
#ifndef REDD_CLI_RIGHTS_OPTIONS_H
#define REDD_CLI_RIGHTS_OPTIONS_H

#include <stdio.h>

#include "client/cli/json.h"
#include "client/cli/options.h"

struct rights_options {
	struct redd_rights rights;
	struct words streams;
	struct given duration;
};

/* Rows for a command whose struct has a `struct rights_options` member. */
#define RIGHTS_ROWS(type, member)                                                                  \
	OPTION(0, "see", NULL, "that it is there: list, inspect, wait", option_flag, type,         \
	       member.rights.see),                                                                 \
		OPTION('r', "read", NULL, "read its outputs", option_flag, type,                   \
		       member.rights.read),                                                        \
		OPTION('w', "write", NULL, "write to and close its inputs", option_flag, type,     \
		       member.rights.write),                                                       \
		OPTION('s', "signal", NULL, "signal it", option_flag, type, member.rights.signal), \
		OPTION(0, "resize", NULL, "set the size of its terminal", option_flag, type,       \
		       member.rights.resize),                                                      \
		OPTION(0, "manage", NULL, "forget it, give rights on it", option_flag, type,       \
		       member.rights.manage),                                                      \
		OPTION(0, "block", NULL, "hold it back for a slow reader", option_flag, type,      \
		       member.rights.block),                                                       \
		OPTION(0, "stream", "N", "read and write this stream only; may be repeated",       \
		       option_words, type, member.streams),                                        \
		OPTION(0, "for", "DURATION", "for so long only", option_duration, type,            \
		       member.duration)

#define RIGHTS_STREAMS_MAX REDD_STREAMS_MAX

/* The rights, with the numbers of their streams in `streams`. 0 or CLI_USAGE, said. */
int rights_take(const struct cli *cli, const struct rights_options *o,
		uint32_t streams[RIGHTS_STREAMS_MAX], struct redd_rights *ret);

/* "read,write(0,1)". */
void rights_show(FILE *f, const struct redd_rights *r);
void rights_json(struct json *j, const struct redd_rights *r);

#endif
