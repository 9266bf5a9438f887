/* What a service is told when it starts: its command line and configuration file, parsed and
 * checked once. Plain numbers (struct settings) go to every broker of the service by the keeper's
 * sealed configuration; paths and descriptors stay with the start.
 */
#ifndef REDD_BROKER_SETTINGS_H
#define REDD_BROKER_SETTINGS_H

#include <stdbool.h>
#include <stdint.h>

#include "proto/limits.h"

struct settings {
	uint32_t log_level;    /* enum log_level */
	uint32_t idle_exit_ms; /* 0: never */
	uint32_t plain_clone;  /* the forker clones without shared memory */
	uint32_t connections;  /* of all clients, and of one uid */
	uint32_t connections_per_uid;
	uint32_t ports_per_uid;
	uint32_t subscriptions_per_uid;
	uint32_t spawns_per_second; /* of one uid; 0: no limit */
	uint32_t spawn_burst;
	uint32_t descriptors_per_uid; /* passed by clients, until their child has them */
	uint64_t log_bytes_per_uid;
	uint64_t input_bytes_per_uid;
	uint64_t memory_max; /* of the broker, and what one uid may take of it */
	uint64_t memory_per_uid;
};

/* The command line: pointers into argv or the environment. */
struct start {
	struct settings settings;
	const char *sockets[LISTENERS_MAX];
	unsigned n_sockets;
	const char *public_sockets[LISTENERS_MAX]; /* every user may connect there */
	unsigned n_public_sockets;
	bool show_help, show_version;
	int keeper_fd; /* -1: this is a start by a user, not by the keeper */
};

void settings_default(struct settings *s);

/* Reads argv, and the file that it names. 0, or SETTINGS_E_INVALID with a sentence in `error`. */
#define SETTINGS_E_INVALID 1
int settings_parse(struct start *start, int argc, char **argv, char error[256]);

/* One setting as it is written, in the unit of its name. */
struct setting {
	const char *name;
	uint64_t lowest, highest, preset;
};

/* The i-th one, for those who list them; false behind the last. */
bool settings_describe(unsigned i, struct setting *ret);

#endif
