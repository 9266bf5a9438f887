/* The test is keeper and forker: which spawn is handed to which forker, and when. Forkers that die
 * or are replaced, the bound of what is in flight, and lines in which spawns wait for their turn.
 */
#include "broker/helper_link.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <unistd.h>

#include "proto/base/fd.h"
#include "tests/lib/core.h"
#include "tests/lib/links.h"

TestSuite(helper_link_order, .timeout = 30, .init = links_begin, .fini = links_end);

/* --- forkers that die ------------------------------------------------------------------------ */

Test(helper_link_order, P12_an_unborn_one_is_handed_over_again_with_a_birth_socket_of_its_own)
{
	struct child *c = child_new(1);
	int first;

	core_turn(links.core);
	cr_assert(links_keeper_hears(LINK_DEPOSIT));
	first = links.heard->fds[0];
	links.heard->fds[0] = -1;
	cr_assert(links_forker_hears(LINK_SPAWN));
	core_message_close(links.heard);
	core_say_id(links.core, LINK_UNBORN, child_id(c));
	core_turn(links.core);
	cr_assert(links_keeper_hears(LINK_DEPOSIT));
	cr_assert_eq(links.heard->deposit.id.attempt, 2);
	cr_assert_eq(links.heard->deposit.n_holds, 1, "our ends are there already");
	cr_assert(!links_are_one_file(links.heard->fds[0], first));
	cr_assert(links_forker_hears(LINK_SPAWN));
	cr_assert_eq(links.heard->spawn.id.attempt, 2);
	cr_assert_eq(links.heard->n_fds, 2);
	cr_assert(links_are_one_file(links.heard->fds[1], c->theirs));
	close(first);
	core_say_started(links.core, child_id(c), 3);
	cr_assert_eq(c->n_started, 1);
	cr_assert_eq(links.core->b.helper.in_flight, 0);
	cr_assert_eq(links.core->b.helper.n_unborn, 1);
	child_free(c);
}

Test(helper_link_order, P12_words_about_an_earlier_attempt_are_not_for_this_one)
{
	struct child *c = child_new(1);
	struct link_spawn_id first;

	core_turn(links.core);
	first = child_id(c);
	core_say_id(links.core, LINK_UNBORN, first);
	core_turn(links.core);
	cr_assert_eq(c->process.attempt, 2);
	core_say_id(links.core, LINK_UNBORN, first);
	core_say_started(links.core, first, 5);
	core_say_failed(links.core, first, LINK_STAGE_EXEC, ENOENT);
	core_turns(links.core, 2);
	cr_assert_eq(c->process.attempt, 2);
	cr_assert_eq(c->n_started + c->n_failed, 0);
	core_say_started(links.core, child_id(c), 6);
	cr_assert_eq(c->process.pid, 6);
	child_free(c);
}

Test(helper_link_order, P12_without_a_forker_spawns_wait_for_the_next_one_in_their_order)
{
	struct child *c[3];

	links.core->forker = fd_close(links.core->forker);
	for (uint64_t i = 0; i < 3; i++)
		c[i] = child_new(i + 1);
	core_turns(links.core, 3);
	/* The first one found that nobody is there. It keeps its place, and nobody tries again. */
	cr_assert(links_keeper_hears(LINK_DEPOSIT));
	cr_assert_not(links_has_hung_up(links.heard->fds[0]));
	cr_assert_not(core_hear(links.core->keeper, links.heard));
	core_new_forker(links.core);
	core_turns(links.core, 3);
	for (uint64_t i = 0; i < 3; i++) {
		cr_assert(links_forker_hears(LINK_SPAWN));
		cr_assert_eq(links.heard->spawn.id.port, i + 1);
		cr_assert_eq(links.heard->spawn.id.attempt, 1);
		child_free(c[i]);
	}
}

Test(helper_link_order, P12_spawns_that_wait_when_the_forker_is_replaced_go_to_the_new_one)
{
	struct child *c[SPAWNS_IN_FLIGHT + 8];
	unsigned n = 0;

	for (unsigned i = 0; i < ARRAY_SIZE(c); i++)
		c[i] = child_new(i + 1);
	core_turns(links.core, 2);
	while (core_hear(links.core->forker, links.heard))
		n++;
	cr_assert_leq(n, SPAWNS_IN_FLIGHT);
	core_ignore_keeper(links.core);
	core_new_forker(links.core);
	for (unsigned i = 0; i < n; i++)
		core_say_started(links.core, child_id(c[i]), 1);
	for (unsigned i = n; i < ARRAY_SIZE(c); i++) {
		core_until(links.core, core_hear(links.core->forker, links.heard));
		cr_assert_eq(links.heard->spawn.id.port, i + 1);
		core_ignore_keeper(links.core);
	}
	for (unsigned i = 0; i < ARRAY_SIZE(c); i++)
		child_free(c[i]);
}

/* --- turns ----------------------------------------------------------------------------------- */

/* How many are handed over in so many turns. */
static unsigned handed_over(int turns)
{
	unsigned n = 0;

	for (int turn = 0; turn < turns; turn++) {
		core_turn(links.core);
		core_ignore_keeper(links.core);
		while (core_hear(links.core->forker, links.heard))
			n++;
	}
	return n;
}

Test(helper_link_order, no_more_than_the_bound_are_in_flight)
{
	struct child *c[SPAWNS_IN_FLIGHT + 50];
	unsigned n;

	for (unsigned i = 0; i < ARRAY_SIZE(c); i++)
		c[i] = child_new(i + 1);
	n = handed_over(300);
	cr_assert_eq(n, SPAWNS_IN_FLIGHT);
	cr_assert_eq(links.core->b.helper.in_flight, SPAWNS_IN_FLIGHT);
	core_say_started(links.core, child_id(c[0]), 1);
	core_say_failed(links.core, child_id(c[1]), LINK_STAGE_CLONE, EAGAIN);
	child_free(c[2]);
	n += handed_over(10);
	cr_assert_eq(n, SPAWNS_IN_FLIGHT + 3, "each that is over makes room for one");
	for (unsigned i = 0; i < ARRAY_SIZE(c); i++)
		if (i != 2)
			child_free(c[i]);
}

Test(helper_link_order, P7_who_has_many_spawns_waiting_is_in_nobodys_way)
{
	enum { MANY = 60 };
	struct child *c[MANY], *other;
	struct spawn_line *hog, *polite;

	cr_assert_eq(spawn_line_new(&hog), 0);
	cr_assert_eq(spawn_line_new(&polite), 0);
	links.line = hog;
	for (unsigned i = 0; i < MANY; i++)
		c[i] = child_new(i + 1);
	cr_expect_eq(handed_over(40), LINE_IN_FLIGHT, "the others wait in their line");
	links.line = polite;
	other = child_new(1000);
	core_say_started(links.core, child_id(c[0]), 1);
	core_until(links.core, core_hear(links.core->forker, links.heard));
	cr_expect_eq(links.heard->spawn.id.port, 1000, "it was not behind the others");
	cr_expect_eq(handed_over(40), 1, "one was over, so one goes on");
	core_say_id(links.core, LINK_UNBORN, child_id(c[1]));
	cr_expect_eq(handed_over(40), 1);
	child_free(other);
	hog = spawn_line_unref(hog); /* the connection goes, its spawns do not */
	polite = spawn_line_unref(polite);
	for (unsigned i = 0; i < MANY; i++)
		child_free(c[i]);
	cr_expect_eq(links.core->b.helper.lines.n_waiting, 0);
	links.line = NULL;
}

Test(helper_link_order, P7_large_records_count_for_many)
{
	struct child *c[4];
	struct spawn_line *own;

	cr_assert_eq(spawn_line_new(&own), 0);
	links.line = own;
	for (unsigned i = 0; i < 4; i++)
		c[i] = child_new_sized(i + 1, LINE_RECORD_SIZE * 7);
	cr_expect_eq(handed_over(40), 2, "two of 8 fill its line");
	core_say_failed(links.core, child_id(c[0]), LINK_STAGE_EXEC, ENOENT);
	cr_expect_eq(handed_over(40), 1);
	for (unsigned i = 0; i < 4; i++)
		child_free(c[i]);
	spawn_line_unref(own);
	links.line = NULL;
}
