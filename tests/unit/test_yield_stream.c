/* Streams that give way to spawns: what waits comes all the same, and an exit waits for nobody. */
#include <criterion/criterion.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "broker/stream.h"
#include "broker/yield.h"
#include "tests/lib/core.h"

static struct core *core;
static struct port *port;
static int client, child;
static uint64_t written;

/* On a machine of one processor that two want. */
static void set_up(void)
{
	int load_fd;

	core = core_open();
	load_fd = memfd_create("load", MFD_CLOEXEC);
	cr_assert_eq(write(load_fd, "1.0 1.0 1.0 2/80 1\n", 19), 19);
	yield_start(&core->b.yield, load_fd, 1);
	port = core_port(core, core_connect(core, &client), &(struct core_port){ .n_outputs = 1 },
			 &child);
}

static void tear_down(void)
{
	close(client);
	if (child >= 0)
		close(child);
	core_close(core);
}

TestSuite(yield_stream, .init = set_up, .fini = tear_down, .timeout = 60);

static uint64_t come(void)
{
	return stream_total(port->streams[0]);
}

static void child_writes(void)
{
	static const char data[65536];
	ssize_t n = write(child, data, sizeof(data));

	cr_assert_gt(n, 0);
	written += (uint64_t)n;
}

static void flood(void)
{
	while (!port->streams[0]->flow.is_bulk) {
		child_writes();
		core_until(core, come() == written);
	}
}

Test(yield_stream, P7_output_is_read_at_the_cost_of_whose_it_is)
{
	cr_expect_eq(port->streams[0]->work.share, quota_turn_share(port_account(port)));
}

Test(yield_stream, a_flood_waits_for_a_spawn_and_then_goes_on)
{
	flood();
	yield_to_spawn(&core->b.yield);
	child_writes();
	core_turn(core);
	cr_expect_neq(come(), written);
	cr_expect(core->b.yield.is_holding);
	core_until(core, come() == written);
	cr_expect_gt(yield_held_ms(&core->b.yield), 0);
}

Test(yield_stream, what_its_program_left_behind_is_read_at_once)
{
	flood();
	core->b.yield.wanted_until_ms = UINT64_MAX; /* spawns without end */
	child_writes();
	core_turn(core);
	cr_expect_neq(come(), written);
	core_port_exit(core, port, 0);
	core_turns(core, 3);
	cr_expect_eq(come(), written);
}

Test(yield_stream, the_end_of_a_stream_is_not_late_at_its_ports_end)
{
	flood();
	core->b.yield.wanted_until_ms = UINT64_MAX; /* spawns without end */
	close(child);
	child = -1;
	core_turns(core, 3);
	cr_expect_not(port->streams[0]->out.is_ended);
	core_port_exit(core, port, 0);
	core_turns(core, 3);
	cr_expect(port->streams[0]->out.is_ended);
	cr_expect_eq(port->streams[0]->out.cause, STREAM_END_OF_FILE);
}

/* However late the broker comes to read it. */
Test(yield_stream, P5_what_waits_in_the_pipe_is_not_idle)
{
	uint64_t late;

	core_port_exit(core, port, 0);
	late = uv_now(&core->b.loop) + 2 * DRAIN_DEFAULT_MS;
	cr_assert_geq(stream_idle_ms(port->streams[0], late), DRAIN_DEFAULT_MS);
	child_writes();
	cr_expect_eq(stream_idle_ms(port->streams[0], late), 0);
}

Test(yield_stream, a_port_may_be_given_up_while_it_waits)
{
	flood();
	core->b.yield.wanted_until_ms = UINT64_MAX;
	child_writes();
	core_turn(core);
	cr_expect_neq(come(), written);
}
