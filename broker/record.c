/* Head with the note of the transit, two copies a place (4 KiB), live numbers, labels; the memfd is
 * sparse, so a place that was never used costs nothing. All but the labels is mapped. The sequence
 * says which copy is newer, the checksum whether it is whole; writing goes to the other one, body
 * first, then the head.
 */
#include "broker/record.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include "broker/port.h"
#include "broker/record_labels.h"
#include "broker/record_piece.h"
#include "broker/record_shown.h"
#include "broker/session.h"
#include "proto/base/cleanup.h"
#include "proto/base/err.h"
#include "proto/base/fd.h"

#define RECORD_MAGIC  0x7265636f72647331ull
#define RECORD_LAYOUT 5u
#define COPY_SIZE     2048u

struct record_copy {
	uint64_t sequence; /* 0: empty */
	uint64_t sum;	   /* XXH3 of sequence and body */
	struct record body;
};
_Static_assert(sizeof(struct record_copy) <= COPY_SIZE, "a record outgrew its place");

struct record_head {
	uint64_t magic;
	uint32_t layout;
	uint32_t slots;
	uint32_t copy_size;
	uint32_t body_size;
	uint32_t n_used; /* places below this one were used at some time */
	uint32_t pad;
	uint64_t events;    /* number of the newest life event */
	uint64_t last_port; /* id of the newest port, which may be forgotten */
};

#define HEAD_SIZE   4096u
#define NOTE_AT	    1024u /* in the head */
#define LIVE_START  (HEAD_SIZE + (size_t)PORTS_MAX * 2 * COPY_SIZE)
#define MAPPED_SIZE (LIVE_START + (size_t)PORTS_MAX * PORT_STREAMS_MAX * sizeof(struct record_live))

#define LABELS_START ((MAPPED_SIZE + HEAD_SIZE - 1) / HEAD_SIZE * HEAD_SIZE)
#define SHOWN_START  (LABELS_START + (size_t)PORTS_MAX * RECORD_LABELS_SIZE)
#define TABLE_SIZE   (SHOWN_START + (size_t)PORTS_MAX * RECORD_SHOWN_SIZE)

struct records {
	int fd;
	uint8_t *memory;
	uint32_t n_free; /* of free[], the last one is taken first */
	uint32_t free[PORTS_MAX];
};

static struct record_head *head_of(const struct records *r)
{
	return (struct record_head *)r->memory;
}

static struct record_copy *copy_at(const struct records *r, uint32_t place, unsigned which)
{
	return (struct record_copy *)(r->memory + HEAD_SIZE +
				      ((size_t)place * 2 + which) * COPY_SIZE);
}

static uint64_t copy_sum(const struct record_copy *c)
{
	return XXH3_64bits_withSeed(&c->body, sizeof(c->body), c->sequence);
}

static bool copy_is_whole(const struct record_copy *c)
{
	return c->sequence && c->sum == copy_sum(c);
}

static int records_map(struct records **ret, int take_fd)
{
	_cleanup_(fd_closep) int fd = take_fd;
	struct records *r = calloc(1, sizeof(*r));

	if (!r)
		return err_begin(-ENOMEM);
	r->memory = mmap(NULL, MAPPED_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (r->memory == MAP_FAILED) {
		free(r);
		return err_errno();
	}
	r->fd = TAKE_FD(fd);
	for (uint32_t place = PORTS_MAX; place-- > 0;)
		if (place >= head_of(r)->n_used ||
		    !(copy_at(r, place, 0)->sequence | copy_at(r, place, 1)->sequence))
			r->free[r->n_free++] = place;
	*ret = r;
	return 0;
}

int records_new(struct records **ret)
{
	_cleanup_(fd_closep) int fd = memfd_create("redd-records", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	struct record_head head = { .magic = RECORD_MAGIC,
				    .layout = RECORD_LAYOUT,
				    .slots = PORTS_MAX,
				    .copy_size = COPY_SIZE,
				    .body_size = sizeof(struct record) };
	int r;

	if (fd < 0 || ftruncate(fd, (off_t)TABLE_SIZE) < 0 ||
	    fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0)
		return err_errno();
	r = records_map(ret, TAKE_FD(fd));
	if (!r)
		memcpy((*ret)->memory, &head, sizeof(head));
	return err_pass(r);
}

int records_adopt(struct records **ret, int take_fd)
{
	_cleanup_(fd_closep) int fd = take_fd;
	struct record_head head;
	struct stat st;

	if (fstat(fd, &st) < 0)
		return err_errno();
	if (st.st_size != (off_t)TABLE_SIZE ||
	    pread(fd, &head, sizeof(head), 0) != (ssize_t)sizeof(head) ||
	    head.magic != RECORD_MAGIC || head.layout != RECORD_LAYOUT || head.slots != PORTS_MAX ||
	    head.copy_size != COPY_SIZE || head.body_size != sizeof(struct record))
		return RECORD_E_BAD;
	return records_map(ret, TAKE_FD(fd));
}

void records_free(struct records *r)
{
	if (!r)
		return;
	munmap(r->memory, MAPPED_SIZE);
	fd_close(r->fd);
	free(r);
}

int records_fd(const struct records *r)
{
	return r->fd;
}

/* --- writing --------------------------------------------------------------------------------- */

static void fill_marks(struct record *ret, const struct stream *s)
{
	if (!s->in.is_there)
		return;
	ret->input_high = s->in.queue.high;
	ret->input_low = s->in.queue.low;
	ret->input_bound = s->in.queue.bound;
}

static void fill_stream(struct record_stream *ret, const struct stream *s)
{
	ret->number = s->number;
	ret->kind = (uint8_t)s->kind;
	ret->log_size = s->out.log_size;
	ret->ring = s->out.ring ? (uint16_t)ring_number(s->out.ring) : RECORD_NO_RING;
	ret->flags = (uint8_t)((s->out.is_there ? RECORD_HAS_OUTPUT : 0) |
			       (s->in.is_there ? RECORD_HAS_INPUT : 0) |
			       (s->out.is_ended ? RECORD_OUTPUT_ENDED : 0) |
			       (s->in.is_closed || s->in.is_failed ? RECORD_INPUT_OVER : 0) |
			       (s->out.wants_checksum ? RECORD_CHECKSUM : 0) |
			       (s->out.hold_unread ? RECORD_HOLD_UNREAD : 0) |
			       (s->out.is_abandoned ? RECORD_ABANDONED : 0));
	ret->cause = (uint8_t)s->out.cause;
	ret->sys_errno = (uint8_t)s->out.sys_errno;
	ret->abandoned = s->out.abandoned;
}

static void fill_options(struct record *ret, const struct port_options *o)
{
	ret->child_uid = o->uid;
	ret->child_gid = o->gid;
	ret->has_other_identity = o->is_other_identity;
	ret->timeout_ms = o->timeout_ms;
	ret->timeout_signal = (uint32_t)o->timeout_signal;
	ret->timeout_grace_ms = o->timeout_grace_ms;
	ret->drain_ms = o->drain_ms;
	ret->drain_limit_ms = o->drain_limit_ms;
	ret->retention_ms = o->retention_ms;
	ret->orphan = (uint32_t)o->orphan;
	ret->orphan_ms = o->orphan_ms;
	ret->framing = (uint32_t)o->framing.cut | o->framing.header << 8;
	ret->framing_maximum = o->framing.maximum;
	ret->token_size = (uint32_t)o->token_size;
	memcpy(ret->token, o->token, o->token_size);
	memcpy(ret->name, o->name, sizeof(o->name));
}

static void fill_pump(struct record *ret, const struct pumped *q)
{
	ret->pump_flags = (q->is_shut || q->was_shut ? RECORD_PUMP_SHUT : 0) |
			  (q->has_read ? RECORD_PUMP_READ : 0) |
			  (q->has_written ? RECORD_PUMP_WRITTEN : 0) |
			  (q->is_open ? RECORD_PUMP_OPEN : 0);
	ret->read_error = q->read_error;
	ret->write_error = q->write_error;
}

static void fill_lease(struct record *ret, const struct port *p)
{
	const struct session *holder = p->holder;

	if (!holder)
		return;
	ret->lease = p->lease.id;
	ret->lease_until_ms = p->lease_until_ms;
	ret->holder_listener = holder->who.listener;
	ret->holder_uid = holder->who.uid;
	ret->holder_gid = holder->who.gid;
	ret->holder_delegation = holder->who.delegation;
	memcpy(ret->holder, holder->id, sizeof(ret->holder));
}

static void fill(struct record *ret, const struct port *p)
{
	memset(ret, 0, sizeof(*ret));
	ret->port = p->id;
	ret->digest = p->digest;
	ret->state = (uint32_t)p->state;
	ret->attempt = p->process.attempt;
	ret->pid = p->process.pid;
	ret->listener = p->owner.listener;
	ret->uid = p->owner.uid;
	ret->gid = p->owner.gid;
	ret->delegation = p->owner.delegation;
	ret->timed_out = p->timed_out + (uint32_t)p->is_warned;
	ret->timeout_until_ms = p->timeout_until_ms;
	ret->has_exited = p->has_exited;
	if (p->session)
		memcpy(ret->session, p->session->id, sizeof(ret->session));
	ret->kind = (uint32_t)p->kind;
	fill_pump(ret, &p->pumped);
	fill_lease(ret, p);
	if (p->grants) {
		ret->n_grants = p->grants->n;
		memcpy(ret->grants, p->grants->list, p->grants->n * sizeof(ret->grants[0]));
	}
	fill_options(ret, &p->options);
	memcpy(&ret->exit, &p->exit, sizeof(ret->exit));
	for (; ret->n_streams < p->n_streams; ret->n_streams++) {
		fill_stream(&ret->streams[ret->n_streams], p->streams[ret->n_streams]);
		fill_marks(ret, p->streams[ret->n_streams]);
	}
}

uint32_t records_take(struct records *r)
{
	uint32_t place = r->free[--r->n_free];

	head_of(r)->n_used = MAX(head_of(r)->n_used, place + 1);
	return place;
}

static off_t labels_place(uint32_t place)
{
	return (off_t)(LABELS_START + (size_t)place * RECORD_LABELS_SIZE);
}

static off_t shown_place(uint32_t place)
{
	return (off_t)(SHOWN_START + (size_t)place * RECORD_SHOWN_SIZE);
}

int records_keep_labels(struct records *r, uint32_t place, uint64_t port,
			const struct labels *labels)
{
	return labels ? err_pass(record_labels_write(r->fd, labels_place(place), port, labels)) : 0;
}

int records_labels(const struct records *r, uint32_t place, uint64_t port, struct labels **ret)
{
	return record_labels_read(r->fd, labels_place(place), port, ret);
}

int records_keep_shown(struct records *r, uint32_t place, uint64_t port,
		       const struct port_options *options)
{
	return err_pass(record_shown_write(r->fd, shown_place(place), port, options));
}

int records_shown(const struct records *r, uint32_t place, uint64_t port, struct port_options *ret)
{
	return err_pass(record_shown_read(r->fd, shown_place(place), port, ret));
}

void records_give(struct records *r, uint32_t place)
{
	copy_at(r, place, 0)->sequence = 0;
	copy_at(r, place, 1)->sequence = 0;
	record_piece_drop(r->fd, labels_place(place), RECORD_LABELS_SIZE);
	record_piece_drop(r->fd, shown_place(place), RECORD_SHOWN_SIZE);
	r->free[r->n_free++] = place;
}

void records_save(struct records *r, uint32_t place, const struct port *p)
{
	struct record_copy *a = copy_at(r, place, 0), *b = copy_at(r, place, 1);
	struct record_copy *to = a->sequence <= b->sequence ? a : b;
	uint64_t sequence = MAX(a->sequence, b->sequence) + 1;

	to->sequence = 0;
	atomic_signal_fence(memory_order_seq_cst);
	fill(&to->body, p);
	to->sum = XXH3_64bits_withSeed(&to->body, sizeof(to->body), sequence);
	atomic_signal_fence(memory_order_seq_cst);
	to->sequence = sequence;
}

struct transit_note *records_transit(const struct records *r)
{
	return (struct transit_note *)(r->memory + NOTE_AT);
}

struct record_live *records_live(struct records *r, uint32_t place, const struct stream *s)
{
	const struct port *p = s->port;
	struct record_live *live = (struct record_live *)(r->memory + LIVE_START);
	unsigned i = 0;

	while (i + 1 < p->n_streams && p->streams[i] != s)
		i++;
	live += (size_t)place * PORT_STREAMS_MAX + i;
	if (live->port != p->id)
		*live = (struct record_live){ .port = p->id };
	return live;
}

void records_set_last_port(struct records *r, uint64_t id)
{
	head_of(r)->last_port = MAX(head_of(r)->last_port, id);
}

uint64_t records_last_port(const struct records *r)
{
	return head_of(r)->last_port;
}

void records_set_sequence(struct records *r, uint64_t sequence)
{
	head_of(r)->events = sequence;
}

uint64_t records_sequence(const struct records *r)
{
	return head_of(r)->events;
}

static bool body_is_sane(const struct record *b)
{
	return b->n_streams <= PORT_STREAMS_MAX && b->n_grants <= GRANTS_MAX &&
	       b->token_size <= TOKEN_MAX && b->state < PORT_GONE &&
	       b->kind <= PORT_IS_DESCRIPTORS && memchr(b->name, '\0', NAME_MAX_SIZE + 1);
}

int records_load(const struct records *r, uint32_t place, struct record *ret)
{
	const struct record_copy *best = NULL;

	if (place >= MIN(head_of(r)->n_used, PORTS_MAX))
		return RECORD_E_END;
	for (unsigned which = 0; which < 2; which++) {
		const struct record_copy *c = copy_at(r, place, which);

		if (copy_is_whole(c) && (!best || c->sequence > best->sequence))
			best = c;
	}
	if (best)
		*ret = best->body;
	return best && body_is_sane(ret) ? 0 : RECORD_E_NONE;
}
