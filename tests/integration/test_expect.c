/* Send and expect: what a program says is found wherever the reads cut it, what it says to a line
 * that was sent is never missed, and each way in which a wait can end is told. Nothing here sleeps.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/limits.h"
#include "tests/lib/neighbour.h"
#include "tests/lib/places.h"
#include "tests/lib/random.h"
#include "tests/lib/scene.h"

#define WAIT 30000

TestSuite(expect, .init = scene_begin, .fini = scene_end, .timeout = 120);

static const struct redd_descriptor in = { .fd = 0, .kind = REDD_PIPE };

static struct redd_port *spawn_fed(const char *const *argv)
{
	const struct redd_spawn_options o = { .argv = argv,
					      .descriptors = &in,
					      .n_descriptors = 1 };

	return scene_spawn(&o, NULL);
}

static struct redd_port *spawn_cat(void)
{
	const char *const argv[] = { place_prog("cat"), NULL };

	return spawn_fed(argv);
}

/* Waits with a limit that means a failure, and frees what came but for these numbers. */
static struct redd_matched expect(struct redd_port *port, const struct redd_expect_options *o)
{
	static char data[256];
	struct redd_matched *m, copy;

	cr_assert_eq(redd_expect(port, o, place_patience_ms(WAIT), &m), 0, "%s",
		     redd_last_error(scene.r)->message);
	copy = *m;
	snprintf(data, sizeof(data), "%s", m->data ? m->data : "");
	copy.data = data;
	copy.groups = NULL;
	redd_matched_free(m);
	return copy;
}

static struct redd_matched send_and_expect(struct redd_port *port, const char *line,
					   const char *regex)
{
	const struct redd_pattern p = { .text = regex, .regex = true };

	return expect(port, &(struct redd_expect_options){ .patterns = &p,
							   .n_patterns = 1,
							   .data = line,
							   .data_size = strlen(line) });
}

static void end(struct redd_port *port)
{
	cr_assert_eq(redd_signal(port, 9, REDD_LEADER, NULL), 0);
	scene_forget(port);
}

/* --- dialogues ------------------------------------------------------------------------------- */

Test(expect, a_dialogue_with_a_shell_needs_no_sleep)
{
	const char *const argv[] = { "/bin/sh", NULL };
	struct redd_port *port = spawn_fed(argv);
	struct redd_matched m = send_and_expect(port, "x=1; echo is $x\n", "is (\\d)$");
	uint64_t next = m.next;

	cr_expect_eq(m.what, REDD_MATCH);
	cr_expect_str_eq(m.data, "is 1");
	cr_expect_eq(m.offset, 0);
	cr_expect_eq(m.end, 4);
	cr_expect_eq(m.next, 4);
	cr_expect_eq(m.n_groups, 1);
	cr_expect(m.has_written && m.written.offset == 0 && m.written.size == 16);
	m = send_and_expect(port, "x=$((x + 1)); echo is $x\n", "is \\d\\n");
	cr_expect_str_eq(m.data, "is 2\n");
	cr_expect_geq(m.offset, next, "found twice");
	cr_expect_eq(m.written.offset, 16);
	end(port);
}

Test(expect, a_terminal_is_searched_as_it_is_written)
{
	const char *const argv[] = { "/bin/sh", NULL };
	const char *const environment[] = { "PS1=ready> ", "ENV=", NULL };
	const struct redd_terminal terminal = { 0 };
	const struct redd_pattern prompt = { .text = "ready> " };
	const struct redd_spawn_options o = { .argv = argv,
					      .terminal = &terminal,
					      .set_env = environment };
	struct redd_port *port = scene_spawn(&o, NULL);
	struct redd_matched m =
		expect(port, &(struct redd_expect_options){
				     .patterns = &prompt, .n_patterns = 1, .has_from = true });

	cr_assert_eq(m.what, REDD_MATCH);
	cr_expect_eq(m.stream, REDD_TERMINAL);
	/* Behind the echo of the line itself. */
	m = send_and_expect(port, "echo $((6 * 7))\n", "^42\\r\\nready> ");
	cr_expect_eq(m.what, REDD_MATCH);
	m = send_and_expect(port, "exit 5\n", "no such thing");
	cr_expect_eq(m.what, REDD_MATCHED_ENDED);
	scene_forget(port);
}

/* --- wherever it is cut ---------------------------------------------------------------------- */

struct outcome {
	unsigned n;
	int result;
	struct redd_matched m;
};

static void on_done(struct redd *r, int result, const struct redd_reply *reply, void *user)
{
	struct outcome *o = user;

	(void)r;
	o->n++;
	o->result = result;
	if (result == 0)
		o->m = *reply->matched;
}

static void outcome_wait(struct outcome *o)
{
	int64_t begin = scene_now_ms();

	while (!o->n && scene_now_ms() - begin < place_patience_ms(WAIT))
		cr_assert_eq(redd_run_once(scene.r, 1000), 0);
	cr_assert_eq(o->n, 1);
}

Test(expect, a_match_is_found_once_though_every_byte_comes_alone)
{
	static const char text[] = "aaabaaab-login-log-login: x";
	static const struct {
		struct redd_pattern pattern;
		uint64_t offset, end;
	} cases[] = {
		{ { .text = "login: " }, 19, 26 },
		{ { .text = "(?:lo(g)in: )", .regex = true }, 19, 26 },
		{ { .text = "a+b-", .regex = true }, 4, 9 },
		{ { .text = "LOGIN-", .ignore_case = true }, 9, 15 },
		{ { .text = "\\bx$", .regex = true }, 26, 27 },
	};
	enum { N = sizeof(cases) / sizeof(cases[0]) };
	struct outcome outcomes[N] = { { 0 } };
	struct redd_port *port = spawn_cat();

	for (int i = 0; i < N; i++) {
		const struct redd_expect_options o = { .patterns = &cases[i].pattern,
						       .n_patterns = 1 };
		struct redd_call call = { on_done, &outcomes[i], 0 };

		cr_assert_eq(redd_expect_start(port, &o, -1, &call), 0);
	}
	for (size_t i = 0; i < sizeof(text) - 1; i++) {
		cr_assert_eq(redd_write(port, text + i, 1, NULL, NULL), 0);
		while (scene_stream(port, 1).total <= i)
			;
	}
	cr_assert_eq(redd_close(port, REDD_STREAM_DEFAULT, NULL), 0);
	for (int i = 0; i < N; i++) {
		outcome_wait(&outcomes[i]);
		cr_expect_eq(outcomes[i].m.what, REDD_MATCH, "%d", i);
		cr_expect_eq(outcomes[i].m.offset, cases[i].offset, "%d: %llu", i,
			     (unsigned long long)outcomes[i].m.offset);
		cr_expect_eq(outcomes[i].m.end, cases[i].end, "%d", i);
	}
	scene_forget(port);
}

/* The answer to a line is there the moment it is written; a wait that began a little later would
 * miss it in some rounds, one that began earlier would find the round before. */
Test(expect, the_answer_to_what_was_sent_is_never_missed)
{
	struct redd_port *port = spawn_cat();
	uint64_t next = 0;

	for (unsigned i = 0; i < place_rounds(10000); i++) {
		char line[32];
		struct redd_matched m;

		snprintf(line, sizeof(line), "round %u!\n", i);
		m = send_and_expect(port, line, "round (\\d+)!");
		cr_assert_eq(m.what, REDD_MATCH, "round %u", i);
		cr_assert_eq(m.offset, next, "round %u", i);
		next = m.end + 1;
	}
	end(port);
}

Test(expect, sixty_four_clients_wait_for_the_same_port)
{
	enum { N = 64 };
	struct redd_port *port = spawn_cat(), *theirs[N];
	struct outcome outcomes[N] = { { 0 } };
	struct redd *clients[N];

	for (int i = 0; i < N; i++) {
		char text[32];
		const struct redd_pattern p = { .text = text };
		const struct redd_expect_options o = { .patterns = &p, .n_patterns = 1 };
		struct redd_call call = { on_done, &outcomes[i], 0 };

		snprintf(text, sizeof(text), "<%d>", i);
		clients[i] = service_connect(&scene.service);
		cr_assert_not_null(clients[i]);
		cr_assert_eq(redd_port_by_id(clients[i], redd_port_id(port), &theirs[i]), 0);
		cr_assert_eq(redd_expect_start(theirs[i], &o, -1, &call), 0);
		cr_assert_eq(redd_ping(clients[i]), 0);
	}
	cr_expect_eq(scene_stream(port, 1).expects, N);
	for (int i = N - 1; i >= 0; i--)
		cr_assert_eq(redd_write(port, scene_text("<%d>", i), i < 10 ? 3 : 4, NULL, NULL),
			     0);
	for (int i = 0; i < N; i++) {
		while (!outcomes[i].n)
			cr_assert_eq(redd_run_once(clients[i], place_patience_ms(WAIT)), 0);
		cr_expect_eq(outcomes[i].m.what, REDD_MATCH);
		redd_free(clients[i]);
	}
	cr_expect_eq(scene_stream(port, 1).expects, 0);
	end(port);
}

/* --- how it ends ----------------------------------------------------------------------------- */

Test(expect, silence_the_exit_the_end_and_the_deadline_are_answers)
{
	const struct redd_pattern p = { .text = "never" };
	struct redd_expect_options o = { .patterns = &p, .n_patterns = 1, .has_from = true };
	struct redd_port *port =
		scene_steered("echo some; echo more >&2; " SCENE_WAIT "; echo last; exit 7", NULL);
	struct redd_matched m, *now;
	uint64_t total;

	o.idle_ms = 50;
	m = expect(port, &o);
	cr_expect_eq(m.what, REDD_MATCHED_IDLE);
	cr_expect_leq(m.searched, 5);
	while ((total = scene_stream(port, 1).total) < 5)
		;
	o.idle_ms = 0;
	cr_assert_eq(redd_expect(port, &o, 0, &now), 0);
	cr_expect_eq(now->what, REDD_MATCHED_DEADLINE);
	cr_expect_eq(now->searched, total);
	cr_expect_eq(now->next, total);
	cr_expect(!now->has_exit);
	redd_matched_free(now);
	cr_assert_eq(redd_expect(port, &o, 20, &now), 0);
	cr_expect_eq(now->what, REDD_MATCHED_DEADLINE);
	redd_matched_free(now);
	cr_assert_eq(redd_close(port, 3, NULL), 0);
	o.exit = true;
	m = expect(port, &o);
	cr_expect_eq(m.what, REDD_MATCHED_EXITED);
	cr_expect_eq(m.searched, 10, "what it wrote before was searched");
	cr_expect_eq(redd_exit_status(&m.exit), 7);
	o.exit = false;
	m = expect(port, &o);
	cr_expect_eq(m.what, REDD_MATCHED_ENDED);
	cr_expect_eq(m.searched, 10);
	o.other_stream = true;
	o.stream = 2;
	o.patterns = &(struct redd_pattern){ .text = "(m)or(e)", .regex = true };
	m = expect(port, &o);
	cr_expect_eq(m.what, REDD_MATCH, "an ended port's log is searched too");
	cr_expect_eq(m.n_groups, 2);
	scene_forget(port);
}

/* What it said last, and what it has begun to say, count when it leaves. */
Test(expect, an_exit_does_not_overtake_what_was_written_before_it)
{
	for (unsigned i = 0; i < place_rounds(200); i++) {
		const struct redd_pattern p = { .text = "last words?", .regex = true };
		struct redd_port *port = scene_shell("printf 'last word'; sleep 0 & exit 3", NULL);
		struct redd_matched m = expect(
			port,
			&(struct redd_expect_options){
				.patterns = &p, .n_patterns = 1, .has_from = true, .exit = true });

		cr_assert_eq(m.what, REDD_MATCH, "round %u: %d", i, (int)m.what);
		cr_assert_eq(m.end, 9);
		scene_forget(port);
	}
}

Test(expect, a_wait_ends_with_its_cancel_its_port_and_its_client)
{
	const struct redd_pattern p = { .text = "never" };
	const struct redd_expect_options o = { .patterns = &p, .n_patterns = 1 }, writes = {
		.patterns = &p, .n_patterns = 1, .data = "xyz", .data_size = 3
	};
	struct redd *other = service_connect(&scene.service);
	struct redd_port *port = spawn_cat(), *theirs;
	struct outcome cancelled = { 0 }, written = { 0 }, gone = { 0 }, ended = { 0 };
	struct redd_call call = { on_done, &cancelled, 0 };

	cr_assert_eq(redd_expect_start(port, &o, -1, &call), 0);
	cr_assert_eq(redd_cancel(scene.r, call.request), 0);
	cr_expect_eq(cancelled.result, -ECANCELED);
	call = (struct redd_call){ on_done, &written, 0 };
	cr_assert_eq(redd_expect_start(port, &writes, -1, &call), 0);
	while (scene_stream(port, 1).total < 3)
		;
	cr_assert_eq(redd_cancel(scene.r, call.request), 0);
	cr_expect_eq(written.result, -ECANCELED, "what was written stays written");
	cr_assert_eq(redd_port_by_id(other, redd_port_id(port), &theirs), 0);
	call = (struct redd_call){ on_done, &gone, 0 };
	cr_assert_eq(redd_expect_start(theirs, &o, -1, &call), 0);
	cr_assert_eq(redd_ping(other), 0);
	cr_expect_eq(scene_stream(port, 1).expects, 1);
	redd_free(other);
	while (scene_stream(port, 1).expects)
		;
	call = (struct redd_call){ on_done, &ended, 0 };
	cr_assert_eq(redd_expect_start(port, &writes, -1, &call), 0);
	end(port);
	cr_expect_eq(ended.n, 1);
	cr_expect(ended.result == 0 ? ended.m.what == REDD_MATCHED_ENDED : ended.result == -EPIPE);
	cr_expect_eq(gone.n, 0);
}

Test(expect, a_write_that_is_refused_refuses_the_wait)
{
	const struct redd_pattern p = { .text = "x" };
	const struct redd_write_options wrong = { .at_offset = true, .offset = 5 };
	const struct redd_write_options right = { .at_offset = true, .close = true };
	struct redd_expect_options o = {
		.patterns = &p, .n_patterns = 1, .data = "x", .data_size = 1, .write = &wrong
	};
	struct redd_port *port = spawn_cat();
	struct redd_matched *m;

	cr_expect_eq(redd_expect(port, &o, -1, &m), -ERANGE);
	cr_expect_eq(scene_stream(port, 1).expects, 0);
	o.write = &right;
	cr_assert_eq(redd_expect(port, &o, -1, &m), 0);
	cr_expect_eq(m->what, REDD_MATCH);
	redd_matched_free(m);
	cr_expect_eq(redd_expect(port, &o, -1, &m), -EPIPE, "its input is closed");
	scene_forget(port);
}

/* --- what it may cost ------------------------------------------------------------------------ */

static struct redd_port *spawn_flood(const char *command)
{
	const struct redd_spawn_options o = { .shell = command, .log_size = RING_LOWEST };

	return scene_spawn(&o, NULL);
}

/* Hundreds of steps a byte, for ever; the log keeps 64 KiB of what comes at full speed. */
static const struct redd_pattern slow = { .text = "(?:a?){400}b", .regex = true };

Test(expect, what_is_overtaken_is_told_where_it_is_lost)
{
	const struct redd_expect_options o = { .patterns = &slow, .n_patterns = 1 };
	struct redd_port *port = spawn_flood("exec yes aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa");
	struct redd_matched m = expect(port, &o), again;

	cr_expect_eq(m.what, REDD_MATCHED_LOST);
	cr_expect_geq(m.searched, m.from);
	cr_expect_gt(m.next, m.searched);
	again = expect(port, &(struct redd_expect_options){
				     .patterns = &(struct redd_pattern){ .text = "aaa" },
				     .n_patterns = 1 });
	cr_expect_eq(again.what, REDD_MATCH, "one that keeps up goes on");
	end(port);
}

Test(expect, a_wait_that_may_block_holds_the_child_back_and_loses_nothing)
{
	const struct redd_expect_options o = {
		.patterns = &slow, .n_patterns = 1, .block = true, .data = "\n", .data_size = 1
	};
	unsigned size = place_rounds(300000);
	struct redd_spawn_options s = { .shell = scene_text(
						"read x; yes aaaaaaaaaaaaaaa | head -c %u", size),
					.descriptors = &in,
					.n_descriptors = 1,
					.log_size = RING_LOWEST };
	struct redd_port *port = scene_spawn(&s, NULL);
	struct redd_matched m = expect(port, &o);

	cr_expect_eq(m.what, REDD_MATCHED_ENDED);
	cr_expect_eq(m.searched, size);
	scene_forget(port);
}

Test(expect, hostile_patterns_do_not_delay_a_polite_neighbour)
{
	static const struct redd_pattern patterns[] = {
		{ .text = "(a+)+$b", .regex = true },
		{ .text = "(.*)(.*)(.*)(.*)(.*)!", .regex = true },
		{ .text = "(?:a?){900}b", .regex = true },
		{ .text = "((a|aa|aaa)+)+c", .regex = true },
	};
	const struct redd_expect_options o = { .patterns = patterns,
					       .n_patterns = 4,
					       .block = true };
	enum { CLIENTS = 4, WAITS = 32 };
	struct redd_port *port = spawn_flood("exec yes aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa");
	struct redd *clients[CLIENTS];
	struct neighbour n;

	cr_assert_eq(neighbour_start(&n, &scene.service), 0);
	for (int i = 0; i < CLIENTS; i++) {
		struct redd_port *theirs;

		clients[i] = service_connect(&scene.service);
		cr_assert_not_null(clients[i]);
		cr_assert_eq(redd_port_by_id(clients[i], redd_port_id(port), &theirs), 0);
		for (int k = 0; k < WAITS; k++)
			cr_assert_eq(redd_expect_start(theirs, &o, -1, NULL), 0);
		cr_assert_eq(redd_ping(clients[i]), 0);
	}
	neighbour_wait(&n, place_rounds(50));
	for (int i = 0; i < CLIENTS; i++)
		redd_free(clients[i]);
	cr_assert_eq(neighbour_stop(&n), 0, "%s", n.wrong);
	cr_expect_lt(n.middle_ms, place_patience_ms(100), "%.1f ms", n.middle_ms);
	end(port);
}

Test(expect, more_waits_than_may_be_are_refused_and_the_others_go_on)
{
	const struct redd_pattern p = { .text = "go" };
	const struct redd_expect_options o = { .patterns = &p, .n_patterns = 1 };
	struct redd_port *port = spawn_cat();
	struct outcome all = { 0 };
	struct redd_call call = { on_done, &all, 0 };
	struct redd_matched *m;

	for (unsigned i = 0; i < CONN_EXPECTS; i++)
		cr_assert_eq(redd_expect_start(port, &o, -1, &call), 0);
	cr_expect_eq(redd_expect(port, &o, -1, &m), -EDQUOT);
	cr_assert_eq(redd_write(port, "go", 2, NULL, NULL), 0);
	while (all.n < CONN_EXPECTS)
		cr_assert_eq(redd_run_once(scene.r, place_patience_ms(WAIT)), 0);
	cr_expect_eq(all.m.what, REDD_MATCH);
	end(port);
}
