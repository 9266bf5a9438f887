/* What becomes of what others wait for when their right to it is taken back. */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "broker/pending.h"
#include "broker/req.h"
#include "broker/rights.h"
#include "proto/base/fd.h"
#include "tests/lib/core.h"
#include "tests/lib/places.h"

#define NOBODY 65534
#define PIPE   65536
#define FEW    1000u
#define MANY   (8 * FEW)
#define RATIO  28 /* eight times as many: 8 times as long, or 64 */
#define ROUNDS 3
#define CONNS  (MANY / CONN_PENDING_MAX + 1)

static struct core *core;
static struct conn *owner, *mine[CONNS], *others[CONNS];
static struct port *port;
static struct grant grant;
static int owner_fd, fds[2 * CONNS], child;

static void set_up(void)
{
	core = core_open();
	owner = core_connect(core, &owner_fd);
	for (unsigned i = 0; i < CONNS; i++) {
		mine[i] = core_connect(core, &fds[2 * i]);
		others[i] = core_connect(core, &fds[2 * i + 1]);
		others[i]->who.uid = NOBODY;
	}
	port = core_port(core, owner, &(struct core_port){ .has_input = true }, &child);
}

static void tear_down(void)
{
	close(owner_fd);
	fd_close_many(fds, 2 * CONNS);
	close(child);
	core_close(core);
}

TestSuite(taken_back, .init = set_up, .fini = tear_down, .timeout = 60);

static void allow(uint8_t rights)
{
	grant = (struct grant){
		.to = GRANT_TO_UID, .number = NOBODY, .rights = rights, .streams = STREAMS_ALL
	};
	cr_assert_eq(rights_grant(port, &grant), 0);
}

static void write_to(struct conn *c, uint64_t id, size_t size)
{
	Redd__V1__Request request = REDD__V1__REQUEST__INIT;
	Redd__V1__Write m = REDD__V1__WRITE__INIT;
	Redd__V1__PortRef ref = REDD__V1__PORT_REF__INIT;
	uint8_t *data = calloc(1, size);

	ref.by_case = REDD__V1__PORT_REF__BY_ID;
	ref.id = port->id;
	m.port = &ref;
	m.has_data = true;
	m.data = (ProtobufCBinaryData){ size, data };
	request.id = id;
	request.write = &m;
	cr_assert_eq(req_write(c, &request), 0);
	free(data);
}

static uint64_t charged(void)
{
	return quota_used(port_account(port), QUOTA_INPUT_BYTES);
}

Test(taken_back, a_write_that_has_not_begun_goes_with_its_charge_and_the_marks_follow)
{
	struct stream *in = port_stream(port, 0);

	allow(RIGHT_WRITE);
	write_to(owner, 1, PIPE);
	cr_assert_eq(input_queued(&in->in.queue), 0, "the pipe takes less than it should");
	write_to(others[0], 2, INPUT_HIGH_DEFAULT);
	cr_assert_eq(charged(), INPUT_HIGH_DEFAULT);
	cr_assert(in->in.was_busy);
	cr_assert(rights_revoke(port, grant.id));
	cr_expect_null(pending_find(others[0], 2));
	cr_expect_eq(input_queued(&in->in.queue), 0);
	cr_expect_eq(charged(), 0);
	cr_expect_not(in->in.was_busy, "whoever asked for the marks is not told");
}

/* --- many ------------------------------------------------------------------------------------ */

static uint64_t clock_us(void)
{
	struct timespec now;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
	return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

static void wait_by(struct conn *const *conns, unsigned n)
{
	struct pending *p;

	for (unsigned i = 0; i < n; i++)
		cr_assert_eq(pending_new(&p, conns[i / CONN_PENDING_MAX], port, PENDING_WAIT_EXITED,
					 1 + i),
			     0);
}

static void end_waits(void)
{
	struct pending *p;

	while ((p = list_first(&port->pendings, struct pending, port_link)))
		pending_free(p);
}

/* For so many Waits to be given up, behind as many of the owner's that go on. */
static uint64_t fastest_us(unsigned n)
{
	uint64_t best = UINT64_MAX, begin;

	for (unsigned round = 0; round < ROUNDS; round++) {
		allow(RIGHT_SEE);
		wait_by(mine, n);
		wait_by(others, n);
		begin = clock_us();
		cr_assert(rights_revoke(port, grant.id));
		best = MIN(best, clock_us() - begin);
		end_waits();
		core_turns(core, 3);
	}
	return best;
}

Test(taken_back, each_of_many_waits_costs_the_same)
{
	uint64_t few = fastest_us(FEW), many = fastest_us(MANY);

	cr_expect_lt(many, few * RATIO, "%llu us for %u, %llu us for %u", (unsigned long long)few,
		     FEW, (unsigned long long)many, MANY);
}

Test(taken_back, who_may_go_on_does)
{
	struct pending *theirs, *ours, *p[3];

	allow(RIGHT_SEE);
	for (int i = 0; i < 3; i++)
		cr_assert_eq(pending_new(&p[i], i == 1 ? others[0] : owner, port,
					 PENDING_WAIT_EXITED, 1 + (uint64_t)i),
			     0);
	cr_assert(rights_revoke(port, grant.id));
	ours = list_first(&port->pendings, struct pending, port_link);
	theirs = list_first(&others[0]->pendings, struct pending, conn_link);
	cr_expect_eq(ours, p[0]);
	cr_expect_eq(list_entry(ours->port_link.next, struct pending, port_link), p[2]);
	cr_expect_null(theirs);
}
