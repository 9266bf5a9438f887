/* What comes to a subscription: outputs, gaps, ends, the exit, the close.
 *
 * A subscription is found by its id from the moment its request was answered until its Closed came
 * or the connection was lost; the table holds a reference meanwhile, also when the program has
 * freed it and only the broker's last events are awaited. Each stream's bytes go through a track
 * (track.h); what does not add up is told with the stream's end and with the close, as -EBADMSG.
 * */
#include <errno.h>
#include <stdlib.h>

#include "client/answers.h"
#include "client/handles.h"
#include "client/reading.h"
#include "client/subscribe.h"
#include "proto/base/err.h"
#include "proto/redd.pb-c.h"

static const char not_resumed[] =
	"the subscription could not be resumed when the connection was back";
static const char lost[] = "the connection to the broker was lost before the exit was told";

/* --- life ------------------------------------------------------------------------------------ */

struct redd_subscription *subscription_ref(struct redd_subscription *s)
{
	if (s)
		s->refs++;
	return s;
}

void subscription_unref(struct redd_subscription *s)
{
	if (!s || --s->refs)
		return;
	list_remove(&s->link);
	list_remove(&s->of_port);
	list_remove(&s->owing);
	reading_end(s);
	for (size_t i = 0; i < s->n_tracks; i++)
		track_deinit(&s->tracks[i]);
	port_unref(s->port);
	free(s);
}

static struct list *bucket_of(struct redd *r, uint64_t id)
{
	return &r->by_id[id & (CLIENT_BUCKETS - 1)];
}

static struct redd_subscription *subscription_find(struct redd *r, uint64_t id)
{
	struct redd_subscription *s;

	list_for_each (s, bucket_of(r, id), by_id) {
		if (s->id == id)
			return s;
	}
	return NULL;
}

static void subscription_leave_table(struct redd_subscription *s)
{
	list_remove(&s->owing);
	reading_end(s);
	if (!list_is_linked(&s->by_id))
		return;
	list_remove(&s->by_id);
	subscription_unref(s);
}

/* --- streams --------------------------------------------------------------------------------- */

/* The track of a stream; NULL when there are more streams than a port can have. */
static struct track *track_of(struct redd_subscription *s, uint32_t stream)
{
	struct track *t;

	for (size_t i = 0; i < s->n_tracks; i++) {
		if (s->tracks[i].stream == stream)
			return &s->tracks[i];
	}
	if (s->n_tracks == REDD_STREAMS_MAX) {
		s->result = -EBADMSG;
		return NULL;
	}
	t = &s->tracks[s->n_tracks++];
	track_init(t, stream, s->verify);
	return t;
}

/* The track of a stream of which something came. One that was not announced begins at 0 when all
 * was asked for, else with what came first. */
static struct track *track_used(struct redd_subscription *s, uint32_t stream)
{
	struct track *t = track_of(s, stream);

	if (t && t->state == TRACK_NEW && s->from_beginning)
		track_start(t, 0);
	return t;
}

/* Its events find it from now on. */
static int subscription_enter_table(struct redd_subscription *s, const Redd__V1__Subscribed *wire)
{
	if (!wire->subscription)
		return client_fail(s->r, -EPROTO, "the broker gave a subscription no id");
	s->id = wire->subscription;
	list_append(bucket_of(s->r, s->id), &s->by_id);
	subscription_ref(s);
	if (s->state == SUBSCRIPTION_LEFT)
		subscription_abandon(s);
	else
		s->state = SUBSCRIPTION_LIVE;
	return 0;
}

int subscription_begin(struct redd_subscription *s, const Redd__V1__Subscribed *wire)
{
	int e;

	for (size_t i = 0; i < wire->n_starts; i++) {
		struct track *t = track_of(s, wire->starts[i]->stream);

		if (t)
			track_start(t, wire->starts[i]->offset);
	}
	e = subscription_enter_table(s, wire);
	if (e == 0 && wire->shared)
		reading_begin(s, wire);
	return err_pass(e);
}

int subscription_resume(struct redd_subscription *s, const Redd__V1__Subscribed *wire)
{
	int e;

	for (size_t i = 0; i < wire->n_starts; i++) {
		struct track *t = track_of(s, wire->starts[i]->stream);

		if (t)
			track_resume(t, wire->starts[i]->offset);
	}
	e = subscription_enter_table(s, wire);
	if (s->owed && s->state == SUBSCRIPTION_LIVE)
		list_append(&s->r->owing, &s->owing);
	if (e == 0)
		marks_resume(s);
	return err_pass(e);
}

static const struct track *track_find(const struct redd_subscription *s, uint32_t stream)
{
	for (size_t i = 0; i < s->n_tracks; i++) {
		if (s->tracks[i].stream == stream)
			return &s->tracks[i];
	}
	return NULL;
}

uint64_t redd_subscription_offset(const struct redd_subscription *s, uint32_t stream)
{
	const struct track *t = track_find(s, stream);

	return t ? t->next : 0;
}

uint64_t redd_subscription_record(const struct redd_subscription *s, uint32_t stream)
{
	const struct track *t = track_find(s, stream);

	return t ? t->record : 0;
}

/* --- events ---------------------------------------------------------------------------------- */

static enum redd_record record_of(int wire)
{
	return wire == CODEC_RECORD_NONE ? REDD_RECORD_NONE : (enum redd_record)(wire + 1);
}

void subscription_output(struct redd *r, const struct codec_output *o, const uint8_t *data)
{
	struct redd_subscription *s = subscription_find(r, o->subscription);
	struct redd_output output = {
		.stream = o->stream,
		.offset = o->offset,
		.consumed = o->consumed,
		.data = data,
		.size = o->size,
		.record = record_of(o->record),
	};
	const struct track_output tracked = {
		.offset = o->offset,
		.consumed = o->consumed,
		.data = data,
		.size = o->size,
		.is_framed = output.record != REDD_RECORD_NONE,
		.ends_record = output.record != REDD_RECORD_PART,
	};
	struct track *t;

	if (!s || !subscription_is_heard(s))
		return;
	subscription_ref(s);
	t = track_used(s, o->stream);
	if (t)
		track_output(t, &tracked);
	if (s->handler.on_output)
		s->handler.on_output(s, &output, s->handler.user);
	subscription_spend(s, o->size + EVENT_CREDIT);
	subscription_unref(s);
}

static void on_output(struct redd_subscription *s, const Redd__V1__Message *m)
{
	const Redd__V1__Output *w = m->output;
	struct codec_output o = {
		.subscription = w->subscription,
		.port = w->port,
		.stream = w->stream,
		.offset = w->offset,
		.consumed = w->consumed,
		.record = w->has_record ? (int)w->record : CODEC_RECORD_NONE,
		.size = w->data.len,
	};

	subscription_output(s->r, &o, w->data.data);
}

static void on_gap(struct redd_subscription *s, const Redd__V1__Message *m)
{
	const Redd__V1__Gap *w = m->gap;
	struct redd_gap gap = {
		.stream = w->stream,
		.offset = w->offset,
		.end = w->end,
		.cause = (enum redd_gap_cause)w->cause,
		.aborts_record = w->aborts_record,
	};
	struct track *t = track_used(s, w->stream);

	if (t)
		track_gap(t, w->offset, w->end);
	if (s->handler.on_gap)
		s->handler.on_gap(s, &gap, s->handler.user);
	subscription_spend(s, EVENT_CREDIT);
}

/* Judges a stream that has ended: what was missing, and the checksum where both sides have one. */
static void end_judge(struct redd_subscription *s, const struct track *t, struct redd_stream_end *e)
{
	const char *wrong = t->broken;
	uint64_t hash;

	if (!wrong && e->has_xxh3 && track_checksum(t, &hash)) {
		e->verified = hash == e->xxh3;
		if (!e->verified)
			wrong = "the checksum differs: bytes were changed on the way";
	}
	if (!wrong)
		return;
	e->result = client_fail(s->r, -EBADMSG,
				"stream %u is not complete: %s (offset %llu of %llu)", e->stream,
				wrong, (unsigned long long)t->next, (unsigned long long)e->total);
	if (!s->result)
		s->result = e->result;
}

static void on_stream_end(struct redd_subscription *s, const Redd__V1__Message *m)
{
	const Redd__V1__StreamEnd *w = m->stream_end;
	struct track *t = track_used(s, w->stream);
	struct redd_stream_end end = {
		.stream = w->stream,
		.total = w->total,
		.cause = (enum redd_end_cause)w->cause,
		.sys_errno = w->sys_errno,
		.has_xxh3 = w->has_xxh3,
		.xxh3 = w->xxh3,
	};

	if (t && track_ends_again(t, w->total)) {
		/* Told before the connection was lost. */
		if (s->credit_mode != REDD_CREDIT_MANUAL) /* else see credit_again() */
			subscription_spend(s, EVENT_CREDIT);
		return;
	}
	if (t) {
		track_end(t, w->total);
		end.seen = t->seen;
		end.gaps = t->gaps;
		end.skipped = t->start;
		end_judge(s, t, &end);
	}
	if (s->handler.on_end)
		s->handler.on_end(s, &end, s->handler.user);
	subscription_spend(s, EVENT_CREDIT);
}

static void on_exited(struct redd_subscription *s, const Redd__V1__Message *m)
{
	if (s->exit_told)
		return; /* told again to a subscription that was resumed */
	s->exit_told = true;
	s->exit = exit_of(m->exited->exit);
	if (s->handler.on_exited)
		s->handler.on_exited(s, &s->exit, s->handler.user);
}

static void on_marks(struct redd_subscription *s, const Redd__V1__Message *m)
{
	const Redd__V1__Marks *w = m->marks;

	marks_tell(s, &(struct redd_marks){ w->stream, w->busy, w->queued });
}

/* The last thing that the program hears of it. */
void subscription_close(struct redd_subscription *s, struct redd_closed *closed)
{
	bool heard = subscription_is_heard(s);

	s->state = SUBSCRIPTION_OVER;
	s->closed = *closed;
	subscription_leave_table(s);
	if (heard && s->handler.on_closed)
		s->handler.on_closed(s, closed, s->handler.user);
}

static bool all_ended(const struct redd_subscription *s)
{
	for (size_t i = 0; i < s->n_tracks; i++) {
		if (s->tracks[i].state != TRACK_ENDED)
			return false;
	}
	return true;
}

static void on_closed(struct redd_subscription *s, const Redd__V1__Message *m)
{
	const Redd__V1__Closed *w = m->closed;
	struct redd_closed closed = {
		.cause = (enum redd_closed_cause)w->cause,
		.bad_stream = w->stream,
		.bad_offset = w->offset,
	};

	if (closed.cause == REDD_PORT_CLOSED && !all_ended(s) && !s->result)
		s->result = client_fail(s->r, -EBADMSG,
					"the port closed before the end of a stream was told");
	closed.n_holders = pids_of(closed.holders, w->holders, w->n_holders);
	if (w->exit)
		s->exit = exit_of(w->exit);
	closed.exit = s->exit;
	closed.result = s->result;
	s->port->has_ended |= closed.cause == REDD_PORT_CLOSED || closed.cause == REDD_FORGOTTEN;
	subscription_close(s, &closed);
}

static void on_moved(struct redd_subscription *s, const Redd__V1__Message *m)
{
	(void)m;
	reading_wake(s);
}

/* The subscription that an event is for, by the kind of event. */
static uint64_t event_id(const Redd__V1__Message *m)
{
	switch ((int)m->body_case) {
	case REDD__V1__MESSAGE__BODY_OUTPUT:
		return m->output->subscription;
	case REDD__V1__MESSAGE__BODY_GAP:
		return m->gap->subscription;
	case REDD__V1__MESSAGE__BODY_STREAM_END:
		return m->stream_end->subscription;
	case REDD__V1__MESSAGE__BODY_EXITED:
		return m->exited->subscription;
	case REDD__V1__MESSAGE__BODY_MARKS:
		return m->marks->subscription;
	case REDD__V1__MESSAGE__BODY_MOVED:
		return m->moved->subscription;
	default:
		return m->closed->subscription;
	}
}

int subscription_event(struct redd *r, const Redd__V1__Message *m)
{
	static void (*const handlers[])(struct redd_subscription *, const Redd__V1__Message *) = {
		[REDD__V1__MESSAGE__BODY_OUTPUT] = on_output,
		[REDD__V1__MESSAGE__BODY_GAP] = on_gap,
		[REDD__V1__MESSAGE__BODY_STREAM_END] = on_stream_end,
		[REDD__V1__MESSAGE__BODY_EXITED] = on_exited,
		[REDD__V1__MESSAGE__BODY_CLOSED] = on_closed,
		[REDD__V1__MESSAGE__BODY_MARKS] = on_marks,
		[REDD__V1__MESSAGE__BODY_MOVED] = on_moved,
	};
	struct redd_subscription *s = subscription_find(r, event_id(m));

	/* One that is not known was unsubscribed while its events were on their way. */
	if (!s || (!subscription_is_heard(s) && m->body_case != REDD__V1__MESSAGE__BODY_CLOSED))
		return 0;
	subscription_ref(s);
	handlers[m->body_case](s, m);
	subscription_unref(s);
	return 0;
}

/* --- this side's ends ------------------------------------------------------------------------ */

void subscription_refused(struct redd_subscription *s, int result)
{
	struct redd_closed closed = {
		.cause = REDD_CLOSED_REFUSED,
		.exit = exit_unknown("the request was refused"),
		.result = result,
	};

	if (s->r->state == CLIENT_DOWN)
		return; /* subscriptions_lose() ends it */
	subscription_ref(s);
	subscription_close(s, &closed);
	subscription_unref(s);
}

/* An offset that the stream has not reached: the service has less than it had told. */
void subscription_not_resumed(struct redd_subscription *s, const struct redd_error *why)
{
	struct redd_closed closed = {
		.cause = REDD_CLOSED_LOST,
		.exit = s->exit,
		.result = why->code == REDD_OUT_OF_RANGE ? -EBADMSG : -ENOTCONN,
	};

	if (s->r->state == CLIENT_DOWN || s->state == SUBSCRIPTION_OVER)
		return; /* subscriptions_lose() ends it */
	if (closed.exit.reason == subscription_not_told)
		closed.exit.reason = not_resumed;
	subscription_close(s, &closed);
}

void subscription_unsubscribed(struct redd_subscription *s)
{
	struct redd_closed closed = {
		.cause = REDD_UNSUBSCRIBED,
		.exit = s->exit,
		.result = s->result,
	};

	if (s->state != SUBSCRIPTION_OVER)
		subscription_close(s, &closed);
}

void subscriptions_away(struct redd *r)
{
	struct redd_subscription *s, *next;

	list_for_each_safe (s, next, &r->subscriptions, link) {
		enum subscription_state state = s->state;

		if (state == SUBSCRIPTION_LIVE || state == SUBSCRIPTION_AGAIN)
			s->state = SUBSCRIPTION_AWAY;
		else if (state == SUBSCRIPTION_LEFT && s->id)
			s->state = SUBSCRIPTION_OVER; /* it went with the connection */
		s->id = 0;			      /* that may soon be another's */
		s->owed = 0;
		reading_end(s); /* what is not read yet comes by the socket */
		subscription_leave_table(s);
	}
	doors_close(r, r->n_doors);
}

void subscriptions_settle(struct redd *r)
{
	struct redd_subscription *s;
	struct list all;

	list_init(&all);
	list_splice(&all, &r->subscriptions);
	while ((s = list_first(&all, struct redd_subscription, link))) {
		list_remove(&s->link);
		list_append(&r->subscriptions, &s->link);
		if (s->state == SUBSCRIPTION_ENDED)
			subscription_unsubscribed(s);
	}
}

void subscriptions_lose(struct redd *r, bool tell)
{
	struct redd_subscription *s;
	struct list all;

	list_init(&all);
	list_splice(&all, &r->subscriptions);
	while ((s = list_first(&all, struct redd_subscription, link))) {
		struct redd_closed closed = {
			.cause = REDD_CLOSED_LOST,
			.exit = s->exit,
			.result = -ENOTCONN,
		};

		list_remove(&s->link);
		list_append(&r->subscriptions, &s->link);
		if (closed.exit.reason == subscription_not_told)
			closed.exit.reason = lost;
		if (s->state == SUBSCRIPTION_OVER)
			continue;
		if (!tell)
			s->handler = (struct redd_handler){ 0 };
		subscription_ref(s);
		subscription_close(s, &closed);
		subscription_unref(s);
	}
}

bool redd_subscription_is_shared(const struct redd_subscription *s)
{
	return s->is_shared;
}

uint64_t redd_subscription_id(const struct redd_subscription *s)
{
	return s->id;
}

struct redd_port *redd_subscription_port(const struct redd_subscription *s)
{
	return s->port;
}
