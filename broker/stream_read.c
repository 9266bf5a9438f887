/* One read a turn: out of the descriptor into a pipe that survives us (transit.h), and from there
 * into the ring, the one copy in. Only what came makes room in the log, so nothing old is given up
 * for nothing; and only when something came a log is made. How much is taken is bounded by half of
 * the log, so that readers can follow, and by the room that blocking readers leave. Without room
 * the descriptor is not read at all ("held") and the kernel blocks the child.
 *
 * An output ends once: at end of file, by an error, or by its port (drain, shutdown). What cannot
 * be read any more is a gap, not silence.
 */
#include "broker/stream.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>
#include <xxhash.h>

#include "broker/broker.h"
#include "broker/conn.h"
#include "broker/expect.h"
#include "broker/port.h"
#include "broker/sharing.h"
#include "broker/record.h"
#include "broker/subscription.h"
#include "proto/base/err.h"
#include "proto/base/log.h"

uint64_t stream_total(const struct stream *s)
{
	return s->out.ring ? ring_head(s->out.ring) : 0;
}

uint64_t stream_oldest(const struct stream *s)
{
	return s->out.ring ? ring_tail(s->out.ring) : 0;
}

uint64_t stream_written(const struct stream *s)
{
	int waiting = 0;

	if (s->fd < 0 || s->out.is_ended || ioctl(s->fd, FIONREAD, &waiting) < 0)
		waiting = 0;
	return stream_total(s) + (uint64_t)MAX(waiting, 0);
}

uint64_t stream_checksum(const struct stream *s)
{
	return s->out.ring ? ring_checksum(s->out.ring) : XXH3_64bits(NULL, 0);
}

void stream_view(const struct stream *s, struct cursor_view *ret)
{
	*ret = (struct cursor_view){ .tail = stream_oldest(s),
				     .head = stream_total(s),
				     .is_ended = s->out.is_ended,
				     .is_abandoned = s->out.is_abandoned,
				     .abandoned = s->out.abandoned,
				     .size = s->out.log_size };
	if (s->out.ring) {
		ret->data = ring_at(s->out.ring, ret->tail);
		ret->index = ring_index(s->out.ring);
	}
}

/* What an output that is held back waits for: not for every byte. */
static uint64_t stream_room_wanted(const struct stream *s)
{
	return MIN(s->out.log_size / 4, KIB(64));
}

/* A frame that the socket took a part of is not sent: should we die, its reader asks for it again.
 */
static uint64_t reader_floor(struct reader *r)
{
	uint64_t floor;

	sharing_pull(r);
	floor = cursor_floor(&r->cursor);
	return floor == UINT64_MAX ? floor : MIN(floor, conn_floor(r->subscription->conn, r));
}

/* None is behind it; UINT64_MAX: there is none. */
static uint64_t floor_known(const struct stream *s)
{
	const struct slowest_node *n = slowest_first(&s->out.slowest);

	return n ? n->at : UINT64_MAX;
}

/* Where the slowest blocking reader is. Cursors only go on, so one that is still where it was last
 * seen, before all others, is the slowest. Those that share memory move while they are looked at:
 * each is looked at once. */
static uint64_t stream_floor(struct stream *s)
{
	struct slowest_node *n;
	uint64_t floor;

	for (unsigned i = 0; i < s->out.n_blockers; i++) {
		n = slowest_first(&s->out.slowest);
		floor = reader_floor(container_of(n, struct reader, floor));
		if (floor == n->at)
			break;
		slowest_move(&s->out.slowest, n, floor);
	}
	return floor_known(s);
}

static uint64_t room_above(const struct stream *s, uint64_t floor)
{
	uint64_t head = stream_total(s), behind = head > floor ? head - floor : 0;

	if (floor == UINT64_MAX)
		return UINT64_MAX;
	return behind < s->out.log_size ? s->out.log_size - behind : 0;
}

/* Bytes that may be read without overtaking anybody who may not be overtaken. With a thousand
 * readers they are only looked at when it gets tight. */
static uint64_t stream_room(struct stream *s)
{
	uint64_t room = room_above(s, floor_known(s));
	struct expect *e;

	if (room <= s->out.log_size / 2)
		room = room_above(s, stream_floor(s));
	if ((s->out.hold_unread && list_is_empty(&s->out.readers)) || s->out.awaited)
		room = MIN(room, s->out.log_size - (stream_total(s) - stream_oldest(s)));
	list_for_each (e, &s->out.expects, stream_link)
		room = MIN(room, expect_room(e));
	return room;
}

static int stream_make_ring(struct stream *s)
{
	struct stream_output *o = &s->out;
	const char *reason;
	struct quota_account *account = port_account(s->port);
	int r;

	/* Logs of ports that have ended are kept as long as nobody needs the room. */
	do
		r = quota_charge_take(&o->charge, account, QUOTA_RING_BYTES, o->log_size, &reason);
	while (r && port_evict(s->broker, r == QUOTA_E_MEMORY ? NULL : account));
	if (r)
		return err_begin(-ENOBUFS);
	do
		r = ring_new(s->broker->rings, o->log_size, o->wants_checksum, &o->ring);
	while ((r == RING_E_QUOTA || r == -EMFILE) && port_evict(s->broker, NULL));
	if (r) {
		quota_charge_return(&o->charge);
		return r == RING_E_QUOTA ? err_begin(-ENOBUFS) : err_pass(r);
	}
	o->log_size = ring_size(o->ring);
	if (o->framing.cut == FRAMING_PACKETS)
		ring_keep_index(o->ring, o->framing.header, o->framing.maximum);
	port_save(s->port);
	return 0;
}

int stream_share_log(struct stream *s)
{
	int r = 0;

	if (!s->out.ring)
		r = s->out.is_ended ? -ENODATA : stream_make_ring(s);
	return r < 0 ? err_pass(r) : ring_share(s->out.ring);
}

static void stream_took(struct stream *s, size_t size)
{
	s->out.active_ms = uv_now(&s->broker->loop);
	pace_note(&s->out.pace, stream_total(s) - size, stream_oldest(s), s->out.active_ms);
	s->broker->counters.bytes_out += size;
	s->port->events->stream.moved(s);
}

/* A pipe that is found full again and again gets a larger buffer, while the budget of them lasts:
 * an ordinary user has 64 MiB of pipe buffers in all (pipe(7), pipe-user-pages-soft). */
static void stream_grow_pipe(struct stream *s, size_t size)
{
	struct stream_output *o = &s->out;

	if (s->kind != STREAM_IS_PIPE || o->is_grown)
		return;
	o->full_reads = size >= KIB(64) ? o->full_reads + 1 : 0;
	if (o->full_reads < PIPE_FULL_TIMES || s->broker->n_grown_pipes >= PIPES_GROWN_MAX)
		return;
	o->is_grown = true;
	s->broker->n_grown_pipes++;
	(void)fcntl(s->fd, F_SETPIPE_SZ, (int)PIPE_GROWN); /* refused: then it stays as it is */
}

static size_t stream_share(const struct stream *s, uint64_t room)
{
	uint64_t share = MIN(STREAM_READ_SIZE, ring_round_size(s->out.log_size) / 2);

	return (size_t)MIN(share, room);
}

/* What was taken cannot be kept: it is told as a gap. */
static void stream_lose(struct stream *s, size_t size)
{
	transit_drop(&s->broker->transit);
	s->out.is_abandoned = true;
	s->out.abandoned = size;
}

/* Bytes that came into the log, 0 at end of file, or a negative errno. */
static ssize_t stream_fill(struct stream *s, size_t size)
{
	struct transit *t = &s->broker->transit;
	struct transit_note note = { .port = s->port->id,
				     .stream = s->number,
				     .head = stream_total(s) };
	ssize_t n = transit_take(t, &note, s->fd, size);
	int r;

	if (n <= 0)
		return n;
	r = s->out.ring ? 0 : stream_make_ring(s);
	if (r < 0) {
		stream_lose(s, (size_t)n);
		return err_pass(r);
	}
	transit_put(t, ring_write_begin(s->out.ring, (size_t)n));
	ring_write_end(s->out.ring, (size_t)n);
	transit_done(t);
	return n;
}

int stream_finish_transit(struct stream *s, const struct transit_note *note)
{
	struct transit *t = &s->broker->transit;
	int r = 0;

	if (!s->out.is_there || stream_total(s) != note->head) {
		transit_drop(t); /* it is in the log already */
		return 0;
	}
	if (!s->out.ring)
		r = stream_make_ring(s);
	if (r < 0) {
		stream_lose(s, note->size);
		return err_pass(r);
	}
	if (note->size > ring_size(s->out.ring))
		return err_begin(-EBADMSG);
	transit_finish(t, ring_write_begin(s->out.ring, note->size));
	ring_write_end(s->out.ring, note->size);
	transit_done(t);
	return 0;
}

/* EIO: the last process left a terminal (pty(7)). ECONNRESET: the child's end of a socket was
 * closed with bytes unread in it; it comes behind all that the child wrote. */
static bool is_end_of_file(const struct stream *s, ssize_t n)
{
	return n == 0 || (n == -EIO && s->kind == STREAM_IS_TERMINAL) ||
	       (n == -ECONNRESET && s->kind == STREAM_IS_SOCKET);
}

uint64_t stream_held_ms(const struct stream *s)
{
	return s->out.is_held ? uv_now(&s->broker->loop) - s->out.held_since_ms : 0;
}

uint64_t stream_held_total_ms(const struct stream *s)
{
	return s->out.held_total_ms + stream_held_ms(s);
}

static void stream_release(struct stream *s)
{
	s->broker->counters.held_ms += stream_held_ms(s);
	s->out.held_total_ms = stream_held_total_ms(s);
	s->out.is_held = false;
}

static void stream_hold(struct stream *s)
{
	s->out.is_held = true;
	ring_set_waiting(s->out.ring, stream_total(s) + stream_room_wanted(s) - s->out.log_size);
	s->out.held_since_ms = uv_now(&s->broker->loop);
	stream_watch(s);
	s->broker->counters.held++;
	subscriptions_look(s);
	/* A reader of shared memory that moved before it could see that we wait tells nothing. */
	stream_readers_changed(s);
}

void stream_read(struct stream *s)
{
	uint64_t room = stream_room(s);
	ssize_t n;

	if (room == 0) {
		stream_hold(s);
		return;
	}
	n = stream_fill(s, stream_share(s, room));
	if (n > 0) {
		stream_grow_pipe(s, (size_t)n);
		stream_took(s, (size_t)n);
	} else if (n == 0 && port_is_pumped(s->port)) {
		pumped_output_ended(s);
	} else if (is_end_of_file(s, n)) {
		stream_end_output(s, STREAM_END_OF_FILE, 0);
	} else if (n != -EAGAIN && n != -EINTR) {
		log_warning("port %llu stream %u: %s", (unsigned long long)s->port->id, s->number,
			    err_string((int)n));
		stream_end_output(s, STREAM_READ_ERROR, (int)-n);
	}
}

static void stream_count_abandoned(struct stream *s, enum stream_cause cause)
{
	int waiting = 0;

	if (s->fd >= 0 && ioctl(s->fd, FIONREAD, &waiting) == 0 && waiting > 0) {
		s->out.is_abandoned = true;
		s->out.abandoned += (uint64_t)waiting;
	}
	if (cause == STREAM_READ_ERROR || cause == STREAM_LIMIT)
		s->out.is_abandoned = true;
}

bool stream_is_let_go(const struct stream *s)
{
	return s->out.is_ended && s->out.cause == STREAM_READ_ERROR;
}

static void stream_let_go(struct stream *s)
{
	if (s->fd < 0 && s->is_started && stream_is_let_go(s))
		process_release(&s->port->process, LINK_HOLD(HOLD_OUTPUT, s->number));
}

void stream_end_output(struct stream *s, enum stream_cause cause, int sys_errno)
{
	bool was_held = s->out.is_held;

	if (!s->out.is_there || s->out.is_ended)
		return;
	if (cause != STREAM_END_OF_FILE)
		stream_count_abandoned(s, cause);
	if (s->out.is_grown)
		s->broker->n_grown_pipes--;
	s->out.is_grown = false;
	s->out.is_ended = true;
	stream_release(s);
	if (s->out.ring)
		ring_set_ended(s->out.ring);
	s->out.cause = cause;
	s->out.sys_errno = sys_errno;
	port_save(s->port);
	stream_close_unused(s);
	stream_let_go(s);
	if (was_held)
		subscriptions_look(s);
	s->port->events->stream.moved(s);
	s->port->events->stream.out_ended(s);
}

/* --- readers --------------------------------------------------------------------------------- */

void stream_note_blockers(struct stream *s)
{
	struct record_live *live = port_live(s);

	if (live) /* those who were not back yet are awaited by the next broker, too */
		live->blockers = s->out.n_blockers + s->out.awaited;
}

static void stream_block(struct stream *s, struct reader *r)
{
	list_append(&s->out.blockers, &r->block_link);
	slowest_add(&s->out.slowest, &r->floor, reader_floor(r));
	s->out.n_blockers++;
	stream_note_blockers(s);
}

void stream_unblock(struct stream *s, struct reader *r)
{
	if (!list_is_linked(&r->block_link))
		return;
	list_remove(&r->block_link);
	slowest_remove(&s->out.slowest, &r->floor);
	s->out.n_blockers--;
	stream_note_blockers(s);
}

void stream_add_reader(struct stream *s, struct reader *r)
{
	list_append(&s->out.readers, &r->link);
	if (r->subscription->sharing)
		list_append(&s->out.shared, &r->shared_link);
	if (r->cursor.overflow == CURSOR_MAY_BLOCK)
		stream_block(s, r);
}

void stream_drop_reader(struct stream *s, struct reader *r)
{
	list_remove(&r->link);
	list_remove(&r->idle_link);
	list_remove(&r->shared_link);
	stream_unblock(s, r);
}

void stream_await(struct stream *s, unsigned n_blockers)
{
	if (n_blockers == s->out.awaited)
		return;
	s->out.awaited = n_blockers;
	stream_note_blockers(s);
	stream_readers_changed(s);
}

void stream_hold_no_more(struct stream *s)
{
	if (!s->out.hold_unread)
		return;
	s->out.hold_unread = false;
	stream_readers_changed(s);
}

/* --- held back ------------------------------------------------------------------------------- */

bool stream_is_held_by(struct reader *r)
{
	const struct stream *s = r->stream;

	return s->out.is_held && room_above(s, reader_floor(r)) < stream_room_wanted(s);
}

void stream_readers_changed(struct stream *s)
{
	if (!s->out.is_held || stream_room(s) < stream_room_wanted(s))
		return;
	stream_release(s);
	ring_set_waiting(s->out.ring, 0);
	s->out.active_ms = uv_now(&s->broker->loop);
	stream_watch(s);
	subscriptions_look(s);
}

uint64_t stream_idle_ms(struct stream *s, uint64_t now_ms)
{
	int waiting = 0;

	if (s->out.is_held || (s->fd >= 0 && ioctl(s->fd, FIONREAD, &waiting) == 0 && waiting > 0))
		s->out.active_ms = now_ms;
	return now_ms - s->out.active_ms;
}
