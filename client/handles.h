/* Ports, subscriptions and watches as the library holds them. References: see client.h.
 */
#ifndef REDD_CLIENT_HANDLES_H
#define REDD_CLIENT_HANDLES_H

#include "client/client.h"
#include "client/ledger.h"
#include "client/track.h"

typedef struct Redd__V1__PortRef Redd__V1__PortRef;
typedef struct Redd__V1__Exit Redd__V1__Exit;

struct redd_port {
	unsigned refs;
	struct list link; /* redd.ports */
	struct redd *r;
	uint64_t id;			      /* 0: not known yet */
	uint64_t spawn;			      /* the request that spawns it; 0: none */
	char *name;			      /* owned; NULL: named by id or spawn */
	pid_t pid;			      /* 0: not known */
	uint32_t window;		      /* of its input; 0: not known */
	bool held;			      /* by the program */
	struct list subscriptions;	      /* struct redd_subscription.of_port, held ones */
	struct redd_subscription *with_spawn; /* one of them */
	struct ledgers inputs;		      /* what is known of their positions */
	uint32_t bound;			      /* what its window will be; 0: not known */
	bool no_terminal;		      /* as far as it was told: */
	bool knows_header;
	uint32_t header;    /* that a write gets which says nothing of one; 0: none */
	bool has_ended;	    /* as far as it was told: nothing of it is at stake */
	uint64_t lease;	    /* that we have of it; 0: none */
	bool lease_is_away; /* it is to be seen whether we have it still */
};

struct redd_port *port_ref(struct redd_port *p);
void port_unref(struct redd_port *p);

/* What was written through it, other handles of its port have not seen: they do not know where they
 * are. */
void port_is_shared(const struct redd_port *p);

/* An empty handle with one reference, the program's; NULL without memory (recorded). */
struct redd_port *port_new(struct redd *r);

/* Asks whether the lease that we had of it before the connection was lost is ours still. 0, or a
 * negative errno: -EAGAIN when there is no room for that. */
int lease_look(struct redd_port *p);

/* How a request names it. The name stays the port's. */
void port_name_in(const struct redd_port *p, Redd__V1__PortRef *ref);

enum subscription_state {
	SUBSCRIPTION_ASKED, /* no answer yet, id 0 */
	SUBSCRIPTION_LIVE,  /* events come */
	SUBSCRIPTION_AWAY,  /* its connection is lost; to be asked for again */
	SUBSCRIPTION_AGAIN, /* asked for again, no answer yet */
	SUBSCRIPTION_ENDED, /* the program's Unsubscribe was answered, Closed is awaited */
	SUBSCRIPTION_LEFT,  /* freed by the program, the broker's end is awaited */
	SUBSCRIPTION_OVER,  /* nothing comes any more */
};

/* Inputs of which that was told. */
struct busy {
	size_t n;
	uint32_t streams[REDD_STREAMS_MAX];
};

struct redd_subscription {
	unsigned refs;
	enum subscription_state state;
	struct list link;    /* redd.subscriptions */
	struct list of_port; /* redd_port.subscriptions, while held */
	struct list by_id;   /* redd.by_id: holds a reference while linked */
	struct list owing;   /* redd.owing */
	struct list awake;   /* redd.awake */
	struct redd *r;
	struct redd_port *port; /* referenced */
	uint64_t id;
	struct redd_handler handler;
	enum redd_credit_mode credit_mode;
	uint64_t window;
	uint64_t owed; /* credit that is to be given, or given back */
	uint64_t left; /* credit that the broker has still, as we count it */
	enum redd_overflow overflow;
	uint32_t stall_ms;
	uint32_t streams[REDD_STREAMS_MAX]; /* as asked for; none: every output */
	size_t n_streams;
	struct redd_framing framing; /* likewise */
	bool from_beginning;
	bool verify;
	bool is_shared;
	struct reading *reading; /* owned; NULL: what comes, comes by the socket */
	bool exit_told;		 /* on_exited has run */
	struct busy busy;
	int result; /* first mismatch */
	struct redd_exit exit;
	struct redd_closed closed; /* SUBSCRIPTION_OVER: as it was told */
	size_t n_tracks;
	struct track tracks[REDD_STREAMS_MAX];
};

/* The program still hears of it. */
static inline bool subscription_is_heard(const struct redd_subscription *s)
{
	return s->state != SUBSCRIPTION_LEFT && s->state != SUBSCRIPTION_OVER;
}

/* The broker tells it what comes. */
static inline bool subscription_is_fed(const struct redd_subscription *s)
{
	return s->state == SUBSCRIPTION_LIVE || s->state == SUBSCRIPTION_ENDED;
}

/* The program has not freed it. */
static inline bool subscription_is_held(const struct redd_subscription *s)
{
	return list_is_linked(&s->of_port);
}

struct redd_subscription *subscription_ref(struct redd_subscription *s);
void subscription_unref(struct redd_subscription *s);

struct redd_watch {
	unsigned refs;
	bool over; /* freed by the program, or the connection was lost */
	struct list link;
	struct redd *r;
	uint64_t id;	   /* 0: not answered yet, or not on this connection */
	uint64_t sequence; /* when it began */
	uint64_t told;	   /* the newest event that was told, or passed over */
	bool is_behind;	   /* events behind `told` are gone, or not wanted: it begins from now */
	bool is_away;	   /* its connection is lost; to be asked for again */
	uint8_t *request;  /* owned: its frame, to be asked again; NULL: it cannot be */
	size_t request_size;
	redd_life_fn *on_life;
	void *user;
};

/* Likewise. */
static inline bool watch_is_held(const struct redd_watch *w)
{
	return list_is_linked(&w->link);
}

struct redd_watch *watch_ref(struct redd_watch *w);
void watch_unref(struct redd_watch *w);

#endif
