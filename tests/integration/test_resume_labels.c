/* P13 for labels, and what lists show: who picks ports by them finds those of an earlier broker
 * too. */
#include <criterion/criterion.h>
#include <errno.h>
#include <signal.h>
#include <string.h>

#include "tests/lib/death.h"
#include "tests/lib/outcome.h"
#include "tests/lib/places.h"
#include "tests/lib/scene.h"

TestSuite(resume_labels, .init = death_begin, .fini = scene_end, .timeout = 120);

static struct redd_port *labelled(const struct redd_label *labels, size_t n)
{
	const char *argv[] = { place_prog("hang"), NULL };

	return scene_spawn(&(struct redd_spawn_options){ .size = sizeof(struct redd_spawn_options),
							 .argv = argv,
							 .labels = labels,
							 .n_labels = n },
			   NULL);
}

Test(resume_labels, P13_waits_and_signals_by_labels_reach_ports_of_an_earlier_broker)
{
	const struct redd_label a[] = { { "job", "a" }, { "empty", "" } };
	const struct redd_label b[] = { { "job", "b" } };
	struct redd_port *with_a = labelled(a, 2), *with_b = labelled(b, 1);
	struct redd_port *with_none = labelled(NULL, 0);
	struct outcome waited = { 0 };
	uint32_t count = 0;

	cr_assert_eq(
		redd_wait_labels_start(scene.r, a, 1, REDD_UNTIL_EXITED, -1, outcome_call(&waited)),
		0);
	cr_assert_eq(redd_ping(scene.r), 0);
	for (int i = 0; i < 2; i++) { /* they outlive another one as well */
		death_now();
		cr_assert_eq(redd_ping(scene.r), 0);
		cr_expect_eq(waited.n, 0, "none of them has ended: %d", waited.result);
	}
	cr_assert_eq(redd_signal_labels(scene.r, b, 1, SIGKILL, REDD_GROUP, &count), 0);
	cr_expect_eq(count, 1);
	cr_assert_eq(redd_signal_labels(scene.r, a, 2, SIGKILL, REDD_GROUP, &count), 0);
	cr_expect_eq(count, 1);
	cr_assert_eq(outcome_wait(&waited, scene.r, 20000), 0);
	cr_expect_eq(waited.result, 0);
	cr_assert_eq(redd_signal(with_none, SIGKILL, REDD_LEADER, NULL), 0, "%s",
		     redd_last_error(scene.r)->message);
	scene_forget(with_a);
	scene_forget(with_b);
	scene_forget(with_none);
}

Test(resume_labels, P13_lists_show_the_labels_of_an_earlier_brokers_ports)
{
	const struct redd_label labels[] = { { "job", "a" }, { "empty", "" } };
	struct redd_port *port = labelled(labels, 2);
	struct redd_ports *ports;

	death_now();
	cr_assert_eq(redd_inspect(port, &ports), 0, "%s", redd_last_error(scene.r)->message);
	cr_assert_eq(ports->ports[0].n_labels, 2);
	cr_expect_str_eq(ports->ports[0].labels[0].key, "empty");
	cr_expect_str_eq(ports->ports[0].labels[0].value, "");
	cr_expect_str_eq(ports->ports[0].labels[1].key, "job");
	cr_expect_str_eq(ports->ports[0].labels[1].value, "a");
	redd_ports_free(ports);
	cr_assert_eq(redd_signal(port, SIGKILL, REDD_LEADER, NULL), 0);
	scene_forget(port);
}

/* What is there only to be looked at. */
Test(resume_labels, P13_lists_show_the_command_of_an_earlier_brokers_port)
{
	const char *argv[] = { place_prog("hang"), "a b\n", "", "\xff", NULL };
	struct redd_port *port =
		scene_spawn(&(struct redd_spawn_options){ .size = sizeof(struct redd_spawn_options),
							  .argv = argv,
							  .directory = "/tmp" },
			    NULL);
	struct redd_ports *ports;

	for (int i = 0; i < 2; i++) {
		death_now();
		cr_assert_eq(redd_inspect(port, &ports), 0, "%s",
			     redd_last_error(scene.r)->message);
		cr_expect_str_eq(ports->ports[0].program, argv[0]);
		cr_expect_str_eq(ports->ports[0].directory, "/tmp");
		cr_assert_eq(ports->ports[0].n_args, 3);
		for (int k = 0; k < 3; k++)
			cr_expect_str_eq(ports->ports[0].args[k], argv[k + 1]);
		cr_expect_not(ports->ports[0].args_cut);
		redd_ports_free(ports);
	}
	scene_kill(port);
}
