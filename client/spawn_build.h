/* A Spawn message from redd_spawn_options, with all the memory it points to.
 */
#ifndef REDD_CLIENT_SPAWN_BUILD_H
#define REDD_CLIENT_SPAWN_BUILD_H

#include <limits.h>

#include "client/subscribe.h"

struct spawn_build {
	Redd__V1__Spawn message;
	Redd__V1__Environment environment;
	Redd__V1__Terminal terminal;
	Redd__V1__Framing framing;
	Redd__V1__Open open; /* the request in the message's stead, with one of the next two */
	Redd__V1__File file;
	Redd__V1__Adopt adopt;
	struct subscribe_build subscribe;
	char directory[PATH_MAX]; /* ours, when the program gave none */
	void *blocks[16];	  /* owned: what the message's lists point to */
	size_t n_blocks;
	int fds[DESCRIPTORS_MAX]; /* borrowed: to go with the frame, in this order */
	size_t n_fds;
};

/* Fills *b, whose address must stay. 0; -EINVAL for what makes no sense, -ENOMEM, or what getcwd(3)
 * said; recorded. Free in every case. */
int spawn_build(struct redd *r, struct spawn_build *b, const struct redd_spawn_options *o,
		const struct redd_subscribe_options *subscribe);
void spawn_build_deinit(struct spawn_build *b);

/* The same for what goes into an Open in its stead: labels, umask, orphan, retention, what is said
 * of streams, and the subscription. The message holds nothing else. */
int spawn_build_common(struct redd *r, struct spawn_build *b, const struct redd_spawn_options *o,
		       const struct redd_subscribe_options *subscribe);

/* Our directory, for *ret; -errno, recorded. */
int directory_build(struct redd *r, struct spawn_build *b, ProtobufCBinaryData *ret);

/* The size of a terminal as a message. */
Redd__V1__Terminal terminal_build(const struct redd_terminal *t);

#endif
