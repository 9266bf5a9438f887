/* Broker and forker: started, watched by pidfd, reaped, started again. Each is given its end of a
 * SOCK_SEQPACKET link as descriptor 3, an empty environment, and no other descriptor than 0, 1, 2.
 *
 * Whenever there is a new one of the two, a new forker link is made between them: one end goes to
 * the forker at once, the other waits in forker_end_fd until the broker was told all the rest.
 *
 * A start that fails is tried again after a second; so is one of a program that died too often.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "helper/keeper.h"
#include "helper/raw.h"
#include "helper/reap.h"
#include "proto/base/err.h"
#include "proto/base/fd.h"
#include "proto/base/log.h"
#include "proto/fdpass.h"

#define LINK_NUMBER   3
#define ABOVE_NUMBERS 10
#define LINK_SNDBUF   (1 << 20) /* what the kernel allows of it */

static int kin_init(struct kin *kin, const char *name, const char *path)
{
	*kin = (struct kin){ .name = name, .path = path, .pidfd = -1, .link_fd = -1 };
	kin->exe_fd = open(path, O_PATH | O_CLOEXEC);
	return kin->exe_fd < 0 ? err_errno() : 0;
}

int launch_init(struct keeper *k)
{
	int r = kin_init(&k->broker, "redd-broker", k->config.broker);

	if (r < 0) {
		log_error("%s: %s", k->config.broker, err_string(r));
		return r;
	}
	r = kin_init(&k->forker, "redd-helper", k->config.helper);
	if (r < 0)
		log_error("%s: %s", k->config.helper, err_string(r));
	return r;
}

void launch_kill(struct kin *kin)
{
	if (kin->pid)
		kill(kin->pid, SIGKILL); /* not reaped yet, so the number is still its own */
}

void launch_deinit(struct keeper *k)
{
	struct kin *both[] = { &k->broker, &k->forker };

	for (int i = 0; i < 2; i++) {
		both[i]->pidfd = fd_close(both[i]->pidfd);
		both[i]->link_fd = fd_close(both[i]->link_fd);
		both[i]->exe_fd = fd_close(both[i]->exe_fd);
	}
	k->forker_end_fd = fd_close(k->forker_end_fd);
}

/* --- in the new process ------------------------------------------------------------------------
 */

/* By its path as long as that names the program which was opened, as the process is then listed
 * under its name and may be a script; by descriptor after an upgrade. */
static void exec_program(const struct kin *kin, int exe_fd, char *const argv[])
{
	char *const envp[] = { NULL };
	struct stat opened, named;

	if (fstat(exe_fd, &opened) == 0 && stat(kin->path, &named) == 0 &&
	    opened.st_dev == named.st_dev && opened.st_ino == named.st_ino)
		execve(kin->path, argv, envp);
	raw(SYS_execveat, exe_fd, "", argv, envp, AT_EMPTY_PATH);
}

static void become(const struct kin *kin, int link_fd, char *const argv[])
{
	int link = fcntl(link_fd, F_DUPFD_CLOEXEC, ABOVE_NUMBERS);
	int exe = fcntl(kin->exe_fd, F_DUPFD_CLOEXEC, ABOVE_NUMBERS);
	sigset_t none;

	if (link >= 0 && exe >= 0 && dup2(link, LINK_NUMBER) == LINK_NUMBER) {
		sigemptyset(&none);
		sigprocmask(SIG_SETMASK, &none, NULL);
		exec_program(kin, exe, argv);
	}
	log_error("cannot start %s: %s", kin->path, err_name(errno));
	_exit(127);
}

/* --- starting ----------------------------------------------------------------------------------
 */

static int link_pair(int fds[2])
{
	int size = LINK_SNDBUF;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds) < 0)
		return err_errno();
	for (int i = 0; i < 2; i++)
		setsockopt(fds[i], SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
	return 0;
}

static int start(struct keeper *k, struct kin *kin, char *const argv[], enum keeper_event event)
{
	int fds[2], r = link_pair(fds);
	pid_t pid;

	if (r < 0)
		return err_pass(r);
	pid = fork();
	if (pid == 0)
		become(kin, fds[1], argv);
	fd_close(fds[1]);
	if (pid < 0) {
		r = err_errno();
		fd_close(fds[0]);
		return r;
	}
	kin->pid = pid;
	kin->link_fd = fds[0];
	kin->start_at_ms = KEEPER_NEVER;
	kin->pidfd = (int)raw(SYS_pidfd_open, pid, 0);
	/* Without one its death is found by the sweep. */
	if (kin->pidfd < 0 ||
	    keeper_watch(k, kin->pidfd, EPOLLIN, keeper_event_data(event, 0, 0)) < 0)
		log_warning("%s cannot be watched directly", kin->name);
	return 0;
}

/* A new link between the two, if both are there. */
static void join(struct keeper *k)
{
	struct link_forker_setup m = { .head = { LINK_FORKER_SETUP, sizeof(m) },
				       .version = LINK_VERSION,
				       .flags = k->config.head->flags,
				       .nofile_soft = k->config.head->nofile_soft,
				       .nofile_hard = k->config.head->nofile_hard };
	struct iovec iov = { &m, sizeof(m) };
	int fds[2], r;

	if (!k->broker.pid || !k->forker.pid)
		return;
	r = link_pair(fds);
	if (r == 0) {
		r = (int)fdpass_send(k->forker.link_fd, &iov, 1, &fds[1], 1, MSG_DONTWAIT);
		fd_close(fds[1]);
		k->forker_end_fd = fd_close(k->forker_end_fd);
		k->forker_end_fd = fds[0];
	}
	if (r < 0) {
		log_error("forker link: %s", err_string(r));
		launch_kill(&k->forker); /* the next one will have one */
	}
}

static int broker_start(struct keeper *k)
{
	char *const argv[] = { (char *)"redd-broker", (char *)"--keeper-fd", (char *)"3", NULL };
	int r = start(k, &k->broker, argv, KEEPER_EVENT_BROKER);

	if (r < 0)
		return err_pass(r);
	k->link_events = EPOLLIN;
	r = keeper_watch(k, k->broker.link_fd, k->link_events,
			 keeper_event_data(KEEPER_EVENT_LINK, 0, 0));
	if (r < 0)
		launch_kill(&k->broker); /* a broker that nobody listens to */
	k->phase = KEEPER_PHASE_SETUP;
	k->cursor = 0;
	k->incarnation++;
	k->has_beaten = false;
	k->is_suspect = false;
	k->beat_at_ms = keeper_now_ms();
	k->watch_at_ms = k->beat_at_ms + KEEPER_START_MS;
	hold_tell_all(k->hold);
	join(k);
	return 0;
}

static int forker_start(struct keeper *k)
{
	char *const argv[] = { (char *)"redd-helper", (char *)"forker", (char *)"--keeper-fd",
			       (char *)"3", NULL };
	int r = start(k, &k->forker, argv, KEEPER_EVENT_FORKER);

	if (r < 0)
		return err_pass(r);
	join(k);
	return 0;
}

static void start_if_due(struct keeper *k, struct kin *kin, int (*start_kin)(struct keeper *k))
{
	int r;

	if (kin->pid || k->is_ending || kin->start_at_ms > keeper_now_ms())
		return;
	r = start_kin(k);
	if (r == 0)
		return;
	log_error("cannot start %s: %s", kin->name, err_string(r));
	kin->start_at_ms = keeper_now_ms() + BACKOFF_RETRY_MS;
}

void launch_due(struct keeper *k)
{
	start_if_due(k, &k->broker, broker_start);
	start_if_due(k, &k->forker, forker_start);
}

/* --- ending ------------------------------------------------------------------------------------
 */

static void describe(char *text, size_t size, int status)
{
	if (WIFSIGNALED(status))
		snprintf(text, size, "killed by signal %d", WTERMSIG(status));
	else
		snprintf(text, size, "exited with %d", WEXITSTATUS(status));
}

static void count_death(struct kin *kin)
{
	bool is_news;

	kin->start_at_ms = backoff_died(&kin->backoff, keeper_now_ms(), &is_news);
	if (is_news && kin->backoff.is_degraded)
		log_error("degraded: %s ended by itself %u times within %u s", kin->name,
			  RESTART_DEATHS_MAX, RESTART_WINDOW_MS / 1000);
	else if (is_news)
		log_warning("%s is not degraded any more", kin->name);
}

static void kin_died(struct keeper *k, struct kin *kin, int status)
{
	char how[64];

	k->deaths++;
	describe(how, sizeof(how), status);
	log_warning("%s (%d) %s, is started again", kin->name, (int)kin->pid, how);
	if (WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL)
		kin->start_at_ms = keeper_now_ms();
	else
		count_death(kin);
}

/* Whatever the dead broker sent is obeyed, so that no deposit of a spawn that it handed over is
 * lost. */
static void broker_buried(struct keeper *k)
{
	k->answer.size = 0;
	k->phase = KEEPER_PHASE_DOWN;
	k->is_congested = false;
	k->watch_at_ms = KEEPER_NEVER;
	k->forker_end_fd = fd_close(k->forker_end_fd);
	heed_link(k, true);
	ending_broker_died(k);
}

bool launch_look(struct keeper *k, pid_t pid)
{
	struct kin *kin = pid == k->broker.pid ? &k->broker : &k->forker;
	struct link_exited exited;

	if (!pid || pid != kin->pid)
		return false;
	if (reap_look(pid, &exited) == REAP_E_ALIVE)
		return true;
	if (kin == &k->broker)
		broker_buried(k);
	kin->link_fd = fd_close(kin->link_fd);
	kin->pidfd = fd_close(kin->pidfd);
	reap_release(pid);
	if (k->is_ending)
		kin->start_at_ms = KEEPER_NEVER;
	else
		kin_died(k, kin, exited.status);
	kin->pid = 0;
	return true;
}
