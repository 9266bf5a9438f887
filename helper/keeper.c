/* The process that must not die does next to nothing: it starts broker and forker and starts them
 * again, holds what must outlive them (hold.h), says which spawns were born, reaps, and tells.
 *
 * One epoll loop, nothing blocks. After the start no memory is allocated. Signals are all blocked;
 * those that end a service are passed on to the broker, which drains and says LINK_BYE.
 *
 * The end: LINK_BYE; the forker is killed, both are reaped, then every child that is left, socket
 * and lock files that are still ours are removed, and the status is what the broker said. When no
 * broker can be had that would say it, the keeper leaves in the same way with 1 (ending.c).
 */
#include "helper/keeper.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <time.h>
#include <unistd.h>

#include "helper/proc.h"
#include "helper/raw.h"
#include "helper/signals.h"
#include "proto/base/err.h"
#include "proto/base/fd.h"
#include "proto/base/log.h"

#define EVENTS_A_TURN 64
#define SWEEP_MS      50
#define FDS_RESERVE   (64u + 2u * LINK_FDS_MAX) /* our own, and room for messages that come */
#define FDS_MAX	      (1u << 20)

int64_t keeper_now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

uint64_t keeper_event_data(enum keeper_event event, uint32_t generation, uint32_t index)
{
	return (uint64_t)event << 56 | (uint64_t)(generation & 0xffffff) << 32 | index;
}

int keeper_watch(struct keeper *k, int fd, uint32_t events, uint64_t data)
{
	struct epoll_event e = { .events = events, .data.u64 = data };

	return epoll_ctl(k->epoll_fd, EPOLL_CTL_ADD, fd, &e) < 0 ? -errno : 0;
}

void keeper_unwatch(struct keeper *k, int fd)
{
	if (fd >= 0)
		epoll_ctl(k->epoll_fd, EPOLL_CTL_DEL, fd, NULL);
}

/* --- signals -----------------------------------------------------------------------------------
 */

static void on_signal(struct keeper *k)
{
	struct signalfd_siginfo info;

	while (read(k->signal_fd, &info, sizeof(info)) == (ssize_t)sizeof(info)) {
		if (info.ssi_signo == SIGCHLD) {
			k->sweep_at_ms = MIN(k->sweep_at_ms, keeper_now_ms() + SWEEP_MS);
			continue;
		}
		ending_ask(k, (int)info.ssi_signo);
	}
}

/* --- events ------------------------------------------------------------------------------------
 */

static void on_link(struct keeper *k, uint32_t events)
{
	if (events & EPOLLOUT)
		k->is_congested = false;
	if (events & (EPOLLIN | EPOLLHUP | EPOLLERR))
		heed_link(k, false);
}

/* The slot of an event, if it is still the same use of it. */
static struct hold_slot *slot_of(struct keeper *k, uint64_t data, enum hold_state state)
{
	struct hold_slot *s = &k->hold->slots[(uint32_t)data % PORTS_MAX];

	if (s->state != state || (s->generation & 0xffffff) != (data >> 32 & 0xffffff))
		return NULL;
	return s;
}

static void on_birth(struct keeper *k, uint64_t data)
{
	struct hold_slot *s = slot_of(k, data, HOLD_STATE_AWAITING);

	if (s)
		judge_birth(k, s);
}

static void on_process(struct keeper *k, uint64_t data)
{
	struct hold_slot *s = slot_of(k, data, HOLD_STATE_RUNNING);

	if (s)
		judge_exit(k, s);
}

static void on_event(struct keeper *k, const struct epoll_event *e)
{
	switch ((enum keeper_event)(e->data.u64 >> 56)) {
	case KEEPER_EVENT_SIGNAL:
		on_signal(k);
		break;
	case KEEPER_EVENT_LINK:
		on_link(k, e->events);
		break;
	case KEEPER_EVENT_BROKER:
		launch_look(k, k->broker.pid);
		break;
	case KEEPER_EVENT_FORKER:
		launch_look(k, k->forker.pid);
		break;
	case KEEPER_EVENT_BIRTH:
		on_birth(k, e->data.u64);
		break;
	case KEEPER_EVENT_PROCESS:
		on_process(k, e->data.u64);
		break;
	}
}

/* --- time --------------------------------------------------------------------------------------
 */

/* It would run, and is not let: since it is suspected it had less than HEARTBEAT_MS of a processor.
 * Not for ever, or one that is busy for ever at the lowest priority would never be found out. */
static bool is_starved(const struct keeper *k, int64_t now)
{
	uint64_t enough = (uint64_t)HEARTBEAT_MS * (uint64_t)sysconf(_SC_CLK_TCK) / 1000;
	struct proc_stat stat;

	return now < k->suspect_at_ms + STARVED_MOST_MS &&
	       proc_stat_read(k->broker.pid, &stat) == 0 && stat.state == 'R' &&
	       stat.cpu_ticks - k->suspect_ticks < enough;
}

static void suspect(struct keeper *k, int64_t now)
{
	struct proc_stat stat = { 0 };

	proc_stat_read(k->broker.pid, &stat);
	k->is_suspect = true;
	k->suspect_at_ms = now;
	k->suspect_ticks = stat.cpu_ticks;
}

static void watch_broker(struct keeper *k, int64_t now)
{
	if (k->watch_at_ms > now)
		return;
	k->watch_at_ms = k->beat_at_ms + (k->has_beaten ? WATCHDOG_MS : KEEPER_START_MS);
	if (k->watch_at_ms > now)
		return;
	if (!k->is_suspect) {
		/* A machine that stood still as a whole looks the same: the broker gets a moment of
		 * a machine that runs. */
		suspect(k, now);
		k->watch_at_ms = now + HEARTBEAT_MS;
		return;
	}
	if (is_starved(k, now)) {
		k->watch_at_ms = now + HEARTBEAT_MS / 4;
		return;
	}
	log_error("the broker has been silent for %lld ms: it is killed",
		  (long long)(now - k->beat_at_ms));
	launch_kill(&k->broker);
	k->watch_at_ms = KEEPER_NEVER;
}

static bool is_due(int64_t *at_ms, int64_t now)
{
	if (*at_ms > now)
		return false;
	*at_ms = KEEPER_NEVER;
	return true;
}

static void on_time(struct keeper *k)
{
	int64_t now = keeper_now_ms();

	watch_broker(k, now);
	if (is_due(&k->sweep_at_ms, now))
		judge_sweep(k);
	if (is_due(&k->retry_at_ms, now)) {
		k->is_congested = false;
		judge_retry(k);
	}
	if (is_due(&k->end_at_ms, now))
		launch_kill(&k->broker);
	launch_due(k);
}

static int timeout(const struct keeper *k)
{
	int64_t next = MIN(MIN(k->watch_at_ms, k->sweep_at_ms), MIN(k->retry_at_ms, k->end_at_ms));
	int64_t now = keeper_now_ms();

	next = MIN(next, ending_due_ms(k));
	if (!k->is_ending)
		next = MIN(next, MIN(k->broker.start_at_ms, k->forker.start_at_ms));
	if (next == KEEPER_NEVER)
		return -1;
	return next <= now ? 0 : (int)MIN(next - now, (int64_t)60000);
}

static bool is_over(const struct keeper *k)
{
	return k->is_ending && !k->broker.pid && !k->forker.pid;
}

static void turn(struct keeper *k)
{
	struct epoll_event events[EVENTS_A_TURN];
	int n = epoll_wait(k->epoll_fd, events, EVENTS_A_TURN, timeout(k));

	if (n < 0 && errno != EINTR)
		log_error("epoll: %s", err_name(errno));
	for (int i = 0; i < n; i++)
		on_event(k, &events[i]);
	on_time(k);
	ending_pass(k);
	tell_pump(k);
}

/* --- start -------------------------------------------------------------------------------------
 */

/* More than a process is given at first: descriptors are what there is most of here. */
static uint32_t raise_limit(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
		return 1024 - FDS_RESERVE;
	limit.rlim_cur = limit.rlim_max;
	setrlimit(RLIMIT_NOFILE, &limit);
	getrlimit(RLIMIT_NOFILE, &limit);
	return (uint32_t)MAX(MIN(limit.rlim_cur, (rlim_t)FDS_MAX), (rlim_t)FDS_RESERVE) -
	       FDS_RESERVE;
}

static int open_signals(struct keeper *k)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGHUP);
	sigaddset(&set, SIGCHLD);
	k->signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	if (k->signal_fd < 0)
		return err_errno();
	return keeper_watch(k, k->signal_fd, EPOLLIN, keeper_event_data(KEEPER_EVENT_SIGNAL, 0, 0));
}

/* Our standard input would be the broker's and the forker's too. */
static void leave_stdin(void)
{
	int fd = open("/dev/null", O_RDWR | O_CLOEXEC);

	if (fd > 0)
		dup2(fd, STDIN_FILENO);
	if (fd > 2)
		fd_close(fd);
}

static int keeper_start(struct keeper *k)
{
	int r;

	if (prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) < 0 || prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0)
		return err_errno();
	leave_stdin();
	k->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (k->epoll_fd < 0)
		return err_errno();
	r = open_signals(k);
	if (r == 0)
		r = hold_new(&k->hold, raise_limit());
	return r ? err_pass(r) : launch_init(k);
}

static void keeper_deinit(struct keeper *k)
{
	launch_deinit(k);
	hold_free(k->hold);
	fd_close(k->signal_fd);
	fd_close(k->epoll_fd);
	fd_close(k->config.fd);
}

int keeper_main(int config_fd)
{
	struct keeper k = { .epoll_fd = -1,
			    .signal_fd = -1,
			    .forker_end_fd = -1,
			    .broker = { .pidfd = -1, .link_fd = -1, .exe_fd = -1 },
			    .forker = { .pidfd = -1, .link_fd = -1, .exe_fd = -1 },
			    .watch_at_ms = KEEPER_NEVER,
			    .sweep_at_ms = KEEPER_NEVER,
			    .retry_at_ms = KEEPER_NEVER,
			    .end_at_ms = KEEPER_NEVER };
	int r = keeper_config_open(&k.config, config_fd);

	if (r < 0) {
		log_error("configuration: %s", err_string(r));
		return 1;
	}
	log_init("redd-keeper", (enum log_level)MIN(k.config.head->log_level, LOG_LEVEL_DEBUG));
	keeper_config_isolate(&k.config);
	r = keeper_start(&k);
	if (r < 0) {
		log_error("cannot start: %s", err_string(r));
		keeper_deinit(&k);
		return 1;
	}
	launch_due(&k);
	tell_pump(&k);
	while (!is_over(&k))
		turn(&k);
	ending_finish();
	keeper_config_unlink(&k.config);
	keeper_deinit(&k);
	return k.status;
}
