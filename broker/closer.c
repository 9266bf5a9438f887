/* Good path: a job goes to the queue of its party, a thread takes it from there, closes, and puts
 * it among those that are done; on_done(), in the loop, gives its charge back, and wakes who waited
 * for that.
 *
 * Parties and jobs belong to the loop; what threads touch of them (queues, n_busy, `done`) is under
 * the lock. A party is there while it has jobs. A door's stands on the one of all doors of its
 * user, and what is counted for it is counted for both.
 *
 * At the end a thread may hang still: then what it could touch is left alone for good.
 */
#include "broker/closer.h"

#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <time.h>
#include <uv.h>

#include "broker/broker.h"
#include "proto/base/fd.h"
#include "proto/base/log.h"

#define STACK_SIZE KIB(256)
#define END_MS	   200

enum party_kind { PARTY_USER, PARTY_DOOR, PARTY_DOORS };

struct party {
	struct list link; /* of the closer's */
	enum party_kind kind;
	struct closer_whose whose;
	struct party *above; /* of a door: all of its user's */
	size_t n;	     /* descriptors that are not closed yet */
	struct list waiting; /* jobs of its own */
	unsigned n_busy;     /* threads, those of its doors included */
	unsigned n_doors;
};

struct closing {
	struct list link; /* of its party's, or of those that are done */
	struct list all_link;
	struct party *party;
	struct quota_charge charge;
	size_t n;
	int fds[];
};

struct worker {
	pthread_t thread;
	struct closer *closer;
	bool is_over;
};

struct closer {
	uv_async_t async; /* keeps the loop alive while there are jobs */
	pthread_mutex_t lock;
	pthread_cond_t work, over;
	struct worker workers[CLOSER_THREADS];
	unsigned n_workers, n_idle, n_queued;
	bool is_ending;
	struct list parties; /* who is next is first */
	struct list done;
	struct list all, waits;
	struct closer *left; /* before this one */
	size_t n;	     /* descriptors */
};

/* --- parties --------------------------------------------------------------------------------- */

static bool party_is(const struct party *p, enum party_kind kind, const struct closer_whose *whose)
{
	return p->kind == kind && p->whose.account == whose->account &&
	       (kind != PARTY_DOOR || p->whose.door == whose->door);
}

static struct party *party_find(struct closer *c, enum party_kind kind,
				const struct closer_whose *whose)
{
	struct party *p;

	list_for_each (p, &c->parties, link)
		if (party_is(p, kind, whose))
			return p;
	return NULL;
}

static struct party *party_make(struct closer *c, enum party_kind kind,
				const struct closer_whose *whose)
{
	struct party *p = party_find(c, kind, whose);

	if (p)
		return p;
	p = calloc(1, sizeof(*p));
	if (!p)
		return NULL;
	p->kind = kind;
	p->whose = *whose;
	if (whose->account)
		quota_account_ref(whose->account);
	list_init(&p->waiting);
	list_append(&c->parties, &p->link);
	return p;
}

static void party_check(struct party *p)
{
	if (p->n || p->n_doors)
		return;
	list_remove(&p->link);
	if (p->above) {
		p->above->n_doors--;
		party_check(p->above);
	}
	quota_account_unref(p->whose.account);
	free(p);
}

static struct party *party_of(struct closer *c, const struct closer_whose *whose)
{
	struct party *doors, *p;

	if (!whose->door)
		return party_make(c, PARTY_USER, whose);
	doors = party_make(c, PARTY_DOORS, whose);
	if (!doors)
		return NULL;
	p = party_make(c, PARTY_DOOR, whose);
	if (p && !p->above) {
		p->above = doors;
		doors->n_doors++;
	}
	party_check(doors);
	return p;
}

static void party_count(struct closer *c, struct party *p, size_t more, size_t less)
{
	c->n += more - less;
	for (; p; p = p->above)
		p->n += more - less;
}

/* --- the threads ----------------------------------------------------------------------------- */

static bool party_may(const struct party *p)
{
	for (; p; p = p->above)
		if (p->n_busy >= CLOSER_THREADS_EACH)
			return false;
	return true;
}

static void party_busy(struct party *p, int change)
{
	for (; p; p = p->above)
		p->n_busy += (unsigned)change;
}

/* The next job, its party at the end of the line; NULL: none may be begun. */
static struct closing *take_job(struct closer *c)
{
	struct party *p;

	list_for_each (p, &c->parties, link) {
		struct closing *job = list_first(&p->waiting, struct closing, link);

		if (!job || !party_may(p))
			continue;
		list_remove(&job->link);
		c->n_queued--;
		party_busy(p, 1);
		list_remove(&p->link);
		list_append(&c->parties, &p->link);
		return job;
	}
	return NULL;
}

static void do_job(struct closer *c, struct closing *job)
{
	pthread_mutex_unlock(&c->lock);
	fd_close_many(job->fds, job->n);
	pthread_mutex_lock(&c->lock);
	party_busy(job->party, -1);
	list_append(&c->done, &job->link);
	if (!c->is_ending)
		uv_async_send(&c->async);
}

static void *worker_run(void *context)
{
	struct worker *w = context;
	struct closer *c = w->closer;
	struct closing *job;

	pthread_mutex_lock(&c->lock);
	for (;;) {
		job = take_job(c);
		if (job) {
			do_job(c, job);
		} else if (c->is_ending) {
			break;
		} else {
			c->n_idle++;
			pthread_cond_wait(&c->work, &c->lock);
			c->n_idle--;
		}
	}
	w->is_over = true;
	pthread_cond_signal(&c->over);
	pthread_mutex_unlock(&c->lock);
	return NULL;
}

/* Signals are the loop's. */
static int worker_start(struct worker *w)
{
	pthread_attr_t attr;
	sigset_t all, before;
	int r;

	sigfillset(&all);
	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, STACK_SIZE);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	r = pthread_create(&w->thread, &attr, worker_run, w);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	pthread_attr_destroy(&attr);
	return r;
}

/* A thread for each job that waits, up to the most. False: there is none at all. */
static bool workers_call(struct closer *c)
{
	struct worker *w = &c->workers[c->n_workers];

	if (c->n_queued > c->n_idle && c->n_workers < CLOSER_THREADS) {
		w->closer = c;
		c->n_workers += worker_start(w) == 0;
	}
	pthread_cond_signal(&c->work);
	return c->n_workers;
}

/* --- the loop's side ------------------------------------------------------------------------- */

static void job_free(struct closer *c, struct closing *job)
{
	party_count(c, job->party, 0, job->n);
	party_check(job->party);
	quota_charge_return(&job->charge);
	list_remove(&job->all_link);
	free(job);
}

/* Past what all may have only those are held back of whose user there are some. */
static bool party_is_past(struct closer *c, const struct closer_whose *whose)
{
	struct party *p = whose->door ? party_find(c, PARTY_DOOR, whose) : NULL;

	if (p && p->n >= CLOSING_PER_DOOR)
		return true;
	p = party_find(c, whose->door ? PARTY_DOORS : PARTY_USER, whose);
	return p && (p->n >= CLOSING_PER_UID || c->n >= CLOSING_MAX);
}

static bool is_past(struct closer *c, const struct closer_whose *whose)
{
	bool r;

	pthread_mutex_lock(&c->lock);
	r = party_is_past(c, whose);
	pthread_mutex_unlock(&c->lock);
	return r;
}

static void waiting_look(struct closer *c)
{
	struct closer_wait *w, *next;

	list_for_each_safe (w, next, &c->waits, link) {
		if (is_past(c, &w->whose))
			continue;
		list_remove(&w->link);
		w->go_on(w);
	}
}

static void jobs_done(struct closer *c)
{
	struct list done = LIST_INIT(done);
	struct closing *job;

	pthread_mutex_lock(&c->lock);
	list_splice(&done, &c->done);
	while ((job = list_first(&done, struct closing, link))) {
		list_remove(&job->link);
		job_free(c, job);
	}
	pthread_mutex_unlock(&c->lock);
}

static void on_done(uv_async_t *async)
{
	struct closer *c = async->data;

	jobs_done(c);
	if (list_is_empty(&c->all))
		uv_unref((uv_handle_t *)&c->async);
	waiting_look(c);
}

static struct closer *closer_of(struct broker *b)
{
	struct closer *c;

	if (b->closer)
		return b->closer;
	c = calloc(1, sizeof(*c));
	if (!c || uv_async_init(&b->loop, &c->async, on_done) < 0) {
		free(c);
		return NULL;
	}
	c->async.data = c;
	uv_unref((uv_handle_t *)&c->async);
	pthread_mutex_init(&c->lock, NULL);
	pthread_cond_init(&c->work, NULL);
	pthread_cond_init(&c->over, NULL);
	list_init(&c->parties);
	list_init(&c->done);
	list_init(&c->all);
	list_init(&c->waits);
	return b->closer = c;
}

/* NULL: without memory. */
static struct closing *job_new(struct closer *c, const struct closer_whose *whose, int *take_fds,
			       size_t n)
{
	struct closing *job = malloc(sizeof(*job) + n * sizeof(job->fds[0]));

	if (!job)
		return NULL;
	*job = (struct closing){ .party = party_of(c, whose), .n = n };
	if (!job->party) {
		free(job);
		return NULL;
	}
	for (size_t i = 0; i < n; i++)
		job->fds[i] = TAKE_FD(take_fds[i]);
	if (whose->account) /* past its quota they are bounded as well: no more are received */
		(void)quota_charge_take(&job->charge, whose->account, QUOTA_DESCRIPTORS, n, NULL);
	return job;
}

static void job_queue(struct closer *c, struct closing *job)
{
	party_count(c, job->party, job->n, 0);
	list_append(&c->all, &job->all_link);
	list_append(&job->party->waiting, &job->link);
	c->n_queued++;
	uv_ref((uv_handle_t *)&c->async);
	if (workers_call(c))
		return;
	list_remove(&job->link);
	c->n_queued--;
	fd_close_many(job->fds, job->n);
	job_free(c, job);
	if (list_is_empty(&c->all))
		uv_unref((uv_handle_t *)&c->async);
}

void closer_close(struct broker *b, const struct closer_whose *whose, int *take_fds, size_t n)
{
	struct closer *c = n ? closer_of(b) : NULL;
	struct closing *job = NULL;

	if (c) {
		pthread_mutex_lock(&c->lock);
		job = job_new(c, whose, take_fds, n);
		if (job)
			job_queue(c, job);
		pthread_mutex_unlock(&c->lock);
	}
	if (!job)
		fd_close_many(take_fds, n);
}

void closer_close_socket(struct broker *b, const struct closer_whose *whose, int *take_fd)
{
	int waiting = 0;

	shutdown(*take_fd, SHUT_RD); /* nothing comes in behind this */
	if (ioctl(*take_fd, FIONREAD, &waiting) == 0 && waiting > 0)
		closer_close(b, whose, take_fd, 1);
	else
		*take_fd = fd_close(*take_fd);
}

void closer_wait_init(struct closer_wait *w, void (*go_on)(struct closer_wait *w))
{
	*w = (struct closer_wait){ .go_on = go_on };
	list_init(&w->link);
}

bool closer_waits(struct broker *b, struct closer_wait *w, const struct closer_whose *whose)
{
	if (!b->closer || !b->closer->n || !is_past(b->closer, whose))
		return false;
	w->whose = *whose;
	if (!list_is_linked(&w->link))
		list_append(&b->closer->waits, &w->link);
	return true;
}

void closer_wait_end(struct closer_wait *w)
{
	list_remove(&w->link);
}

size_t closer_count(const struct broker *b)
{
	return b->closer ? b->closer->n : 0;
}

/* --- the end --------------------------------------------------------------------------------- */

static bool workers_are_over(const struct closer *c)
{
	for (unsigned i = 0; i < c->n_workers; i++)
		if (!c->workers[i].is_over)
			return false;
	return true;
}

/* True: all of them. */
static bool workers_end(struct closer *c)
{
	struct timespec end;
	int r = 0;

	clock_gettime(CLOCK_REALTIME, &end);
	end.tv_nsec += END_MS * 1000000;
	end.tv_sec += end.tv_nsec / 1000000000;
	end.tv_nsec %= 1000000000;
	c->is_ending = true;
	pthread_cond_broadcast(&c->work);
	while (!r && !workers_are_over(c))
		r = pthread_cond_timedwait(&c->over, &c->lock, &end);
	return workers_are_over(c);
}

static void on_closed(uv_handle_t *handle)
{
	struct closer *c = handle->data;

	pthread_mutex_destroy(&c->lock);
	pthread_cond_destroy(&c->work);
	pthread_cond_destroy(&c->over);
	free(c);
}

/* What a thread that hangs may still touch: nobody's, but leak checkers find it. */
static struct closer *left_alone;

/* What quotas know of is given back also of what is not done. */
static void charges_return(struct closer *c)
{
	struct closing *job;
	struct party *p;

	list_for_each (job, &c->all, all_link)
		quota_charge_return(&job->charge);
	list_for_each (p, &c->parties, link)
		p->whose.account = quota_account_unref(p->whose.account);
}

void closer_end(struct broker *b)
{
	struct closer *c = TAKE(b->closer);
	bool is_clean;

	if (!c)
		return;
	pthread_mutex_lock(&c->lock);
	is_clean = workers_end(c);
	charges_return(c);
	pthread_mutex_unlock(&c->lock);
	for (unsigned i = 0; is_clean && i < c->n_workers; i++)
		pthread_join(c->workers[i].thread, NULL);
	if (is_clean) {
		jobs_done(c);
	} else {
		log_warning("descriptors of clients are not closed yet; the kernel does it");
		c->left = left_alone;
		left_alone = c;
	}
	uv_close((uv_handle_t *)&c->async, is_clean ? on_closed : NULL);
}
