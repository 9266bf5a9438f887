/* Waits and Signals by labels, at so many ports that one turn of the loop is not enough to look at
 * all of them. */
#include "broker/walk.h"

#include <criterion/criterion.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "broker/pending.h"
#include "broker/req.h"
#include "broker/selection.h"
#include "proto/base/fd.h"
#include "proto/frame.h"
#include "tests/lib/alike.h"
#include "tests/lib/core.h"
#include "tests/lib/places.h"

#define PORTS 1500u

static struct core *core;
static struct conn *conn;
static struct port *ports[PORTS];
static int fd;

static void set_up(void)
{
	core = core_open();
	conn = core_connect(core, &fd);
	for (unsigned i = 0; i < PORTS; i++) {
		ports[i] = core_port(core, conn, &(struct core_port){ 0 }, NULL);
		ports[i]->options.labels = alike_labels("a");
	}
	core_ignore_keeper(core);
}

static void tear_down(void)
{
	close(fd);
	core_close(core);
}

TestSuite(walk, .init = set_up, .fini = tear_down, .timeout = 60);

static struct pending *wait_for(uint64_t id, const char *last, int timeout_ms)
{
	Redd__V1__Request request = REDD__V1__REQUEST__INIT;
	Redd__V1__Wait m = REDD__V1__WAIT__INIT;
	struct alike_selector selector;

	alike_selector(&selector, last);
	m.n_labels = LABELS_MAX;
	m.labels = selector.pointers;
	m.has_timeout_ms = timeout_ms >= 0;
	m.timeout_ms = (uint32_t)timeout_ms;
	request.id = id;
	request.wait = &m;
	cr_assert_eq(req_wait(conn, &request), 0);
	return pending_find(conn, id);
}

/* A signal that is queued as often as it is sent. */
static struct pending *signal_to(uint64_t id, const char *last)
{
	Redd__V1__Request request = REDD__V1__REQUEST__INIT;
	Redd__V1__Signal m = REDD__V1__SIGNAL__INIT;
	struct alike_selector selector;

	alike_selector(&selector, last);
	m.n_labels = LABELS_MAX;
	m.labels = selector.pointers;
	m.has_signal = true;
	m.signal = (uint32_t)SIGRTMAX;
	request.id = id;
	request.signal = &m;
	cr_assert_eq(req_signal(conn, &request), 0);
	return pending_find(conn, id);
}

/* The next message to the client; the caller's. */
static Redd__V1__Message *hear(void)
{
	uint8_t bytes[4096];
	size_t prefix, size;
	Redd__V1__Message *m;
	ssize_t n = -1;

	core_until(core, (n = recv(fd, bytes, sizeof(bytes), MSG_DONTWAIT | MSG_PEEK)) > 0);
	cr_assert_eq(frame_parse(bytes, (size_t)n, sizeof(bytes), &prefix, &size), 0);
	m = redd__v1__message__unpack(NULL, size, bytes + prefix);
	cr_assert_not_null(m);
	cr_assert_eq(recv(fd, bytes, prefix + size, MSG_DONTWAIT), (ssize_t)(prefix + size));
	return m;
}

static void expect_error(uint64_t id, Redd__V1__Code code)
{
	Redd__V1__Message *m = hear();

	cr_expect_eq(m->reply_to, id);
	cr_expect(m->body_case == REDD__V1__MESSAGE__BODY_ERROR && m->error->code == code, "%d",
		  m->body_case);
	redd__v1__message__free_unpacked(m, NULL);
}

static void expect_port(uint64_t id, const struct port *p)
{
	Redd__V1__Message *m = hear();

	cr_expect_eq(m->reply_to, id);
	cr_expect(m->body_case == REDD__V1__MESSAGE__BODY_WAITED && m->waited->port == p->id, "%d",
		  m->body_case);
	redd__v1__message__free_unpacked(m, NULL);
}

static void expect_count(uint64_t id, unsigned count)
{
	Redd__V1__Message *m = hear();

	cr_expect_eq(m->reply_to, id);
	cr_expect(m->body_case == REDD__V1__MESSAGE__BODY_SIGNALLED);
	cr_expect_eq(m->signalled->count, count, "%u", m->signalled->count);
	redd__v1__message__free_unpacked(m, NULL);
}

/* --- Wait ------------------------------------------------------------------------------------ */

Test(walk, a_wait_for_what_is_nowhere_says_so)
{
	cr_expect_not_null(wait_for(7, "b", -1), "it takes many turns");
	expect_error(7, REDD__V1__CODE__NOT_FOUND);
	cr_expect_eq(core->b.waits.n_selected, 0);
}

Test(walk, a_wait_finds_the_last_one_of_many)
{
	core_port_exit(core, ports[PORTS - 1], 0);
	wait_for(7, "a", -1);
	expect_port(7, ports[PORTS - 1]);
	cr_expect_eq(core->b.waits.n_selected, 0);
}

Test(walk, one_that_only_asks_looks_at_all_of_them)
{
	wait_for(7, "a", 0);
	expect_error(7, REDD__V1__CODE__DEADLINE_EXCEEDED);
	core_port_exit(core, ports[PORTS - 1], 0);
	wait_for(8, "a", 0);
	expect_port(8, ports[PORTS - 1]);
}

Test(walk, a_wait_sees_what_happens_while_it_looks_and_afterwards)
{
	cr_expect_not_null(wait_for(7, "a", -1));
	core_port_exit(core, ports[0], 0); /* which it has looked at already */
	expect_port(7, ports[0]);
	port_forget(ports[0]);
	cr_expect_not_null(wait_for(8, "a", -1));
	core_until(core, !pending_find(conn, 8)->selection);
	core_port_exit(core, ports[1], 0);
	expect_port(8, ports[1]);
}

Test(walk, a_wait_may_be_given_up_while_it_looks)
{
	cr_expect_not_null(wait_for(7, "a", -1));
	pending_free(pending_find(conn, 7));
	cr_expect_not_null(wait_for(7, "a", 1));
	core_until(core, !pending_find(conn, 7));
	expect_error(7, REDD__V1__CODE__DEADLINE_EXCEEDED);
	cr_expect_not_null(wait_for(7, "a", -1));
	conn_close(conn);
	core_turns(core, 3);
	cr_expect_eq(core->b.waits.n_selected, 0);
}

/* --- Signal ---------------------------------------------------------------------------------- */

/* All of them are we. Where there are no pidfds (valgrind) nobody can be signalled: 0 of them. */
static unsigned make_alive(void)
{
	int pidfd = (int)syscall(SYS_pidfd_open, getpid(), 0);
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGRTMAX);
	sigprocmask(SIG_BLOCK, &set, NULL);
	for (unsigned i = 0; pidfd >= 0 && i < PORTS; i++)
		cr_assert_eq(fd_dup(pidfd, &ports[i]->process.pidfd), 0);
	fd_close(pidfd);
	return pidfd >= 0 ? PORTS : 0;
}

static unsigned signals_that_came(void)
{
	const struct timespec now = { 0 };
	sigset_t set;
	unsigned n = 0;

	sigemptyset(&set);
	sigaddset(&set, SIGRTMAX);
	while (sigtimedwait(&set, NULL, &now) == SIGRTMAX)
		n++;
	return n;
}

Test(walk, P10_a_signal_reaches_all_that_were_there_when_it_was_asked_for)
{
	unsigned n = make_alive();
	struct port *late;

	cr_expect_not_null(signal_to(7, "a"));
	late = core_port(core, conn, &(struct core_port){ 0 }, NULL);
	late->options.labels = alike_labels("a");
	expect_count(7, n);
	cr_expect_eq(signals_that_came(), n);
	signal_to(8, "b");
	expect_count(8, 0);
	cr_expect(list_is_empty(&core->b.selections));
}

Test(walk, P10_a_signal_whose_client_goes_is_for_all_or_for_none)
{
	const struct list *alone = &core->b.selections;

	unsigned n = make_alive();

	cr_expect_not_null(signal_to(7, "a"));
	core_until(core, !list_is_empty(alone)); /* it has found all of its ports */
	cr_expect_not_null(signal_to(8, "a"));
	conn_close(conn);
	cr_expect_not(list_is_empty(alone));
	core_until(core, list_is_empty(alone));
	core_turns(core, 3);
	cr_expect_eq(signals_that_came(), n);
}

Test(walk, the_service_may_end_meanwhile)
{
	cr_expect_not_null(signal_to(7, "a"));
	core_until(core, !list_is_empty(&core->b.selections));
	cr_expect_not_null(signal_to(8, "a"));
	cr_expect_not_null(wait_for(9, "b", -1));
}

Test(walk, P10_signals_of_one_connection_are_sent_one_after_the_other)
{
	const struct list *alone = &core->b.selections;
	unsigned n, alive = make_alive();

	for (uint64_t id = 7; id < 12; id++)
		cr_expect_not_null(signal_to(id, "a"));
	while (conn->n_pendings) {
		core_turn(core);
		n = 0;
		for (const struct list *l = alone->next; l != alone; l = l->next)
			n++;
		cr_assert_leq(n, 1, "%u are sent at once", n);
	}
	for (uint64_t id = 7; id < 12; id++)
		expect_count(id, alive);
}

/* --- cost ------------------------------------------------------------------------------------ */

/* What one costs goes into many turns, and the frame that asks for it. */
static void expect_slices(struct pending *ask(uint64_t id, const char *last), const char *last)
{
	struct core_cost cost = { 0 };

	core_cost_begin(&cost);
	ask(1, last);
	core_cost_end(&cost);
	while (conn->n_pendings)
		core_cost_turn(&cost, core);
	cr_expect_lt(cost.worst, cost.all / 3, "a turn of %.1f ms, of %.1f in all", cost.worst,
		     cost.all);
}

static struct pending *wait_for_ever(uint64_t id, const char *last)
{
	return wait_for(id, last, -1);
}

Test(walk, P7_none_takes_a_long_turn)
{
	make_alive();
	expect_slices(wait_for_ever, "b");
	expect_slices(signal_to, "a");
}

Test(walk, P15_there_are_so_many_of_a_connection)
{
	for (uint64_t id = 1; id <= CONN_SELECTED_WAITS; id++)
		cr_assert_not_null(signal_to(id, "a"));
	cr_expect_null(signal_to(1000, "a"));
	expect_error(1000, REDD__V1__CODE__RESOURCE_EXHAUSTED);
}
