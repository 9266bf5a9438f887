/* Options of a command, by a table: what it takes, what its help shows.
 *
 * Long options are --name VALUE or --name=VALUE, short ones -n VALUE or -nVALUE; short ones without
 * value can be joined (-dt). Options end at "--" or at the first word that is none.
 */
#ifndef REDD_CLI_OPTIONS_H
#define REDD_CLI_OPTIONS_H

#include <stddef.h>

#include "client/cli/cli.h"

/* Takes a value into the member that the row names. NULL, or what is wrong with the value (static):
 * "is no duration, such as 10s". */
typedef const char *option_take_fn(void *member, const char *value);

struct option_row {
	char letter;	   /* 0: none */
	const char *name;  /* NULL ends the table */
	const char *value; /* what help calls it; NULL: takes none */
	const char *help;
	option_take_fn *take;
	size_t offset; /* of the member in the command's struct */
};

#define OPTION(letter, name, value, help, take, type, member)                     \
	{                                                                         \
		(letter), (name), (value), (help), (take), offsetof(type, member) \
	}
#define OPTIONS_END                          \
	{                                    \
		0, NULL, NULL, NULL, NULL, 0 \
	}

/* Words that an option collects, in their order; NULL-terminated when not empty. */
struct words {
	const char **list;
	size_t n;
};

/* A number that may have been given. */
struct given {
	bool is;
	uint64_t value;
};

option_take_fn option_flag;	/* bool */
option_take_fn option_string;	/* const char * */
option_take_fn option_words;	/* struct words */
option_take_fn option_number;	/* struct given */
option_take_fn option_stream;	/* struct given */
option_take_fn option_size;	/* struct given */
option_take_fn option_room;	/* struct given: a size, not 0 */
option_take_fn option_duration; /* struct given, milliseconds, at most 32 bits */
option_take_fn option_signal;	/* int */
option_take_fn option_header;	/* uint32_t: bytes of a packet's length */
option_take_fn option_packet;	/* struct redd_framing: packets with such a length */
option_take_fn option_framing;	/* struct redd_framing */

/* Takes options into `into`. On 0 *ret_first is the first word behind them. CLI_USAGE, said;
 * 1 when help was asked for, and printed: the command is to end with status 0. */
int options_parse(const struct cli *cli, const struct option_row *rows, const char *usage,
		  void *into, int argc, char **argv, int *ret_first);

/* Checks that `least` to `most` words are left (most < 0: any number). 0 or CLI_USAGE, said. */
int options_count(const struct cli *cli, const char *usage, int n, char **words, int least,
		  int most);

/* Both, for commands whose words are none of another program's: options may also stand between and
 * behind them; argv is put in order. */
int options_words(const struct cli *cli, const struct option_row *rows, const char *usage,
		  void *into, int argc, char **argv, int least, int most, int *ret_first);

#endif
