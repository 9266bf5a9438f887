/* The options of `redd run`.
 */
#ifndef REDD_CLI_SPAWN_OPTIONS_H
#define REDD_CLI_SPAWN_OPTIONS_H

#include <stdbool.h>

#include "client/cli/options.h"

#define LIMITS_MAX 16
#define LABELS_MAX 32

struct run_options {
	struct redd_spawn_options spawn;
	bool detach, terminal, interactive, shell, null_stdin, null_stdout, merge, json;
	bool nouse_stdio; /* 3 and 4 instead of 0 and 1 */
	/* As given; turned into `spawn` when all are read. */
	struct words set_env, unset, labels, limits;
	const char *environment, *user, *orphan, *token;
	struct given timeout, grace, umask, log_size, input_bound, retention, drain, drain_limit;
	bool drain_never;
	int nice;
	bool has_nice;
	/* What `spawn` points to. */
	struct redd_label label_list[LABELS_MAX];
	struct redd_limit limit_list[LIMITS_MAX];
	char **texts; /* owned copies that were cut apart */
	size_t n_texts;
};

/* As options_parse(); *o is zero before. Free in every case. */
int run_options_parse(const struct cli *cli, const char *usage, int argc, char **argv,
		      struct run_options *o, int *ret_first);
void run_options_deinit(struct run_options *o);

/* Turns what was given into `spawn`, as far as ports of any kind have it: labels, umask, log size,
 * retention, token, what becomes of it when we go. 0 or CLI_USAGE, said. */
int run_options_take_common(const struct cli *cli, struct run_options *o);

option_take_fn option_octal; /* struct given, at most 0777 */
option_take_fn option_marks; /* struct run_options */

#endif
