/* Descriptors of a child: each kind does what it is for, and thousands of random maps are what a
 * model says. Stdout of the child (1) is always the pipe by which it tells. */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/lib/childstate.h"
#include "tests/lib/collect.h"
#include "tests/lib/places.h"
#include "tests/lib/random.h"
#include "tests/lib/scene.h"

TestSuite(spawn_descriptors, .init = scene_begin, .fini = scene_end, .timeout = 120);

/* --- tools ----------------------------------------------------------------------------------- */

static const char *here(const char *name)
{
	return place_in(scene.service.directory, name);
}

static const char *content(const char *name)
{
	static char text[4096];
	int fd = open(here(name), O_RDONLY | O_CLOEXEC);
	ssize_t n = read(fd, text, sizeof(text) - 1);

	cr_assert_geq(n, 0, "%s", name);
	text[n] = '\0';
	close(fd);
	return text;
}

static void write_file(const char *name, const char *text)
{
	int fd = open(here(name), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	cr_assert_eq(write(fd, text, strlen(text)), (ssize_t)strlen(text));
	close(fd);
}

/* Runs a shell command with these descriptors to its end, which must be a good one. */
static void run(const char *shell, const struct redd_descriptor *d, size_t n)
{
	const struct redd_spawn_options o = { .size = sizeof(o),
					      .shell = shell,
					      .descriptors = d,
					      .n_descriptors = n,
					      .client_directory = scene.service.directory };

	collect_deinit(&scene.c);
	collect_init(&scene.c);
	cr_assert_eq(collect_run(&scene.c, scene.r, &o, 20000), 0, "%s: %s", shell,
		     redd_last_error(scene.r)->message);
	cr_assert_str_eq(scene.c.wrong, "");
	cr_expect_eq(redd_exit_status(&scene.c.exit), 0, "%s: status %d %s", shell,
		     redd_exit_status(&scene.c.exit), collect_text(&scene.c, 2));
}

static const char *fds_of(const struct redd_descriptor *d, size_t n)
{
	static char text[65536];
	const struct redd_spawn_options o = { .size = sizeof(o),
					      .descriptors = d,
					      .n_descriptors = n,
					      .client_directory = scene.service.directory };
	char *got;

	cr_assert_eq(childstate_run(scene.r, &o, "fds", &got), 0, "%s",
		     redd_last_error(scene.r)->message);
	snprintf(text, sizeof(text), "%s", got);
	free(got);
	return text;
}

/* --- one kind at a time ---------------------------------------------------------------------- */

Test(spawn_descriptors, P11_S21_S39_a_child_has_a_null_stdin_and_two_pipes_and_nothing_else)
{
	cr_expect_str_eq(fds_of(NULL, 0), "fds=3\nfd[0]=character rw /dev/null\n"
					  "fd[1]=pipe w \nfd[2]=pipe w \n");
}

Test(spawn_descriptors, P11_what_is_closed_is_not_open)
{
	const struct redd_descriptor d[] = { { .fd = 0, .kind = REDD_CLOSED_FD },
					     { .fd = 2, .kind = REDD_CLOSED_FD },
					     { .fd = 9, .kind = REDD_CLOSED_FD } };

	cr_expect_str_eq(fds_of(d, 3), "fds=1\nfd[1]=pipe w \n");
}

Test(spawn_descriptors, P6_S21_S39_pipes_of_any_number_are_streams)
{
	const struct redd_descriptor d[] = { { .fd = 7 },
					     { .fd = 1023 },
					     { .fd = 5, .direction = REDD_INPUT },
					     { .fd = 0, .direction = REDD_OUTPUT } };
	const struct redd_spawn_options o = {
		.size = sizeof(o),
		.shell = "echo zero >&0; cat <&5 >&7; exec 7>&-; "
			 "eval 'echo last >/proc/self/fd/1023'",
		.descriptors = d,
		.n_descriptors = 4,
		.subscribe = &scene.c.watch,
	};
	const struct redd_write_options five = {
		.size = sizeof(five), .other_stream = true, .stream = 5, .close = true
	};
	struct redd_port *port;

	cr_assert_eq(redd_spawn(scene.r, &o, &port), 0, "%s", redd_last_error(scene.r)->message);
	cr_expect_eq(redd_port_input_window(port), 1 << 20, "5 is the only input");
	cr_expect_eq(redd_write(port, "no", 2, NULL, NULL), -EBADFD, "0 is an output");
	cr_assert_eq(redd_write(port, "five", 4, &five, NULL), 0);
	cr_assert_eq(collect_wait(&scene.c, scene.r, 20000), 0);
	cr_expect_str_eq(scene.c.wrong, "");
	cr_expect_str_eq(collect_text(&scene.c, 0), "zero\n");
	cr_expect_str_eq(collect_text(&scene.c, 7), "five");
	cr_expect_str_eq(collect_text(&scene.c, 1023), "last\n");
	cr_assert_eq(redd_forget(port), 0);
	redd_port_free(port);
}

Test(spawn_descriptors, P6_S32_merged_descriptors_keep_their_order)
{
	const struct redd_descriptor two = { .fd = 2, .kind = REDD_SAME, .same_as = 1 };
	const struct redd_descriptor one = { .fd = 1, .kind = REDD_SAME, .same_as = 2 };

	run("for i in 1 2 3; do echo o$i; echo e$i >&2; done", &two, 1);
	cr_expect_str_eq(collect_text(&scene.c, 1), "o1\ne1\no2\ne2\no3\ne3\n");
	cr_expect_eq(scene.c.n_streams, 1);
	run("for i in 1 2 3; do echo o$i; echo e$i >&2; done", &one, 1);
	cr_expect_str_eq(collect_text(&scene.c, 2), "o1\ne1\no2\ne2\no3\ne3\n");
	cr_expect_eq(scene.c.n_streams, 1);
}

Test(spawn_descriptors, P6_files_are_opened_as_asked)
{
	struct redd_descriptor d[] = {
		{ .fd = 0, .kind = REDD_FILE, .path = "in" },
		{ .fd = 1,
		  .kind = REDD_FILE,
		  .path = "out",
		  .open_flags = O_WRONLY | O_CREAT | O_TRUNC },
		{ .fd = 2, .kind = REDD_SAME, .same_as = 1 },
		{ .fd = 3, .kind = REDD_FILE, .path = "log", .open_flags = O_WRONLY | O_APPEND },
		{ .fd = 4,
		  .kind = REDD_FILE,
		  .path = "new",
		  .open_flags = O_RDWR | O_CREAT | O_EXCL,
		  .mode = 0760 },
	};
	struct stat st;

	write_file("in", "from the file\n");
	write_file("out", "what is much longer than what comes\n");
	write_file("log", "first\n");
	run("cat; echo err >&2; echo second >&3; echo new >&4; cat <&4", d, 5);
	cr_expect_eq(scene.c.n_streams, 0, "files are no streams");
	cr_expect_str_eq(content("out"), "from the file\nerr\n", "one offset for 1 and 2");
	cr_expect_str_eq(content("log"), "first\nsecond\n");
	cr_expect_str_eq(content("new"), "new\n");
	cr_assert_eq(stat(here("new"), &st), 0);
	cr_expect_eq(st.st_mode & 07777, 0740, "mode less the umask of 022");
}

Test(spawn_descriptors, P6_a_file_is_made_under_the_childs_umask)
{
	const struct redd_descriptor d = {
		.fd = 9, .kind = REDD_FILE, .path = "masked", .open_flags = O_WRONLY | O_CREAT
	};
	struct redd_spawn_options o = { .size = sizeof(o),
					.shell = "exit",
					.descriptors = &d,
					.n_descriptors = 1,
					.client_directory = scene.service.directory,
					.set = REDD_SET_UMASK,
					.umask = 027 };
	struct stat st;

	cr_assert_eq(collect_run(&scene.c, scene.r, &o, 20000), 0, "%s",
		     redd_last_error(scene.r)->message);
	cr_assert_eq(stat(here("masked"), &st), 0);
	cr_expect_eq(st.st_mode & 07777, 0640);
}

Test(spawn_descriptors, P6_a_socket_goes_both_ways)
{
	const struct redd_descriptor d = { .fd = 6, .kind = REDD_SOCKET };
	const struct redd_spawn_options o = { .size = sizeof(o),
					      .shell = "cat <&6 >&6; echo done",
					      .descriptors = &d,
					      .n_descriptors = 1,
					      .subscribe = &scene.c.watch };
	const struct redd_write_options six = { .size = sizeof(six),
						.other_stream = true,
						.stream = 6 };
	struct redd_port *port;

	cr_assert_eq(redd_spawn(scene.r, &o, &port), 0, "%s", redd_last_error(scene.r)->message);
	cr_assert_eq(redd_write(port, "there ", 6, &six, NULL), 0);
	cr_assert_eq(collect_wait_bytes(&scene.c, scene.r, 6, 6, 20000), 0);
	cr_assert_eq(redd_write(port, "and back", 8, &six, NULL), 0);
	cr_assert_eq(redd_close(port, 6, NULL), 0);
	cr_assert_eq(collect_wait(&scene.c, scene.r, 20000), 0);
	cr_expect_str_eq(scene.c.wrong, "");
	cr_expect_str_eq(collect_text(&scene.c, 6), "there and back");
	cr_expect_str_eq(collect_text(&scene.c, 1), "done\n");
	cr_assert_eq(redd_forget(port), 0);
	redd_port_free(port);
}

Test(spawn_descriptors, P6_a_passed_descriptor_is_the_childs_and_nobody_elses)
{
	struct redd_descriptor d[] = { { .fd = 0, .kind = REDD_PASSED },
				       { .fd = 3, .kind = REDD_PASSED },
				       { .fd = 4, .kind = REDD_SAME, .same_as = 3 } };
	int in[2], out[2];
	char text[64];
	ssize_t n;

	cr_assert_eq(pipe2(in, O_CLOEXEC), 0);
	cr_assert_eq(pipe2(out, O_CLOEXEC), 0);
	d[0].passed = in[0];
	d[1].passed = out[1];
	cr_assert_eq(write(in[1], "passed\n", 7), 7);
	close(in[1]);
	run("cat >&4; echo end >&3", d, 3);
	close(in[0]);
	close(out[1]);
	n = read(out[0], text, sizeof(text) - 1);
	cr_assert_geq(n, 0);
	text[n] = '\0';
	cr_expect_str_eq(text, "passed\nend\n");
	cr_expect_eq(read(out[0], text, 1), 0, "nobody holds it any more");
	close(out[0]);
}

Test(spawn_descriptors, P6_as_many_descriptors_as_go_with_a_frame_arrive)
{
	enum { N = 61 }; /* 0, 1 and 2 come on top */
	struct redd_descriptor d[N];
	char expected[65536], line[PATH_MAX + 128], name[16];
	size_t size;

	size = (size_t)sprintf(expected,
			       "fds=%d\nfd[0]=character rw /dev/null\nfd[1]=pipe w \n"
			       "fd[2]=pipe w \n",
			       N + 3);
	for (int i = 0; i < N; i++) {
		snprintf(name, sizeof(name), "f%d", i);
		d[i] = (struct redd_descriptor){ .fd = (uint32_t)(3 + i), .kind = REDD_PASSED };
		d[i].passed = open(here(name), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
		cr_assert_geq(d[i].passed, 0);
		snprintf(line, sizeof(line), "fd[%d]=file rw %s\n", 3 + i, here(name));
		size += (size_t)snprintf(expected + size, sizeof(expected) - size, "%s", line);
	}
	cr_expect_str_eq(fds_of(d, N), expected);
	for (int i = 0; i < N; i++)
		close(d[i].passed);
}

Test(spawn_descriptors, P6_what_makes_no_sense_is_refused)
{
	static const struct {
		const char *why;
		struct redd_descriptor d[2];
	} wrong[] = {
		{ "twice", { { .fd = 5 }, { .fd = 5 } } },
		{ "too high", { { .fd = 1024 }, { .fd = 5 } } },
		{ "itself", { { .fd = 5, .kind = REDD_SAME, .same_as = 5 }, { .fd = 6 } } },
		{ "of what is not given",
		  { { .fd = 5, .kind = REDD_SAME, .same_as = 9 }, { .fd = 6 } } },
		{ "of what is closed",
		  { { .fd = 5, .kind = REDD_SAME, .same_as = 6 },
		    { .fd = 6, .kind = REDD_CLOSED_FD } } },
		{ "of what is a duplicate",
		  { { .fd = 5, .kind = REDD_SAME, .same_as = 6 },
		    { .fd = 6, .kind = REDD_SAME, .same_as = 1 } } },
		{ "no such kind", { { .fd = 5, .kind = 8 }, { .fd = 6 } } },
		{ "no such direction", { { .fd = 5, .direction = 3 }, { .fd = 6 } } },
		{ "empty path", { { .fd = 5, .kind = REDD_FILE, .path = "" }, { .fd = 6 } } },
	};

	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		const struct redd_spawn_options o = { .size = sizeof(o),
						      .shell = "exit",
						      .descriptors = wrong[i].d,
						      .n_descriptors = 2 };
		struct redd_port *port = NULL;

		cr_expect_eq(redd_spawn(scene.r, &o, &port), -EINVAL, "%s", wrong[i].why);
		cr_expect_null(port);
	}
}

Test(spawn_descriptors, P6_sixteen_streams_and_not_one_more)
{
	struct redd_descriptor d[15];
	struct redd_spawn_options o = {
		.size = sizeof(o), .shell = "exit", .descriptors = d, .n_descriptors = 15
	};
	struct redd_port *port;

	for (uint32_t i = 0; i < 15; i++)
		d[i] = (struct redd_descriptor){ .fd = 3 + i, .kind = i % 2 ? REDD_SOCKET : 0 };
	cr_expect_eq(redd_spawn(scene.r, &o, &port), -EINVAL, "17 with 1 and 2");
	o.n_descriptors = 14;
	cr_expect_eq(collect_run(&scene.c, scene.r, &o, 20000), 0, "%s",
		     redd_last_error(scene.r)->message);
}

/* --- random maps ----------------------------------------------------------------------------- */

#define FILES	  8
#define NUMBERS	  1024
#define LINE_SIZE (PATH_MAX + 128)

struct model {
	struct redd_descriptor d[64];
	size_t n;
	unsigned n_streams, n_passed;
	char line[NUMBERS][LINE_SIZE]; /* what state says; empty: not open */
	bool is_given[NUMBERS], is_source[NUMBERS];
};

static int files[FILES];

static void files_open(void)
{
	char name[16];

	for (int i = 0; i < FILES; i++) {
		snprintf(name, sizeof(name), "file%d", i);
		files[i] = open(here(name), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
		cr_assert_geq(files[i], 0);
	}
}

static void files_close(void)
{
	for (int i = 0; i < FILES; i++)
		close(files[i]);
}

static void model_line(struct model *m, uint32_t fd, const char *what, const char *path)
{
	snprintf(m->line[fd], LINE_SIZE, "%s %s\n", what, path);
}

static bool choose_stream(struct model *m, struct redd_descriptor *d, struct random *random)
{
	static const char *const pipes[] = { "pipe w", "pipe r" };
	bool is_input = d->fd == 0;

	if (++m->n_streams > 14)
		return false;
	if (random_chance(random, 3)) {
		d->kind = REDD_SOCKET;
		model_line(m, d->fd, "socket rw", "");
		return true;
	}
	d->kind = REDD_PIPE;
	d->direction = (enum redd_direction)random_below(random, 3);
	if (d->direction)
		is_input = d->direction == REDD_INPUT;
	model_line(m, d->fd, pipes[is_input], "");
	return true;
}

static void choose_file(struct model *m, struct redd_descriptor *d, struct random *random)
{
	static const int flags[] = { O_RDONLY, O_WRONLY, O_RDWR, O_WRONLY | O_APPEND,
				     O_RDWR | O_CREAT };
	static const char *const says[] = { "file r", "file w", "file rw", "file w append",
					    "file rw" };
	size_t how = random_below(random, 5);
	char name[16];

	snprintf(name, sizeof(name), "file%d", (int)random_below(random, FILES));
	d->kind = REDD_FILE;
	d->path = here(name);
	d->open_flags = flags[how];
	model_line(m, d->fd, says[how], d->path);
}

static bool choose_passed(struct model *m, struct redd_descriptor *d)
{
	char name[16];

	if (m->n_passed == FILES)
		return false;
	snprintf(name, sizeof(name), "file%u", m->n_passed);
	d->kind = REDD_PASSED;
	d->passed = files[m->n_passed++];
	model_line(m, d->fd, "file rw", here(name));
	return true;
}

/* A source is one that was given before, or 1. */
static void choose_same(struct model *m, struct redd_descriptor *d, struct random *random)
{
	size_t i = random_below(random, m->n + 1);

	d->kind = REDD_SAME;
	d->same_as = i < m->n && m->is_source[m->d[i].fd] ? m->d[i].fd : 1;
	strcpy(m->line[d->fd], m->line[d->same_as]);
}

static void model_add(struct model *m, uint32_t fd, struct random *random)
{
	struct redd_descriptor d = { .fd = fd };
	unsigned kind = (unsigned)random_below(random, 6);
	bool fits = true;

	if (m->is_given[fd] || fd == 1)
		return;
	if (kind == 0)
		fits = choose_stream(m, &d, random);
	else if (kind == 1)
		fits = choose_passed(m, &d);
	else if (kind == 2)
		choose_file(m, &d, random);
	else if (kind == 3)
		choose_same(m, &d, random);
	if (kind >= 4 || !fits) {
		d.kind = kind == 4 ? REDD_CLOSED_FD : REDD_NULL;
		if (kind == 4)
			m->line[fd][0] = '\0';
		else
			model_line(m, fd, "character rw", "/dev/null");
	}
	m->is_given[fd] = true;
	m->is_source[fd] = d.kind != REDD_SAME && d.kind != REDD_CLOSED_FD;
	m->d[m->n++] = d;
}

static uint32_t random_fd(struct random *random)
{
	switch (random_below(random, 8)) {
	case 0:
		return (uint32_t)random_below(random, NUMBERS);
	case 1:
		return NUMBERS - 1;
	default:
		return (uint32_t)random_below(random, 24); /* where the forker's own are */
	}
}

static void model_make(struct model *m, struct random *random)
{
	size_t n = random_below(random, 24);

	for (int fd = 0; fd < NUMBERS; fd++) {
		m->line[fd][0] = '\0';
		m->is_given[fd] = m->is_source[fd] = false;
	}
	m->n = m->n_streams = m->n_passed = 0;
	model_line(m, 0, "character rw", "/dev/null");
	model_line(m, 1, "pipe w", "");
	model_line(m, 2, "pipe w", "");
	while (n--)
		model_add(m, random_fd(random), random);
}

static char *model_text(const struct model *m)
{
	char *text = malloc(256 * LINE_SIZE), *at = text;
	int n = 0;

	cr_assert_not_null(text);
	for (int fd = 0; fd < NUMBERS; fd++)
		n += m->line[fd][0] != '\0';
	at += sprintf(at, "fds=%d\n", n);
	for (int fd = 0; fd < NUMBERS; fd++)
		if (m->line[fd][0])
			at += sprintf(at, "fd[%d]=%s", fd, m->line[fd]);
	return text;
}

static void random_maps(unsigned rounds, uint64_t seed)
{
	static struct model m;
	struct random random = { seed };

	files_open();
	for (unsigned i = 0; i < rounds; i++) {
		char *expected;

		model_make(&m, &random);
		expected = model_text(&m);
		cr_assert_str_eq(fds_of(m.d, m.n), expected, "seed %llu round %u",
				 (unsigned long long)seed, i);
		free(expected);
	}
	files_close();
}

Test(spawn_descriptors, P11_random_maps_of_descriptors_are_what_the_model_says)
{
	random_maps(place_rounds(3000), 20260101);
}
