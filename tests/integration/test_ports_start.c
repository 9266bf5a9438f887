/* How a port begins, as users of Erlang's ports know it: what is run with which words, environment
 * and descriptors, which process that is, and what is told of it (S02 to S25, S39, S53, S58). */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/lib/ask.h"
#include "tests/lib/census.h"
#include "tests/lib/childstate.h"
#include "tests/lib/places.h"
#include "tests/lib/scene.h"

TestSuite(ports_start, .init = scene_begin, .fini = scene_end, .timeout = 60);

/* --- tools ----------------------------------------------------------------------------------- */

static const char *here(const char *name)
{
	return place_in(scene.service.directory, name);
}

static void make_file(const char *name, mode_t mode, const char *text)
{
	int fd = open(here(name), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	cr_assert_eq(write(fd, text, strlen(text)), (ssize_t)strlen(text));
	cr_assert_eq(fchmod(fd, mode), 0);
	close(fd);
}

/* Runs it to a good end; its stdout is text. */
static void prints(const struct redd_spawn_options *o, const char *text)
{
	struct collect c;

	collect_init(&c);
	cr_assert_eq(collect_run(&c, scene.r, o, 20000), 0, "%s",
		     redd_last_error(scene.r)->message);
	cr_expect_str_eq(c.wrong, "");
	cr_expect_eq(redd_exit_status(&c.exit), 0);
	cr_expect_str_eq(collect_text(&c, 1), text, "%s", collect_text(&c, 1));
	collect_deinit(&c);
}

/* --- program and words ----------------------------------------------------------------------- */

/* A script, so that an interpreter stands between; beside it one of that name that cannot be run.
 */
Test(ports_start, S02_S04_S06_S82_a_path_is_run_as_it_is_and_its_words_arrive_untouched)
{
	const char *argv[] = {
		here("dir/my tool"), "two words", "\"quoted\"", "*", "$HOME", "", "a'b\\c", NULL
	};
	const struct redd_spawn_options o = { .size = sizeof(o), .argv = argv };
	const char *words = "7|two words|\"quoted\"|*|$HOME||a'b\\c|";

	cr_assert_eq(mkdir(here("dir"), 0700), 0);
	make_file("my tool", 0600, "not this one");
	make_file("dir/my tool", 0700,
		  "#!/bin/sh\nprintf '%s|' $(($# + 1)); printf '%s|' \"$@\"\n");
	prints(&o, words);
	argv[0] = "dir/my tool";
	cr_assert_eq(chdir(scene.service.directory), 0); /* the client's is the child's */
	prints(&o, words);
	cr_assert_eq(chdir("/"), 0);
}

Test(ports_start, S11_the_pid_that_is_told_is_the_childs_own)
{
	for (unsigned i = 0; i < place_rounds(20); i++) {
		struct redd_port *port = scene_shell("echo $$", &scene.c);

		cr_assert_gt(redd_port_pid(port), 0);
		cr_assert_eq(collect_wait(&scene.c, scene.r, 20000), 0);
		cr_expect_str_eq(collect_text(&scene.c, 1),
				 scene_text("%d\n", (int)redd_port_pid(port)));
		scene_forget(port);
		collect_deinit(&scene.c);
		collect_init(&scene.c);
	}
}

/* --- environment ----------------------------------------------------------------------------- */

#define PAIRS 150

Test(ports_start, S14_many_variables_are_set_while_many_are_unset)
{
	static char set[PAIRS][32], unset[PAIRS][32], own[2 * PAIRS][32];
	const char *set_list[PAIRS + 1] = { NULL }, *unset_list[PAIRS + 1] = { NULL };
	const char *own_list[2 * PAIRS + 1] = { NULL };
	const struct redd_spawn_options o = {
		.size = sizeof(o), .environment = own_list, .unset = unset_list, .set_env = set_list
	};
	char *text;

	for (int i = 0; i < PAIRS; i++) {
		snprintf(own[2 * i], 32, "KEPT%d=%d", i, i);
		snprintf(own[2 * i + 1], 32, "GONE%d=%d", i, i);
		own_list[2 * i] = own[2 * i];
		own_list[2 * i + 1] = own[2 * i + 1];
		snprintf(unset[i], 32, "GONE%d", i);
		snprintf(set[i], 32, "SET%d=%d==", i, i); /* the value ends with = */
		unset_list[i] = unset[i];
		set_list[i] = set[i];
	}
	cr_assert_eq(childstate_run(scene.r, &o, "env", &text), 0);
	cr_expect_eq(childstate_count(text, "env["), 2 * PAIRS + 1, "and REDD_PORT");
	for (int i = 0; i < PAIRS; i++) {
		cr_expect_not_null(strstr(text, scene_text("=KEPT%d=%d\n", i, i)));
		cr_expect_not_null(strstr(text, scene_text("=SET%d=%d==\n", i, i)));
	}
	cr_expect_null(strstr(text, "GONE"));
	free(text);
}

/* More than the system gives to any program: that is told of this spawn, and the next one runs. */
Test(ports_start, S10_S16_an_environment_beyond_the_systems_limit_is_this_spawns_error)
{
	enum { N = 70000, SIZE = 108 };
	static char texts[N][SIZE];
	static const char *list[N + 1];
	struct redd_connect_options large = { .size = sizeof(large),
					      .socket = scene.service.socket,
					      .frame_max = 16 << 20 };
	const struct redd_spawn_options o = { .size = sizeof(o),
					      .shell = "exit 3",
					      .environment = list };
	struct redd *r = redd_new();
	struct redd_port *port;

	if (place_valgrind())
		cr_skip_test("valgrind dies of so large an environment before execve(2)");
	for (int i = 0; i < N; i++) {
		memset(texts[i], 'v', SIZE - 1);
		texts[i][snprintf(texts[i], SIZE, "V%d=", i)] = 'v';
		list[i] = texts[i];
	}
	cr_assert_eq(redd_connect(r, &large), 0);
	cr_expect_eq(redd_spawn(r, &o, &port), -E2BIG, "%s", redd_last_error(r)->message);
	cr_expect_eq(redd_last_error(r)->code, REDD_INVALID_ARGUMENT);
	list[20000] = NULL; /* 2 MB: as far as the system likes */
	if (redd_spawn(r, &o, &port) == 0) {
		struct redd_waited end;

		cr_assert_eq(redd_wait(port, REDD_UNTIL_CLOSED, 20000, &end), 0);
		cr_expect_eq(redd_exit_status(&end.exit), 3);
		cr_assert_eq(redd_forget(port), 0);
	} else {
		cr_expect_eq(redd_last_error(r)->stage, REDD_STAGE_EXEC);
		cr_expect_eq(redd_last_error(r)->result, -E2BIG);
	}
	redd_free(r);
	scene_forget(scene_shell("exit 0", NULL));
}

/* --- descriptors ----------------------------------------------------------------------------- */

static const char *fds_of(const struct redd_descriptor *d, size_t n)
{
	const struct redd_spawn_options o = { .size = sizeof(o),
					      .descriptors = d,
					      .n_descriptors = n };
	const char *ret;
	char *text;

	cr_assert_eq(childstate_run(scene.r, &o, "fds", &text), 0, "%s",
		     redd_last_error(scene.r)->message);
	ret = scene_text("%s", text);
	free(text);
	return ret;
}

#define NULL_FD(n) "fd[" n "]=character rw /dev/null\n"

/* The child tells on 1, which is therefore never the null device here. */
Test(ports_start, S21_S39_the_end_that_is_not_used_is_the_null_device)
{
	const struct redd_descriptor out_only[] = { { .fd = 0, .kind = REDD_PIPE },
						    { .fd = 2, .kind = REDD_NULL } };
	const struct redd_descriptor in_only[] = { { .fd = 0, .kind = REDD_NULL } };
	const struct redd_descriptor nouse_stdio[] = {
		{ .fd = 0, .kind = REDD_NULL },
		{ .fd = 2, .kind = REDD_NULL },
		{ .fd = 3, .kind = REDD_PIPE, .direction = REDD_INPUT },
		{ .fd = 4, .kind = REDD_PIPE, .direction = REDD_OUTPUT },
	};

	cr_expect_str_eq(fds_of(out_only, 2), "fds=3\nfd[0]=pipe r \nfd[1]=pipe w \n" NULL_FD("2"));
	cr_expect_str_eq(fds_of(in_only, 1),
			 "fds=3\n" NULL_FD("0") "fd[1]=pipe w \nfd[2]=pipe w \n");
	cr_expect_str_eq(fds_of(nouse_stdio, 4), "fds=5\n" NULL_FD("0") "fd[1]=pipe w \n" NULL_FD(
							 "2") "fd[3]=pipe r \nfd[4]=pipe w \n");
}

Test(ports_start, S21_S39_descriptors_3_and_4_speak_and_what_is_printed_beside_is_discarded)
{
	const struct redd_descriptor d[] = {
		{ .fd = 0, .kind = REDD_NULL },
		{ .fd = 1, .kind = REDD_NULL },
		{ .fd = 2, .kind = REDD_NULL },
		{ .fd = 3, .kind = REDD_PIPE, .direction = REDD_INPUT },
		{ .fd = 4, .kind = REDD_PIPE, .direction = REDD_OUTPUT },
	};
	const struct redd_spawn_options o = {
		.size = sizeof(o),
		.shell = "echo lost; echo lost >&2; cat; cat <&3 >&4",
		.descriptors = d,
		.n_descriptors = 5,
	};
	const struct redd_write_options to_3 = {
		.size = sizeof(to_3), .other_stream = true, .stream = 3, .close = true
	};
	struct redd_port *port = scene_spawn(&o, &scene.c);

	cr_assert_eq(redd_write(port, "through", 7, &to_3, NULL), 0);
	cr_assert_eq(collect_wait(&scene.c, scene.r, 20000), 0);
	cr_expect_str_eq(scene.c.wrong, "");
	cr_expect_eq(scene.c.n_streams, 1);
	cr_expect_str_eq(collect_text(&scene.c, 4), "through");
	cr_expect_eq(redd_exit_status(&scene.c.exit), 0, "printing to nowhere is no error");
	scene_forget(port);
}

/* --- the helper ------------------------------------------------------------------------------ */

/* A container that is stopped sends it to everybody. */
Test(ports_start, S24_the_forker_may_be_told_to_end_and_no_child_notices)
{
	struct redd_port *port = scene_steered("echo ready; " SCENE_WAIT "; exit 4", &scene.c);
	pid_t forker = census_child(scene.service.pid, "forker");

	cr_assert_eq(collect_wait_bytes(&scene.c, scene.r, 1, 6, 20000), 0);
	cr_assert_gt(forker, 0);
	cr_assert_eq(kill(forker, SIGTERM), 0);
	scene_forget(scene_shell("exit 0", NULL)); /* there is a forker still, or again */
	cr_assert_eq(redd_close(port, 3, NULL), 0);
	cr_assert_eq(collect_wait(&scene.c, scene.r, 20000), 0);
	cr_expect_eq(redd_exit_status(&scene.c.exit), 4);
	scene_forget(port);
}

/* --- what is told ---------------------------------------------------------------------------- */

static unsigned n_lives;

static void on_life(struct redd_watch *watch, const struct redd_life *life, void *user)
{
	(void)watch, (void)life, (void)user;
	n_lives++;
}

Test(ports_start, S58_stopping_and_continuing_are_not_told)
{
	const struct redd_watch_options watch = { .on_life = on_life };
	struct redd_port *port = scene_prog(&scene.c, "hang", NULL);
	struct redd_watch *w;
	struct redd_waited end;

	cr_assert_eq(redd_watch(scene.r, &watch, &w), 0);
	for (unsigned i = 0; i < place_rounds(50); i++) {
		cr_assert_eq(redd_signal(port, SIGSTOP, REDD_LEADER, NULL), 0);
		cr_assert_eq(redd_signal(port, SIGCONT, REDD_LEADER, NULL), 0);
	}
	cr_expect_eq(redd_wait(port, REDD_UNTIL_EXITED, 0, &end), -ETIMEDOUT);
	cr_expect_eq(n_lives, 0);
	cr_expect_eq(scene.c.n_exited, 0);
	cr_assert_eq(redd_signal(port, SIGSTOP, REDD_LEADER, NULL), 0);
	cr_assert_eq(redd_signal(port, SIGKILL, REDD_LEADER, NULL), 0);
	cr_assert_eq(collect_wait(&scene.c, scene.r, 20000), 0);
	cr_expect_eq(scene.c.exit.signal, SIGKILL);
	redd_watch_free(w);
	scene_forget(port);
}

Test(ports_start, S53_an_exit_is_told_to_who_asked_and_to_nobody_else)
{
	struct peer silent;
	Redd__V1__Message *m;
	uint64_t port;

	ask_greet(&silent, scene.service.socket);
	port = ask_spawn(&silent, "exit", "args: \"3\"");
	for (int i = 0; i < 2; i++) {
		struct redd_port *same;
		struct redd_waited end;

		cr_assert_eq(redd_port_by_id(scene.r, port, &same), 0);
		cr_assert_eq(redd_wait(same, REDD_UNTIL_CLOSED, 20000, &end), 0);
		cr_expect_eq(end.exit.code, 3);
		redd_port_free(same);
	}
	cr_assert_eq(ask_send_as(&silent, 9000, "ping { }"), 0);
	cr_assert_eq(peer_recv(&silent, 20000, &m), 0);
	cr_expect_eq(m->reply_to, 9000, "an event that nobody asked for: %s", ask_text(m));
	ask_end(&silent, port);
	peer_close(&silent);
}

/* --- a service in a directory that has gone -------------------------------------------------- */

static void begin_nowhere(void)
{
	char directory[PATH_MAX];

	cr_assert_eq(place_make_dir(directory), 0);
	cr_assert_eq(chdir(directory), 0);
	scene_begin();
	cr_assert_eq(chdir("/"), 0);
	cr_assert_eq(rmdir(directory), 0);
}

TestSuite(ports_start_nowhere, .init = begin_nowhere, .fini = scene_end, .timeout = 60);

Test(ports_start_nowhere, S20_a_service_whose_own_directory_is_gone_spawns_all_the_same)
{
	const struct redd_spawn_options o = { .size = sizeof(o), .shell = "pwd" };

	prints(&o, "/\n");
}
