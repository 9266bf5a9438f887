/* Errors, one line each on stderr: "redd: REASON; WHAT TO DO".
 */
#ifndef REDD_CLI_SAY_H
#define REDD_CLI_SAY_H

#include "client/cli/cli.h"

/* Returns CLI_TROUBLE. */
int say(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Adds where help is to be found. Returns CLI_USAGE. */
int say_usage(const struct cli *cli, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* The last failure of a connection, behind what it was about ("port 7"; NULL: nothing). Returns
 * CLI_TROUBLE. */
int say_failure(const struct redd *r, const char *about);

/* What is missing of an output, where, and why. */
void say_gap(const char *output, const struct redd_gap *gap);

#endif
