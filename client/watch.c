/* Watches: life events of ports.
 *
 * A watch holds a reference of its call until it is answered; events find it by id in the handle's
 * list, which is short. One that the program frees is taken back with Unwatch, at once or when its
 * answer comes.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "client/answers.h"
#include "client/call.h"
#include "client/handles.h"
#include "client/selector.h"
#include "client/watch.h"
#include "proto/base/err.h"

struct redd_watch *watch_ref(struct redd_watch *w)
{
	if (w)
		w->refs++;
	return w;
}

void watch_unref(struct redd_watch *w)
{
	if (!w || --w->refs)
		return;
	list_remove(&w->link);
	free(w->request);
	free(w);
}

/* --- the end --------------------------------------------------------------------------------- */

static const struct call_kind unwatch_kind = {
	.name = "Unwatch",
	.answer = REDD__V1__MESSAGE__BODY_DONE,
	.repeat = CALL_DROP,
};

static void watch_end(struct redd_watch *w)
{
	Redd__V1__Request request = REDD__V1__REQUEST__INIT;
	Redd__V1__Unwatch m = REDD__V1__UNWATCH__INIT;

	m.has_watch = true;
	m.watch = w->id;
	request.body_case = REDD__V1__REQUEST__BODY_UNWATCH;
	request.unwatch = &m;
	/* When even the reserve is full its events are dropped here, unread. */
	call_own(w->r, &unwatch_kind, NULL, &request);
}

void redd_watch_free(struct redd_watch *w)
{
	if (!w)
		return;
	if (!w->over && w->id && w->r->state != CLIENT_DOWN)
		watch_end(w);
	w->over = true;
	/* A call under way still needs it; the program does not. */
	list_remove(&w->link);
	watch_unref(w);
}

void watches_lose(struct redd *r)
{
	struct redd_life life = {
		.what = REDD_LIFE_LOST,
		.exit = exit_unknown("the connection to the broker was lost"),
	};
	struct redd_watch *w;
	struct list all;

	list_init(&all);
	list_splice(&all, &r->watches);
	while ((w = list_first(&all, struct redd_watch, link))) {
		bool heard = !w->over;

		list_remove(&w->link);
		list_append(&r->watches, &w->link);
		w->over = true;
		watch_ref(w);
		if (heard && w->on_life)
			w->on_life(w, &life, w->user);
		watch_unref(w);
	}
}

/* --- the request ----------------------------------------------------------------------------- */

/* It is told what comes behind `told` from now on. */
static int watch_answered(struct redd_watch *w, const Redd__V1__Watching *m)
{
	if (!m->watch)
		return client_fail(w->r, -EPROTO, "the broker gave a watch no id");
	w->id = m->watch;
	w->told = w->is_behind ? m->sequence : w->told;
	w->is_behind = false;
	return 0;
}

static int watch_take(struct redd *r, struct call *c, const Redd__V1__Message *m,
		      struct redd_reply *reply)
{
	struct redd_watch *w = c->watch;
	int e = watch_answered(w, m->watching);

	(void)reply;
	if (e < 0)
		return err_pass(e);
	w->sequence = m->watching->sequence;
	/* The frame is the watch's from now on, to be asked again. */
	r->calls.kept -= c->frame ? c->frame_size : 0;
	w->request = TAKE(c->frame);
	w->request_size = c->frame_size;
	if (w->over)
		watch_end(w);
	return 0;
}

static void watch_failed(struct redd *r, struct call *c, int result)
{
	(void)r;
	(void)result;
	c->watch->over = true;
}

static const struct call_kind watch_kind = {
	.name = "Watch",
	.answer = REDD__V1__MESSAGE__BODY_WATCHING,
	.repeat = CALL_REPEAT,
	.take = watch_take,
	.failed = watch_failed,
};

static struct redd_watch *watch_new(struct redd *r, const struct redd_watch_options *o)
{
	struct redd_watch *w = calloc(1, sizeof(*w));

	if (!w) {
		client_fail(r, err_begin(-ENOMEM), "no memory for a watch");
		return NULL;
	}
	w->refs = 1;
	w->r = r;
	w->on_life = o->on_life;
	w->user = o->user;
	w->told = o->after;
	w->is_behind = !o->has_after;
	list_append(&r->watches, &w->link);
	return w;
}

/* While it waits for room a callback may have freed it: *ret is referenced for the caller. */
static int watch_begin(struct redd *r, const struct redd_watch_options *options,
		       struct redd_watch **ret, struct how how)
{
	Redd__V1__Request request = REDD__V1__REQUEST__INIT;
	Redd__V1__Watch m = REDD__V1__WATCH__INIT;
	struct selector selector;
	struct redd_watch_options o;
	struct call_target target = { 0 };
	int e;

	OPTIONS_COPY(o, options);
	e = selector_build(r, &selector, o.labels, o.n_labels);
	if (e < 0)
		return err_pass(e);
	target.watch = watch_new(r, &o);
	if (!target.watch)
		return -ENOMEM;
	m.has_after = o.has_after;
	m.after = o.after;
	m.n_labels = o.n_labels;
	m.labels = selector.list;
	request.body_case = REDD__V1__REQUEST__BODY_WATCH;
	request.watch = &m;
	*ret = watch_ref(target.watch);
	return err_pass(call_send(r, &watch_kind, how, &target, &request, NULL));
}

/* Gives the caller's reference up, for the handle if the program is to have it. */
static int watch_begun(struct redd *r, int e, struct redd_watch *take_w, struct redd_watch **ret)
{
	if (!take_w)
		return err_pass(e);
	if (e == 0 && !watch_is_held(take_w))
		e = client_fail_freed(r, "watch");
	if (e == 0)
		*ret = take_w;
	else if (watch_is_held(take_w))
		redd_watch_free(take_w);
	watch_unref(take_w);
	return err_pass(e);
}

int redd_watch(struct redd *r, const struct redd_watch_options *options, struct redd_watch **ret)
{
	struct waiter w = { 0 };
	struct redd_watch *watch = NULL;
	int e = call_wait(r, watch_begin(r, options, &watch, WAITER(&w)), &w);

	return watch_begun(r, e, watch, ret);
}

int redd_watch_start(struct redd *r, const struct redd_watch_options *options,
		     struct redd_watch **ret, struct redd_call *call)
{
	struct redd_watch *watch = NULL;
	int e = watch_begin(r, options, &watch, STARTED(call));

	return watch_begun(r, e, watch, ret);
}

uint64_t redd_watch_sequence(const struct redd_watch *w)
{
	return w->sequence;
}

/* --- asked for again ------------------------------------------------------------------------- */

void watches_away(struct redd *r)
{
	struct redd_watch *w;

	list_for_each (w, &r->watches, link) {
		/* Before its first answer it is a call, which is repeated. */
		w->is_away = w->request != NULL;
		w->id = 0;
	}
}

static void watch_hears(struct redd_watch *w, enum redd_what what)
{
	const struct redd_life life = {
		.what = what,
		.sequence = w->told,
		.exit = exit_unknown("the events are not known any more"),
	};

	watch_ref(w);
	if (w->on_life && !w->over)
		w->on_life(w, &life, w->user);
	watch_unref(w);
}

static int again_take(struct redd *r, struct call *c, const Redd__V1__Message *m,
		      struct redd_reply *reply)
{
	struct redd_watch *w = c->watch;
	bool has_missed = w->is_behind;
	int e = watch_answered(w, m->watching);

	(void)r;
	(void)reply;
	if (e < 0)
		return err_pass(e);
	if (w->over)
		watch_end(w);
	else if (has_missed)
		watch_hears(w, REDD_LIFE_MISSED);
	return 0;
}

/* What happened since is not known any more: it begins from now, and is told so then. Refused even
 * that, it ends. */
static void again_failed(struct redd *r, struct call *c, int result)
{
	struct redd_watch *w = c->watch;

	(void)result;
	if (r->state == CLIENT_DOWN || w->over)
		return;
	if (w->is_behind || r->failure.error.code != REDD_OUT_OF_RANGE) {
		watch_hears(w, REDD_LIFE_LOST);
		w->over = true;
		return;
	}
	w->is_behind = w->is_away = true;
	r->away.is_resuming = true;
}

static const struct call_kind again_kind = {
	.name = "Watch",
	.answer = REDD__V1__MESSAGE__BODY_WATCHING,
	.repeat = CALL_DROP,
	.take = again_take,
	.failed = again_failed,
};

int watch_again(struct redd_watch *w, Redd__V1__Watch *m)
{
	Redd__V1__Request request = REDD__V1__REQUEST__INIT;
	struct call_target target = { .watch = w };
	int e;

	m->has_after = !w->is_behind;
	m->after = w->told;
	request.body_case = REDD__V1__REQUEST__BODY_WATCH;
	request.watch = m;
	e = call_own(w->r, &again_kind, &target, &request);
	if (e == 0)
		w->is_away = false;
	return e;
}

/* --- events ---------------------------------------------------------------------------------- */

static struct redd_watch *watch_find(struct redd *r, uint64_t id)
{
	struct redd_watch *w;

	list_for_each (w, &r->watches, link) {
		if (w->id == id && !w->over)
			return w;
	}
	return NULL;
}

int watch_event(struct redd *r, const Redd__V1__Message *m)
{
	const Redd__V1__Life *wire = m->life;
	struct redd_watch *w = watch_find(r, wire->watch);
	char name[NAME_MAX_SIZE + 1];
	size_t size = MIN(wire->name.len, (size_t)NAME_MAX_SIZE);
	struct redd_life life = {
		.what = (enum redd_what)wire->what,
		.sequence = wire->sequence,
		.port = wire->port,
		.pid = wire->pid,
		.time_ns = wire->time_ns,
		.has_exit = wire->exit != NULL,
		.exit = exit_of(wire->exit),
	};

	if (!w)
		return 0; /* freed while its events were on their way */
	w->told = MAX(w->told, life.sequence);
	if (size) {
		memcpy(name, wire->name.data, size);
		name[size] = '\0';
		life.name = name;
	}
	life.n_holders = pids_of(life.holders, wire->holders, wire->n_holders);
	watch_ref(w);
	if (w->on_life)
		w->on_life(w, &life, w->user);
	watch_unref(w);
	return 0;
}
