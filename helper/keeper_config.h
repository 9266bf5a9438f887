/* The configuration that the keeper was started with (struct link_config), checked and mapped. */
#ifndef REDD_HELPER_KEEPER_CONFIG_H
#define REDD_HELPER_KEEPER_CONFIG_H

#include <stddef.h>

#include "helper/link.h"

struct keeper_config {
	int fd; /* the memfd: handed to each broker */
	const struct link_config *head;
	const char *broker, *helper;
	struct {
		const char *path, *lock;
	} listeners[LISTENERS_MAX];
	size_t n_locks; /* that are held */
};

/* Takes fd. 0 or a negative errno: -EINVAL when what is there is no such configuration. */
int keeper_config_open(struct keeper_config *c, int take_fd);

/* Pure: checks `size` bytes and points into them. 0 or -EINVAL. */
int keeper_config_parse(struct keeper_config *c, const void *data, size_t size);

/* Lets no program that is started inherit what the configuration names, and closes every descriptor
 * from 3 on that it does not name. */
void keeper_config_isolate(const struct keeper_config *c);

/* Removes the socket and lock files that are still ours. Those whose lock file was replaced are
 * left alone. */
void keeper_config_unlink(const struct keeper_config *c);

#endif
