/* Owns: one redd-broker started by us (its pid is the keeper's for life), its pidfd, its directory.
 *
 * The good path: directory, fork + exec, wait for the socket to appear (inotify(7), no sleeping),
 * a client's Hello and Ping, census. Stop: SIGTERM, wait for the pidfd, look for what is left.
 * Failures: each prints one line; what was begun is killed and removed.
 */
#include "tests/lib/service.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "tests/lib/places.h"

#define START_MS     20000
#define STOP_MS	     20000
#define SETTLE_MS    10000
#define ARGS_MAX     64
#define FAMILY_MAX   512
#define VALGRIND_LOG "valgrind."

extern char **environ;

struct family {
	int n;
	pid_t pids[FAMILY_MAX];
	unsigned long long starts[FAMILY_MAX];
};

static int64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static int complain(const char *what, const char *detail)
{
	fprintf(stderr, "service: %s: %s\n", what, detail);
	return -1;
}

/* --- start ----------------------------------------------------------------------------------- */

struct command {
	char log[PATH_MAX + 64];
	const char *argv[ARGS_MAX];
	int argc;
};

static void command_add(struct command *c, const char *argument)
{
	if (c->argc < ARGS_MAX - 1)
		c->argv[c->argc++] = argument;
}

static void command_add_valgrind(struct command *c, const struct service *s)
{
	snprintf(c->log, sizeof(c->log), "--log-file=%s/" VALGRIND_LOG "%%p", s->directory);
	command_add(c, "valgrind");
	command_add(c, "-q");
	command_add(c, "--vgdb=no");		 /* its pipes stay in /tmp when it is killed */
	command_add(c, "--read-inline-info=no"); /* a tenth of its start */
	command_add(c, "--trace-children=yes");
	command_add(c, "--trace-children-skip=/bin/*,/usr/*,/sbin/*,*/tests/progs/*,*/examples/*");
	command_add(c, "--child-silent-after-fork=yes");
	command_add(c, "--leak-check=full");
	command_add(c, "--errors-for-leak-kinds=definite");
	command_add(c, "--show-leak-kinds=definite");
	command_add(c, "--sim-hints=lax-ioctls"); /* TIOCGPTPEER, which it does not know */
	command_add(c, "--num-callers=30");
	command_add(c, c->log);
}

static void command_make(struct command *c, const struct service *s,
			 const struct service_options *o)
{
	c->argc = 0;
	if (place_valgrind())
		command_add_valgrind(c, s);
	command_add(c, place_program("redd-broker"));
	command_add(c, "--socket");
	command_add(c, s->socket);
	if (place_plain_clone() && !(o && o->shared_clone))
		command_add(c, "--plain-clone");
	for (int i = 0; o && o->args && o->args[i]; i++)
		command_add(c, o->args[i]);
	c->argv[c->argc] = NULL;
}

static void child_exec(const struct service *s, const struct service_options *o, struct command *c)
{
	char *const *environment =
		(char *const *)(o && o->environment ? o->environment : (void *)environ);
	char log[PATH_MAX + 8];
	sigset_t none;

	/* A test that crashes takes its service with it. */
	prctl(PR_SET_PDEATHSIG, SIGTERM);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	if (o && o->nofile)
		setrlimit(RLIMIT_NOFILE, &(struct rlimit){ o->nofile, o->nofile });
	if (o && o->quiet) {
		snprintf(log, sizeof(log), "%s/log", s->directory);
		dup2(open(log, O_WRONLY | O_CREAT | O_APPEND, 0600), STDERR_FILENO);
	}
	execvpe(c->argv[0], (char *const *)(const void *)c->argv, environment);
	complain(c->argv[0], strerror(errno));
	_exit(127);
}

/* Waits for a change in the directory or the service's end. 0, or -1 when it ended or time is up.
 */
static int wait_change(struct service *s, int watch, int64_t deadline)
{
	struct pollfd fds[2] = { { watch, POLLIN, 0 }, { s->pidfd, POLLIN, 0 } };
	char events[4096];
	int64_t left = deadline - now_ms();

	if (left <= 0 || (poll(fds, 2, (int)left) < 0 && errno != EINTR))
		return complain("start", "no socket in time");
	if (fds[1].revents)
		return complain("start", "it ended at once");
	if (fds[0].revents && read(watch, events, sizeof(events)) < 0)
		return complain("inotify", strerror(errno));
	return 0;
}

static int wait_socket(struct service *s, int watch)
{
	int64_t deadline = now_ms() + place_patience_ms(START_MS);
	struct stat st;

	while (stat(s->socket, &st) < 0)
		if (wait_change(s, watch, deadline) < 0)
			return -1;
	return 0;
}

static int service_spawn(struct service *s, const struct service_options *o)
{
	struct command c;

	command_make(&c, s, o);
	fflush(NULL);
	s->pid = fork();
	if (s->pid < 0)
		return complain("fork", strerror(errno));
	if (s->pid == 0)
		child_exec(s, o, &c);
	s->pidfd = (int)syscall(SYS_pidfd_open, s->pid, 0);
	return s->pidfd < 0 ? complain("pidfd_open", strerror(errno)) : 0;
}

static long metric(const struct redd_metrics *m, const char *name)
{
	for (size_t i = 0; i < m->n_metrics; i++)
		if (!strcmp(m->metrics[i].name, name))
			return (long)m->metrics[i].value;
	return -1;
}

static int ask_broker(struct redd *r, struct census *ret)
{
	struct redd_metrics *m;

	if (redd_stats(r, &m) < 0)
		return complain("stats", redd_last_error(r)->message);
	ret->ports = (int)metric(m, "redd_ports");
	ret->clients = (int)metric(m, "redd_clients") - 1;
	ret->log_bytes = metric(m, "redd_log_bytes") - metric(m, "redd_log_free_bytes");
	redd_metrics_free(m);
	return 0;
}

/* A census while one client is connected, less that client. Each round trip is a turn of the
 * broker's loop, in which it also sees that earlier clients have gone. */
static int census_with_client(const struct service *s, struct redd *r, struct census *ret)
{
	if (redd_ping(r) < 0 || redd_ping(r) < 0)
		return complain("ping", redd_last_error(r)->message);
	if (census_take(s->pid, ret) < 0)
		return complain("census", "it has gone");
	if (ret->broker_fds != -1)
		ret->broker_fds--;
	return ask_broker(r, ret);
}

/* A spawn that fails in its child: whatever the answer is, forker and keeper have come up when it
 * is there, with the descriptors that they hold for good. */
static void service_warm(struct redd *r)
{
	const char *const argv[] = { "/nonexistent", NULL };
	const struct redd_spawn_options o = { .size = sizeof(o), .argv = argv };
	struct redd_port *port = NULL;

	if (r && redd_spawn(r, &o, &port) == 0)
		redd_port_free(port);
}

/* Taken until two agree, the second one of a keeper at rest: then what comes up behind the first
 * answer is there, and what the spawn left is gone. */
static int service_first_census(struct service *s)
{
	int64_t deadline = now_ms() + place_patience_ms(START_MS);
	struct redd *r = service_connect(s);
	struct census before = { 0 };
	char text[256] = "no answer";
	int result = r ? 0 : -1;

	service_warm(r);
	while (!result && now_ms() < deadline) {
		result = census_with_client(s, r, &s->start);
		if (!result && s->start.is_settled && s->start.broker && s->start.forker &&
		    !s->start.processes && !s->start.zombies && before.broker == s->start.broker &&
		    !*census_compare(&before, &s->start, text, sizeof(text)))
			break;
		before = s->start;
	}
	redd_free(r);
	return *text ? complain("start: does not come to rest", text) : result;
}

int service_start(struct service *s, const struct service_options *options)
{
	int watch, result = -1;

	*s = (struct service){ .pid = -1, .pidfd = -1 };
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	if (place_make_dir(s->directory) < 0)
		return -1;
	snprintf(s->socket, sizeof(s->socket), "%.*s/redd.sock", PATH_MAX - 16, s->directory);
	watch = inotify_init1(IN_CLOEXEC);
	if (watch >= 0 && inotify_add_watch(watch, s->directory, IN_CREATE | IN_MOVED_TO) >= 0 &&
	    service_spawn(s, options) == 0 && wait_socket(s, watch) == 0)
		result = service_first_census(s);
	if (watch >= 0)
		close(watch);
	if (result)
		service_kill(s);
	return result;
}

struct redd *service_connect(const struct service *s)
{
	struct redd_connect_options o = { .size = sizeof(o),
					  .socket = s->socket,
					  .no_start = true };
	struct redd *r = redd_new();

	o.connect_timeout_ms = (uint32_t)place_patience_ms(START_MS);
	if (r && redd_connect(r, &o) == 0)
		return r;
	complain("connect", r ? redd_last_error(r)->message : "no memory");
	redd_free(r);
	return NULL;
}

static int forget_when_closed(struct redd *r, uint64_t id)
{
	struct redd_waited waited;
	struct redd_port *port;
	int e = redd_port_by_id(r, id, &port);

	if (e == 0)
		e = redd_wait(port, REDD_UNTIL_CLOSED, -1, &waited);
	return e == 0 ? redd_forget(port) : e;
}

int service_forget_all(const struct service *s)
{
	struct redd *r = service_connect(s);
	struct redd_ports *ports = NULL;
	int e = r ? redd_list(r, NULL, &ports) : -1;

	for (size_t i = 0; e == 0 && i < ports->n_ports; i++)
		e = forget_when_closed(r, ports->ports[i].port);
	if (e < 0 && r)
		complain("forget", redd_last_error(r)->message);
	redd_ports_free(ports);
	redd_free(r);
	return e < 0 ? -1 : 0;
}

/* --- settle ---------------------------------------------------------------------------------- */

int service_settle_as(const struct service *s, const struct census *before)
{
	int64_t deadline = now_ms() + place_patience_ms(SETTLE_MS);
	struct redd *r = NULL;
	struct census now;
	char text[256] = "no client could connect";

	/* Who closed a connection may be told once more that it has as many as it may. */
	while (!r && now_ms() < deadline)
		r = service_connect(s);
	while (r && now_ms() < deadline) {
		if (census_with_client(s, r, &now) < 0 ||
		    !*census_compare(before, &now, text, sizeof(text)))
			break;
	}
	redd_free(r);
	if (!*text)
		return 0;
	census_print(s->pid);
	return complain("not as before", text);
}

int service_settle(const struct service *s)
{
	return service_settle_as(s, &s->start);
}

/* --- stop ------------------------------------------------------------------------------------ */

/* Prints what valgrind or a sanitizer had to say. Returns 1 when there is something. */
static int findings(const struct service *s)
{
	char command[PATH_MAX + 256];

	snprintf(
		command, sizeof(command),
		"cd '%s' && ! { cat " VALGRIND_LOG "* 2>/dev/null | grep -v ^-- >&2; } && "
		"! grep -A40 -E 'ERROR: (Address|Leak)Sanitizer|: runtime error: ' log 2>/dev/null "
		">&2",
		s->directory);
	return system(command) ? 1 : 0;
}

static int exit_check(const struct service *s, int status)
{
	struct pollfd fd = { s->pidfd, POLLIN, 0 };
	siginfo_t info = { 0 };

	if (poll(&fd, 1, place_patience_ms(STOP_MS)) != 1) {
		complain("stop", "it does not end");
		return 1;
	}
	if (waitid(P_PIDFD, (id_t)s->pidfd, &info, WEXITED) < 0 || info.si_code != CLD_EXITED ||
	    info.si_status != status) {
		fprintf(stderr, "service: it ended with %s %d instead of %d\n",
			info.si_code == CLD_EXITED ? "code" : "signal", info.si_status, status);
		return 1;
	}
	return 0;
}

/* All processes below the service, by pid and start time. */
static void descendants_note(struct family *f, pid_t parent)
{
	pid_t pids[FAMILY_MAX];
	int n = census_children(parent, pids, FAMILY_MAX);

	for (int i = 0; i < n && i < FAMILY_MAX && f->n < FAMILY_MAX; i++) {
		f->pids[f->n] = pids[i];
		f->starts[f->n++] = census_start(pids[i]);
		descendants_note(f, pids[i]);
	}
}

static int leftover_processes(const struct family *f)
{
	int left = 0;

	for (int i = 0; i < f->n; i++) {
		if (!f->starts[i] || census_start(f->pids[i]) != f->starts[i])
			continue;
		fprintf(stderr, "service: left behind: process %d\n", (int)f->pids[i]);
		left++;
	}
	return left;
}

static int leftover_file(const char *path, const char *suffix)
{
	char name[PATH_MAX + 8];

	snprintf(name, sizeof(name), "%s%s", path, suffix);
	if (access(name, F_OK) < 0)
		return 0;
	complain("left behind", name);
	return 1;
}

static void service_close(struct service *s)
{
	if (s->pidfd >= 0)
		close(s->pidfd);
	s->pidfd = -1;
	s->pid = -1;
	if (s->directory[0])
		place_remove_dir(s->directory);
}

static int service_end(struct service *s, int signal, int status)
{
	struct family family = { 0 };
	int wrong;

	descendants_note(&family, s->pid);
	if (signal)
		kill(s->pid, signal);
	wrong = exit_check(s, status);
	if (wrong) {
		service_kill(s);
		return wrong;
	}
	wrong += leftover_processes(&family) + leftover_file(s->socket, "") +
		 leftover_file(s->socket, ".lock") + findings(s);
	service_close(s);
	return wrong;
}

int service_ended(struct service *s)
{
	return service_end(s, 0, 0);
}

int service_failed(struct service *s)
{
	return service_end(s, 0, 1);
}

int service_stop(struct service *s)
{
	return service_end(s, SIGTERM, 0);
}

int service_finish(struct service *s)
{
	int unsettled = service_settle(s) != 0;

	return unsettled + service_stop(s);
}

void service_kill(struct service *s)
{
	pid_t pids[1024];
	int n = s->pid > 0 ? census_children(s->pid, pids, 1024) : 0;

	if (s->pid > 0)
		kill(s->pid, SIGKILL);
	for (int i = 0; i < n && i < 1024; i++)
		kill(pids[i], SIGKILL);
	if (s->pid > 0)
		waitpid(s->pid, NULL, 0);
	while (waitpid(-1, NULL, WNOHANG) > 0)
		;
	service_close(s);
}
