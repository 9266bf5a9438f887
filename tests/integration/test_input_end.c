/* P9, the ends: closing behind what is queued, programs that do not read, writes that are given up,
 * and a great deal through both directions at once. */
#include <criterion/criterion.h>
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/lib/measure.h"
#include "tests/lib/outcome.h"
#include "tests/lib/pattern.h"
#include "tests/lib/places.h"
#include "tests/lib/scene.h"

TestSuite(input_end, .init = scene_begin, .fini = scene_end, .timeout = 60);

static const struct redd_descriptor in = { .fd = 0, .kind = REDD_PIPE };
static const struct redd_write_options with_close = { .size = sizeof(with_close), .close = true };

/* More than any pipe takes, so that it stays queued before a child that does not read. */
static char block[256 * 1024];

static struct redd_port *feed_shell(const char *command)
{
	const struct redd_spawn_options o = {
		.size = sizeof(o), .shell = command, .descriptors = &in, .n_descriptors = 1
	};

	return scene_spawn(&o, &scene.c);
}

static struct redd_port *feed(const char *prog)
{
	const char *argv[] = { place_prog(prog), NULL };
	const struct redd_spawn_options o = {
		.size = sizeof(o), .argv = argv, .descriptors = &in, .n_descriptors = 1
	};

	return scene_spawn(&o, &scene.c);
}

static void wait_closed(void)
{
	cr_assert_eq(collect_wait(&scene.c, scene.r, 20000), 0);
	cr_expect_str_eq(scene.c.wrong, "");
}

static void stop(struct redd_port *port)
{
	cr_assert_eq(redd_signal(port, SIGSTOP, REDD_LEADER, NULL), 0);
}

static void go_on(struct redd_port *port)
{
	cr_assert_eq(redd_signal(port, SIGCONT, REDD_LEADER, NULL), 0);
}

/* --- close ----------------------------------------------------------------------------------- */

Test(input_end, P9_S60_S61_a_close_is_queued_behind_the_data_and_leaves_the_outputs_open)
{
	struct redd_port *port = feed_shell("wc -c; echo still open; echo here too >&2");
	struct outcome writes[4], closed, late;

	stop(port);
	for (int i = 0; i < 4; i++)
		cr_assert_eq(redd_write_start(port, block, sizeof(block), NULL,
					      outcome_call(&writes[i])),
			     0);
	cr_assert_eq(redd_close_start(port, 0, outcome_call(&closed)), 0);
	cr_assert_eq(redd_write_start(port, "late", 4, NULL, outcome_call(&late)), 0);
	cr_assert_eq(outcome_wait(&late, scene.r, 20000), 0);
	cr_expect_eq(late.result, -EPIPE, "nothing goes behind a close");
	cr_expect_eq(closed.n, 0, "it waits for the data");
	go_on(port);
	cr_assert_eq(outcome_wait(&closed, scene.r, 20000), 0);
	cr_expect_eq(closed.reply.closed_at, 4 * sizeof(block));
	for (int i = 0; i < 4; i++)
		cr_expect(writes[i].n == 1 && writes[i].result == 0);
	cr_expect_eq(redd_close(port, 0, NULL), -EPIPE, "closed once");
	wait_closed();
	cr_expect_str_eq(collect_text(&scene.c, 1), "1048576\nstill open\n");
	cr_expect_str_eq(collect_text(&scene.c, 2), "here too\n");
	scene_forget(port);
}

Test(input_end, P9_the_child_reads_end_of_file_once_a_close_is_acknowledged)
{
	for (unsigned i = 0; i < place_rounds(200); i++) {
		struct redd_port *port = feed("cat");

		cr_assert_eq(redd_write(port, "x", 1, i % 2 ? &with_close : NULL, NULL), 0);
		if (i % 2 == 0)
			cr_assert_eq(redd_close(port, 0, NULL), 0);
		wait_closed();
		cr_expect_eq(redd_exit_status(&scene.c.exit), 0);
		cr_expect_str_eq(collect_text(&scene.c, 1), "x");
		scene_forget(port);
		collect_deinit(&scene.c);
		collect_init(&scene.c);
	}
}

/* The keeper has a copy of the input, and while it stands still that is open. */
Test(input_end, P9_a_close_is_not_acknowledged_while_a_copy_of_the_input_is_open)
{
	struct redd_port *port = feed("cat"), *other;
	struct outcome closed, written;

	other = scene_spawn(&(struct redd_spawn_options){ .size = sizeof(struct redd_spawn_options),
							  .shell = "cat",
							  .descriptors = &in,
							  .n_descriptors = 1 },
			    NULL);
	cr_assert_eq(kill(scene.service.pid, SIGSTOP), 0);
	cr_assert_eq(redd_close_start(port, 0, outcome_call(&closed)), 0);
	cr_assert_eq(redd_write_start(other, "x", 1, &with_close, outcome_call(&written)), 0);
	scene_stays_open(port, 100);
	cr_expect_eq(closed.n, 0, "its end of file is still to come");
	cr_expect_eq(written.n, 0, "its close is still to come");
	cr_assert_eq(kill(scene.service.pid, SIGCONT), 0);
	cr_assert_eq(outcome_wait(&closed, scene.r, 20000), 0);
	cr_assert_eq(outcome_wait(&written, scene.r, 20000), 0);
	cr_expect_eq(closed.result, 0);
	cr_expect_eq(written.result, 0);
	wait_closed();
	scene_forget(other);
	scene_forget(port);
}

Test(input_end, P9_a_shared_end_of_the_pipe_does_not_keep_a_sibling_open)
{
	struct redd_port *ports[20];
	struct collect c[20];

	for (int i = 0; i < 20; i++) {
		const char *argv[] = { place_prog("cat"), NULL };
		const struct redd_spawn_options o = {
			.size = sizeof(o), .argv = argv, .descriptors = &in, .n_descriptors = 1
		};

		collect_init(&c[i]);
		ports[i] = scene_spawn(&o, &c[i]);
	}
	for (int i = 0; i < 20; i++) { /* the oldest first: all younger ones live on */
		cr_assert_eq(redd_close(ports[i], 0, NULL), 0);
		cr_assert_eq(collect_wait(&c[i], scene.r, 20000), 0, "%d", i);
		collect_deinit(&c[i]);
		scene_forget(ports[i]);
	}
}

/* --- nobody reads ---------------------------------------------------------------------------- */

Test(input_end, P9_S47_S50_a_program_that_ends_without_reading_fails_what_waits)
{
	struct redd_port *port = feed_shell("exec sleep 0.2; exit 3");
	struct outcome writes[3], closed;

	for (int i = 0; i < 3; i++)
		cr_assert_eq(redd_write_start(port, block, sizeof(block), NULL,
					      outcome_call(&writes[i])),
			     0);
	cr_assert_eq(redd_close_start(port, 0, outcome_call(&closed)), 0);
	cr_assert_eq(outcomes_wait(writes, 3, scene.r, 20000), 0);
	cr_assert_eq(outcome_wait(&closed, scene.r, 20000), 0);
	for (int i = 0; i < 3; i++) {
		cr_expect_eq(writes[i].result, -EPIPE);
		cr_expect_eq(writes[i].code, REDD_FAILED_PRECONDITION);
	}
	cr_expect_eq(closed.result, -EPIPE);
	wait_closed();
	cr_expect_eq(scene.c.exit.state, REDD_EXIT_CODE);
	cr_expect_eq(redd_write(port, "x", 1, NULL, NULL), -EPIPE);
	scene_forget(port);
}

Test(input_end, P9_a_program_that_closes_its_stdin_goes_on)
{
	struct redd_port *port = feed_shell("exec <&-; echo closed; exec sleep 100");
	int result = 0;

	cr_assert_eq(collect_wait_bytes(&scene.c, scene.r, 1, 7, 20000), 0);
	for (int i = 0; i < 2 && !result; i++)
		result = redd_write(port, "x", 1, NULL, NULL);
	cr_expect_eq(result, -EPIPE);
	cr_expect_eq(scene.c.n_exited, 0);
	scene_kill(port);
}

Test(input_end, P9_what_a_program_left_unread_is_not_told_as_unwritten)
{
	struct redd_port *port = feed_shell("head -c 10; exit 0");
	struct redd_written w;
	uint64_t total;

	cr_assert_eq(redd_write(port, block, 4096, NULL, &w), 0);
	cr_expect_eq(w.size, 4096, "it was in the pipe");
	wait_closed();
	total = scene_stream(port, 0).total;
	cr_expect_eq(total, 4096, "%" PRIu64, total);
	scene_forget(port);
}

/* S51 */
Test(input_end, P9_S51_a_program_that_never_reads_is_closed_at_once_200_times, .timeout = 120)
{
	unsigned rounds = place_rounds(200);
	double begin = measure_now();

	for (unsigned i = 0; i < rounds; i++) {
		struct redd_port *port = feed("hang");
		struct outcome write, closed;

		cr_assert_eq(
			redd_write_start(port, block, sizeof(block), NULL, outcome_call(&write)),
			0);
		cr_assert_eq(redd_close_start(port, 0, outcome_call(&closed)), 0);
		cr_assert_eq(redd_signal(port, SIGKILL, REDD_TREE, NULL), 0, "%u: %s", i,
			     redd_last_error(scene.r)->message);
		cr_assert_eq(outcome_wait(&write, scene.r, 20000), 0);
		cr_assert_eq(outcome_wait(&closed, scene.r, 20000), 0);
		cr_expect_eq(write.result, -EPIPE);
		cr_expect_eq(closed.result, -EPIPE);
		wait_closed();
		scene_forget(port);
		collect_deinit(&scene.c);
		collect_init(&scene.c);
	}
	cr_expect_lt(measure_now() - begin, place_patience_ms(20000) / 1e3);
}

Test(input_end, P9_what_was_accepted_is_written_though_its_client_is_gone)
{
	char record[PATH_MAX + 16];
	const char *argv[] = { place_prog("cat"), record, NULL };
	const struct redd_spawn_options o = { .size = sizeof(o),
					      .argv = argv,
					      .descriptors = &in,
					      .n_descriptors = 1,
					      .orphan = REDD_ORPHAN_CLOSE_INPUT };
	struct redd *other = service_connect(&scene.service);
	struct redd_port *port, *there;
	struct outcome writes[3];
	uint64_t id;

	snprintf(record, sizeof(record), "%s/record", scene.service.directory);
	cr_assert_eq(redd_spawn(other, &o, &port), 0, "%s", redd_last_error(other)->message);
	id = redd_port_id(port);
	cr_assert_eq(redd_signal(port, SIGSTOP, REDD_LEADER, NULL), 0);
	for (int i = 0; i < 3; i++)
		cr_assert_eq(redd_write_start(port, block, sizeof(block), NULL,
					      outcome_call(&writes[i])),
			     0);
	cr_assert_eq(redd_ping(other), 0); /* they are taken */
	redd_free(other);
	cr_assert_eq(redd_port_by_id(scene.r, id, &there), 0);
	scene_subscribe(there, &scene.c);
	cr_assert_eq(redd_signal(there, SIGCONT, REDD_LEADER, NULL), 0);
	wait_closed();
	cr_expect_eq(collect_stream(&scene.c, 1)->next, 3 * sizeof(block));
	scene_forget(there);
}

/* --- given up -------------------------------------------------------------------------------- */

Test(input_end, P15_a_write_that_waits_can_be_cancelled_and_those_behind_it_move_up)
{
	struct redd_port *port = feed("cat");
	struct outcome begun, first, second, third;

	stop(port);
	cr_assert_eq(redd_write_start(port, block, sizeof(block), NULL, outcome_call(&begun)), 0);
	cr_assert_eq(redd_write_start(port, "first", 5, NULL, outcome_call(&first)), 0);
	cr_assert_eq(redd_write_start(port, "second", 6, NULL, outcome_call(&second)), 0);
	cr_assert_eq(redd_write_start(port, "third", 5, NULL, outcome_call(&third)), 0);
	cr_assert_eq(redd_cancel(scene.r, second.call.request), 0);
	cr_expect_eq(second.n, 1);
	cr_expect_eq(second.result, -ECANCELED);
	cr_expect_eq(redd_cancel(scene.r, begun.call.request), -EBADFD, "it is in the pipe");
	cr_expect_eq(redd_cancel(scene.r, second.call.request), -ENOENT, "it is over");
	go_on(port);
	cr_assert_eq(outcome_wait(&third, scene.r, 20000), 0);
	cr_expect_eq(first.reply.written.offset, sizeof(block));
	cr_expect_eq(third.reply.written.offset, sizeof(block) + 5);
	cr_assert_eq(redd_close(port, 0, NULL), 0);
	wait_closed();
	cr_expect_str_eq(collect_stream(&scene.c, 1)->data + sizeof(block), "firstthird");
	scene_forget(port);
}

Test(input_end, P15_a_cancelled_write_takes_its_close_along)
{
	struct redd_port *port = feed("cat");
	struct outcome begun, last, closed;

	stop(port);
	cr_assert_eq(redd_write_start(port, block, sizeof(block), NULL, outcome_call(&begun)), 0);
	cr_assert_eq(redd_write_start(port, "last", 4, &with_close, outcome_call(&last)), 0);
	cr_assert_eq(redd_cancel(scene.r, last.call.request), 0);
	cr_expect_eq(last.result, -ECANCELED);
	cr_assert_eq(redd_close_start(port, 0, outcome_call(&closed)), 0);
	cr_assert_eq(redd_cancel(scene.r, closed.call.request), 0);
	cr_expect_eq(closed.result, -ECANCELED);
	go_on(port);
	cr_assert_eq(redd_write(port, "end", 3, &with_close, NULL), 0, "it is still open");
	wait_closed();
	cr_expect_str_eq(collect_stream(&scene.c, 1)->data + sizeof(block), "end");
	scene_forget(port);
}

Test(input_end, P15_a_write_whose_place_is_gone_is_refused_with_its_close)
{
	struct redd_port *port = feed("cat");
	struct redd_write_options at = {
		.size = sizeof(at), .at_offset = true, .offset = sizeof(block) + 6, .close = true
	};
	struct outcome begun, gone, placed;

	stop(port);
	cr_assert_eq(redd_write_start(port, block, sizeof(block), NULL, outcome_call(&begun)), 0);
	cr_assert_eq(redd_write_start(port, "cancel", 6, NULL, outcome_call(&gone)), 0);
	cr_assert_eq(redd_write_start(port, "placed", 6, &at, outcome_call(&placed)), 0);
	cr_assert_eq(redd_cancel(scene.r, gone.call.request), 0);
	cr_assert_eq(outcome_wait(&placed, scene.r, 20000), 0);
	cr_expect_eq(placed.result, -ERANGE);
	go_on(port);
	cr_assert_eq(redd_write(port, "end", 3, &with_close, NULL), 0, "it is still open");
	wait_closed();
	cr_expect_str_eq(collect_stream(&scene.c, 1)->data + sizeof(block), "end");
	scene_forget(port);
}

/* --- a great deal ---------------------------------------------------------------------------- */

#define CHUNK	  (64 * 1024)
#define UNDER_WAY 8

static struct outcome under_way[UNDER_WAY];

/* The chunk at this offset goes out when the one that had its place before was answered. */
static void send_chunk(struct redd_port *port, uint64_t offset)
{
	static uint8_t data[CHUNK];
	struct outcome *o = &under_way[offset / CHUNK % UNDER_WAY];

	if (offset >= UNDER_WAY * CHUNK) {
		cr_assert_eq(outcome_wait(o, scene.r, 60000), 0);
		cr_assert_eq(o->result, 0);
		cr_assert_eq(o->reply.written.offset, offset - UNDER_WAY * CHUNK);
	}
	pattern_fill(data, CHUNK, offset);
	cr_assert_eq(redd_write_start(port, data, CHUNK, NULL, outcome_call(o)), 0);
}

/* What comes back is checked as it comes. */
Test(input_end, P9_S68_more_than_a_gibibyte_goes_in_and_comes_out_at_once, .timeout = 200)
{
	uint64_t size = (uint64_t)place_rounds(1100) << 20, total;
	struct redd_port *port;

	scene.c.drop_data = scene.c.patterned = true;
	port = feed("cat");
	for (uint64_t sent = 0; sent < size; sent += CHUNK)
		send_chunk(port, sent);
	cr_assert_eq(redd_close(port, 0, &total), 0);
	cr_expect_eq(total, size);
	cr_assert_eq(collect_wait(&scene.c, scene.r, 60000), 0);
	cr_expect_str_eq(scene.c.wrong, "");
	cr_expect_eq(collect_stream(&scene.c, 1)->end.total, size);
	cr_expect_eq(redd_exit_status(&scene.c.exit), 0);
	scene_forget(port);
}
