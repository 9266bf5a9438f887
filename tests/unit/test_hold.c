#include <criterion/criterion.h>
#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include "helper/hold.h"
#include "proto/base/fd.h"

#define BIRTH LINK_HOLD(HOLD_BIRTH, 0)
#define IN    LINK_HOLD(HOLD_INPUT, 0)
#define OUT   LINK_HOLD(HOLD_OUTPUT, 1)

static struct hold *h;
static int n_fds_before;

static void setup(void)
{
	n_fds_before = fd_count();
	cr_assert_eq(hold_new(&h, 1000), 0);
}

static void teardown(void)
{
	hold_free(h);
	cr_assert_eq(fd_count(), n_fds_before, "descriptors leaked");
}

TestSuite(hold, .init = setup, .fini = teardown, .timeout = 20);

static int a_descriptor(void)
{
	int fd = open("/dev/null", O_RDWR | O_CLOEXEC);

	cr_assert_geq(fd, 0);
	return fd;
}

static struct link_deposit deposit_of(uint32_t slot, uint64_t port, uint32_t attempt)
{
	return (struct link_deposit){ .head = { LINK_DEPOSIT, sizeof(struct link_deposit) },
				      .id = { port, slot, attempt } };
}

/* Deposits; on any refusal the descriptors are closed here. */
static int deposit(struct link_deposit m, struct hold_slot **ret)
{
	int fds[LINK_HOLDS_MAX], r;
	uint32_t n = MIN(m.n_holds, LINK_HOLDS_MAX);

	for (uint32_t i = 0; i < n; i++)
		fds[i] = a_descriptor();
	r = hold_deposit(h, &m, fds, ret);
	if (r)
		fd_close_many(fds, n);
	return r;
}

/* A spawn with one input and one output. */
static struct hold_slot *a_spawn(uint32_t slot, uint64_t port)
{
	struct link_deposit m = deposit_of(slot, port, 1);
	struct hold_slot *s = NULL;

	m.n_holds = 3;
	m.holds[0] = BIRTH;
	m.holds[1] = IN;
	m.holds[2] = OUT;
	cr_assert_eq(deposit(m, &s), 0);
	return s;
}

static struct hold_slot *a_process(uint32_t slot, uint64_t port, pid_t pid)
{
	struct hold_slot *s = a_spawn(slot, port);

	s->pid = pid;
	cr_assert(pidmap_put(&h->pids, pid, slot));
	hold_drop(h, s, BIRTH);
	hold_take_pidfd(h, s, a_descriptor());
	hold_set_state(h, s, HOLD_STATE_RUNNING);
	return s;
}

Test(hold, a_deposit_is_found_by_slot_and_port)
{
	struct hold_slot *s = a_spawn(5, 77);

	cr_assert_eq(s->state, HOLD_STATE_AWAITING);
	cr_assert_eq(hold_find(h, &(struct link_spawn_id){ 77, 5, 9 }), s);
	cr_assert_null(hold_find(h, &(struct link_spawn_id){ 78, 5, 1 }));
	cr_assert_null(hold_find(h, &(struct link_spawn_id){ 77, 6, 1 }));
	cr_assert_null(hold_find(h, &(struct link_spawn_id){ 77, PORTS_MAX, 1 }));
	cr_assert_geq(hold_get(s, OUT), 0);
	cr_assert_eq(hold_get(s, LINK_HOLD(HOLD_OUTPUT, 2)), -1);
	cr_assert_eq(h->n_fds, 3);
	cr_assert(list_first(&h->awaiting, struct hold_slot, awaiting) == s);
}

Test(hold, wrong_deposits_change_nothing)
{
	struct link_deposit m = deposit_of(5, 77, 1);
	struct hold_slot *s;

	m.n_holds = 1;
	m.holds[0] = LINK_HOLD(HOLD_PIDFD, 0);
	cr_assert_eq(deposit(m, &s), HOLD_E_UNKNOWN);
	m.holds[0] = LINK_HOLD(99, 0);
	cr_assert_eq(deposit(m, &s), HOLD_E_UNKNOWN);
	m.holds[0] = LINK_HOLD(HOLD_BIRTH, 1);
	cr_assert_eq(deposit(m, &s), HOLD_E_UNKNOWN);
	m.holds[0] = m.holds[1] = OUT;
	m.n_holds = 2;
	cr_assert_eq(deposit(m, &s), HOLD_E_UNKNOWN, "the same twice");
	m.n_holds = LINK_HOLDS_MAX + 1;
	cr_assert_eq(deposit(m, &s), HOLD_E_UNKNOWN);
	cr_assert_eq(deposit(deposit_of(PORTS_MAX, 1, 1), &s), HOLD_E_UNKNOWN);
	cr_assert_eq(deposit(deposit_of(0, 0, 1), &s), HOLD_E_UNKNOWN);
	cr_assert_eq(deposit(deposit_of(0, 1, 0), &s), HOLD_E_UNKNOWN);
	cr_assert_eq(h->n_slots, 0);
	cr_assert_eq(h->n_fds, 0);
}

Test(hold, another_ports_slot_is_not_taken)
{
	struct hold_slot *s = a_spawn(5, 77), *other;
	struct link_deposit m = deposit_of(5, 78, 1);

	m.n_holds = 1;
	m.holds[0] = OUT;
	cr_assert_eq(deposit(m, &other), HOLD_E_CONFLICT);
	cr_assert_eq(s->id.port, 77);
	hold_forget(h, s);
	cr_assert_eq(deposit(m, &other), 0);
	cr_assert_eq(other->state, HOLD_STATE_IDLE);
}

Test(hold, P12_a_second_birth_needs_the_verdict_of_the_first)
{
	struct link_deposit m = deposit_of(5, 77, 2);
	struct hold_slot *s = a_spawn(5, 77), *again;

	m.n_holds = 1;
	m.holds[0] = BIRTH;
	cr_assert_eq(deposit(m, &again), HOLD_E_CONFLICT);
	hold_drop(h, s, BIRTH);
	hold_set_state(h, s, HOLD_STATE_UNBORN);
	hold_tell(h, s);
	cr_assert_eq(deposit(m, &again), 0);
	cr_assert_eq(again, s);
	cr_assert_eq(s->id.attempt, 2);
	cr_assert_eq(s->state, HOLD_STATE_AWAITING);
	cr_assert(list_is_empty(&h->telling), "the attempt before is of no interest any more");
	cr_assert_eq(s->n_holds, 3);
}

Test(hold, a_descriptor_deposited_again_replaces_the_first)
{
	struct link_deposit m = deposit_of(5, 77, 1);
	struct hold_slot *s = a_spawn(5, 77);
	int before = hold_get(s, OUT), n = fd_count();

	m.n_holds = 1;
	m.holds[0] = OUT;
	cr_assert_eq(deposit(m, &s), 0);
	cr_assert_eq(s->n_holds, 3);
	cr_assert_eq(h->n_fds, 3);
	cr_assert_eq(fd_count(), n);
	cr_assert_neq(hold_get(s, OUT), before);
}

Test(hold, a_slot_has_room_for_all_streams_with_birth_and_then_pidfd)
{
	struct link_deposit m = deposit_of(5, 77, 1);
	struct hold_slot *s;

	m.holds[m.n_holds++] = BIRTH;
	for (uint32_t i = 0; i < LINK_HOLDS_MAX - 1; i++)
		m.holds[m.n_holds++] = LINK_HOLD(HOLD_OUTPUT, i);
	cr_assert_eq(deposit(m, &s), 0);
	m = deposit_of(5, 77, 1);
	m.n_holds = 1;
	m.holds[0] = IN;
	cr_assert_eq(deposit(m, &s), HOLD_E_CONFLICT, "the pidfd needs the last place");
}

Test(hold, a_full_table_takes_births_alone)
{
	struct link_deposit m = deposit_of(6, 78, 1);
	struct hold_slot *s;

	h->fds_max = 4;
	a_spawn(5, 77);
	m.n_holds = 2;
	m.holds[0] = BIRTH;
	m.holds[1] = IN;
	cr_assert_eq(deposit(m, &s), HOLD_E_FULL);
	cr_assert_null(hold_find(h, &m.id));
	m.n_holds = 1;
	cr_assert_eq(deposit(m, &s), 0);
	m = deposit_of(7, 79, 1);
	m.n_holds = 1;
	m.holds[0] = BIRTH;
	cr_assert_eq(deposit(m, &s), 0, "even beyond the bound");
}

Test(hold, outcomes_are_told_in_the_order_in_which_they_came)
{
	struct hold_slot *a = a_process(5, 1, 1001), *b = a_process(3, 2, 1002);

	hold_tell(h, b);
	hold_tell(h, a);
	hold_set_state(h, b, HOLD_STATE_EXITED);
	hold_tell(h, b);
	cr_assert(list_first(&h->telling, struct hold_slot, telling) == b);
	cr_assert(b->tells_verdict && b->tells_exit);
	hold_told(b);
	cr_assert(list_first(&h->telling, struct hold_slot, telling) == a);
	cr_assert(a->tells_verdict && !a->tells_exit);
	hold_told(a);
	cr_assert(list_is_empty(&h->telling));
}

Test(hold, P13_a_new_broker_is_told_everything_that_has_an_outcome)
{
	struct hold_slot *running = a_process(1, 1, 1001), *exited = a_process(2, 2, 1002);
	struct hold_slot *awaiting = a_spawn(3, 3), *bare = a_process(4, 4, 1004);

	hold_set_state(h, exited, HOLD_STATE_EXITED);
	hold_drop_pidfd(h, bare);
	hold_tell_all(h);
	cr_assert(running->tells_verdict && !running->tells_exit);
	cr_assert(exited->tells_verdict && exited->tells_exit);
	cr_assert_not(awaiting->tells_verdict);
	cr_assert_not(bare->tells_verdict, "it has no pidfd to be told with yet");
}

Test(hold, P11_a_forgotten_process_is_nobodys_but_no_stranger)
{
	struct hold_slot *s = a_process(5, 77, 1001);
	uint32_t value;

	hold_tell(h, s);
	hold_forget(h, s);
	cr_assert(pidmap_get(&h->pids, 1001, &value));
	cr_assert_eq(value, HOLD_NOBODY);
	cr_assert(list_is_empty(&h->telling));
	cr_assert_eq(h->n_fds, 0);
	cr_assert_eq(h->slots[5].state, HOLD_STATE_FREE);
}

Test(hold, a_slot_used_again_has_another_generation)
{
	uint32_t generation = a_spawn(5, 77)->generation;

	hold_forget(h, &h->slots[5]);
	cr_assert_neq(a_spawn(5, 78)->generation, generation);
	cr_assert_eq(h->slots[5].pid, 0);
}

Test(hold, P12_the_next_attempt_has_another_generation)
{
	struct hold_slot *s = a_spawn(5, 77);
	struct link_deposit m = deposit_of(5, 77, 2);
	uint32_t generation = s->generation;

	hold_drop(h, s, BIRTH);
	hold_set_state(h, s, HOLD_STATE_UNBORN);
	m.n_holds = 1;
	m.holds[0] = BIRTH;
	cr_assert_eq(deposit(m, &s), 0);
	cr_assert_neq(s->generation, generation);
}

Test(hold, P11_rings_and_records_are_kept_replaced_and_dropped)
{
	int n = fd_count();

	cr_assert_eq(hold_set_ring(h, 3, 4096, a_descriptor()), 0);
	cr_assert_eq(hold_set_ring(h, 3, 8192, a_descriptor()), 0);
	cr_assert_eq(h->n_fds, 1);
	cr_assert_eq(h->rings[3].size, 8192);
	cr_assert_eq(h->n_rings, 4);
	cr_assert_eq(hold_set_ring(h, LINK_RINGS_MAX, 1, -1), HOLD_E_UNKNOWN);
	cr_assert_eq(hold_set_ring(h, 3, 0, -1), 0);
	cr_assert_eq(h->n_fds, 0);
	for (int i = 0; i < 2; i++) {
		const int fds[LINK_RECORDS_FDS] = { a_descriptor(), a_descriptor(),
						    a_descriptor() };

		hold_set_records(h, fds);
	}
	cr_assert_eq(fd_count(), n + (int)LINK_RECORDS_FDS);
}

Test(hold, an_illegal_move_of_the_state_is_stopped, .signal = SIGABRT)
{
	hold_set_state(h, a_spawn(5, 77), HOLD_STATE_EXITED);
}
