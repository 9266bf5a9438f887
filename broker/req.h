/* Request handlers, one family a file: unpack, call, answer. Only they, dispatch.c and reply.c see
 * the generated types.
 *
 * A handler answers exactly once, now or by a pending; it returns 0, or a negative errno when the
 * connection cannot go on.
 */
#ifndef REDD_BROKER_REQ_H
#define REDD_BROKER_REQ_H

#include <stdbool.h>
#include <stdint.h>

#include "broker/pending.h"
#include "broker/policy.h"
#include "broker/port.h"
#include "broker/reply.h"
#include "broker/subscription.h"
#include "proto/codec.h"
#include "proto/redd.pb-c.h"

struct conn;

#define SET(message, field, value) ((message).has_##field = true, (message).field = (value))

typedef int req_handler(struct conn *c, const Redd__V1__Request *r);

req_handler req_hello, req_ping, req_shutdown, req_cancel;
req_handler req_spawn, req_open;
req_handler req_write, req_close, req_resize;
req_handler req_signal;
req_handler req_subscribe, req_unsubscribe, req_credit;
req_handler req_wait, req_forget, req_watch, req_unwatch;
req_handler req_list, req_inspect;
req_handler req_stats;
req_handler req_grant, req_revoke, req_delegate;
req_handler req_lease, req_release;

/* Close of a port as a whole, a right of which is checked already, and what waits for that. */
int req_close_whole(struct conn *c, const Redd__V1__Request *request, struct port *p);
void req_close_whole_look(struct port *p);

/* Gives up an Open that waits; false: it is none, or it has what it waited for. */
bool req_open_cancel(struct pending *pending);
req_handler req_expect;

/* A Write as codec_view_write() read it from its frame, without a copy. */
int req_write_view(struct conn *c, const struct codec_write *w);

/* Queues the Write of a request that has another wait, for its port; req_input.c tells expect.c
 * when it is in the pipe. False: the request has been answered, and its pending is the caller's to
 * free. The pending may be gone when it returns true: the write failed at once, and so did the
 * request. */
bool req_write_first(struct conn *c, const Redd__V1__Write *m, struct pending *pending);

/* Of a Write that is in the pipe. */
void req_fill_written(Redd__V1__Written *ret, const struct pending *pending);

/* Parts of Wait and Signal that those for all ports with labels (req_labels.c) have too. */
int req_wait_selected(struct conn *c, const Redd__V1__Request *request, enum pending_kind kind);
bool req_wait_is_fulfilled(const struct port *p, enum pending_kind kind);
void req_wait_answer(struct conn *c, uint64_t request, struct port *p, enum pending_kind kind);
int req_wait_set(struct pending *pending, const Redd__V1__Wait *m); /* its time; 0 or -ENOMEM */
int req_signal_selected(struct conn *c, const Redd__V1__Request *request);
void req_signal_answer(struct conn *c, uint64_t request, uint32_t count,
		       const struct opener_reply *reply); /* reply may be NULL */
int req_signal_quietly(struct port *p, struct quota_account *asker, int signal,
		       Redd__V1__Target target); /* 0 or a negative errno */

/* The port that a request means, if the client may do `verb` with it; else NULL, and the request
 * has been answered. A port that the client may not see is NOT_FOUND to it. */
struct port *req_port(struct conn *c, uint64_t request, const Redd__V1__PortRef *ref,
		      enum policy_verb verb);

/* A pending for the request, or NULL, and the request has been answered. */
struct pending *req_pending(struct conn *c, struct port *p, enum pending_kind kind,
			    uint64_t request);

/* --- parts of messages ----------------------------------------------------------------------- */

/* Fills an Exit; nothing in it is allocated. */
void reply_fill_exit(Redd__V1__Exit *ret, const struct exit_record *e);

/* Reads a Subscribe: 0, or a sentence that says what is wrong with it and the code for it. */
/* NULL, or what is wrong with it; m may be NULL, which is raw. */
const char *req_read_framing(const Redd__V1__Framing *m, struct framing *ret);

/* Nothing for raw: NULL. Else *ret, filled. */
Redd__V1__Framing *req_fill_framing(Redd__V1__Framing *ret, const struct framing *f);

const char *req_read_subscribe(const Redd__V1__Subscribe *s, const struct port *p,
			       const struct conn *c, struct subscription_options *ret,
			       enum reply_code *ret_code);

/* NULL, or the right that is wanting. Without named streams they become those that may be read. */
const char *req_check_subscribe(const struct port *p, const struct conn *c,
				struct subscription_options *ret);

/* The code for a SUBSCRIPTION_E_*. */
enum reply_code req_subscription_code(int subscription_error);

/* Room for a Subscribed, which lives as long as the struct. */
struct subscribed_message {
	Redd__V1__Subscribed message;
	Redd__V1__StreamOffset starts[PORT_STREAMS_MAX];
	Redd__V1__StreamOffset *pointers[PORT_STREAMS_MAX];
	Redd__V1__Shared shared;
};
/* Of a shared one the descriptors are on their way then, with the message that is answered next. */
void req_fill_subscribed(struct subscribed_message *ret, struct subscription *s);

/* Reads labels of a request: 0, LABELS_E_BAD with *ret_reason, or -ENOMEM. A selector when
 * is_selector. No labels: *ret is NULL. */
int req_read_labels(Redd__V1__Label *const *labels, size_t n, bool is_selector, struct labels **ret,
		    const char **ret_reason);

/* Size of a Terminal: NULL, or what is wrong with it. Missing numbers get the defaults. */
const char *req_read_terminal(const Redd__V1__Terminal *t, struct pty_size *ret);

/* StreamInfo of all streams. */
struct stream_infos {
	Redd__V1__StreamInfo infos[PORT_STREAMS_MAX * 2];
	Redd__V1__StreamInfo *pointers[PORT_STREAMS_MAX * 2];
	size_t n;
	Redd__V1__Holder holders[STREAM_HOLDERS_MAX]; /* of all streams together */
	Redd__V1__Holder *holder_pointers[STREAM_HOLDERS_MAX];
	size_t n_holders;
};
void req_fill_streams(struct stream_infos *ret, const struct port *p);

/* Rights as they stand in a request: NULL, or what is wrong with them. */
struct rights_wish {
	uint8_t rights;
	uint32_t streams[PORT_STREAMS_MAX];
	unsigned n_streams;
};
const char *req_read_rights(const Redd__V1__Rights *m, struct rights_wish *ret);

/* Room for what Inspect tells of grants and lease. */
struct grants_message {
	Redd__V1__GrantInfo infos[GRANTS_MAX];
	Redd__V1__GrantInfo *pointers[GRANTS_MAX];
	Redd__V1__Rights rights[GRANTS_MAX];
	uint32_t streams[GRANTS_MAX][PORT_STREAMS_MAX];
	size_t n;
};
void req_fill_grants(struct grants_message *ret, const struct port *p);

struct lease_message {
	Redd__V1__LeaseInfo info;
	Redd__V1__ClaimInfo holder, waiting[LEASE_CLAIMS_MAX];
	Redd__V1__ClaimInfo *pointers[LEASE_CLAIMS_MAX];
};
/* NULL: nobody has it. */
Redd__V1__LeaseInfo *req_fill_lease(struct lease_message *ret, const struct port *p);

/* Nobody else has the lease of the port's inputs; else the request has been answered. */
bool req_lease_admits(struct conn *c, uint64_t request, const struct port *p);

/* Whoever waits for the lease of a port without an open input waits for nothing, and is told. */
void req_lease_look(struct port *p);

/* Bytes of input that may be under way without a refusal. */
uint32_t req_input_window(const struct port *p);

/* What the ports of a broker tell the requests' side. */
extern const struct port_events req_port_events;

/* LINK_GROUP_SIGNALLED (see req_signal.c). */
struct link_group_signal;
struct broker;
void req_group_signalled(struct broker *b, const struct link_group_signal *m);

#endif
