/* The test is keeper and forker: what the broker tells them of one spawn, and what it makes of what
 * they say of it. */
#include "broker/helper_link.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "proto/base/fd.h"
#include "tests/lib/core.h"
#include "tests/lib/links.h"
#include "tests/lib/places.h"
#include "tests/lib/random.h"

TestSuite(helper_link, .timeout = 30, .init = links_begin, .fini = links_end);

/* --- one spawn ------------------------------------------------------------------------------- */

Test(helper_link, the_deposit_comes_with_the_birth_socket_and_our_ends)
{
	struct child *c = child_new(5);

	core_turn(links.core);
	cr_assert(links_keeper_hears(LINK_DEPOSIT));
	cr_assert_eq(links.heard->deposit.id.port, 5);
	cr_assert_eq(links.heard->deposit.id.slot, 5 % PORTS_MAX);
	cr_assert_eq(links.heard->deposit.id.attempt, 1);
	cr_assert_eq(links.heard->deposit.n_holds, 2);
	cr_assert_eq(links.heard->n_fds, 2);
	cr_assert_eq(links.heard->deposit.holds[0], LINK_HOLD(HOLD_BIRTH, 0));
	cr_assert_eq(links.heard->deposit.holds[1], LINK_HOLD(HOLD_OUTPUT, 1));
	cr_assert(links_are_one_file(links.heard->fds[1], c->ours));
	cr_assert(!core_hear(links.core->keeper, links.heard));
	child_free(c);
}

Test(helper_link, the_spawn_comes_with_the_birth_sockets_end_and_the_childs)
{
	struct child *c = child_new(5);
	int birth;

	core_turn(links.core);
	cr_assert(links_keeper_hears(LINK_DEPOSIT));
	birth = links.heard->fds[0];
	links.heard->fds[0] = -1;
	cr_assert(links_forker_hears(LINK_SPAWN));
	cr_assert_eq(links.heard->spawn.id.port, 5);
	cr_assert_eq(links.heard->spawn.id.attempt, 1);
	cr_assert_eq(links.heard->n_fds, 2);
	cr_assert(links_are_one_file(links.heard->fds[1], c->theirs));
	cr_assert(!links_has_hung_up(birth));
	core_message_close(links.heard);
	cr_assert(links_has_hung_up(birth), "the broker kept an end of the birth socket");
	cr_assert_eq(c->process.state, PROCESS_HANDED);
	close(birth);
	child_free(c);
}

Test(helper_link, a_memfd_goes_last)
{
	struct child *c = calloc(1, sizeof(*c));
	struct link_spawn *record = calloc(1, sizeof(*record));
	int memfd = memfd_create("blocks", MFD_CLOEXEC), same = dup(memfd), pair[2];
	uint32_t source;

	c->ours = c->theirs = -1;
	cr_assert_eq(process_init(&c->process, &links.core->b.helper, &child_events, 1), 0);
	cr_assert_eq(pipe2(pair, O_CLOEXEC), 0);
	cr_assert_eq(process_add_child_fd(&c->process, pair[0], &source), 0);
	cr_assert_eq(process_add_child_fd(&c->process, pair[1], &source), 0);
	record->head = (struct link_head){ LINK_SPAWN, sizeof(*record) };
	process_start(&c->process, (uint8_t *)record, sizeof(*record), memfd);
	core_turn(links.core);
	cr_assert(links_forker_hears(LINK_SPAWN));
	cr_assert_eq(links.heard->n_fds, 4);
	cr_assert(links_are_one_file(links.heard->fds[3], same));
	close(same);
	core_say_started(links.core, child_id(c), 100);
	cr_assert_eq(c->process.record_memfd, -1, "not needed any more");
	child_free(c);
}

Test(helper_link, started_gives_pid_and_pidfd_and_lets_the_childs_ends_go)
{
	struct child *c = child_new(1);
	struct link_started m = { .head = { LINK_STARTED, sizeof(m) }, .pid = 77, .start_ns = 5 };
	char byte;
	int fd;

	core_turn(links.core);
	core_ignore_keeper(links.core);
	cr_assert(links_forker_hears(LINK_SPAWN));
	core_message_close(links.heard);
	m.id = child_id(c);
	fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	core_say(links.core, &m, sizeof(m), &fd, 1);
	cr_assert_eq(c->n_started, 1);
	cr_assert_eq(c->process.pid, 77);
	cr_assert_eq(c->process.start_ns, 5);
	cr_assert(links_are_one_file(c->process.pidfd, fd), "the pidfd");
	c->theirs = fd_close(c->theirs);
	cr_assert_eq(read(c->ours, &byte, 1), 0, "the broker kept the child's end");
	close(fd);
	child_free(c);
}

Test(helper_link, failed_gives_stage_and_errno)
{
	struct child *c = child_new(1);

	core_turn(links.core);
	core_say_failed(links.core, child_id(c), LINK_STAGE_EXEC, ENOENT);
	cr_assert_eq(c->n_failed, 1);
	cr_assert_eq(c->stage, LINK_STAGE_EXEC);
	cr_assert_eq(c->error, ENOENT);
	cr_assert_eq(links.core->b.helper.in_flight, 0);
	core_say_failed(links.core, child_id(c), LINK_STAGE_EXEC, ENOENT);
	core_say_started(links.core, child_id(c), 1);
	cr_assert_eq(c->n_failed, 1, "one verdict");
	cr_assert_eq(c->n_started, 0);
	child_free(c);
}

Test(helper_link, exited_comes_once_and_only_after_started)
{
	struct child *c = child_new(1);

	core_turn(links.core);
	core_say_exited(links.core, child_id(c), 0x100);
	cr_assert_eq(c->n_exited, 0);
	core_say_started(links.core, child_id(c), 1);
	core_say_exited(links.core, child_id(c), 0x200);
	cr_assert_eq(c->n_exited, 1);
	cr_assert_eq(c->status, 0x200);
	core_say_exited(links.core, child_id(c), 0x300);
	cr_assert_eq(c->n_exited, 1, "a keeper may repeat it");
	child_free(c);
}

Test(helper_link, a_release_is_asked_for_and_told)
{
	struct child *c = child_new(1);
	struct link_release m = { .head = { LINK_RELEASED, sizeof(m) } };

	core_turn(links.core);
	core_say_started(links.core, child_id(c), 1);
	core_ignore_keeper(links.core);
	cr_assert_eq(process_release(&c->process, LINK_HOLD(HOLD_OUTPUT, 1)), 0);
	cr_assert(links_keeper_hears(LINK_RELEASE));
	cr_assert_eq(links.heard->release.hold, LINK_HOLD(HOLD_OUTPUT, 1));
	cr_assert_eq(links.heard->release.id.port, 1);
	m.id = child_id(c);
	m.hold = links.heard->release.hold;
	core_say(links.core, &m, sizeof(m), NULL, 0);
	cr_assert_eq(c->n_released, 1);
	cr_assert_eq(c->hold, LINK_HOLD(HOLD_OUTPUT, 1));
	child_free(c);
}

Test(helper_link, a_process_that_goes_is_forgotten_once_by_the_keeper)
{
	struct child *c = child_new(1);

	core_turn(links.core);
	core_ignore_keeper(links.core);
	core_say_started(links.core, child_id(c), 1);
	core_say_exited(links.core, child_id(c), 0);
	process_retire(&c->process);
	child_free(c);
	cr_assert(links_keeper_hears(LINK_FORGET));
	cr_assert_eq(links.heard->forget.id.port, 1);
	cr_assert_eq(links.heard->forget.id.attempt, 1);
	cr_assert(!core_hear(links.core->keeper, links.heard));
}

Test(helper_link, one_that_goes_before_it_was_handed_over_leaves_nothing)
{
	struct child *c = child_new(1);

	child_free(c);
	core_turns(links.core, 2);
	cr_assert(!core_hear(links.core->keeper, links.heard));
	cr_assert(!core_hear(links.core->forker, links.heard));
}

Test(helper_link, a_verdict_for_one_that_has_gone_is_dropped_with_its_descriptor)
{
	struct child *c = child_new(1);
	struct link_started m = { .head = { LINK_STARTED, sizeof(m) } };
	int fds = fd_count(), fd;

	core_turn(links.core);
	m.id = child_id(c);
	child_free(c);
	cr_assert_eq(links.core->b.helper.in_flight, 0);
	core_ignore_keeper(links.core);
	cr_assert(links_forker_hears(LINK_SPAWN));
	core_message_close(links.heard);
	fds = fd_count();
	fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	core_say(links.core, &m, sizeof(m), &fd, 1);
	close(fd);
	cr_assert_eq(fd_count(), fds);
	cr_assert_eq(links.core->unclaimed.lost, 0, "it is no error");
}

Test(helper_link, the_next_one_in_a_slot_is_not_taken_for_the_last)
{
	struct child *old = child_new(7), *c;
	struct link_spawn_id id;

	core_turn(links.core);
	id = child_id(old);
	child_free(old);
	c = child_new(7 + PORTS_MAX);
	cr_assert_eq(c->process.slot, id.slot);
	core_turn(links.core);
	core_say_started(links.core, id, 1);
	core_say_exited(links.core, id, 0);
	core_say_failed(links.core, id, LINK_STAGE_EXEC, ENOENT);
	cr_assert_eq(c->n_started + c->n_failed + c->n_exited, 0);
	core_say_started(links.core, child_id(c), 2);
	cr_assert_eq(c->process.pid, 2);
	child_free(c);
}

Test(helper_link, a_slot_that_is_taken_is_told)
{
	struct child *c = child_new(9);
	struct process other;

	cr_assert_eq(process_init(&other, &links.core->b.helper, &child_events, 9 + PORTS_MAX),
		     PROCESS_E_FULL);
	process_deinit(&other);
	child_free(c);
	cr_assert_eq(process_init(&other, &links.core->b.helper, &child_events, 9 + PORTS_MAX), 0);
	process_deinit(&other);
}

Test(helper_link, internal_ones_have_ids_that_no_port_will_have)
{
	struct process a, b;

	cr_assert_eq(process_init_internal(&a, &links.core->b.helper, &child_events), 0);
	cr_assert_eq(process_init_internal(&b, &links.core->b.helper, &child_events), 0);
	cr_assert_neq(a.id, b.id);
	cr_assert(a.id >> 63 && b.id >> 63);
	cr_assert_neq(a.slot, b.slot);
	process_deinit(&a);
	process_deinit(&b);
}

Test(helper_link, more_descriptors_than_there_is_room_for_are_refused_and_closed)
{
	struct process p;
	uint32_t source;
	int fds;

	cr_assert_eq(process_init(&p, &links.core->b.helper, &child_events, 1), 0);
	for (unsigned i = 0; i < PORT_FDS_MAX; i++)
		cr_assert_eq(process_add_child_fd(&p, dup(0), &source), 0);
	fds = fd_count();
	cr_assert_eq(process_add_child_fd(&p, dup(0), &source), PROCESS_E_FULL);
	cr_assert_eq(fd_count(), fds);
	for (unsigned i = 0; i < PORT_STREAMS_MAX; i++)
		cr_assert_eq(process_add_hold(&p, LINK_HOLD(HOLD_OUTPUT, i), 0), 0);
	cr_assert_eq(process_add_hold(&p, LINK_HOLD(HOLD_OUTPUT, 20), 0), 0);
	cr_assert_eq(process_add_hold(&p, LINK_HOLD(HOLD_OUTPUT, 21), 0), PROCESS_E_FULL);
	process_deinit(&p);
}

/* --- life of the link ------------------------------------------------------------------------ */

Test(helper_link, what_belongs_to_no_process_is_handed_on)
{
	struct link_setup setup = { .head = { LINK_SETUP, sizeof(setup) } };
	struct link_held held = { .head = { LINK_HELD, sizeof(held) } };
	struct link_ring ring = { .head = { LINK_RING, sizeof(ring) } };
	struct link_records records = { .head = { LINK_RECORDS, sizeof(records) } };
	int fds[4] = { 0, 0, 0, 0 };

	core_say(links.core, &setup, sizeof(setup), fds, 3);
	core_say(links.core, &held, sizeof(held), fds, 4);
	core_say(links.core, &ring, sizeof(ring), fds, 1);
	core_say(links.core, &ring, sizeof(ring), NULL, 0);
	core_say(links.core, &records, sizeof(records), fds, LINK_RECORDS_FDS);
	core_say_id(links.core, LINK_UNBORN, (struct link_spawn_id){ 1, 1, 1 });
	cr_assert_eq(links.core->unclaimed.n_setup, 1);
	cr_assert_eq(links.core->unclaimed.n_held, 1);
	cr_assert_eq(links.core->unclaimed.n_rings, 2);
	cr_assert_eq(links.core->unclaimed.n_records, 1);
	cr_assert_eq(links.core->unclaimed.n_fds, 3 + 4 + 1 + LINK_RECORDS_FDS);
}

Test(helper_link, many_lives_leave_nothing)
{
	struct random r = { 5 };
	struct child *all[64] = { 0 };
	uint64_t id = 0;

	for (unsigned i = 0; i < place_rounds(5000); i++) {
		struct child **c = &all[random_below(&r, 64)];

		if (!*c) {
			*c = child_new(++id);
		} else if ((*c)->process.state == PROCESS_HANDED) {
			if (random_chance(&r, 3))
				core_say_started(links.core, child_id(*c), 1);
			else if (random_chance(&r, 2))
				core_say_id(links.core, LINK_UNBORN, child_id(*c));
			else
				core_say_failed(links.core, child_id(*c), LINK_STAGE_EXEC, 1);
		} else if (random_chance(&r, 2)) {
			child_free(TAKE(*c));
		}
		if (random_chance(&r, 100))
			core_new_forker(links.core);
		if (random_chance(&r, 4)) {
			core_turn(links.core);
			core_ignore_keeper(links.core);
			while (core_hear(links.core->forker, links.heard))
				;
		}
	}
	for (int i = 0; i < 64; i++)
		if (all[i])
			child_free(all[i]);
	cr_assert_eq(links.core->b.helper.in_flight, 0);
	cr_assert(links.core->b.helper.lines.n_waiting == 0);
}
