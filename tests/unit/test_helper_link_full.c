/* The test is keeper and forker: their sockets are full, or a message cannot be sent. What waits
 * keeps its order, nothing is sent twice, and a spawn fails alone. */
#include "broker/helper_link.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "proto/fdpass.h"
#include "tests/lib/core.h"
#include "tests/lib/countdown.h"
#include "tests/lib/links.h"

TestSuite(helper_link_full, .timeout = 30, .init = links_begin, .fini = links_end);

/* --- full sockets ---------------------------------------------------------------------------- */

/* Large records: the forker's socket is full before the bound is reached. */
Test(helper_link_full, a_full_forker_link_is_waited_for_and_nothing_is_sent_twice)
{
	enum { N = 20 };
	struct child *c[N];
	unsigned handed = 0;

	for (unsigned i = 0; i < N; i++)
		c[i] = child_new_sized(i + 1, LINK_DATAGRAM_MAX - 8);
	core_turns(links.core, 5);
	for (unsigned i = 0; i < N; i++)
		handed += c[i]->process.state == PROCESS_HANDED;
	cr_assert_gt(handed, 0);
	cr_assert_lt(handed, N, "the socket took all: nothing was tested");
	for (uint64_t i = 0; i < N; i++) {
		core_until(links.core, core_hear(links.core->forker, links.heard));
		cr_assert_eq(links.heard->spawn.id.port, i + 1);
		cr_assert_eq(links.heard->spawn.id.attempt, 1);
		cr_assert_eq(links.heard->size, LINK_DATAGRAM_MAX - 8);
	}
	for (uint64_t i = 0; i < N; i++) {
		cr_assert(links_keeper_hears(LINK_DEPOSIT), "one deposit each");
		cr_assert_eq(links.heard->deposit.id.port, i + 1);
		cr_assert_eq(links.heard->deposit.id.attempt, 1);
	}
	cr_assert(!core_hear(links.core->keeper, links.heard));
	cr_assert(!core_hear(links.core->forker, links.heard));
	for (unsigned i = 0; i < N; i++)
		child_free(c[i]);
}

/* Until the keeper's socket takes no more: what is sent from now on waits in the broker. */
static unsigned fill_keeper(void)
{
	struct link_beat beat = { .head = { LINK_BEAT, sizeof(beat) } };
	unsigned n = 0;

	while (!helper_link_is_congested(&links.core->b.helper)) {
		cr_assert_eq(helper_link_send(&links.core->b.helper, &beat, sizeof(beat), NULL, 0),
			     0);
		n++;
	}
	return n;
}

/* A spawn whose deposit is still here must not be born: were we killed now, nobody would know. */
Test(helper_link_full, no_spawn_goes_to_the_forker_before_the_keeper_has_its_deposit)
{
	struct link_beat beat = { .head = { LINK_BEAT, sizeof(beat) } };
	struct iovec iov = { &beat, sizeof(beat) };
	struct child *c;

	/* The deposit is the first message that does not fit. */
	while (fdpass_send(links.core->b.helper.keeper_fd, &iov, 1, NULL, 0, MSG_DONTWAIT) > 0)
		;
	c = child_new(1);
	core_turns(links.core, 3);
	cr_assert(helper_link_is_congested(&links.core->b.helper));
	cr_assert(!core_hear(links.core->forker, links.heard), "spawned before its deposit");
	cr_assert_eq(c->process.state, PROCESS_WAITING);
	core_until(links.core, core_hear(links.core->keeper, links.heard) &&
				       links.heard->head.type == LINK_DEPOSIT);
	cr_assert_eq(links.heard->n_fds, 2);
	core_until(links.core, core_hear(links.core->forker, links.heard));
	cr_assert_eq(links.heard->spawn.id.port, 1);
	cr_assert_eq(links.heard->spawn.id.attempt, 1);
	cr_assert(!links_keeper_hears(LINK_DEPOSIT), "deposited twice");
	child_free(c);
}

Test(helper_link_full, what_the_keeper_does_not_take_waits_in_order_with_its_descriptors)
{
	struct child *a = child_new(1), *b;
	unsigned n_beats, heard_beats = 0;

	core_turn(links.core);
	core_say_started(links.core, child_id(a), 1);
	core_ignore_keeper(links.core);
	n_beats = fill_keeper();
	b = child_new(2);
	core_turns(links.core, 2);
	cr_assert_eq(b->process.state, PROCESS_WAITING, "no new spawn while it is congested");
	cr_assert_eq(process_release(&a->process, LINK_HOLD(HOLD_OUTPUT, 1)), 0);
	process_retire(&a->process);
	child_free(a);
	while (heard_beats < n_beats) {
		core_until(links.core, core_hear(links.core->keeper, links.heard));
		cr_assert_eq(links.heard->head.type, LINK_BEAT);
		heard_beats++;
	}
	core_until(links.core, core_hear(links.core->keeper, links.heard));
	cr_assert_eq(links.heard->head.type, LINK_RELEASE);
	core_until(links.core, core_hear(links.core->keeper, links.heard));
	cr_assert_eq(links.heard->head.type, LINK_FORGET);
	core_until(links.core, core_hear(links.core->keeper, links.heard));
	cr_assert_eq(links.heard->head.type, LINK_DEPOSIT);
	cr_assert_eq(links.heard->n_fds, 2);
	core_until(links.core, core_hear(links.core->forker, links.heard));
	child_free(b);
}

Test(helper_link_full, messages_that_still_wait_at_the_end_give_their_descriptors_back)
{
	struct child *c;
	int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	struct link_records m = { .head = { LINK_RECORDS, sizeof(m) } };

	fill_keeper();
	c = child_new(1);
	for (int i = 0; i < 5; i++)
		cr_assert_eq(helper_link_send(&links.core->b.helper, &m, sizeof(m), &fd, 1), 0);
	close(fd);
	core_turns(links.core, 2);
	child_free(c);
} /* core_close() counts */

/* --- what cannot be sent --------------------------------------------------------------------- */

Test(helper_link_full, a_deposit_without_memory_or_descriptors_fails_its_own_spawn_only)
{
	static const enum countdown calls[] = { COUNTDOWN_SOCKET, COUNTDOWN_WRITE };
	static const int errors[] = { EMFILE, ENOBUFS };

	for (unsigned i = 0; i < 2; i++) {
		struct child *c = child_new(10 + i), *next = child_new(20 + i);

		countdown_arm(calls[i], 1, errors[i]);
		core_turn(links.core);
		cr_assert(countdown_off());
		cr_assert_eq(c->n_failed, 1);
		cr_assert_eq(c->stage, LINK_STAGE_REQUEST);
		cr_assert_eq(c->error, errors[i]);
		core_turn(links.core);
		cr_assert_eq(next->process.state, PROCESS_HANDED);
		cr_assert_eq(links.core->b.helper.in_flight, 1);
		child_free(c);
		child_free(next);
	}
}

Test(helper_link_full, a_spawn_that_cannot_be_sent_fails_once_whatever_the_keeper_says_then)
{
	struct child *c = child_new(1);
	struct link_spawn_id id;

	countdown_arm(COUNTDOWN_WRITE, 2, EMSGSIZE); /* the deposit goes, the spawn does not */
	core_turn(links.core);
	cr_assert(countdown_off());
	id = child_id(c);
	cr_assert_eq(c->n_failed, 1);
	cr_assert_eq(c->error, EMSGSIZE);
	cr_assert(links_keeper_hears(LINK_DEPOSIT));
	cr_assert(links_has_hung_up(links.heard->fds[0]));
	core_say_id(links.core, LINK_UNBORN, id);
	core_turns(links.core, 2);
	cr_assert_eq(c->n_failed, 1);
	cr_assert(!core_hear(links.core->forker, links.heard));
	cr_assert_eq(links.core->b.helper.in_flight, 0);
	child_free(c);
}

Test(helper_link_full, an_owner_may_go_from_within_its_failure)
{
	struct child *c = child_new(1), *next = child_new(2);

	c->dies = true;
	countdown_arm(COUNTDOWN_SOCKET, 1, EMFILE);
	core_turn(links.core);
	cr_assert(countdown_off());
	core_turn(links.core);
	cr_assert_eq(next->process.state, PROCESS_HANDED);
	c = child_new(3);
	core_turn(links.core);
	c->dies = true;
	core_say_failed(links.core, child_id(c), LINK_STAGE_EXEC, EACCES);
	cr_assert_eq(links.core->b.helper.in_flight, 1);
	child_free(next);
}

Test(helper_link_full, the_keeper_may_refuse_a_deposit_whose_spawn_still_waits)
{
	enum { N = 20 };
	struct child *c[N], *last;

	for (unsigned i = 0; i < N; i++)
		c[i] = child_new_sized(i + 1, LINK_DATAGRAM_MAX - 8);
	core_turns(links.core, 5);
	for (last = NULL; !last;)
		for (unsigned i = 0; i < N && !last; i++)
			if (c[i]->process.state == PROCESS_WAITING)
				last = c[i];
	cr_assert_eq(last->process.attempt, 1, "deposited, and in front of the full socket");
	core_say_failed(links.core, child_id(last), LINK_STAGE_REQUEST, EMFILE);
	cr_assert_eq(last->n_failed, 1);
	for (uint64_t n = 1; n < N; n++) {
		core_until(links.core, core_hear(links.core->forker, links.heard));
		cr_assert_neq(links.heard->spawn.id.port, last->process.id);
	}
	for (unsigned i = 0; i < N; i++)
		child_free(c[i]);
}
