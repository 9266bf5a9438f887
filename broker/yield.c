/* Credit is counted in parts of which COST are a millisecond of holding back: meanwhile it goes
 * down by COST each millisecond, else it comes back by one, so that in the long run one part in
 * YIELD_PART of the time is held back. Once it is used up it has to come back to YIELD_LEAST_MS:
 * for less it does not pay.
 *
 * A flow that was let go moves once; if it was for a step, it finds that it has to wait again.
 */
#include "broker/yield.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <stdio.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "proto/base/cleanup.h"
#include "proto/base/fd.h"
#include "proto/limits.h"

#define COST	     (YIELD_PART - 1)
#define CREDIT_MOST  ((uint64_t)YIELD_MOST_MS * COST)
#define CREDIT_LEAST ((uint64_t)YIELD_LEAST_MS * COST)

static uint64_t now_ms(const struct yield *y)
{
	return uv_now(y->loop);
}

/* Brings the credit up to date; before holding back begins or ends. */
static void settle(struct yield *y)
{
	uint64_t now = now_ms(y), elapsed = now - y->settled_ms;

	y->settled_ms = now;
	if (!y->is_holding) {
		y->credit = MIN(y->credit + elapsed, CREDIT_MOST);
		return;
	}
	y->held_ms += elapsed;
	y->credit -= MIN(y->credit, elapsed * COST);
}

/* --- is a processor to spare? ------------------------------------------------------------------
 */

/* A file system of somebody's (lxcfs) may be mounted over it: that may block. And what it counts is
 * the whole machine's: of no use to who may run on some of its processors only. */
int yield_open_load(void)
{
	_cleanup_(fd_closep) int fd = open("/proc/loadavg", O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	struct statfs fs;

	if (fd < 0 || fstatfs(fd, &fs) < 0 || fs.f_type != PROC_SUPER_MAGIC ||
	    sysconf(_SC_NPROCESSORS_ONLN) != (long)uv_available_parallelism())
		return -1;
	return TAKE_FD(fd);
}

/* "0.20 0.18 0.12 1/80 11206": one wants to run, which is we. */
static bool read_tight(const struct yield *y)
{
	char text[128];
	unsigned n;
	ssize_t size = y->load_fd < 0 ? -1 : pread(y->load_fd, text, sizeof(text) - 1, 0);

	if (size <= 0)
		return false;
	text[size] = '\0';
	return sscanf(text, "%*s %*s %*s %u", &n) == 1 && n >= y->n_processors;
}

/* Once it is, it is for the rest of the millisecond. */
static bool is_tight(struct yield *y)
{
	if (y->is_tight && y->looked_ms == now_ms(y))
		return true;
	y->looked_ms = now_ms(y);
	y->is_tight = read_tight(y);
	return y->is_tight;
}

/* --- holding back ---------------------------------------------------------------------------- */

static bool is_wanted(const struct yield *y)
{
	return now_ms(y) < y->wanted_until_ms;
}

/* False: it is over, or there is nobody to wake us. */
static bool look_later(struct yield *y)
{
	uint64_t left = MIN((y->credit + COST - 1) / COST, (uint64_t)YIELD_STEP_MS);

	return is_wanted(y) && left &&
	       alarm_set(y->alarms, &y->alarm, MIN(left, y->wanted_until_ms - now_ms(y))) == 0;
}

static void release(struct yield *y)
{
	settle(y);
	y->is_holding = false;
	alarm_stop(y->alarms, &y->alarm);
	turn_resume(y->turn, &y->waiting);
}

static void on_alarm(struct alarm *a)
{
	struct yield *y = container_of(a, struct yield, alarm);

	settle(y);
	if (list_is_empty(&y->waiting) || !look_later(y)) {
		release(y);
	} else if (now_ms(y) >= y->next_step_ms) {
		y->next_step_ms = now_ms(y) + YIELD_STEP_MS;
		turn_resume(y->turn, &y->waiting);
	}
}

static bool begin(struct yield *y)
{
	if (!is_wanted(y))
		return false;
	settle(y);
	if (y->credit < CREDIT_LEAST || !is_tight(y))
		return false;
	y->next_step_ms = now_ms(y) + YIELD_STEP_MS;
	y->is_holding = look_later(y);
	return y->is_holding;
}

static void window_begin(struct yield_flow *f, uint64_t now)
{
	f->since_ms = now;
	f->bytes = 0;
}

/* How much it moves is not known while it waits; nor is silence bulk. */
static bool is_bulk(struct yield_flow *f, uint64_t now)
{
	if (f->is_let_go || now - f->moved_ms <= YIELD_LOOK_MS)
		return f->is_bulk;
	window_begin(f, now);
	f->is_bulk = false;
	return false;
}

bool yield_waits(struct yield *y, struct yield_flow *f, struct job *j)
{
	uint64_t now = now_ms(y);
	bool may_wait = is_bulk(f, now) && !f->is_let_go;

	if (f->is_let_go)
		window_begin(f, now);
	f->is_let_go = false;
	if (!may_wait || (!y->is_holding && !begin(y)))
		return false;
	f->is_let_go = true; /* from when it runs again */
	turn_set_aside(&y->waiting, j);
	return true;
}

void yield_hurry(struct yield *y, const struct yield_flow *f, struct job *j)
{
	if (!yield_is_aside(f, j))
		return;
	job_cancel(j);
	turn_work(y->turn, j);
}

void yield_to_spawn(struct yield *y)
{
	y->wanted_until_ms = now_ms(y) + YIELD_WINDOW_MS;
}

void yield_moved(struct yield *y, struct yield_flow *f, uint64_t bytes)
{
	uint64_t now = now_ms(y);

	f->bytes += bytes;
	if (bytes)
		f->moved_ms = now;
	if (f->bytes >= YIELD_BYTES)
		f->is_bulk = true;
	if (now - f->since_ms < YIELD_LOOK_MS)
		return;
	f->is_bulk = f->bytes >= YIELD_BYTES;
	window_begin(f, now);
}

uint64_t yield_held_ms(struct yield *y)
{
	settle(y);
	return y->held_ms;
}

/* --- life ------------------------------------------------------------------------------------ */

void yield_init(struct yield *y, uv_loop_t *loop, struct alarms *alarms, struct turn *turn)
{
	*y = (struct yield){ .loop = loop, .alarms = alarms, .turn = turn, .credit = CREDIT_MOST };
	alarm_init(&y->alarm, on_alarm);
	list_init(&y->waiting);
	y->load_fd = -1;
}

void yield_start(struct yield *y, int load_fd, unsigned n_processors)
{
	y->load_fd = load_fd;
	y->n_processors = n_processors;
}

void yield_end(struct yield *y)
{
	release(y);
	y->load_fd = fd_close(y->load_fd);
	y->is_tight = false;
}
