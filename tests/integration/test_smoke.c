/* The whole path once, by the library: a service starts, a process is spawned, fed, read and waited
 * for, and nothing is left. If this fails, look here first. */
#include <criterion/criterion.h>
#include <errno.h>
#include <signal.h>
#include <string.h>

#include "tests/lib/collect.h"
#include "tests/lib/peer.h"
#include "tests/lib/places.h"
#include "tests/lib/scene.h"

TestSuite(smoke, .init = scene_begin, .fini = scene_end, .timeout = 60);

Test(smoke, a_service_starts_answers_and_ends)
{
	cr_assert_eq(redd_ping(scene.r), 0);
}

Test(smoke, p2_output_arrives_whole_and_the_status_is_right)
{
	struct redd_spawn_options o = { .size = sizeof(o),
					.shell = "echo out; echo err >&2; exit 3" };

	cr_assert_eq(collect_run(&scene.c, scene.r, &o, 10000), 0, "%s",
		     redd_last_error(scene.r)->message);
	cr_assert_str_eq(scene.c.wrong, "");
	cr_assert_str_eq(collect_text(&scene.c, 1), "out\n");
	cr_assert_str_eq(collect_text(&scene.c, 2), "err\n");
	cr_assert_eq(scene.c.exit.state, REDD_EXIT_CODE);
	cr_assert_eq(scene.c.exit.code, 3);
}

Test(smoke, p9_input_comes_back_from_a_cat)
{
	const char *const argv[] = { place_prog("cat"), NULL };
	const struct redd_descriptor in = { .fd = 0, .kind = REDD_PIPE };
	struct redd_spawn_options o = { .size = sizeof(o),
					.argv = argv,
					.descriptors = &in,
					.n_descriptors = 1,
					.subscribe = &scene.c.watch };
	struct redd_written written;
	struct redd_port *port;

	cr_assert_eq(redd_spawn(scene.r, &o, &port), 0, "%s", redd_last_error(scene.r)->message);
	cr_assert_eq(redd_write(port, "hello\n", 6, NULL, &written), 0);
	cr_assert_eq(written.offset, 0);
	cr_assert_eq(written.size, 6);
	cr_assert_eq(redd_close(port, 0, NULL), 0);
	cr_assert_eq(collect_wait(&scene.c, scene.r, 10000), 0);
	cr_assert_str_eq(scene.c.wrong, "");
	cr_assert_str_eq(collect_text(&scene.c, 1), "hello\n");
	cr_assert_eq(redd_exit_status(&scene.c.exit), 0);
	cr_assert_eq(redd_forget(port), 0);
	redd_port_free(port);
}

Test(smoke, p4_a_signal_is_told_as_a_signal)
{
	cr_assert_eq(collect_prog(&scene.c, scene.r, "die", "9", NULL), 0);
	cr_assert_str_eq(scene.c.wrong, "");
	cr_assert_eq(scene.c.exit.state, REDD_EXIT_SIGNAL);
	cr_assert_eq(scene.c.exit.signal, SIGKILL);
}

Test(smoke, p6_a_program_that_is_not_there_is_an_error_with_its_stage)
{
	const char *const argv[] = { "/no/such/program", NULL };
	struct redd_spawn_options o = { .size = sizeof(o), .argv = argv };
	struct redd_port *port = NULL;

	cr_assert_eq(redd_spawn(scene.r, &o, &port), -ENOENT);
	cr_assert_null(port);
	cr_assert_eq(redd_last_error(scene.r)->stage, REDD_STAGE_EXEC);
	cr_assert_neq(redd_last_error(scene.r)->message[0], '\0');
}

Test(smoke, p1_a_mebibyte_arrives_in_order)
{
	scene.c.patterned = true;
	scene.c.drop_data = true;
	cr_assert_eq(collect_prog(&scene.c, scene.r, "pattern", "1048576", NULL), 0);
	cr_assert_str_eq(scene.c.wrong, "");
	cr_assert_eq(collect_stream(&scene.c, 1)->end.total, 1048576);
	cr_assert_eq(collect_stream(&scene.c, 1)->n_gaps, 0);
}

Test(smoke, p15_a_frame_that_does_not_parse_ends_that_connection_alone)
{
	struct peer peer;

	cr_assert_eq(peer_open(&peer, scene.service.socket), 0);
	cr_assert_eq(peer_hello(&peer), 0);
	cr_assert_eq(peer_send(&peer, "\x05\xff\xff\xff\xff\xff", 6), 0);
	cr_assert_eq(peer_expect_end(&peer, 10000), 0);
	peer_close(&peer);
	cr_assert_eq(redd_ping(scene.r), 0);
}
