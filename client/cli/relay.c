/* The relay: one poll loop over the connection, a signalfd, stdin, stdout and stderr.
 *
 * Good path: output goes straight from the library's buffer into our descriptors; what they do not
 * take waits in an outlet, bounded by the subscription's window, of which a part is given back only
 * as bytes are written. So a stopped reader of ours stops the program as a pipe would, and nothing
 * else here: signals go out and the exit comes in meanwhile. Stdin is read as far as the port's
 * input window allows. When every subscription has closed and all is written, we leave.
 *
 * Failures: a lost connection is said and ends us with 125. When an output of ours has lost its
 * reader, the program would have got SIGPIPE at its next write; so, at its next write, its group
 * gets SIGPIPE from us, and one that goes on writing gets SIGTERM a second later, and SIGKILL five
 * seconds after that.
 */
#include "client/cli/relay.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <time.h>
#include <unistd.h>

#include "client/cli/say.h"
#include "client/cli/tty.h"

#define TIMED_OUT      124
#define NOT_EXECUTABLE 126
#define NOT_FOUND      127

static int64_t now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* --- output ---------------------------------------------------------------------------------- */

/* What SIGPIPE does to a program, done at the next write after the reader has gone. */
static void tear(struct relay *l)
{
	static const struct {
		int signal;
		int64_t patience_ms; /* before the next */
	} steps[] = { { SIGPIPE, 1000 }, { SIGTERM, 5000 }, { SIGKILL, 1000 } };
	int step = l->torn_signals < 3 ? l->torn_signals : 2;

	if (l->torn_signals && now_ms() < l->torn_next_ms)
		return;
	if (l->is_file)
		redd_close_whole_start(l->port, false, NULL);
	else
		redd_signal_start(l->port, steps[step].signal, REDD_GROUP, NULL);
	l->torn_signals++;
	l->torn_next_ms = now_ms() + steps[step].patience_ms;
}

/* A descriptor of ours broke: nothing is to be said when it only lost its reader. */
static void look_for_break(struct relay *l, struct outlet *o, bool was_whole)
{
	if (!o->error)
		return;
	if (was_whole && o->error != -EPIPE && o->error != -ECONNRESET) {
		say("%s: %s; see where it leads", o->name, strerror(-o->error));
		l->trouble = true;
	}
	if (was_whole || o->torn)
		tear(l);
	o->torn = false;
}

static void on_output(struct redd_subscription *s, const struct redd_output *output, void *user)
{
	struct outlet *o = user;
	struct relay *l = o->relay;
	bool whole = !o->error;

	if (outlet_take(o, output->data, output->size) < 0) {
		say("no memory for output that waits");
		l->trouble = true;
		o->error = -ENOMEM;
	}
	look_for_break(l, o, whole);
	outlet_pay(o, s);
}

static void on_gap(struct redd_subscription *s, const struct redd_gap *gap, void *user)
{
	struct outlet *o = user;

	(void)s;
	o->credit += 64;
	say_gap(o->name, gap);
}

static void on_end(struct redd_subscription *s, const struct redd_stream_end *end, void *user)
{
	struct relay *l = ((struct outlet *)user)->relay;

	(void)s;
	if (end->result < 0) {
		say_failure(l->r, NULL);
		l->trouble = true;
	}
	if (end->cause == REDD_END_ERROR)
		say("stream %u: %s; the rest of it is lost", end->stream, strerror(end->sys_errno));
}

static void on_exited(struct redd_subscription *s, const struct redd_exit *exit, void *user)
{
	struct relay *l = ((struct outlet *)user)->relay;

	(void)s;
	l->has_exit = true;
	l->exit = *exit;
	/* What is typed from now on is for whoever comes after. */
	inlet_stop(&l->in);
}

static void on_closed(struct redd_subscription *s, const struct redd_closed *closed, void *user)
{
	struct outlet *o = user;
	struct relay *l = o->relay;

	(void)s;
	o->state = OUTLET_CLOSED;
	if (closed->exit.state != REDD_EXIT_UNKNOWN || !l->has_exit)
		l->exit = closed->exit;
	l->has_exit = true;
	l->lost |= closed->cause == REDD_CLOSED_LOST;
	if (closed->cause == REDD_CLOSED_LOST && redd_fd(l->r) >= 0 && !l->trouble) {
		say("%s could not be resumed when the connection was back", o->name);
		l->trouble = true;
	}
	if (closed->cause == REDD_CLOSED_REFUSED && !l->refused) {
		say_failure(l->r, o->name);
		l->trouble = true;
	}
	if (!l->refused && closed->cause == REDD_REVOKED) {
		say("%s: the right to read it was taken back", o->name);
		l->trouble = true;
	}
	if (!l->refused && (closed->cause == REDD_TOO_SLOW || closed->cause == REDD_FORGOTTEN)) {
		say("the rest of %s is lost: the broker gave it up", o->name);
		l->trouble = true;
	}
	if (closed->result == -EBADMSG && !l->trouble) {
		say_failure(l->r, NULL);
		l->trouble = true;
	}
}

void relay_outlet(struct relay *l, int i, const uint32_t *stream,
		  struct redd_subscribe_options *ret)
{
	static const char *const names[RELAY_OUTLETS] = { "stdout", "stderr" };

	outlet_init(&l->out[i], l, STDOUT_FILENO + i, names[i]);
	*ret = (struct redd_subscribe_options){
		.handler = { .user = &l->out[i],
			     .on_output = on_output,
			     .on_gap = on_gap,
			     .on_end = on_end,
			     .on_exited = on_exited,
			     .on_closed = on_closed },
		.streams = stream,
		.n_streams = 1,
		.credit_mode = REDD_CREDIT_MANUAL,
		.window = OUTLET_WINDOW,
		.framing = { .cut = REDD_RAW }, /* bytes pass as they are, whatever the port speaks
						 */
	};
}

/* --- signals --------------------------------------------------------------------------------- */

static const int watched[] = { SIGINT,	SIGTERM, SIGHUP,  SIGQUIT, SIGUSR1,
			       SIGUSR2, SIGCONT, SIGTSTP, SIGWINCH };

void relay_block_signals(sigset_t *ret)
{
	struct sigaction action;

	sigemptyset(ret);
	for (size_t i = 0; i < sizeof(watched) / sizeof(watched[0]); i++) {
		if (sigaction(watched[i], NULL, &action) == 0 && action.sa_handler != SIG_IGN)
			sigaddset(ret, watched[i]);
	}
	sigprocmask(SIG_BLOCK, ret, NULL);
}

/* As the shell's ^Z: the program first, then we. Its group is in a session of its own, where the
 * kernel ignores SIGTSTP, so it gets the signal that cannot be ignored. */
static void stop_both(struct relay *l)
{
	bool raw = l->terminal;

	redd_signal(l->port, SIGSTOP, REDD_GROUP, NULL);
	tty_restore();
	raise(SIGSTOP);
	if (raw)
		tty_raw(STDIN_FILENO);
}

static void resize(struct relay *l)
{
	struct redd_terminal size;

	if (l->terminal && tty_size(STDIN_FILENO, &size))
		redd_resize_start(l->port, &size, NULL);
}

/* For the program, once it is there. Who says it twice does not want to wait for that: then we
 * leave, and the program goes as its orphan policy says. */
static void keep_early(struct relay *l, int signal)
{
	if (sigismember(&l->early, signal) == 1 && signal != SIGCONT)
		l->left_by = signal;
	sigaddset(&l->early, signal);
}

static void on_signal(struct relay *l, int signal)
{
	switch (signal) {
	case SIGWINCH:
		resize(l);
		return;
	case SIGTSTP:
		if (l->forwards)
			stop_both(l);
		else
			raise(SIGSTOP);
		return;
	case SIGCONT:
		resize(l);
		break;
	default:
		break;
	}
	if (l->is_starting) {
		keep_early(l, signal);
		return;
	}
	if (l->forwards && redd_signal_start(l->port, signal, REDD_GROUP, NULL) == 0)
		return;
	if (signal != SIGCONT)
		l->left_by = signal;
}

/* What came while there was no program yet, and would have been refused. */
static void pass_early_signals(struct relay *l)
{
	for (size_t i = 0; i < sizeof(watched) / sizeof(watched[0]); i++)
		if (sigismember(&l->early, watched[i]) == 1)
			redd_signal_start(l->port, watched[i], REDD_GROUP, NULL);
	sigemptyset(&l->early);
}

void relay_on_spawned(struct redd *r, int result, const struct redd_reply *reply, void *user)
{
	struct relay *l = user;
	const struct redd_error *e = redd_last_error(r);

	(void)reply;
	l->is_starting = false;
	if (result == 0) {
		pass_early_signals(l);
		return;
	}
	tty_restore();
	say_failure(r, NULL);
	l->trouble = true;
	l->refused = e->from_broker && e->stage == REDD_STAGE_EXEC ? -e->sys_errno : -EIO;
}

static void take_signals(struct relay *l)
{
	struct signalfd_siginfo info;

	while (read(l->signals, &info, sizeof(info)) == sizeof(info))
		on_signal(l, (int)info.ssi_signo);
}

/* --- the loop -------------------------------------------------------------------------------- */

enum { AT_BROKER, AT_SIGNALS, AT_STDIN, AT_OUTLET, AT_ALL = AT_OUTLET + RELAY_OUTLETS };

static void prepare(struct relay *l, struct pollfd fds[AT_ALL])
{
	fds[AT_BROKER] = (struct pollfd){ redd_fd(l->r), redd_events(l->r), 0 };
	fds[AT_SIGNALS] = (struct pollfd){ l->signals, POLLIN, 0 };
	fds[AT_STDIN] = (struct pollfd){ inlet_wants(&l->in) ? l->in.from.fd : -1, POLLIN, 0 };
	for (int i = 0; i < RELAY_OUTLETS; i++) {
		bool waits = outlet_waiting(&l->out[i]) > 0;

		fds[AT_OUTLET + i] = (struct pollfd){ waits ? l->out[i].to.fd : -1, POLLOUT, 0 };
	}
}

static void write_outlets(struct relay *l, const struct pollfd *fds)
{
	for (int i = 0; i < RELAY_OUTLETS; i++) {
		struct outlet *o = &l->out[i];
		bool whole = !o->error;

		if (!fds[AT_OUTLET + i].revents)
			continue;
		outlet_write(o);
		look_for_break(l, o, whole);
		outlet_pay(o, l->subscriptions[i]);
	}
}

static int timeout(const struct relay *l)
{
	int a = redd_timeout(l->r), b = inlet_timeout(&l->in);

	return a < 0 || (b >= 0 && b < a) ? b : a;
}

/* One turn. 0, or the connection's negative errno. */
static int turn(struct relay *l)
{
	struct pollfd fds[AT_ALL];
	int e = 0;

	inlet_resume(&l->in);
	prepare(l, fds);
	if (poll(fds, AT_ALL, timeout(l)) < 0 && errno != EINTR)
		return say("poll: %s; try again", strerror(errno));
	write_outlets(l, fds);
	if (fds[AT_SIGNALS].revents)
		take_signals(l);
	if (fds[AT_STDIN].revents)
		e = inlet_read(&l->in);
	if (e == 0 && (fds[AT_BROKER].revents || redd_timeout(l->r) == 0))
		e = redd_dispatch(l->r);
	if ((l->in.in_doubt || (l->in.failed && !l->in.keep_open)) && redd_fd(l->r) >= 0)
		return CLI_TROUBLE; /* it was said; the port goes as its orphan policy says */
	/* All was told before the connection went: what waits is still written. */
	return e == -ENOTCONN && !l->lost && !l->refused ? 0 : e;
}

static bool is_over(const struct relay *l)
{
	if (l->refused || l->left_by)
		return true;
	for (int i = 0; i < RELAY_OUTLETS; i++) {
		const struct outlet *o = &l->out[i];

		if (o->state == OUTLET_OPEN || outlet_waiting(o) > 0)
			return false;
	}
	return true;
}

/* After a loss: what had come is still written, as far as it can be without waiting. */
static void write_rest(struct relay *l)
{
	for (int i = 0; i < RELAY_OUTLETS; i++) {
		if (outlet_waiting(&l->out[i]))
			outlet_write(&l->out[i]);
	}
}

static int status_of(struct relay *l)
{
	if (l->refused)
		return l->refused == -EIO				 ? CLI_TROUBLE
		       : l->refused == -ENOENT || l->refused == -ENOTDIR ? NOT_FOUND
									 : NOT_EXECUTABLE;
	if (l->left_by)
		return 128 + l->left_by;
	if (l->trouble || l->in.failed)
		return CLI_TROUBLE;
	if (l->exit.timed_out)
		return TIMED_OUT;
	if (l->exit.state == REDD_EXIT_UNKNOWN)
		return say("nobody knows how the program ended: %s",
			   l->exit.reason ? l->exit.reason : "it was not told");
	return redd_exit_status(&l->exit);
}

int relay_run(struct relay *l)
{
	int e = 0;

	while (e == 0 && !is_over(l))
		e = turn(l);
	tty_restore();
	if (e == 0 || l->refused)
		return status_of(l);
	write_rest(l);
	return e == CLI_TROUBLE ? e : say_failure(l->r, NULL);
}

int relay_init(struct relay *l, struct redd *r, const sigset_t *signals)
{
	*l = (struct relay){ .r = r, .signals = -1, .in.state = INLET_IDLE };
	sigemptyset(&l->early);
	l->signals = signalfd(-1, signals, SFD_CLOEXEC | SFD_NONBLOCK);
	return l->signals < 0 ? say("signalfd: %s", strerror(errno)) : 0;
}

void relay_deinit(struct relay *l)
{
	if (l->signals >= 0)
		close(l->signals);
	for (int i = 0; i < RELAY_OUTLETS; i++)
		outlet_deinit(&l->out[i]);
}
