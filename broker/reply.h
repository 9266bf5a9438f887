/* What the broker says to a client, as messages: answers, errors, events. Together with the request
 * handlers the only place that knows the generated types.
 */
#ifndef REDD_BROKER_REPLY_H
#define REDD_BROKER_REPLY_H

#include <stdbool.h>
#include <stdint.h>

#include "broker/cursor.h"
#include "broker/exit_record.h"

struct buf;
struct conn;
struct event;
struct pending;
struct port;
struct reader;
struct stream;
struct subscription;
struct watch;

/* Code of redd.proto, by number; a test holds them against the schema. */
enum reply_code {
	REPLY_CANCELLED = 1,
	REPLY_INVALID_ARGUMENT = 3,
	REPLY_DEADLINE_EXCEEDED = 4,
	REPLY_NOT_FOUND = 5,
	REPLY_ALREADY_EXISTS = 6,
	REPLY_PERMISSION_DENIED = 7,
	REPLY_RESOURCE_EXHAUSTED = 8,
	REPLY_FAILED_PRECONDITION = 9,
	REPLY_ABORTED = 10,
	REPLY_OUT_OF_RANGE = 11,
	REPLY_UNIMPLEMENTED = 12,
	REPLY_INTERNAL = 13,
	REPLY_UNAVAILABLE = 14,
	REPLY_DATA_LOSS = 15,
	REPLY_UNAUTHENTICATED = 16,
};

/* Each puts one message on the control lane. What does not fit there ends the connection, but not
 * from within the call: whoever answers may go on with what belongs to it. */
void reply_error(struct conn *c, uint64_t request, enum reply_code code, int sys_errno,
		 const char *format, ...) __attribute__((format(printf, 5, 6)));
void reply_spawn_failed(struct conn *c, uint64_t request, enum reply_code code, uint32_t stage,
			int sys_errno, uint32_t retry_after_ms, const char *sentence);
void reply_bye(struct conn *c, enum reply_code code, const char *sentence);
void reply_done(struct conn *c, uint64_t request);

/* Answers a Lease: the session has it. And tells, later, that it has it no more (Leased.Cause). */
void reply_leased(struct conn *c, uint64_t request, uint64_t port, uint64_t lease);
void reply_lease_ended(struct conn *c, uint64_t port, uint64_t lease, uint32_t cause);

/* Any other answer: a Redd__V1__Message whose reply_to is set here. */
void reply_message(struct conn *c, uint64_t request, void *message);

/* Says why to a socket that will not become a connection; one attempt that does not block. */
void reply_refuse_connection(int fd, enum reply_code code, const char *sentence);

/* Each appends one event to `out`. 0, CODEC_E_*, or -ENOMEM. */
int reply_pack_step(struct buf *out, const struct subscription *s, const struct reader *r,
		    const struct cursor_step *step);
int reply_pack_closed(struct buf *out, const struct subscription *s);
int reply_pack_exited(struct buf *out, const struct subscription *s);
int reply_pack_marks(struct buf *out, const struct subscription *s, const struct stream *stream);
int reply_pack_moved(struct buf *out, const struct subscription *s);
int reply_pack_life(struct buf *out, const struct watch *w, const struct event *e);
int reply_pack_missed(struct buf *out, const struct watch *w);

#endif
