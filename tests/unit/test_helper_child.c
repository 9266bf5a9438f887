/* Keeper and forker with the test in the broker's place: what a child is given, and nothing else:
 * descriptors, signals, limits. Each in both clone modes. */
#include <criterion/criterion.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "helper/link.h"
#include "tests/lib/act.h"
#include "tests/lib/places.h"
#include "tests/lib/play.h"

/* Runs tests/progs/state with some arguments and returns what it printed (malloc'd). */
static char *state_of(struct play *p, struct play_spawn *s)
{
	struct play_message m = { 0 };
	char *text = calloc(1, 65536);
	int out = act_spawn_with_output(p, s);

	act_read_all(out, text, 65536);
	close(out);
	cr_assert_eq(play_wait_exit(p, &s->id, &m), 0);
	cr_assert_eq(m.exited.status, 0);
	cr_assert_eq(play_forget(p, &s->id), 0);
	return text;
}

/* The line that starts with `name`, up to its end; in one static buffer. */
static const char *line(const char *text, const char *name)
{
	static char found[512];
	const char *at = strstr(text, name);

	if (!at)
		return "(none)";
	snprintf(found, sizeof(found), "%.*s", (int)strcspn(at, "\n"), at);
	return found;
}

static unsigned n_lines(const char *text, const char *prefix)
{
	unsigned n = 0;

	for (const char *at = text; at && *at; at = strchr(at, '\n'), at += at ? 1 : 0)
		n += strncmp(at, prefix, strlen(prefix)) == 0;
	return n;
}

BOTH_MODES(helper_child, a_child_has_the_descriptors_it_was_given_and_no_others, 30)
{
	const char *const argv[] = { place_prog("state"), "fds", NULL };
	struct play_spawn s;
	char *text;
	int fds[2];

	cr_assert_eq(pipe2(fds, O_CLOEXEC), 0);
	play_spawn_init(p, &s, 1, argv);
	play_spawn_pass(&s, 1000, fds[0]);
	play_spawn_pass(&s, 3, fds[1]);
	spawn_bytes_descriptor(&s.bytes, 0, LINK_SOURCE_NULL);
	spawn_bytes_file(&s.bytes, 2, O_RDONLY, "/etc/passwd");
	s.bytes.files[s.bytes.head.n_files++] =
		(struct link_file){ .target = 7, .flags = LINK_FILE_SAME, .path = 3 };
	text = state_of(p, &s);
	cr_assert_eq(n_lines(text, "fd["), 6, "%s", text);
	cr_assert_not_null(strstr(line(text, "fd[0]="), "character"), "%s", text);
	cr_assert_not_null(strstr(line(text, "fd[1]="), "pipe"), "%s", text);
	cr_assert_not_null(strstr(line(text, "fd[2]="), "file"), "%s", text);
	cr_assert_not_null(strstr(line(text, "fd[3]="), "pipe"), "%s", text);
	cr_assert_not_null(strstr(line(text, "fd[7]="), "pipe"), "%s", text);
	cr_assert_not_null(strstr(line(text, "fd[1000]="), "pipe"), "%s", text);
	free(text);
	close(fds[0]);
	close(fds[1]);
}

BOTH_MODES(helper_child, sources_and_targets_may_cross, 30)
{
	const char *const argv[] = {
		"/bin/sh", "-c", "for n in 3 4 5 6 7 8; do eval \"read x <&$n\"; echo $n=$x; done",
		NULL
	};
	char expected[128] = "", text[128];
	struct play_message m = { 0 };
	struct play_spawn s;
	int fds[6][2], out;

	/* Whatever numbers they get in the forker, some of 3 to 8 are among them. */
	play_spawn_init(p, &s, 1, argv);
	for (uint32_t i = 0; i < 6; i++) {
		char digit = (char)('0' + i);

		cr_assert_eq(pipe2(fds[i], O_CLOEXEC), 0);
		cr_assert_eq(write(fds[i][1], &digit, 1), 1);
		close(fds[i][1]);
		play_spawn_pass(&s, 8 - i, fds[i][0]);
	}
	out = act_spawn_with_output(p, &s);
	act_read_all(out, text, sizeof(text));
	for (int n = 3; n <= 8; n++)
		sprintf(expected + strlen(expected), "%d=%d\n", n, 8 - n);
	cr_assert_str_eq(text, expected);
	cr_assert_eq(play_wait_exit(p, &s.id, &m), 0);
	for (uint32_t i = 0; i < 6; i++)
		close(fds[i][0]);
	close(out);
}

BOTH_MODES(helper_child, a_child_has_a_clean_state_whatever_the_service_had, 30)
{
	const char *const argv[] = {
		"/bin/sh", "-c",
		"cat /proc/self/status; ulimit -n; umask; ps -o sid= -p $$; echo $$", NULL
	};
	struct rlimit limit;
	struct play_spawn s;
	char *text, expected[64];

	play_spawn_init(p, &s, 1, argv);
	s.bytes.head.flags |= LINK_SPAWN_UMASK;
	s.bytes.head.umask = 027;
	text = state_of(p, &s);
	cr_assert_str_eq(line(text, "SigBlk:"), "SigBlk:\t0000000000000000");
	cr_assert_str_eq(line(text, "SigIgn:"), "SigIgn:\t0000000000000000");
	cr_assert_not_null(strstr(text, "\n0027\n"), "%s", text);
	getrlimit(RLIMIT_NOFILE, &limit);
	snprintf(expected, sizeof(expected), "\n%llu\n", (unsigned long long)limit.rlim_cur);
	/* valgrind plays another limit, for descriptors of its own */
	cr_assert(place_valgrind() || strstr(text, expected), "%s", text);
	free(text);
}

BOTH_MODES(helper_child, limits_nice_and_privileges_are_as_asked_for, 30)
{
	const char *const argv[] = {
		"/bin/sh", "-c", "ulimit -c; ulimit -Hc; nice; grep NoNewPrivs /proc/self/status",
		NULL
	};
	struct play_spawn s;
	char *text;

	play_spawn_init(p, &s, 1, argv);
	spawn_bytes_limit(&s.bytes, RLIMIT_CORE, 20 * 512, 30 * 512);
	s.bytes.head.flags |= LINK_SPAWN_NICE | LINK_SPAWN_NO_NEW_PRIVS;
	s.bytes.head.nice = 5;
	text = state_of(p, &s);
	cr_assert_str_eq(text, "20\n30\n5\nNoNewPrivs:\t1\n");
	free(text);
}

BOTH_MODES(helper_child, descriptors_may_be_above_the_limit_that_is_set, 30)
{
	const char *const argv[] = { "/bin/sh", "-c",
				     "ulimit -n; ulimit -Hn; echo x >/proc/self/fd/40", NULL };
	struct play_spawn s;
	char *text;
	int out[2];

	if (place_valgrind())
		return; /* it plays another limit */
	cr_assert_eq(pipe2(out, O_CLOEXEC), 0);
	play_spawn_init(p, &s, 1, argv);
	spawn_bytes_limit(&s.bytes, RLIMIT_NOFILE, 20, 30);
	play_spawn_pass(&s, 40, out[1]);
	text = state_of(p, &s);
	cr_assert_str_eq(text, "20\n30\n");
	free(text);
	close(out[1]);
	cr_assert_eq(read(out[0], &(char[2]){ 0 }, 2), 2);
	close(out[0]);
}
