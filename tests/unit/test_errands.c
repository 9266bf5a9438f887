/* Errands that wait for their turn: how many are out, whose is next, and that what is due goes
 * whatever clients ask for. The test is keeper and forker: nobody comes back unless it says so. */
#include "broker/errand.h"

#include <criterion/criterion.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "proto/base/fd.h"
#include "tests/lib/core.h"
#include "tests/lib/countdown.h"

#define CONNS 6

static struct core *core;
static struct conn *conns[CONNS];
static struct port *port;
static int fds[CONNS];
static unsigned n_answered, n_without;
static const char *reason;

static void set_up(void)
{
	core = core_open();
	for (int i = 0; i < CONNS; i++)
		conns[i] = core_connect(core, &fds[i]);
	port = core_port(core, conns[0], &(struct core_port){ 0 }, NULL);
}

static void tear_down(void)
{
	fd_close_many(fds, CONNS);
	core_close(core);
}

TestSuite(errands, .init = set_up, .fini = tear_down, .timeout = 60);

static void on_done(void *context, const struct opener_reply *reply)
{
	(void)context;
	n_answered++;
	n_without += !reply;
}

static int ask_for(struct conn *c)
{
	struct opener_request request;
	struct errand *errand;

	errand_tree_request(port, 0, &request);
	return errand_ask(port, c->account, &request, on_done, NULL, &errand, &reason);
}

static void flood(struct conn *c)
{
	for (unsigned i = 0; i < QUOTA_ERRANDS_CONN; i++)
		cr_assert_eq(ask_for(c), 0);
}

static unsigned out(enum errand_kind kind)
{
	return core->b.errand_turns.n_out[kind];
}

static unsigned out_of(struct conn *c)
{
	return quota_errand_share(c->account)->lines[ERRAND_ASKED].n_out;
}

/* Hears of the next opener that was handed over, with its socket if that is wanted; false: of none.
 */
static bool hear_socket(struct link_spawn_id *ret, int *ret_socket)
{
	struct core_message *m = calloc(1, sizeof(*m));
	bool heard;

	core_ignore_keeper(core);
	heard = core_hear(core->forker, m);
	*ret = m->spawn.id;
	if (heard && ret_socket) {
		*ret_socket = m->fds[1]; /* behind the birth socket */
		m->fds[1] = -1;
	}
	core_message_close(m);
	free(m);
	return heard;
}

static bool hear(struct link_spawn_id *ret)
{
	return hear_socket(ret, NULL);
}

/* The next that was handed over could not be started. */
static void one_comes_back(void)
{
	struct link_spawn_id id;

	core_until(core, hear(&id));
	core_say_failed(core, id, LINK_STAGE_EXEC, ENOENT);
	core_turns(core, 3);
}

Test(errands, P7_a_flood_is_refused_and_few_of_it_are_out)
{
	int before = fd_count();

	for (int i = 0; i < CONNS; i++) {
		flood(conns[i]);
		cr_expect_eq(ask_for(conns[i]), ERRAND_E_QUOTA);
		cr_expect_not_null(strstr(reason, "connection"));
	}
	core_turns(core, 20);
	cr_expect_eq(out(ERRAND_ASKED), ERRANDS_ASKED_OUT_PER_UID);
	cr_expect_eq(core->b.n_errands, CONNS * QUOTA_ERRANDS_CONN);
	for (int i = 0; i < CONNS; i++)
		cr_expect_leq(out_of(conns[i]), ERRANDS_ASKED_OUT_PER_CONN);
	cr_expect_leq(fd_count(), before + 6 * (int)ERRANDS_ASKED_OUT_PER_UID);
	cr_expect_eq(n_answered, 0);
}

Test(errands, P7_who_asks_for_one_does_not_wait_for_all_of_another_ones)
{
	flood(conns[0]);
	core_turns(core, 5);
	cr_assert_eq(out_of(conns[0]), ERRANDS_ASKED_OUT_PER_CONN);
	cr_assert_eq(ask_for(conns[1]), 0);
	core_turns(core, 3);
	cr_expect_eq(out_of(conns[1]), 1);
	one_comes_back();
	cr_expect_eq(n_answered, 1);
	cr_expect_eq(out_of(conns[0]), ERRANDS_ASKED_OUT_PER_CONN, "the next went");
	cr_expect_eq(ask_for(conns[0]), 0, "there is room for another");
}

Test(errands, P7_when_a_user_has_all_out_its_connections_take_turns)
{
	for (int i = 0; i < CONNS - 1; i++)
		flood(conns[i]);
	core_turns(core, 20);
	cr_assert_eq(out(ERRAND_ASKED), ERRANDS_ASKED_OUT_PER_UID);
	cr_assert_eq(ask_for(conns[CONNS - 1]), 0);
	core_turns(core, 3);
	cr_expect_eq(out_of(conns[CONNS - 1]), 0);
	for (int i = 0; i < CONNS && !out_of(conns[CONNS - 1]); i++)
		one_comes_back();
	cr_expect_eq(out_of(conns[CONNS - 1]), 1, "its turn did not come round");
	cr_expect_eq(out(ERRAND_ASKED), ERRANDS_ASKED_OUT_PER_UID);
}

Test(errands, P7_what_is_due_goes_whatever_clients_ask_for)
{
	for (int i = 0; i < CONNS; i++)
		flood(conns[i]);
	core_turns(core, 20);
	port_kill_tree(port);
	core_turns(core, 3);
	cr_expect_eq(out(ERRAND_DUE), 1);
	cr_expect_not_null(port->killer);
}

Test(errands, one_goes_also_when_its_port_has_gone)
{
	struct link_spawn_id id;

	flood(conns[0]);
	port_kill_tree(port);
	core_port_exit(core, port, 0);
	core_until(core, port->state == PORT_ENDED);
	port_forget(port);
	while (core->b.n_errands) {
		core_until(core, hear(&id));
		core_say_failed(core, id, LINK_STAGE_EXEC, ENOENT);
	}
	cr_expect_eq(n_without, QUOTA_ERRANDS_CONN);
	cr_expect_eq(quota_used(conns[0]->account, QUOTA_ERRANDS), 0);
}

Test(errands, one_that_cannot_go_is_told_so)
{
	cr_assert_eq(ask_for(conns[0]), 0);
	countdown_arm(COUNTDOWN_SOCKET, 1, EMFILE);
	core_turns(core, 3);
	cr_assert(countdown_off());
	cr_expect_eq(n_without, 1);
	cr_expect_eq(core->b.n_errands, 0);
	cr_expect_eq(out(ERRAND_ASKED), 0);
	countdown_arm(COUNTDOWN_MALLOC, 1, ENOMEM);
	cr_expect_eq(ask_for(conns[0]), -ENOMEM);
	cr_assert(countdown_off());
	cr_expect_eq(quota_used(conns[0]->account, QUOTA_ERRANDS), 0);
}

Test(errands, P10_a_kill_that_was_not_done_is_sent_again_but_not_for_ever)
{
	struct link_spawn_id id;
	unsigned n = 0;

	port_kill_tree(port);
	while (core->b.n_errands) {
		core_until(core, hear(&id));
		core_say_failed(core, id, LINK_STAGE_EXEC, ENOENT);
		n++;
		cr_expect_eq(port->killer != NULL, n < OPENER_TRIES_AWAITED, "after %u", n);
	}
	cr_expect_eq(n, OPENER_TRIES);
}

Test(errands, the_answer_of_the_second_try_is_the_one_that_counts)
{
	struct opener_reply reply = { .count = 1 };
	struct opener_request request;
	struct link_spawn_id id;
	struct errand *errand;
	int sock = -1;

	errand_tree_request(port, SIGKILL, &request);
	cr_assert_eq(errand_ask(port, conns[0]->account, &request, on_done, NULL, &errand, &reason),
		     0);
	core_until(core, hear(&id));
	core_say_failed(core, id, LINK_STAGE_EXEC, ENOENT);
	core_until(core, hear_socket(&id, &sock));
	core_say_started(core, id, 4711);
	cr_assert_eq(send(sock, &reply, sizeof(reply), MSG_NOSIGNAL), sizeof(reply));
	core_until(core, n_answered);
	cr_expect_eq(n_without, 0);
	core_say_exited(core, id, 0);
	core_turns(core, 3);
	cr_expect_eq(core->b.n_errands, 0);
	fd_close(sock);
}

/* Its handle is right meanwhile. */
Test(errands, who_waits_for_a_kill_may_lose_interest_between_two_tries)
{
	struct link_spawn_id id;

	port_kill_tree(port);
	core_until(core, hear(&id));
	core_say_failed(core, id, LINK_STAGE_EXEC, ENOENT);
	cr_assert_not_null(port->killer);
	port_forget(port);
	core_until(core, hear(&id));
	core_say_failed(core, id, LINK_STAGE_EXEC, ENOENT);
	cr_expect_eq(core->b.n_errands, 1);
}

Test(errands, P7_what_has_failed_is_in_nobodys_way)
{
	struct opener_request request;
	struct errand *errand;
	struct link_spawn_id id;

	errand_tree_request(port, SIGKILL, &request);
	for (unsigned i = 0; i < 2 * ERRANDS_AGAIN_OUT; i++) {
		cr_assert_eq(
			errand_ask(port, conns[0]->account, &request, NULL, NULL, &errand, &reason),
			0);
		core_until(core, hear(&id));
		core_say_failed(core, id, LINK_STAGE_EXEC, ENOENT);
	}
	core_until(core, out(ERRAND_AGAIN) == ERRANDS_AGAIN_OUT_PER_UID); /* which hang now */
	core_turns(core, 5);
	cr_expect_eq(out(ERRAND_AGAIN), ERRANDS_AGAIN_OUT_PER_UID);
	cr_expect_eq(out(ERRAND_ASKED), 0);
	cr_expect(errands_are_over(&core->b), "nor in the service's end's");
	port_kill_tree(port);
	core_turns(core, 3);
	cr_expect_eq(out(ERRAND_DUE), 1);
	cr_expect_not(errands_are_over(&core->b));
}

Test(errands, a_kill_that_a_client_asked_for_is_answered_once_and_counts_until_it_is_done)
{
	struct opener_request request;
	struct link_spawn_id id;
	struct errand *errand;
	unsigned n = 0;

	errand_tree_request(port, SIGKILL, &request);
	cr_assert_eq(errand_ask(port, conns[0]->account, &request, on_done, NULL, &errand, &reason),
		     0);
	while (core->b.n_errands) {
		cr_expect_eq(quota_used(conns[0]->account, QUOTA_ERRANDS), 1);
		core_until(core, hear(&id));
		core_say_failed(core, id, LINK_STAGE_EXEC, ENOENT);
		n++;
		cr_expect_eq(n_answered, n >= OPENER_TRIES_AWAITED);
	}
	cr_expect_eq(n, OPENER_TRIES);
	cr_expect_eq(quota_used(conns[0]->account, QUOTA_ERRANDS), 0);
}

Test(errands, P10_a_kill_that_was_done_is_not_sent_again)
{
	struct opener_reply reply = { .count = 1 };
	struct link_spawn_id id;
	int sock = -1;

	port_kill_tree(port);
	core_until(core, hear_socket(&id, &sock));
	core_say_started(core, id, 4711);
	cr_assert_eq(send(sock, &reply, sizeof(reply), MSG_NOSIGNAL), sizeof(reply));
	core_until(core, !port->killer);
	fd_close(sock);
	cr_expect_eq(core->b.n_errands, 1, "it has not ended");
	core_say_exited(core, id, 0);
	core_turns(core, 3);
	cr_expect_eq(core->b.n_errands, 0);
}

/* The broker goes while one waits for its second turn. */
Test(errands, one_that_is_to_go_again_may_be_given_up)
{
	struct link_spawn_id id;

	port_kill_tree(port);
	core_until(core, hear(&id));
	core_say_failed(core, id, LINK_STAGE_EXEC, ENOENT);
	cr_expect_eq(core->b.n_errands, 1);
	cr_expect_eq(out(ERRAND_DUE), 0);
}

/* Those that nobody asked for one by one: a time limit's, those by labels. */
Test(errands, P10_a_tree_gets_each_of_its_signals_but_none_twice_at_once)
{
	cr_expect_eq(port_signal_tree(port, NULL, SIGTERM), 0);
	cr_expect_eq(port_signal_tree(port, NULL, SIGTERM), 0);
	cr_expect_eq(core->b.n_errands, 1);
	cr_expect_eq(port_signal_tree(port, NULL, SIGKILL), 0);
	cr_expect_eq(core->b.n_errands, 2, "it was not swallowed");
	cr_expect_eq(port_signal_tree(port, NULL, SIGTERM), 0);
	cr_expect_eq(core->b.n_errands, 2, "who is killed needs no more");
}

Test(errands, a_tree_has_so_many_on_their_way)
{
	unsigned n = 0;

	while (port_signal_tree(port, NULL, n % 2 ? SIGUSR1 : SIGUSR2) == 0)
		cr_assert_leq(++n, PORT_ERRANDS_MAX);
	cr_expect_eq(n, PORT_ERRANDS_MAX);
}

/* --- many at once ---------------------------------------------------------------------------- */

#define MANY (OPENER_REQUESTS_MAX + 6)

static struct port *ports[MANY];
static struct opener_request requests[OPENER_REQUESTS_MAX]; /* that the last opener got */
static struct opener_reply replies[OPENER_REQUESTS_MAX];

static void make_many(void)
{
	for (unsigned i = 0; i < MANY; i++)
		ports[i] = core_port(core, conns[0], &(struct core_port){ 0 }, NULL);
}

static void kill_many(void)
{
	for (unsigned i = 0; i < MANY; i++)
		port_kill_tree(ports[i]);
}

static unsigned count_killers(void)
{
	unsigned n = 0;

	for (unsigned i = 0; i < MANY; i++)
		n += ports[i]->killer != NULL;
	return n;
}

/* What the next opener was asked; it is there, and waits for its answer at *ret_socket. */
static size_t hear_requests(struct link_spawn_id *ret, int *ret_socket)
{
	ssize_t n;

	core_until(core, hear_socket(ret, ret_socket));
	core_say_started(core, *ret, 4711);
	n = recv(*ret_socket, requests, sizeof(requests), MSG_DONTWAIT);
	cr_assert(n > 0 && n % (ssize_t)sizeof(*requests) == 0);
	return (size_t)n / sizeof(*requests);
}

Test(errands, P7_trees_that_wait_in_one_line_go_together)
{
	struct link_spawn_id id;
	char mark[64];
	size_t n;
	int sock;

	make_many();
	kill_many();
	n = hear_requests(&id, &sock);
	cr_expect_eq(n, OPENER_REQUESTS_MAX);
	for (size_t i = 0; i < n; i++) {
		broker_mark(&core->b, ports[i]->id, mark);
		cr_expect_str_eq(requests[i].mark, mark);
		cr_expect_eq(requests[i].signal, SIGKILL);
	}
	cr_assert_gt(send(sock, replies, n * sizeof(replies[0]), MSG_NOSIGNAL), 0);
	core_until(core, count_killers() == MANY - n);
	core_say_exited(core, id, 0);
	fd_close(sock);
	n = hear_requests(&id, &sock);
	cr_expect_eq(n, MANY - OPENER_REQUESTS_MAX);
	cr_expect_eq(out(ERRAND_DUE), 1);
	cr_assert_gt(send(sock, replies, n * sizeof(replies[0]), MSG_NOSIGNAL), 0);
	core_until(core, !count_killers());
	core_say_exited(core, id, 0);
	fd_close(sock);
	core_turns(core, 3);
	cr_expect_eq(core->b.n_errands, 0);
}

/* Whoever's fault it was. */
Test(errands, P10_what_failed_together_goes_alone)
{
	struct opener_reply reply = { .count = 1 };
	struct link_spawn_id id;
	unsigned n_alone = 0;
	int sock;

	make_many();
	kill_many();
	for (unsigned i = 0; i < 2; i++) {
		cr_expect_gt(hear_requests(&id, &sock), 1);
		core_say_exited(core, id, SIGKILL);
		fd_close(sock);
	}
	while (count_killers()) {
		cr_expect_eq(hear_requests(&id, &sock), 1);
		n_alone++;
		cr_assert_gt(send(sock, &reply, sizeof(reply), MSG_NOSIGNAL), 0);
		core_turns(core, 2);
		core_say_exited(core, id, 0);
		fd_close(sock);
		core_turns(core, 2);
	}
	cr_expect_eq(n_alone, MANY);
}

/* One opener has room for so many processes, of all its trees together. */
Test(errands, P10_a_tree_for_which_there_was_no_room_beside_others_goes_alone)
{
	struct link_spawn_id id;
	char mark[64];
	size_t n;
	int sock;

	make_many();
	for (unsigned i = 0; i < 3; i++)
		port_kill_tree(ports[i]);
	n = hear_requests(&id, &sock);
	cr_assert_eq(n, 3);
	replies[1].error = E2BIG;
	cr_assert_gt(send(sock, replies, n * sizeof(replies[0]), MSG_NOSIGNAL), 0);
	core_until(core, count_killers() == 1);
	core_say_exited(core, id, 0);
	fd_close(sock);
	cr_assert_eq(hear_requests(&id, &sock), 1);
	broker_mark(&core->b, ports[1]->id, mark);
	cr_expect_str_eq(requests[0].mark, mark);
	cr_assert_gt(send(sock, &replies[1], sizeof(replies[1]), MSG_NOSIGNAL), 0);
	core_until(core, !count_killers());
	core_say_exited(core, id, 0);
	fd_close(sock);
}

/* A wrong number of replies is none: nobody's is given to another. */
Test(errands, P15_replies_are_as_many_as_requests)
{
	struct link_spawn_id id;
	int sock;

	make_many();
	kill_many();
	cr_assert_eq(hear_requests(&id, &sock), OPENER_REQUESTS_MAX);
	cr_assert_gt(send(sock, replies, 2 * sizeof(replies[0]), MSG_NOSIGNAL), 0);
	core_turns(core, 3);
	core_say_exited(core, id, 0);
	core_turns(core, 3);
	cr_expect_eq(count_killers(), MANY);
	fd_close(sock);
}

Test(errands, another_signal_and_the_same_tree_go_apart)
{
	const int signals[] = { SIGTERM, SIGTERM, SIGUSR1, SIGUSR1, SIGTERM };
	struct link_spawn_id id;
	int sock;

	make_many();
	for (unsigned i = 0; i < 5; i++)
		cr_assert_eq(port_signal_tree(ports[i], NULL, signals[i]), 0);
	for (unsigned i = 0; i < 3; i++) {
		size_t n = hear_requests(&id, &sock);

		cr_expect_eq(n, i < 2 ? 2 : 1, "%zu in number %u", n, i);
		fd_close(sock);
	}
	ask_for(conns[0]);
	ask_for(conns[0]);
	for (unsigned i = 0; i < 2; i++) {
		cr_expect_eq(hear_requests(&id, &sock), 1);
		fd_close(sock);
	}
}

/* Too many descriptors are under way: then none go along. */
Test(errands, P10_a_tree_is_killed_without_its_leaders_descriptor)
{
	struct link_spawn_id id;
	int sock;

	make_many();
	ports[0]->process.pidfd = dup(fds[0]);
	port_kill_tree(ports[0]);
	countdown_arm(COUNTDOWN_WRITE, 1, ETOOMANYREFS);
	core_turns(core, 3);
	cr_assert(countdown_off());
	cr_expect_eq(out(ERRAND_DUE), 1);
	cr_expect_eq(hear_requests(&id, &sock), 1);
	cr_expect_eq(requests[0].has_pidfd, 0);
	fd_close(sock);
}
