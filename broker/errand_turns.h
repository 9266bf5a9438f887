/* Whose errand is the next to be sent out. They wait in lines that are apart:
 *
 *	ASKED   what clients ask for: users take turns, and so do the connections of each
 *	DUE     what was promised: time limits, orphans, drains, the service's end; users take turns
 *	AGAIN   what of these has failed before, and nobody waits for it any more
 *
 * So whatever clients ask for, and whoever's openers hang, what is due has its places.
 */
#ifndef REDD_BROKER_ERRAND_TURNS_H
#define REDD_BROKER_ERRAND_TURNS_H

#include "broker/fair.h"
#include "broker/turn.h"
#include "proto/base/list.h"

struct quota_account;

enum errand_kind { ERRAND_ASKED, ERRAND_DUE, ERRAND_AGAIN, ERRAND_KINDS };

/* Part of each account: errands that wait in its name. */
struct errand_line {
	struct list link; /* of the user's, while one waits that may go; who went last is last */
	struct list waiting;
	unsigned n_out;
};

/* Part of a uid's account. */
struct errand_user {
	struct fair_item item; /* on the queue while it has a line, and may have more out */
	struct list lines;
	unsigned n_out;
};

struct errand_share {
	struct errand_line lines[ERRAND_KINDS];
	struct errand_user users[ERRAND_KINDS]; /* of a uid's account */
};

void errand_share_init(struct errand_share *s);

/* Part of each errand. */
struct errand_ticket {
	struct list link; /* of its line's, while it waits */
	enum errand_kind kind;
	struct quota_account *account; /* in whose name; a reference */
};

void errand_ticket_init(struct errand_ticket *e, enum errand_kind kind,
			struct quota_account *account);
/* It neither waits nor is out. */
void errand_ticket_deinit(struct errand_ticket *e);

/* Part of the broker. */
struct errand_turns {
	struct fair_queue queues[ERRAND_KINDS]; /* of users */
	struct fair_group groups[ERRAND_KINDS]; /* the only ones */
	unsigned n_out[ERRAND_KINDS];
	struct turn *turn;
	struct job job;
	void (*send_out)(struct errand_ticket *e);
};

/* send_out is called from the loop's turns for one that waits and may go: it waits no more then,
 * and either counts as out or does not, as send_out will have it. */
void errand_turns_init(struct errand_turns *t, struct turn *turn,
		       void (*send_out)(struct errand_ticket *e));
void errand_turns_deinit(struct errand_turns *t);

void errand_turns_wait(struct errand_turns *t, struct errand_ticket *e);
/* The first that waits in the same line; NULL: none. */
struct errand_ticket *errand_turns_next(const struct errand_ticket *e);
/* Takes it from its line; harmless when it is on none. */
void errand_turns_leave(struct errand_turns *t, struct errand_ticket *e);

/* +1: it goes out; -1: it is back. */
void errand_turns_count(struct errand_turns *t, struct errand_ticket *e, int change);

#endif
