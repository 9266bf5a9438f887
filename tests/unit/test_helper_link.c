/* The test is keeper and forker: what the broker tells them, in which order, and what it makes of
 * what they say, true or not. */
#include "broker/helper_link.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "proto/base/fd.h"
#include "proto/fdpass.h"
#include "tests/lib/core.h"
#include "tests/lib/countdown.h"
#include "tests/lib/places.h"
#include "tests/lib/random.h"

static struct core *core;
static struct core_message *heard;

static void init(void)
{
	core = core_open();
	heard = calloc(1, sizeof(*heard));
}

static void fini(void)
{
	core_message_close(heard);
	free(heard);
	core_close(core);
}

TestSuite(helper_link, .timeout = 30, .init = init, .fini = fini);

/* A process with what its owner was told. */
struct child {
	struct process process;
	unsigned n_started, n_failed, n_exited, n_released;
	uint32_t stage, hold;
	int error, status;
	int ours, theirs; /* a pipe: our end is held, the child gets theirs */
	bool dies;	  /* the owner goes as soon as it has failed */
};

static struct child *child_of(struct process *p)
{
	return container_of(p, struct child, process);
}

static void child_free(struct child *c)
{
	process_deinit(&c->process);
	fd_close(c->ours);
	fd_close(c->theirs);
	free(c);
}

static void on_started(struct process *p)
{
	child_of(p)->n_started++;
}

static void on_failed(struct process *p, uint32_t stage, int error)
{
	struct child *c = child_of(p);

	c->n_failed++;
	c->stage = stage;
	c->error = error;
	if (c->dies)
		child_free(c);
}

static void on_exited(struct process *p, const struct link_exited *e)
{
	child_of(p)->n_exited++;
	child_of(p)->status = e->status;
}

static void on_released(struct process *p, uint32_t hold)
{
	child_of(p)->n_released++;
	child_of(p)->hold = hold;
}

static const struct process_events child_events = {
	.started = on_started, .failed = on_failed, .exited = on_exited, .released = on_released
};

static struct spawn_line *line; /* that children wait in; NULL: none of their own */

/* `size`: of the record. */
static struct child *child_new_sized(uint64_t id, size_t size)
{
	struct child *c = calloc(1, sizeof(*c));
	struct link_spawn *record = calloc(1, size);
	int fds[2], theirs;
	uint32_t source;

	cr_assert_eq(process_init(&c->process, &core->b.helper, &child_events, id), 0);
	cr_assert_eq(pipe2(fds, O_CLOEXEC), 0);
	c->ours = fds[0];
	c->theirs = fds[1];
	cr_assert_eq(fd_dup(fds[1], &theirs), 0);
	cr_assert_eq(process_add_child_fd(&c->process, theirs, &source), 0);
	cr_assert_eq(source, 0);
	cr_assert_eq(process_add_hold(&c->process, LINK_HOLD(HOLD_OUTPUT, 1), fds[0]), 0);
	if (line)
		process_join_line(&c->process, line);
	record->head = (struct link_head){ LINK_SPAWN, (uint32_t)size };
	record->n_passed = 1;
	process_start(&c->process, (uint8_t *)record, size, -1);
	cr_assert_eq(c->n_failed + c->n_started, 0, "nothing comes from within");
	return c;
}

static struct child *child_new(uint64_t id)
{
	return child_new_sized(id, sizeof(struct link_spawn));
}

static struct link_spawn_id id_of(const struct child *c)
{
	return (struct link_spawn_id){ c->process.id, c->process.slot, c->process.attempt };
}

static bool hears(int link, enum link_type type)
{
	return core_hear(link, heard) && heard->head.type == (uint32_t)type;
}

/* The writer of the child's pipe is gone everywhere but at the test's own `theirs`. */
static bool is_same_file(int a, int b)
{
	struct stat x, y;

	cr_assert_eq(fstat(a, &x), 0);
	cr_assert_eq(fstat(b, &y), 0);
	return x.st_dev == y.st_dev && x.st_ino == y.st_ino;
}

/* The other end of a birth socket has been closed everywhere. */
static bool has_hung_up(int fd)
{
	char byte;

	return recv(fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) == 0;
}

/* --- one spawn ------------------------------------------------------------------------------- */

Test(helper_link, the_deposit_comes_with_the_birth_socket_and_our_ends)
{
	struct child *c = child_new(5);

	core_turn(core);
	cr_assert(hears(core->keeper, LINK_DEPOSIT));
	cr_assert_eq(heard->deposit.id.port, 5);
	cr_assert_eq(heard->deposit.id.slot, 5 % PORTS_MAX);
	cr_assert_eq(heard->deposit.id.attempt, 1);
	cr_assert_eq(heard->deposit.n_holds, 2);
	cr_assert_eq(heard->n_fds, 2);
	cr_assert_eq(heard->deposit.holds[0], LINK_HOLD(HOLD_BIRTH, 0));
	cr_assert_eq(heard->deposit.holds[1], LINK_HOLD(HOLD_OUTPUT, 1));
	cr_assert(is_same_file(heard->fds[1], c->ours));
	cr_assert(!core_hear(core->keeper, heard));
	child_free(c);
}

Test(helper_link, the_spawn_comes_with_the_birth_sockets_end_and_the_childs)
{
	struct child *c = child_new(5);
	int birth;

	core_turn(core);
	cr_assert(hears(core->keeper, LINK_DEPOSIT));
	birth = heard->fds[0];
	heard->fds[0] = -1;
	cr_assert(hears(core->forker, LINK_SPAWN));
	cr_assert_eq(heard->spawn.id.port, 5);
	cr_assert_eq(heard->spawn.id.attempt, 1);
	cr_assert_eq(heard->n_fds, 2);
	cr_assert(is_same_file(heard->fds[1], c->theirs));
	cr_assert(!has_hung_up(birth));
	core_message_close(heard);
	cr_assert(has_hung_up(birth), "the broker kept an end of the birth socket");
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
	cr_assert_eq(process_init(&c->process, &core->b.helper, &child_events, 1), 0);
	cr_assert_eq(pipe2(pair, O_CLOEXEC), 0);
	cr_assert_eq(process_add_child_fd(&c->process, pair[0], &source), 0);
	cr_assert_eq(process_add_child_fd(&c->process, pair[1], &source), 0);
	record->head = (struct link_head){ LINK_SPAWN, sizeof(*record) };
	process_start(&c->process, (uint8_t *)record, sizeof(*record), memfd);
	core_turn(core);
	cr_assert(hears(core->forker, LINK_SPAWN));
	cr_assert_eq(heard->n_fds, 4);
	cr_assert(is_same_file(heard->fds[3], same));
	close(same);
	core_say_started(core, id_of(c), 100);
	cr_assert_eq(c->process.record_memfd, -1, "not needed any more");
	child_free(c);
}

Test(helper_link, started_gives_pid_and_pidfd_and_lets_the_childs_ends_go)
{
	struct child *c = child_new(1);
	struct link_started m = { .head = { LINK_STARTED, sizeof(m) }, .pid = 77, .start_ns = 5 };
	char byte;
	int fd;

	core_turn(core);
	core_ignore_keeper(core);
	cr_assert(hears(core->forker, LINK_SPAWN));
	core_message_close(heard);
	m.id = id_of(c);
	fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	core_say(core, &m, sizeof(m), &fd, 1);
	cr_assert_eq(c->n_started, 1);
	cr_assert_eq(c->process.pid, 77);
	cr_assert_eq(c->process.start_ns, 5);
	cr_assert(is_same_file(c->process.pidfd, fd), "the pidfd");
	c->theirs = fd_close(c->theirs);
	cr_assert_eq(read(c->ours, &byte, 1), 0, "the broker kept the child's end");
	close(fd);
	child_free(c);
}

Test(helper_link, failed_gives_stage_and_errno)
{
	struct child *c = child_new(1);

	core_turn(core);
	core_say_failed(core, id_of(c), LINK_STAGE_EXEC, ENOENT);
	cr_assert_eq(c->n_failed, 1);
	cr_assert_eq(c->stage, LINK_STAGE_EXEC);
	cr_assert_eq(c->error, ENOENT);
	cr_assert_eq(core->b.helper.in_flight, 0);
	core_say_failed(core, id_of(c), LINK_STAGE_EXEC, ENOENT);
	core_say_started(core, id_of(c), 1);
	cr_assert_eq(c->n_failed, 1, "one verdict");
	cr_assert_eq(c->n_started, 0);
	child_free(c);
}

Test(helper_link, exited_comes_once_and_only_after_started)
{
	struct child *c = child_new(1);

	core_turn(core);
	core_say_exited(core, id_of(c), 0x100);
	cr_assert_eq(c->n_exited, 0);
	core_say_started(core, id_of(c), 1);
	core_say_exited(core, id_of(c), 0x200);
	cr_assert_eq(c->n_exited, 1);
	cr_assert_eq(c->status, 0x200);
	core_say_exited(core, id_of(c), 0x300);
	cr_assert_eq(c->n_exited, 1, "a keeper may repeat it");
	child_free(c);
}

Test(helper_link, a_release_is_asked_for_and_told)
{
	struct child *c = child_new(1);
	struct link_release m = { .head = { LINK_RELEASED, sizeof(m) } };

	core_turn(core);
	core_say_started(core, id_of(c), 1);
	core_ignore_keeper(core);
	cr_assert_eq(process_release(&c->process, LINK_HOLD(HOLD_OUTPUT, 1)), 0);
	cr_assert(hears(core->keeper, LINK_RELEASE));
	cr_assert_eq(heard->release.hold, LINK_HOLD(HOLD_OUTPUT, 1));
	cr_assert_eq(heard->release.id.port, 1);
	m.id = id_of(c);
	m.hold = heard->release.hold;
	core_say(core, &m, sizeof(m), NULL, 0);
	cr_assert_eq(c->n_released, 1);
	cr_assert_eq(c->hold, LINK_HOLD(HOLD_OUTPUT, 1));
	child_free(c);
}

Test(helper_link, a_process_that_goes_is_forgotten_once_by_the_keeper)
{
	struct child *c = child_new(1);

	core_turn(core);
	core_ignore_keeper(core);
	core_say_started(core, id_of(c), 1);
	core_say_exited(core, id_of(c), 0);
	process_retire(&c->process);
	child_free(c);
	cr_assert(hears(core->keeper, LINK_FORGET));
	cr_assert_eq(heard->forget.id.port, 1);
	cr_assert_eq(heard->forget.id.attempt, 1);
	cr_assert(!core_hear(core->keeper, heard));
}

Test(helper_link, one_that_goes_before_it_was_handed_over_leaves_nothing)
{
	struct child *c = child_new(1);

	child_free(c);
	core_turns(core, 2);
	cr_assert(!core_hear(core->keeper, heard));
	cr_assert(!core_hear(core->forker, heard));
}

Test(helper_link, a_verdict_for_one_that_has_gone_is_dropped_with_its_descriptor)
{
	struct child *c = child_new(1);
	struct link_started m = { .head = { LINK_STARTED, sizeof(m) } };
	int fds = fd_count(), fd;

	core_turn(core);
	m.id = id_of(c);
	child_free(c);
	cr_assert_eq(core->b.helper.in_flight, 0);
	core_ignore_keeper(core);
	cr_assert(hears(core->forker, LINK_SPAWN));
	core_message_close(heard);
	fds = fd_count();
	fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	core_say(core, &m, sizeof(m), &fd, 1);
	close(fd);
	cr_assert_eq(fd_count(), fds);
	cr_assert_eq(core->lost, 0, "it is no error");
}

Test(helper_link, the_next_one_in_a_slot_is_not_taken_for_the_last)
{
	struct child *old = child_new(7), *c;
	struct link_spawn_id id;

	core_turn(core);
	id = id_of(old);
	child_free(old);
	c = child_new(7 + PORTS_MAX);
	cr_assert_eq(c->process.slot, id.slot);
	core_turn(core);
	core_say_started(core, id, 1);
	core_say_exited(core, id, 0);
	core_say_failed(core, id, LINK_STAGE_EXEC, ENOENT);
	cr_assert_eq(c->n_started + c->n_failed + c->n_exited, 0);
	core_say_started(core, id_of(c), 2);
	cr_assert_eq(c->process.pid, 2);
	child_free(c);
}

Test(helper_link, a_slot_that_is_taken_is_told)
{
	struct child *c = child_new(9);
	struct process other;

	cr_assert_eq(process_init(&other, &core->b.helper, &child_events, 9 + PORTS_MAX),
		     PROCESS_E_FULL);
	process_deinit(&other);
	child_free(c);
	cr_assert_eq(process_init(&other, &core->b.helper, &child_events, 9 + PORTS_MAX), 0);
	process_deinit(&other);
}

Test(helper_link, internal_ones_have_ids_that_no_port_will_have)
{
	struct process a, b;

	cr_assert_eq(process_init_internal(&a, &core->b.helper, &child_events), 0);
	cr_assert_eq(process_init_internal(&b, &core->b.helper, &child_events), 0);
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

	cr_assert_eq(process_init(&p, &core->b.helper, &child_events, 1), 0);
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

/* --- forkers that die ------------------------------------------------------------------------ */

Test(helper_link, an_unborn_one_is_handed_over_again_with_a_birth_socket_of_its_own)
{
	struct child *c = child_new(1);
	int first;

	core_turn(core);
	cr_assert(hears(core->keeper, LINK_DEPOSIT));
	first = heard->fds[0];
	heard->fds[0] = -1;
	cr_assert(hears(core->forker, LINK_SPAWN));
	core_message_close(heard);
	core_say_id(core, LINK_UNBORN, id_of(c));
	core_turn(core);
	cr_assert(hears(core->keeper, LINK_DEPOSIT));
	cr_assert_eq(heard->deposit.id.attempt, 2);
	cr_assert_eq(heard->deposit.n_holds, 1, "our ends are there already");
	cr_assert(!is_same_file(heard->fds[0], first));
	cr_assert(hears(core->forker, LINK_SPAWN));
	cr_assert_eq(heard->spawn.id.attempt, 2);
	cr_assert_eq(heard->n_fds, 2);
	cr_assert(is_same_file(heard->fds[1], c->theirs));
	close(first);
	core_say_started(core, id_of(c), 3);
	cr_assert_eq(c->n_started, 1);
	cr_assert_eq(core->b.helper.in_flight, 0);
	cr_assert_eq(core->b.helper.n_unborn, 1);
	child_free(c);
}

Test(helper_link, words_about_an_earlier_attempt_are_not_for_this_one)
{
	struct child *c = child_new(1);
	struct link_spawn_id first;

	core_turn(core);
	first = id_of(c);
	core_say_id(core, LINK_UNBORN, first);
	core_turn(core);
	cr_assert_eq(c->process.attempt, 2);
	core_say_id(core, LINK_UNBORN, first);
	core_say_started(core, first, 5);
	core_say_failed(core, first, LINK_STAGE_EXEC, ENOENT);
	core_turns(core, 2);
	cr_assert_eq(c->process.attempt, 2);
	cr_assert_eq(c->n_started + c->n_failed, 0);
	core_say_started(core, id_of(c), 6);
	cr_assert_eq(c->process.pid, 6);
	child_free(c);
}

Test(helper_link, without_a_forker_spawns_wait_for_the_next_one_in_their_order)
{
	struct child *c[3];

	core->forker = fd_close(core->forker);
	for (uint64_t i = 0; i < 3; i++)
		c[i] = child_new(i + 1);
	core_turns(core, 3);
	/* The first one found that nobody is there. It keeps its place, and nobody tries again. */
	cr_assert(hears(core->keeper, LINK_DEPOSIT));
	cr_assert_not(has_hung_up(heard->fds[0]));
	cr_assert_not(core_hear(core->keeper, heard));
	core_new_forker(core);
	core_turns(core, 3);
	for (uint64_t i = 0; i < 3; i++) {
		cr_assert(hears(core->forker, LINK_SPAWN));
		cr_assert_eq(heard->spawn.id.port, i + 1);
		cr_assert_eq(heard->spawn.id.attempt, 1);
		child_free(c[i]);
	}
}

Test(helper_link, spawns_that_wait_when_the_forker_is_replaced_go_to_the_new_one)
{
	struct child *c[SPAWNS_IN_FLIGHT + 8];
	unsigned n = 0;

	for (unsigned i = 0; i < ARRAY_SIZE(c); i++)
		c[i] = child_new(i + 1);
	core_turns(core, 2);
	while (core_hear(core->forker, heard))
		n++;
	cr_assert_leq(n, SPAWNS_IN_FLIGHT);
	core_ignore_keeper(core);
	core_new_forker(core);
	for (unsigned i = 0; i < n; i++)
		core_say_started(core, id_of(c[i]), 1);
	for (unsigned i = n; i < ARRAY_SIZE(c); i++) {
		core_until(core, core_hear(core->forker, heard));
		cr_assert_eq(heard->spawn.id.port, i + 1);
		core_ignore_keeper(core);
	}
	for (unsigned i = 0; i < ARRAY_SIZE(c); i++)
		child_free(c[i]);
}

Test(helper_link, no_more_than_the_bound_are_in_flight)
{
	struct child *c[SPAWNS_IN_FLIGHT + 50];
	unsigned n = 0;

	for (unsigned i = 0; i < ARRAY_SIZE(c); i++)
		c[i] = child_new(i + 1);
	for (int turn = 0; turn < 300; turn++) {
		core_turn(core);
		core_ignore_keeper(core);
		while (core_hear(core->forker, heard))
			n++;
	}
	cr_assert_eq(n, SPAWNS_IN_FLIGHT);
	cr_assert_eq(core->b.helper.in_flight, SPAWNS_IN_FLIGHT);
	core_say_started(core, id_of(c[0]), 1);
	core_say_failed(core, id_of(c[1]), LINK_STAGE_CLONE, EAGAIN);
	child_free(c[2]);
	for (int turn = 0; turn < 10; turn++) {
		core_turn(core);
		core_ignore_keeper(core);
		while (core_hear(core->forker, heard))
			n++;
	}
	cr_assert_eq(n, SPAWNS_IN_FLIGHT + 3, "each that is over makes room for one");
	for (unsigned i = 0; i < ARRAY_SIZE(c); i++)
		if (i != 2)
			child_free(c[i]);
}

/* Turns until nothing more is handed over. Returns how many were. */
static unsigned handed_over(void)
{
	unsigned n = 0;

	for (int turn = 0; turn < 40; turn++) {
		core_turn(core);
		core_ignore_keeper(core);
		while (core_hear(core->forker, heard))
			n++;
	}
	return n;
}

Test(helper_link, P7_who_has_many_spawns_waiting_is_in_nobodys_way)
{
	enum { MANY = 60 };
	struct child *c[MANY], *other;
	struct spawn_line *hog, *polite;

	cr_assert_eq(spawn_line_new(&hog), 0);
	cr_assert_eq(spawn_line_new(&polite), 0);
	line = hog;
	for (unsigned i = 0; i < MANY; i++)
		c[i] = child_new(i + 1);
	cr_expect_eq(handed_over(), LINE_IN_FLIGHT, "the others wait in their line");
	line = polite;
	other = child_new(1000);
	core_say_started(core, id_of(c[0]), 1);
	core_until(core, core_hear(core->forker, heard));
	cr_expect_eq(heard->spawn.id.port, 1000, "it was not behind the others");
	cr_expect_eq(handed_over(), 1, "one was over, so one goes on");
	core_say_id(core, LINK_UNBORN, id_of(c[1]));
	cr_expect_eq(handed_over(), 1);
	child_free(other);
	hog = spawn_line_unref(hog); /* the connection goes, its spawns do not */
	polite = spawn_line_unref(polite);
	for (unsigned i = 0; i < MANY; i++)
		child_free(c[i]);
	cr_expect_eq(core->b.helper.lines.n_waiting, 0);
	line = NULL;
}

Test(helper_link, P7_large_records_count_for_many)
{
	struct child *c[4];
	struct spawn_line *own;

	cr_assert_eq(spawn_line_new(&own), 0);
	line = own;
	for (unsigned i = 0; i < 4; i++)
		c[i] = child_new_sized(i + 1, LINE_RECORD_SIZE * 7);
	cr_expect_eq(handed_over(), 2, "two of 8 fill its line");
	core_say_failed(core, id_of(c[0]), LINK_STAGE_EXEC, ENOENT);
	cr_expect_eq(handed_over(), 1);
	for (unsigned i = 0; i < 4; i++)
		child_free(c[i]);
	spawn_line_unref(own);
	line = NULL;
}

/* --- full sockets ---------------------------------------------------------------------------- */

/* Large records: the forker's socket is full before the bound is reached. */
Test(helper_link, a_full_forker_link_is_waited_for_and_nothing_is_sent_twice)
{
	enum { N = 20 };
	struct child *c[N];
	unsigned handed = 0;

	for (unsigned i = 0; i < N; i++)
		c[i] = child_new_sized(i + 1, LINK_DATAGRAM_MAX - 8);
	core_turns(core, 5);
	for (unsigned i = 0; i < N; i++)
		handed += c[i]->process.state == PROCESS_HANDED;
	cr_assert_gt(handed, 0);
	cr_assert_lt(handed, N, "the socket took all: nothing was tested");
	for (uint64_t i = 0; i < N; i++) {
		core_until(core, core_hear(core->forker, heard));
		cr_assert_eq(heard->spawn.id.port, i + 1);
		cr_assert_eq(heard->spawn.id.attempt, 1);
		cr_assert_eq(heard->size, LINK_DATAGRAM_MAX - 8);
	}
	for (uint64_t i = 0; i < N; i++) {
		cr_assert(hears(core->keeper, LINK_DEPOSIT), "one deposit each");
		cr_assert_eq(heard->deposit.id.port, i + 1);
		cr_assert_eq(heard->deposit.id.attempt, 1);
	}
	cr_assert(!core_hear(core->keeper, heard));
	cr_assert(!core_hear(core->forker, heard));
	for (unsigned i = 0; i < N; i++)
		child_free(c[i]);
}

/* Until the keeper's socket takes no more: what is sent from now on waits in the broker. */
static unsigned fill_keeper(void)
{
	struct link_beat beat = { .head = { LINK_BEAT, sizeof(beat) } };
	unsigned n = 0;

	while (!helper_link_is_congested(&core->b.helper)) {
		cr_assert_eq(helper_link_send(&core->b.helper, &beat, sizeof(beat), NULL, 0), 0);
		n++;
	}
	return n;
}

/* A spawn whose deposit is still here must not be born: were we killed now, nobody would know. */
Test(helper_link, no_spawn_goes_to_the_forker_before_the_keeper_has_its_deposit)
{
	struct link_beat beat = { .head = { LINK_BEAT, sizeof(beat) } };
	struct iovec iov = { &beat, sizeof(beat) };
	struct child *c;

	/* The deposit is the first message that does not fit. */
	while (fdpass_send(core->b.helper.keeper_fd, &iov, 1, NULL, 0, MSG_DONTWAIT) > 0)
		;
	c = child_new(1);
	core_turns(core, 3);
	cr_assert(helper_link_is_congested(&core->b.helper));
	cr_assert(!core_hear(core->forker, heard), "spawned before its deposit");
	cr_assert_eq(c->process.state, PROCESS_WAITING);
	core_until(core, core_hear(core->keeper, heard) && heard->head.type == LINK_DEPOSIT);
	cr_assert_eq(heard->n_fds, 2);
	core_until(core, core_hear(core->forker, heard));
	cr_assert_eq(heard->spawn.id.port, 1);
	cr_assert_eq(heard->spawn.id.attempt, 1);
	cr_assert(!hears(core->keeper, LINK_DEPOSIT), "deposited twice");
	child_free(c);
}

Test(helper_link, what_the_keeper_does_not_take_waits_in_order_with_its_descriptors)
{
	struct child *a = child_new(1), *b;
	unsigned n_beats, heard_beats = 0;

	core_turn(core);
	core_say_started(core, id_of(a), 1);
	core_ignore_keeper(core);
	n_beats = fill_keeper();
	b = child_new(2);
	core_turns(core, 2);
	cr_assert_eq(b->process.state, PROCESS_WAITING, "no new spawn while it is congested");
	cr_assert_eq(process_release(&a->process, LINK_HOLD(HOLD_OUTPUT, 1)), 0);
	process_retire(&a->process);
	child_free(a);
	while (heard_beats < n_beats) {
		core_until(core, core_hear(core->keeper, heard));
		cr_assert_eq(heard->head.type, LINK_BEAT);
		heard_beats++;
	}
	core_until(core, core_hear(core->keeper, heard));
	cr_assert_eq(heard->head.type, LINK_RELEASE);
	core_until(core, core_hear(core->keeper, heard));
	cr_assert_eq(heard->head.type, LINK_FORGET);
	core_until(core, core_hear(core->keeper, heard));
	cr_assert_eq(heard->head.type, LINK_DEPOSIT);
	cr_assert_eq(heard->n_fds, 2);
	core_until(core, core_hear(core->forker, heard));
	child_free(b);
}

Test(helper_link, messages_that_still_wait_at_the_end_give_their_descriptors_back)
{
	struct child *c;
	int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	struct link_records m = { .head = { LINK_RECORDS, sizeof(m) } };

	fill_keeper();
	c = child_new(1);
	for (int i = 0; i < 5; i++)
		cr_assert_eq(helper_link_send(&core->b.helper, &m, sizeof(m), &fd, 1), 0);
	close(fd);
	core_turns(core, 2);
	child_free(c);
} /* core_close() counts */

Test(helper_link, a_deposit_without_memory_or_descriptors_fails_its_own_spawn_only)
{
	static const enum countdown calls[] = { COUNTDOWN_SOCKET, COUNTDOWN_WRITE };
	static const int errors[] = { EMFILE, ENOBUFS };

	for (unsigned i = 0; i < 2; i++) {
		struct child *c = child_new(10 + i), *next = child_new(20 + i);

		countdown_arm(calls[i], 1, errors[i]);
		core_turn(core);
		cr_assert(countdown_off());
		cr_assert_eq(c->n_failed, 1);
		cr_assert_eq(c->stage, LINK_STAGE_REQUEST);
		cr_assert_eq(c->error, errors[i]);
		core_turn(core);
		cr_assert_eq(next->process.state, PROCESS_HANDED);
		cr_assert_eq(core->b.helper.in_flight, 1);
		child_free(c);
		child_free(next);
	}
}

Test(helper_link, a_spawn_that_cannot_be_sent_fails_once_whatever_the_keeper_says_then)
{
	struct child *c = child_new(1);
	struct link_spawn_id id;

	countdown_arm(COUNTDOWN_WRITE, 2, EMSGSIZE); /* the deposit goes, the spawn does not */
	core_turn(core);
	cr_assert(countdown_off());
	id = id_of(c);
	cr_assert_eq(c->n_failed, 1);
	cr_assert_eq(c->error, EMSGSIZE);
	cr_assert(hears(core->keeper, LINK_DEPOSIT));
	cr_assert(has_hung_up(heard->fds[0]));
	core_say_id(core, LINK_UNBORN, id);
	core_turns(core, 2);
	cr_assert_eq(c->n_failed, 1);
	cr_assert(!core_hear(core->forker, heard));
	cr_assert_eq(core->b.helper.in_flight, 0);
	child_free(c);
}

Test(helper_link, an_owner_may_go_from_within_its_failure)
{
	struct child *c = child_new(1), *next = child_new(2);

	c->dies = true;
	countdown_arm(COUNTDOWN_SOCKET, 1, EMFILE);
	core_turn(core);
	cr_assert(countdown_off());
	core_turn(core);
	cr_assert_eq(next->process.state, PROCESS_HANDED);
	c = child_new(3);
	core_turn(core);
	c->dies = true;
	core_say_failed(core, id_of(c), LINK_STAGE_EXEC, EACCES);
	cr_assert_eq(core->b.helper.in_flight, 1);
	child_free(next);
}

Test(helper_link, the_keeper_may_refuse_a_deposit_whose_spawn_still_waits)
{
	enum { N = 20 };
	struct child *c[N], *last;

	for (unsigned i = 0; i < N; i++)
		c[i] = child_new_sized(i + 1, LINK_DATAGRAM_MAX - 8);
	core_turns(core, 5);
	for (last = NULL; !last;)
		for (unsigned i = 0; i < N && !last; i++)
			if (c[i]->process.state == PROCESS_WAITING)
				last = c[i];
	cr_assert_eq(last->process.attempt, 1, "deposited, and in front of the full socket");
	core_say_failed(core, id_of(last), LINK_STAGE_REQUEST, EMFILE);
	cr_assert_eq(last->n_failed, 1);
	for (uint64_t n = 1; n < N; n++) {
		core_until(core, core_hear(core->forker, heard));
		cr_assert_neq(heard->spawn.id.port, last->process.id);
	}
	for (unsigned i = 0; i < N; i++)
		child_free(c[i]);
}

/* --- a keeper that lies ---------------------------------------------------------------------- */

/* The link gives up, and what came with the message is closed. */
static void is_lost(const void *message, size_t size, size_t n_fds)
{
	int fd = open("/dev/null", O_RDONLY | O_CLOEXEC), all[LINK_FDS_MAX], before = fd_count();

	for (size_t i = 0; i < n_fds; i++)
		all[i] = fd;
	core_say(core, message, size, all, n_fds);
	cr_assert_eq(core->lost, -EBADMSG, "%d", core->lost);
	cr_assert_eq(fd_count(), before);
	close(fd);
	core->lost = 0;
	uv_poll_start(&core->b.helper.keeper_poll, UV_READABLE, core->b.helper.keeper_poll.poll_cb);
}

Test(helper_link, wrong_sizes_and_unknown_types_end_the_link)
{
	struct link_started m = { .head = { LINK_STARTED, sizeof(m) } };
	struct link_head head = { LINK_SPAWN, sizeof(head) };
	uint8_t large[1024] = { 0 };

	for (size_t size = 1; size < sizeof(m); size++)
		is_lost(&m, size, 1);
	m.head.size = sizeof(m) + 1;
	is_lost(&m, sizeof(m), 1);
	is_lost(&head, sizeof(head), 1);
	for (uint32_t type = 0; type < 200; type++) {
		head.type = type;
		if (type != LINK_READY && type != LINK_RECORDS)
			is_lost(&head, sizeof(head), 0);
	}
	head = (struct link_head){ LINK_READY, sizeof(large) };
	memcpy(large, &head, sizeof(head));
	is_lost(large, sizeof(large), 2);
	head.type = UINT32_MAX;
	memcpy(large, &head, sizeof(head));
	is_lost(large, sizeof(large), 0);
}

Test(helper_link, a_message_longer_than_any_ends_the_link)
{
	static uint8_t large[8192];
	struct link_head head = { LINK_READY, sizeof(large) };

	memcpy(large, &head, sizeof(head));
	core_say(core, large, sizeof(large), NULL, 0);
	cr_assert_lt(core->lost, 0);
}

Test(helper_link, a_new_forker_without_its_descriptor_ends_the_link)
{
	struct link_forker m = { .head = { LINK_FORKER, sizeof(m) } };

	is_lost(&m, sizeof(m), 0);
	is_lost(&m, sizeof(m), 2);
}

Test(helper_link, unknown_slots_and_ports_are_nobodys)
{
	static const uint32_t slots[] = { 0, 1, 2, PORTS_MAX - 1, PORTS_MAX, UINT32_MAX };
	static const uint64_t ports[] = { 0, 1, 2, UINT64_MAX };
	struct child *c = child_new(1);

	core_turn(core);
	for (unsigned i = 0; i < ARRAY_SIZE(slots); i++)
		for (unsigned k = 0; k < ARRAY_SIZE(ports); k++) {
			struct link_spawn_id id = { ports[k], slots[i], 1 };

			if (slots[i] == c->process.slot && ports[k] == c->process.id)
				continue;
			core_say_started(core, id, 1);
			core_say_exited(core, id, 0);
			core_say_failed(core, id, 1, 1);
			core_say_id(core, LINK_UNBORN, id);
		}
	cr_assert_eq(core->lost, 0);
	cr_assert_eq(c->n_started + c->n_failed + c->n_exited, 0);
	child_free(c);
}

Test(helper_link, descriptors_that_were_not_asked_for_are_closed)
{
	struct child *c = child_new(1);
	struct link_started m = { .head = { LINK_STARTED, sizeof(m) } };
	struct link_ready ready = { .head = { LINK_READY, sizeof(ready) } };
	int fds[40], before;

	core_turn(core);
	core_ignore_keeper(core);
	cr_assert(hears(core->forker, LINK_SPAWN));
	core_message_close(heard);
	for (int i = 0; i < 40; i++)
		fds[i] = 0;
	before = fd_count();
	m.id = id_of(c);
	core_say(core, &m, sizeof(m), fds, 40);
	cr_assert_eq(c->n_started, 1);
	core_say(core, &ready, sizeof(ready), fds, 3);
	cr_assert_eq(core->n_ready, 1);
	/* A pidfd more; of the child's own descriptor the broker has let go. */
	cr_assert_eq(fd_count(), before + 1 - 1);
	child_free(c);
}

Test(helper_link, random_messages_end_the_link_or_change_nothing)
{
	struct random r = { 1234 };
	struct child *c = child_new(1);

	core_turn(core);
	for (unsigned i = 0; i < place_rounds(20000); i++) {
		uint8_t bytes[256];
		struct link_head head = { (uint32_t)random_below(&r, 100),
					  (uint32_t)(8 + random_below(&r, sizeof(bytes) - 8)) };
		size_t size = random_chance(&r, 4) ? 1 + random_below(&r, 200) : head.size;
		int fds[3] = { 0, 0, 0 };

		random_fill(&r, bytes, sizeof(bytes));
		memcpy(bytes, &head, sizeof(head));
		core_say(core, bytes, size, fds, random_below(&r, 4));
		if (core->lost)
			uv_poll_start(&core->b.helper.keeper_poll, UV_READABLE,
				      core->b.helper.keeper_poll.poll_cb);
		core->lost = 0;
	}
	cr_assert_eq(c->n_started + c->n_failed, 0, "its id cannot be guessed");
	child_free(c);
}

Test(helper_link, a_keeper_that_hangs_up_is_lost)
{
	core->keeper = fd_close(core->keeper);
	core_until(core, core->lost);
	cr_assert_eq(core->lost, -ENOTCONN);
}

/* --- life of the link ------------------------------------------------------------------------ */

Test(helper_link, what_belongs_to_no_process_is_handed_on)
{
	struct link_setup setup = { .head = { LINK_SETUP, sizeof(setup) } };
	struct link_held held = { .head = { LINK_HELD, sizeof(held) } };
	struct link_ring ring = { .head = { LINK_RING, sizeof(ring) } };
	struct link_records records = { .head = { LINK_RECORDS, sizeof(records) } };
	int fds[4] = { 0, 0, 0, 0 };

	core_say(core, &setup, sizeof(setup), fds, 3);
	core_say(core, &held, sizeof(held), fds, 4);
	core_say(core, &ring, sizeof(ring), fds, 1);
	core_say(core, &ring, sizeof(ring), NULL, 0);
	core_say(core, &records, sizeof(records), fds, LINK_RECORDS_FDS);
	core_say_id(core, LINK_UNBORN, (struct link_spawn_id){ 1, 1, 1 });
	cr_assert_eq(core->n_setup, 1);
	cr_assert_eq(core->n_held, 1);
	cr_assert_eq(core->n_rings, 2);
	cr_assert_eq(core->n_records, 1);
	cr_assert_eq(core->n_fds, 3 + 4 + 1 + LINK_RECORDS_FDS);
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
				core_say_started(core, id_of(*c), 1);
			else if (random_chance(&r, 2))
				core_say_id(core, LINK_UNBORN, id_of(*c));
			else
				core_say_failed(core, id_of(*c), LINK_STAGE_EXEC, 1);
		} else if (random_chance(&r, 2)) {
			child_free(TAKE(*c));
		}
		if (random_chance(&r, 100))
			core_new_forker(core);
		if (random_chance(&r, 4)) {
			core_turn(core);
			core_ignore_keeper(core);
			while (core_hear(core->forker, heard))
				;
		}
	}
	for (int i = 0; i < 64; i++)
		if (all[i])
			child_free(all[i]);
	cr_assert_eq(core->b.helper.in_flight, 0);
	cr_assert(core->b.helper.lines.n_waiting == 0);
}
