/* What a spawn makes of its program, arguments, directory and environment: the child tells what it
 * got (tests/progs/state.c), and that is compared with what was asked for. */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/lib/childstate.h"
#include "tests/lib/collect.h"
#include "tests/lib/places.h"
#include "tests/lib/service.h"

static struct service service;
static struct redd *r;

static void set_up(void)
{
	static const char *const environment[] = { "PATH=/usr/bin:/bin", "SERVICE=its own",
						   "BOTH=service", NULL };
	const struct service_options o = { .environment = environment };

	/* Under a tool the service needs more than this. */
	cr_assert_eq(service_start(&service, place_valgrind() ? NULL : &o), 0);
	r = service_connect(&service);
	cr_assert_not_null(r);
}

static void tear_down(void)
{
	redd_free(r);
	cr_assert_eq(service_finish(&service), 0);
}

TestSuite(spawn_program, .init = set_up, .fini = tear_down, .timeout = 60);

/* --- tools ----------------------------------------------------------------------------------- */

static const char *here(const char *name)
{
	return place_in(service.directory, name);
}

/* A script that says which one it is. */
static void make_program(const char *name, mode_t mode)
{
	char text[256];
	int fd, n;

	n = snprintf(text, sizeof(text), "#!/bin/sh\nprintf '%%s:%%s' '%s' \"$*\"\n", name);
	fd = open(here(name), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	cr_assert_geq(fd, 0);
	cr_assert_eq(write(fd, text, (size_t)n), n);
	cr_assert_eq(fchmod(fd, mode), 0);
	close(fd);
}

static void make_directory(const char *name)
{
	cr_assert_eq(mkdir(here(name), 0700), 0);
}

/* Its stdout, to be freed. */
static char *output_of(const struct redd_spawn_options *o)
{
	struct collect c;
	char *text;

	collect_init(&c);
	cr_assert_eq(collect_run(&c, r, o, 30000), 0, "%s", redd_last_error(r)->message);
	cr_assert_str_eq(c.wrong, "");
	cr_expect_eq(redd_exit_status(&c.exit), 0);
	text = strdup(collect_text(&c, 1));
	collect_deinit(&c);
	return text;
}

static void prints(const struct redd_spawn_options *o, const char *expected)
{
	char *text = output_of(o);

	cr_expect_str_eq(text, expected, "\"%s\" instead of \"%s\"", text, expected);
	free(text);
}

/* --- arguments ------------------------------------------------------------------------------- */

/* As progs/state prints it. */
static size_t escape(char *out, const char *text)
{
	char *start = out;

	for (const unsigned char *p = (const unsigned char *)text; *p; p++)
		out += *p < 32 || *p > 126 || *p == '\\' ? sprintf(out, "\\x%02x", *p)
							 : sprintf(out, "%c", *p);
	return (size_t)(out - start);
}

/* The lines that "state args" prints for these. */
static char *expected_arguments(const char *const *argv)
{
	size_t n = 0, size = 64;
	char *text, *at;

	for (; argv[n]; n++)
		size += 4 * strlen(argv[n]) + 64;
	at = text = malloc(size);
	cr_assert_not_null(text);
	at += sprintf(at, "argc=%zu\n", n);
	for (size_t i = 0; i < n; i++) {
		at += sprintf(at, "argv[%zu]=", i);
		at += escape(at, argv[i]);
		*at++ = '\n';
	}
	*at = '\0';
	return text;
}

static void arguments_arrive(const char *const *argv, const char *program)
{
	const struct redd_spawn_options o = { .size = sizeof(o), .argv = argv, .program = program };
	char *expected = expected_arguments(argv), *text = output_of(&o);

	cr_expect(!strncmp(text, expected, strlen(expected)), "%.2000s instead of %.2000s", text,
		  expected);
	free(expected);
	free(text);
}

Test(spawn_program, P6_S04_arguments_arrive_byte_by_byte)
{
	static char all[256], long_one[128 * 1024];
	const char *argv[] = { place_prog("state"),
			       "args",
			       "with space",
			       "",
			       "line\nbreak\ttab",
			       "-c",
			       "--",
			       "$HOME `id` *",
			       "'\"\\",
			       "\xff\xfe\x80 not UTF-8 \xc3",
			       all,
			       long_one,
			       "",
			       NULL };

	for (int i = 1; i < 256; i++)
		all[i - 1] = (char)i;
	memset(long_one, 'x', sizeof(long_one) - 1); /* the longest that execve(2) takes */
	arguments_arrive(argv, NULL);
}

Test(spawn_program, P6_many_arguments_arrive)
{
	enum { N = 20000 };
	static const char *argv[N + 3];
	static char texts[N][8];

	argv[0] = place_prog("state");
	argv[1] = "args";
	for (int i = 0; i < N; i++) {
		snprintf(texts[i], sizeof(texts[i]), "%d", i);
		argv[i + 2] = texts[i];
	}
	arguments_arrive(argv, NULL);
}

Test(spawn_program, P6_S05_argv0_is_what_was_asked_for)
{
	const char *argv[] = { "-some name", "args", NULL };

	arguments_arrive(argv, place_prog("state"));
	argv[0] = "";
	arguments_arrive(argv, place_prog("state"));
}

Test(spawn_program, P6_S01_a_shell_command_is_one_argument_of_sh)
{
	struct redd_spawn_options o = { .size = sizeof(o),
					.shell = "printf '%s|' \"$0\" \"$#\" \"a  b\"\nexit 0" };

	prints(&o, "sh|0|a  b|");
	o.shell = "";
	prints(&o, "");
}

/* --- where the program is -------------------------------------------------------------------- */

/* Runs "tool x" with this search path, or with PATH in the child's environment. */
static void found_by(const char *search_path, const char *path_variable, const char *expected)
{
	static const char *const argv[] = { "tool", "x", NULL };
	const char *environment[] = { path_variable, NULL };
	struct redd_spawn_options o = { .size = sizeof(o),
					.argv = argv,
					.search_path = search_path,
					.environment = environment,
					.client_directory = service.directory };

	prints(&o, expected);
}

static int not_found_by(const char *search_path)
{
	static const char *const argv[] = { "tool", NULL };
	struct redd_spawn_options o = { .size = sizeof(o),
					.argv = argv,
					.search_path = search_path,
					.client_directory = service.directory };
	struct redd_port *port;
	int result = redd_spawn(r, &o, &port);

	cr_expect_neq(result, 0, "%s", search_path);
	cr_expect_eq(redd_last_error(r)->stage, REDD_STAGE_EXEC);
	return result;
}

Test(spawn_program, P6_S02_S82_a_program_without_a_slash_is_searched_as_a_shell_does)
{
	char path[3 * PATH_MAX];

	make_directory("a");
	make_directory("b");
	make_directory("none");
	make_directory("b/tool");
	make_program("a/tool", 0755);
	make_program("none/tool", 0644);
	make_program("tool", 0755);
	snprintf(path, sizeof(path), "PATH=/no/such:%s:%s:%s", here("tool"), here("none"),
		 here("a"));
	found_by(NULL, path, "a/tool:x"); /* missing, no directory, not executable: the next */
	found_by(path + 5, "PATH=/no/such", "a/tool:x");
	found_by("b:a", "PATH=/no/such", "a/tool:x"); /* relative; a directory is no program */
	found_by("", "PATH=/no/such", "tool:x");      /* an empty one is the child's */
	found_by("/no/such:", "PATH=", "tool:x");
	found_by(":a", "PATH=", "tool:x");
	found_by("none::a", "PATH=", "tool:x");
	found_by(NULL, "PATH=", "tool:x");
	cr_expect_eq(not_found_by("/no/such:/nor/this"), -ENOENT);
	cr_expect_eq(not_found_by("/no/such:none:/nor/this"), -EACCES);
	cr_expect_eq(not_found_by("/etc/passwd:/nor/this"), -ENOENT);
}

Test(spawn_program, P6_without_any_path_the_usual_places_are_searched)
{
	static const char *const argv[] = { "printf", "%s", "found", NULL };
	static const char *const environment[] = { NULL };
	struct redd_spawn_options o = { .size = sizeof(o),
					.argv = argv,
					.environment = environment };

	prints(&o, "found");
}

Test(spawn_program, P6_a_path_in_the_client_is_not_the_one_in_the_service)
{
	static const char *const argv[] = { "tool", NULL };
	struct redd_spawn_options o = { .size = sizeof(o), .argv = argv };
	char *before = strdup(getenv("PATH"));

	make_directory("mine");
	make_program("mine/tool", 0755);
	cr_assert_eq(setenv("PATH", here("mine"), 1), 0);
	prints(&o, "mine/tool:");
	o.environment_base = REDD_ENV_EMPTY;
	prints(&o, "mine/tool:");
	setenv("PATH", before, 1);
	free(before);
}

Test(spawn_program, P6_paths_are_relative_to_the_childs_directory)
{
	const char *argv[] = { "./tool", NULL };
	struct redd_spawn_options o = { .size = sizeof(o),
					.argv = argv,
					.client_directory = service.directory };

	make_directory("a");
	make_program("tool", 0755);
	make_program("a/tool", 0755);
	prints(&o, "tool:");
	o.directory = "a";
	prints(&o, "a/tool:");
	argv[0] = "../tool";
	prints(&o, "tool:");
	argv[0] = "a/tool";
	o.directory = ".";
	prints(&o, "a/tool:");
	argv[0] = "./tool";
	o.client_directory = "/";
	o.directory = here("a");
	prints(&o, "a/tool:");
}

Test(spawn_program, P6_S19_the_directory_is_the_clients_unless_said_otherwise)
{
	static const char *const argv[] = { "/bin/pwd", NULL };
	struct redd_spawn_options o = { .size = sizeof(o), .argv = argv };
	char expected[PATH_MAX + 8];

	make_directory("own");
	cr_assert_eq(chdir(here("own")), 0);
	snprintf(expected, sizeof(expected), "%.*s/own\n", PATH_MAX - 8, service.directory);
	prints(&o, expected);
	o.directory = "/usr";
	prints(&o, "/usr\n");
	o.client_directory = "/usr";
	o.directory = "bin/..";
	prints(&o, "/usr\n");
}

/* --- environment ----------------------------------------------------------------------------- */

/* Its lines but the broker's own variable. */
static char *environment_of(const struct redd_spawn_options *o)
{
	char *text, *mark;

	cr_assert_eq(childstate_run(r, o, "env", &text), 0, "%s", redd_last_error(r)->message);
	mark = strstr(text, "=REDD_PORT=");
	cr_assert_not_null(mark);
	cr_expect_eq(strspn(mark + 11, "0123456789abcdef"), 32);
	cr_expect_eq(mark[11 + 32], '.');
	cr_expect_eq(strspn(mark + 11 + 33, "0123456789"), strcspn(mark + 11 + 33, "\n"));
	cr_expect_null(strstr(mark + 11, "REDD_PORT="), "only one");
	while (mark > text && mark[-1] != '\n')
		mark--;
	*mark = '\0'; /* it is the last one */
	return text;
}

static void environment_is(const struct redd_spawn_options *o, const char *expected)
{
	char *text = environment_of(o);

	cr_expect_str_eq(text, expected, "%s", text);
	free(text);
}

Test(spawn_program, P6_S13_the_environment_starts_from_nothing_or_the_clients)
{
	static const char *const own[] = { "A=1", "B=two words", "C=", "D=\xff=\n", NULL };
	struct redd_spawn_options o = { .size = sizeof(o), .environment_base = REDD_ENV_EMPTY };

	environment_is(&o, "");
	o.environment_base = REDD_ENV_CLIENT;
	o.environment = own;
	environment_is(&o, "env[0]=A=1\nenv[1]=B=two words\nenv[2]=C=\nenv[3]=D=\\xff=\\x0a\n");
	o.environment = NULL;
	cr_assert_eq(clearenv(), 0);
	cr_assert_eq(setenv("MINE", "yes", 1), 0);
	environment_is(&o, "env[0]=MINE=yes\n");
}

Test(spawn_program, P6_S13_the_environment_starts_from_the_services)
{
	static const char *const unset[] = { "SERVICE", "NOT_THERE", NULL };
	static const char *const set[] = { "BOTH=spawn", NULL };
	struct redd_spawn_options o = { .size = sizeof(o), .environment_base = REDD_ENV_BROKER };

	if (place_valgrind())
		cr_skip_test("the service has an environment for its tool");
	environment_is(&o, "env[0]=PATH=/usr/bin:/bin\nenv[1]=SERVICE=its own\n"
			   "env[2]=BOTH=service\n");
	o.unset = unset;
	o.set_env = set;
	environment_is(&o, "env[0]=PATH=/usr/bin:/bin\nenv[1]=BOTH=spawn\n");
}

Test(spawn_program, P6_S13_unset_comes_before_set_and_the_last_of_a_name_wins)
{
	static const char *const own[] = { "A=1", "B=1", "A=2", "C=1", NULL };
	static const char *const unset[] = { "A", "C", "A", NULL };
	static const char *const set[] = { "N=1", "A=3", "N=2", "REDD_PORT=forged", "B=", NULL };
	struct redd_spawn_options o = { .size = sizeof(o), .environment = own };
	char *text;

	environment_is(&o, "env[0]=A=2\nenv[1]=B=1\nenv[2]=C=1\n");
	o.unset = unset;
	o.set_env = set;
	cr_assert_eq(childstate_run(r, &o, "env", &text), 0);
	cr_expect_eq(childstate_count(text, "env["), 4, "%s", text);
	cr_expect_not_null(strstr(text, "=A=3\n"), "%s", text);
	cr_expect_not_null(strstr(text, "=N=2\n"), "%s", text);
	cr_expect_not_null(strstr(text, "=B=\n"), "%s", text);
	cr_expect_null(strstr(text, "forged"), "%s", text);
	free(text);
}

Test(spawn_program, P6_S15_a_variable_without_a_name_is_left_out_or_refused)
{
	static const char *const odd[] = { "A=1", "=nameless", "no equals", "", "B=2", NULL };
	const char *set[] = { "=nameless", NULL };
	const char *unset[] = { "A=1", NULL };
	struct redd_spawn_options o = { .size = sizeof(o), .environment = odd };
	struct redd_spawn_options bad = { .size = sizeof(bad), .shell = "exit", .set_env = set };
	struct redd_port *port;

	environment_is(&o, "env[0]=A=1\nenv[1]=B=2\n");
	cr_expect_eq(redd_spawn(r, &bad, &port), -EINVAL);
	set[0] = "no equals";
	cr_expect_eq(redd_spawn(r, &bad, &port), -EINVAL);
	bad.set_env = NULL;
	bad.unset = unset;
	cr_expect_eq(redd_spawn(r, &bad, &port), -EINVAL);
	unset[0] = "";
	cr_expect_eq(redd_spawn(r, &bad, &port), -EINVAL);
}

/* S16: more than a datagram between the parts can hold. */
Test(spawn_program, P6_S16_twenty_thousand_variables_arrive)
{
	enum { N = 20000 };
	static const char *own[N + 1];
	static char texts[N][16];
	struct redd_spawn_options o = { .size = sizeof(o), .environment = own };
	char *text, *at, line[64];

	for (int i = 0; i < N; i++) {
		snprintf(texts[i], sizeof(texts[i]), "V%d=%d", i, i * 7);
		own[i] = texts[i];
	}
	at = text = environment_of(&o);
	for (int i = 0; i < N; i++) {
		int n = snprintf(line, sizeof(line), "env[%d]=%s\n", i, texts[i]);

		cr_assert(!strncmp(at, line, (size_t)n), "%.100s instead of %s", at, line);
		at += n;
	}
	cr_expect_str_eq(at, "");
	free(text);
}

/* S17: sizes around which the ways part: one datagram or a memfd, one read of the broker's. */
Test(spawn_program, P6_S17_requests_of_every_size_around_a_boundary_arrive)
{
	static const size_t around[] = { 4096, 65536, 98304, 131072 };
	static char text[131072 + 16];
	const char *argv[] = { place_prog("state"), "args", text, "end", NULL };

	for (size_t i = 0; i < sizeof(around) / sizeof(around[0]); i++)
		for (size_t size = around[i] - 5; size <= around[i] + 5; size++) {
			if (size > 131071)
				break; /* execve(2) takes no longer one */
			memset(text, 'a' + (int)(size % 26), size);
			text[size] = '\0';
			arguments_arrive(argv, NULL);
		}
}

/* The frame and the record themselves, with all their parts, moved over each boundary. */
Test(spawn_program, P6_S17_records_of_every_size_around_a_boundary_arrive)
{
	static const size_t around[] = { 65536, 131072 };
	static char first[131072], second[131072];
	const char *argv[] = { place_prog("state"), "args", first, second, NULL };
	size_t step = place_rounds(2) == 2 ? 3 : 41;

	cr_assert_eq(clearenv(), 0);
	memset(first, 'f', sizeof(first));
	memset(second, 's', sizeof(second));
	for (size_t i = 0; i < sizeof(around) / sizeof(around[0]); i++)
		for (size_t size = around[i] - 600; size <= around[i] + 8; size += step) {
			first[size / 2] = second[size - size / 2] = '\0';
			arguments_arrive(argv, NULL);
			first[size / 2] = 'f';
			second[size - size / 2] = 's';
		}
}
