/* `redd expect`, and who blocks whom as `redd inspect` and `redd ps --blocked` show it. */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "proto/limits.h"
#include "tests/lib/command.h"
#include "tests/lib/places.h"
#include "tests/lib/scene.h"

static struct command c;

static void tear_down(void)
{
	command_free(&c);
	scene_end();
}

TestSuite(expect_command, .init = scene_begin, .fini = tear_down, .timeout = 90);

/* Runs it without stdin and checks status and output; NULL: whatever it is. */
#define EXPECT(want_status, want_out, ...) \
	COMMAND_EXPECT(&c, scene.service.socket, NULL, want_status, want_out, __VA_ARGS__)

static struct redd_port *spawn_named(const char *name)
{
	static const struct redd_descriptor in = { .fd = 0, .kind = REDD_PIPE };
	const struct redd_spawn_options o = { .shell = "while read line; do eval \"$line\"; done",
					      .name = name,
					      .descriptors = &in,
					      .n_descriptors = 1 };

	return scene_spawn(&o, NULL);
}

Test(expect_command, it_prints_the_match_and_its_status_says_what_came)
{
	struct redd_port *port = spawn_named("talk");

	EXPECT(0, "is 42", "expect", "talk", "--send", "echo this is $((6 * 7))", "--regex",
	       "is \\d+$");
	EXPECT(0, "THIS", "expect", "-i", "-t", "nothing", "-t", "this", "-n", "-s", "echo THIS\n",
	       "talk");
	EXPECT(0, "this is 42\nTHIS", "expect", "--from", "0", "-e", "(?s)this.*THIS", "--timeout",
	       "0", "talk");
	EXPECT(124, "", "expect", "--now", "-t", "x", "--timeout", "20ms", "talk");
	EXPECT(1, "", "expect", "-t", "x", "--idle", "20ms", "talk");
	EXPECT(0, "", "expect", "--idle", "20ms", "talk");
	EXPECT(0, NULL, "expect", "--json", "-s", "echo a b", "-e", "(a) (c)?", "talk");
	cr_expect(strstr(c.out.text, "{\"what\":\"match\",\"port\":"), "%s", c.out.text);
	cr_expect(strstr(c.out.text, "\"groups\":[{\"offset\":16,\"end\":17},{}]"), "%s",
		  c.out.text);
	EXPECT(1, "", "expect", "-t", "x", "--exit", "-s", "exit 5", "talk");
	EXPECT(1, "", "expect", "-t", "x", "talk");
	scene_forget(port);
}

Test(expect_command, what_is_wrong_is_told_with_status_2)
{
	struct redd_port *port = spawn_named("talk");

	EXPECT(2, "", "expect", "-e", "a(b", "talk");
	cr_expect_not_null(strstr(c.err.text, "at byte 1: it has a ( without its )"), "%s",
			   c.err.text);
	EXPECT(2, "", "expect", "-t", "", "talk");
	EXPECT(2, "", "expect", "--now", "--from", "3", "talk");
	EXPECT(2, "", "expect", "-t", "x");
	EXPECT(2, "", "expect", "-t", "x", "no-such-port");
	EXPECT(2, "", "expect", "--from", "9", "-t", "x", "talk");
	EXPECT(0, NULL, "expect", "--help");
	cr_assert_eq(redd_signal(port, 9, REDD_LEADER, NULL), 0);
	scene_forget(port);
}

/* --- who blocks whom ------------------------------------------------------------------------- */

static const struct redd_subscription_info *inspect(struct redd_port *port,
						    struct redd_ports **info)
{
	cr_assert_eq(redd_inspect(port, info), 0);
	cr_assert_eq((*info)->ports[0].n_subscriptions, 1);
	return &(*info)->ports[0].subscriptions[0];
}

Test(expect_command, who_holds_a_child_back_is_shown_with_how_long)
{
	const char *const argv[] = { place_prog("pattern"), "1048576", NULL };
	const struct redd_spawn_options o = { .argv = argv, .log_size = RING_LOWEST };
	const struct redd_subscription_info *s;
	struct redd_stream_info stream;
	struct redd_ports *info;
	struct redd_port *port;
	int64_t begin;

	scene.c.drop_data = true;
	scene.c.watch.overflow = REDD_BLOCK;
	scene.c.watch.credit_mode = REDD_CREDIT_MANUAL;
	scene.c.watch.window = 1000 + EVENT_CREDIT;
	port = scene_spawn(&o, &scene.c);
	scene_wait_held(port, 1);
	begin = scene_now_ms();
	scene_stays_open(port, 50);
	s = inspect(port, &info);
	cr_expect(s->blocking && !s->stalled);
	cr_expect_geq(s->blocking_ms, 50);
	cr_expect_geq(s->lag_ms, s->blocking_ms);
	cr_expect_eq(s->lag, RING_LOWEST);
	cr_expect_eq(s->blocked_total_ms, s->blocking_ms);
	for (size_t i = 0; i < info->ports[0].n_streams; i++)
		if (info->ports[0].streams[i].stream == 1) {
			const struct redd_stream_info *held = &info->ports[0].streams[i];

			cr_expect_geq(held->held_ms, 50);
			cr_assert_eq(held->n_held_by, 1);
			cr_expect_eq(held->held_by[0].subscription, s->subscription);
			cr_expect_eq(held->held_by[0].pid, getpid());
			cr_expect_str_eq(held->held_by[0].client, s->client);
		}
	redd_ports_free(info);
	EXPECT(0, NULL, "ps", "--blocked");
	cr_expect(strstr(c.out.text, scene_text("(pid %d)", (int)getpid())), "%s", c.out.text);
	EXPECT(0, NULL, "inspect", scene_text("%d", (int)redd_port_id(port)));
	cr_expect(strstr(c.out.text, "held by"), "%s", c.out.text);
	cr_assert_eq(redd_credit(redd_port_subscription(port), 1ull << 40), 0);
	cr_assert_eq(collect_wait(&scene.c, scene.r, 30000), 0);
	stream = scene_stream(port, 1);
	cr_expect_eq(stream.held_ms, 0);
	cr_expect_geq(stream.held_total_ms, 50);
	cr_expect_leq(stream.held_total_ms, (uint64_t)(scene_now_ms() - begin) + 1000);
	EXPECT(0, NULL, "ps", "--blocked", "--json");
	cr_expect_str_eq(c.out.text, "");
	scene_forget(port);
}

Test(expect_command, a_subscription_that_stalled_is_shown_as_one_that_drops_now)
{
	const char *const argv[] = { place_prog("pattern"), "1048576", NULL };
	const struct redd_spawn_options o = { .argv = argv, .log_size = RING_LOWEST };
	const struct redd_subscription_info *s;
	struct redd_waited waited;
	struct redd_ports *info;
	struct redd_port *port;

	scene.c.drop_data = true;
	scene.c.watch.overflow = REDD_BLOCK;
	scene.c.watch.stall_ms = 100;
	scene.c.watch.credit_mode = REDD_CREDIT_MANUAL;
	scene.c.watch.window = 1;
	port = scene_spawn(&o, &scene.c);
	cr_assert_eq(redd_wait(port, REDD_UNTIL_CLOSED, place_patience_ms(30000), &waited), 0);
	s = inspect(port, &info);
	cr_expect(s->stalled && !s->blocking);
	cr_expect_eq(s->overflow, REDD_DROP);
	cr_expect_geq(s->blocked_total_ms, 100);
	cr_expect_eq(s->blocking_ms, 0);
	redd_ports_free(info);
	EXPECT(0, NULL, "stats");
	cr_expect(strstr(c.out.text, "redd_subscriptions_stalled_total         1\n"), "%s",
		  c.out.text);
	redd_subscription_free(redd_port_subscription(port));
	scene_forget(port);
}
