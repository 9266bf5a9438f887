/* Rights on one port that its owner gave to others: a small bounded set, counted, so that the port
 * and the life events that tell of it share one and a revocation reaches all of them at once. It
 * knows nothing of ports and clocks.
 */
#ifndef REDD_GRANTS_H
#define REDD_GRANTS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "proto/base/cleanup.h"
#include "proto/limits.h"

/* Numbers as in GrantTo of redd.proto. */
enum grant_to { GRANT_TO_UID = 0, GRANT_TO_GID = 1, GRANT_TO_EVERYONE = 2 };

/* What may be done with a port. Any of them lets it be seen. */
enum right {
	RIGHT_SEE = 1 << 0,
	RIGHT_READ = 1 << 1,
	RIGHT_WRITE = 1 << 2,
	RIGHT_SIGNAL = 1 << 3,
	RIGHT_RESIZE = 1 << 4,
	RIGHT_MANAGE = 1 << 5,
	RIGHT_BLOCK = 1 << 6,
	RIGHTS_ALL = (1 << 7) - 1,
};

/* Streams by their places in the port, one bit each. */
typedef uint16_t stream_set;
#define STREAMS_ALL ((stream_set)UINT16_MAX)

/* Also as it lies in the records: no padding. */
struct grant {
	uint64_t id;
	uint64_t until_ms; /* of the caller's clock; 0: no end */
	uint32_t number;   /* uid or gid */
	uint16_t to;	   /* enum grant_to */
	uint8_t rights;	   /* of enum right */
	uint8_t pad;
	stream_set streams; /* that READ and WRITE are for */
	uint8_t pad2[6];
};

struct grants {
	unsigned n_refs;
	unsigned n;
	struct grant list[GRANTS_MAX]; /* oldest first */
};

/* Who is looked for: a client's uid, gid and other groups. */
struct grantee {
	uid_t uid;
	gid_t gid;
	const gid_t *groups;
	unsigned n_groups;
};

/* An empty set with one reference; NULL without memory. */
struct grants *grants_new(void);
struct grants *grants_ref(struct grants *g);   /* NULL is harmless */
struct grants *grants_unref(struct grants *g); /* always NULL */

#define GRANTS_E_FULL 1
int grants_add(struct grants *g, const struct grant *grant);

/* False: there is none of that id. */
bool grants_remove(struct grants *g, uint64_t id);

/* When the next one ends; 0: none does. */
uint64_t grants_next_end(const struct grants *g);

const struct grant *grants_find(const struct grants *g, uint64_t id);

bool grant_is_for(const struct grant *grant, const struct grantee *who);

/* When the last grant that gives him this right ends; 0: one has no end, or there is none. */
uint64_t grants_end_of(const struct grants *g, const struct grantee *who, enum right right);

/* All rights that the set gives at now_ms. g may be NULL. */
unsigned grants_rights(const struct grants *g, const struct grantee *who, uint64_t now_ms);

/* The streams for which it gives `right` (READ or WRITE). */
stream_set grants_streams(const struct grants *g, const struct grantee *who, enum right right,
			  uint64_t now_ms);

#endif
