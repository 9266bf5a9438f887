/* A spawn that fails: stage and errno in its answer, and nothing left: every test ends with a
 * census that must be as it was at the start (service_finish()).
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/lib/collect.h"
#include "tests/lib/inject.h"
#include "tests/lib/places.h"
#include "tests/lib/service.h"

#define NOBODY 65534

static struct service service;
static struct redd *r;

static void set_up(void)
{
	cr_assert_eq(service_start(&service, NULL), 0);
	r = service_connect(&service);
	cr_assert_not_null(r);
}

static void tear_down(void)
{
	redd_free(r);
	cr_assert_eq(service_finish(&service), 0);
}

TestSuite(spawn_fail, .init = set_up, .fini = tear_down, .timeout = 60);

/* --- tools ----------------------------------------------------------------------------------- */

static const char *const true_argv[] = { "/bin/true", NULL };

/* A path in the service's directory. */
static const char *here(const char *name)
{
	return place_in(service.directory, name);
}

static void make_file(const char *name, const char *text, mode_t mode)
{
	int fd = open(here(name), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	cr_assert_geq(fd, 0);
	cr_assert_eq(write(fd, text, strlen(text)), (ssize_t)strlen(text));
	cr_assert_eq(fchmod(fd, mode), 0);
	close(fd);
}

static size_t n_ports(void)
{
	struct redd_ports *ports;
	size_t n;

	cr_assert_eq(redd_list(r, NULL, &ports), 0);
	n = ports->n_ports;
	redd_ports_free(ports);
	return n;
}

static void fails(const char *name, const struct redd_spawn_options *options, int error,
		  enum redd_stage stage)
{
	struct redd_spawn_options o = *options;
	struct redd_port *port = NULL;
	const struct redd_error *e;
	int result;

	if (!o.argv && !o.shell)
		o.argv = true_argv;
	result = redd_spawn(r, &o, &port);
	e = redd_last_error(r);
	cr_expect_eq(result, -error, "%s: %s instead of %s (%s)", name, strerror(-result),
		     strerror(error), e->message);
	cr_expect_null(port, "%s", name);
	cr_expect(e->from_broker, "%s", name);
	cr_expect_eq(e->sys_errno, error, "%s: errno %d", name, e->sys_errno);
	cr_expect_eq(e->stage, stage, "%s: stage %s instead of %s", name, redd_stage_name(e->stage),
		     redd_stage_name(stage));
	cr_expect_gt(strlen(e->message), 20, "%s: a sentence says what to do", name);
	cr_expect_eq(n_ports(), 0, "%s: a port is there", name);
}

static void program_fails(const char *program, int error)
{
	const char *const argv[] = { program, NULL };
	struct redd_spawn_options o = { .size = sizeof(o), .argv = argv };

	fails(program, &o, error, REDD_STAGE_EXEC);
}

static void directory_fails(const char *directory, int error)
{
	struct redd_spawn_options o = { .size = sizeof(o), .directory = directory };

	fails(directory, &o, error, REDD_STAGE_DIRECTORY);
}

static void file_fails(const char *path, int flags, int error)
{
	struct redd_descriptor d = {
		.fd = 0, .kind = REDD_FILE, .path = path, .open_flags = flags
	};
	struct redd_spawn_options o = { .size = sizeof(o), .descriptors = &d, .n_descriptors = 1 };

	fails(path, &o, error, REDD_STAGE_FILES);
}

static int runs(const char *program)
{
	const char *const argv[] = { program, NULL };
	struct redd_spawn_options o = { .size = sizeof(o), .argv = argv };
	struct collect c;
	int status;

	collect_init(&c);
	cr_assert_eq(collect_run(&c, r, &o, 10000), 0, "%s", redd_last_error(r)->message);
	status = redd_exit_status(&c.exit);
	collect_deinit(&c);
	return status;
}

/* --- exec ------------------------------------------------------------------------------------ */

Test(spawn_fail, P6_S03_a_program_that_cannot_be_executed_says_why)
{
	char name[300];

	make_file("plain", "exit 0\n", 0644);
	make_file("lost", "#!/no/such/interpreter\n", 0755);
	memset(name, 'n', sizeof(name) - 1);
	name[sizeof(name) - 1] = '\0';
	cr_assert_eq(symlink(here("loop"), here("loop")), 0);
	program_fails("/no/such/program", ENOENT);
	program_fails("no-such-program-anywhere", ENOENT);
	program_fails(here("plain"), EACCES);
	program_fails(service.directory, EACCES);
	program_fails(here("plain/below"), ENOTDIR);
	if (place_valgrind()) /* looks at these itself, and sees no more than that they are there */
		return;
	program_fails(here("lost"), ENOENT);
	program_fails(here("loop"), ELOOP);
	program_fails(here(name), ENAMETOOLONG);
}

Test(spawn_fail, P6_S06_a_script_without_a_first_line_is_run_by_the_shell)
{
	make_file("script", "exit 7\n", 0755);
	make_file("empty", "", 0755);
	cr_expect_eq(runs(here("script")), 7);
	cr_expect_eq(runs(here("empty")), 0);
}

/* A program for another machine, say: no shell is to take its lines for commands. */
Test(spawn_fail, P6_a_binary_of_no_known_format_is_not_given_to_the_shell)
{
	static const char binary[] = "\177ELF\0\0\n>here\n";
	FILE *f = fopen(here("binary"), "w");

	cr_assert_eq(fwrite(binary, 1, sizeof(binary) - 1, f), sizeof(binary) - 1);
	cr_assert_eq(fchmod(fileno(f), 0755), 0);
	fclose(f);
	if (place_valgrind())
		cr_skip_test("valgrind looks at it itself");
	program_fails(here("binary"), ENOEXEC);
}

Test(spawn_fail, P6_arguments_that_are_too_large_say_so)
{
	static char text[128 * 1024 + 1];
	const char *argv[64] = { "/bin/true", text, NULL };
	struct redd_spawn_options o = { .size = sizeof(o), .argv = argv };
	struct redd_connect_options large = { .size = sizeof(large),
					      .socket = service.socket,
					      .no_start = true,
					      .frame_max = 16 << 20 };

	if (place_valgrind())
		cr_skip_test("valgrind ends a process whose execve(2) fails in the kernel");
	memset(text, 'x', sizeof(text) - 1); /* one string: 128 KiB with its NUL, execve(2) */
	fails("one argument", &o, E2BIG, REDD_STAGE_EXEC);
	text[sizeof(text) - 2] = '\0';
	for (int i = 1; i < 63; i++)
		argv[i] = text; /* 8 MiB in all */
	redd_disconnect(r);
	cr_assert_eq(redd_connect(r, &large), 0);
	fails("many arguments", &o, E2BIG, REDD_STAGE_EXEC);
}

Test(spawn_fail, P6_a_program_that_is_being_written_is_busy)
{
	int fd;

	if (place_valgrind())
		cr_skip_test("ten tries take long enough without valgrind");
	make_file("busy", "#!/bin/sh\n", 0755);
	fd = open(here("busy"), O_WRONLY | O_CLOEXEC);
	cr_assert_geq(fd, 0);
	program_fails(here("busy"), ETXTBSY);
	close(fd);
	cr_expect_eq(runs(here("busy")), 0);
}

/* --- directory, files, limits ---------------------------------------------------------------- */

Test(spawn_fail, P6_S18_a_directory_that_cannot_be_entered_says_why)
{
	make_file("file", "", 0644);
	cr_assert_eq(symlink(here("loop"), here("loop")), 0);
	directory_fails("/no/such/directory", ENOENT);
	directory_fails(here("file"), ENOTDIR);
	directory_fails(here("loop"), ELOOP);
	directory_fails(here("file/.."), ENOTDIR);
}

Test(spawn_fail, P6_a_file_that_cannot_be_opened_says_why)
{
	make_file("file", "", 0644);
	cr_assert_eq(symlink(here("loop"), here("loop")), 0);
	file_fails("/no/such/file", O_RDONLY, ENOENT);
	file_fails(here("nowhere/file"), O_WRONLY | O_CREAT, ENOENT);
	file_fails(service.directory, O_WRONLY, EISDIR);
	file_fails(here("file"), O_WRONLY | O_CREAT | O_EXCL, EEXIST);
	file_fails(here("file/below"), O_RDONLY, ENOTDIR);
	file_fails(here("loop"), O_RDONLY, ELOOP);
}

Test(spawn_fail, P6_a_limit_whose_soft_value_is_above_its_hard_one_is_refused)
{
	const struct redd_limit above = {
		.name = "core", .has_soft = true, .has_hard = true, .soft = 2, .hard = 1
	};
	const struct redd_limit none = { .name = "core" };
	struct redd_spawn_options o = { .size = sizeof(o), .limits = &above, .n_limits = 1 };

	fails("soft above hard", &o, EINVAL, REDD_STAGE_REQUEST);
	o.limits = &none;
	fails("neither soft nor hard", &o, EINVAL, REDD_STAGE_REQUEST);
}

Test(spawn_fail, P6_a_terminal_needs_a_session_of_its_own)
{
	const struct redd_terminal terminal = { .rows = 24, .columns = 80 };
	struct redd_spawn_options o = { .size = sizeof(o),
					.terminal = &terminal,
					.new_group = true };

	fails("terminal", &o, EINVAL, REDD_STAGE_REQUEST);
}

Test(spawn_fail, P6_as_many_descriptors_as_may_be_named_and_one_more)
{
	struct redd_descriptor d[65];
	struct redd_spawn_options o = { .size = sizeof(o), .descriptors = d };
	struct redd_port *port;

	for (uint32_t i = 0; i < 65; i++)
		d[i] = (struct redd_descriptor){ .fd = 1023 - i, .kind = REDD_NULL };
	o.argv = true_argv;
	for (o.n_descriptors = 61; o.n_descriptors < 65; o.n_descriptors++) {
		int result = redd_spawn(r, &o, &port);

		/* 0, 1 and 2 come on top of what is named. */
		if (result == -EINVAL) {
			cr_expect_gt(o.n_descriptors, 61);
			cr_expect_eq(redd_last_error(r)->stage, REDD_STAGE_REQUEST);
			cr_expect_eq(redd_last_error(r)->code, REDD_INVALID_ARGUMENT);
			continue;
		}
		cr_assert_eq(result, 0, "%zu: %s", o.n_descriptors, redd_last_error(r)->message);
		cr_assert_eq(redd_wait(port, REDD_UNTIL_CLOSED, -1, &(struct redd_waited){ 0 }), 0);
		cr_assert_eq(redd_forget(port), 0);
		redd_port_free(port);
	}
	fails("65 descriptors", &o, EINVAL, REDD_STAGE_REQUEST);
}

/* --- stages that only fail when the system does ---------------------------------------------- */

struct fault {
	const char *inject; /* into the forker and its children */
	int error;
	enum redd_stage stage;
};

static void fault_try(const struct fault *f, const struct redd_spawn_options *o)
{
	struct inject inject;

	cr_assert_eq(inject_start(&inject, service.start.forker, f->inject), 0);
	fails(f->inject, o, f->error, f->stage);
	cr_assert_eq(inject_stop(&inject), 0);
	cr_expect_eq(runs("/bin/true"), 0, "%s: it goes on", f->inject);
}

Test(spawn_fail, P6_S10_what_fails_in_the_child_is_told_with_its_stage, .timeout = 120)
{
	static const struct fault faults[] = {
		{ "clone:error=EAGAIN", EAGAIN, REDD_STAGE_CLONE },
		{ "setsid:error=EPERM", EPERM, REDD_STAGE_SESSION },
		{ "ioctl:error=EIO", EIO, REDD_STAGE_TERMINAL },
		{ "dup3:error=EMFILE", EMFILE, REDD_STAGE_DESCRIPTORS },
		{ "setpriority:error=EACCES", EACCES, REDD_STAGE_LIMITS },
		{ "prlimit64:error=EPERM", EPERM, REDD_STAGE_LIMITS },
		{ "chdir:error=EIO", EIO, REDD_STAGE_DIRECTORY },
		{ "openat:error=EIO", EIO, REDD_STAGE_FILES },
		{ "prctl:error=EPERM", EPERM, REDD_STAGE_SANDBOX },
		{ "execve:error=ENOMEM", ENOMEM, REDD_STAGE_EXEC },
		{ "chdir:signal=KILL", EINTR, REDD_STAGE_SETUP },
	};
	const struct redd_terminal terminal = { .rows = 24, .columns = 80 };
	const struct redd_descriptor d = { .fd = 9, .kind = REDD_FILE, .path = "/dev/null" };
	struct redd_spawn_options o = { .size = sizeof(o),
					.terminal = &terminal,
					.descriptors = &d,
					.n_descriptors = 1,
					.nice = 1,
					.set = REDD_SET_NICE,
					.no_new_privileges = true };

	if (place_valgrind())
		cr_skip_test("a program under valgrind cannot be traced");
	for (size_t i = 0; i < sizeof(faults) / sizeof(faults[0]); i++)
		fault_try(&faults[i], &o);
}

/* Whether it was killed before its exec or right behind it cannot always be told; that it was
 * killed can. */
Test(spawn_fail, P6_a_child_that_is_killed_at_its_exec_is_never_told_an_exit_code)
{
	struct redd_spawn_options o = { .size = sizeof(o), .argv = true_argv };
	struct inject inject;
	struct collect c;
	int result;

	if (place_valgrind())
		cr_skip_test("a program under valgrind cannot be traced");
	cr_assert_eq(inject_start(&inject, service.start.forker, "execve:signal=KILL"), 0);
	collect_init(&c);
	result = collect_run(&c, r, &o, 10000);
	if (result == 0) {
		cr_expect_eq(c.exit.state, REDD_EXIT_SIGNAL);
		cr_expect_eq(c.exit.signal, SIGKILL);
	} else {
		cr_expect_eq(result, -EINTR, "%s", redd_last_error(r)->message);
		cr_expect_eq(redd_last_error(r)->stage, REDD_STAGE_SETUP);
	}
	collect_deinit(&c);
	cr_assert_eq(inject_stop(&inject), 0);
}

Test(spawn_fail, P6_an_identity_that_cannot_be_taken_on_is_told_with_its_stage)
{
	static const struct fault faults[] = {
		{ "setgroups:error=EPERM", EPERM, REDD_STAGE_GROUPS },
		{ "setresgid:error=EPERM", EPERM, REDD_STAGE_GROUPS },
		{ "setresuid:error=EAGAIN", EAGAIN, REDD_STAGE_USER },
	};
	struct redd_spawn_options o = {
		.size = sizeof(o), .set = REDD_SET_UID | REDD_SET_GID, .uid = NOBODY, .gid = NOBODY
	};

	if (geteuid() != 0)
		cr_skip_test("only root may ask for another identity");
	if (place_valgrind())
		cr_skip_test("a program under valgrind cannot be traced");
	for (size_t i = 0; i < sizeof(faults) / sizeof(faults[0]); i++)
		fault_try(&faults[i], &o);
}

static void broker_fault(const char *what, const struct redd_spawn_options *o, int error)
{
	struct inject inject;

	cr_assert_eq(inject_start(&inject, service.start.broker, what), 0);
	fails(what, o, error, REDD_STAGE_REQUEST);
	cr_assert_eq(inject_stop(&inject), 0);
	cr_expect_eq(runs("/bin/true"), 0, "%s: it goes on", what);
}

Test(spawn_fail, P6_S10_S30_what_the_broker_cannot_have_is_told_as_such, .timeout = 120)
{
	const struct redd_descriptor in = { .fd = 0, .kind = REDD_PIPE };
	const struct redd_descriptor both = { .fd = 5, .kind = REDD_SOCKET };
	const struct redd_terminal terminal = { .rows = 24, .columns = 80 };
	struct redd_spawn_options o = { .size = sizeof(o), .descriptors = &in, .n_descriptors = 1 };

	if (place_valgrind())
		cr_skip_test("a program under valgrind cannot be traced");
	for (int when = 1; when <= 3; when++) {
		char what[64];

		snprintf(what, sizeof(what), "pipe2:error=EMFILE:when=%d", when);
		broker_fault(what, &o, EMFILE);
	}
	o.descriptors = &both;
	broker_fault("socketpair:error=ENFILE:when=1", &o, ENFILE);
	broker_fault("socketpair:error=EMFILE:when=2", &o, EMFILE);
	o.n_descriptors = 0;
	o.terminal = &terminal;
	broker_fault("openat:error=ENOSPC:when=1", &o, ENOSPC);
}

/* --- an ordinary user ------------------------------------------------------------------------ */

static bool is_ordinary;

/* The service of a user without rights; as root, we become one first. */
static void set_up_ordinary(void)
{
	if (geteuid() == 0 && (setgroups(0, NULL) < 0 || setresgid(NOBODY, NOBODY, NOBODY) < 0 ||
			       setresuid(NOBODY, NOBODY, NOBODY) < 0))
		abort();
	is_ordinary = access(place_program("redd-broker"), X_OK) == 0 &&
		      access(place_prog("state"), X_OK) == 0;
	if (is_ordinary)
		set_up();
}

static void tear_down_ordinary(void)
{
	if (is_ordinary)
		tear_down();
}

static bool ordinary_is_missing(void)
{
	if (!is_ordinary)
		cr_skip_test("a user without rights cannot reach %s", place_build());
	return !is_ordinary;
}

TestSuite(spawn_fail_ordinary, .init = set_up_ordinary, .fini = tear_down_ordinary, .timeout = 60);

Test(spawn_fail_ordinary, P6_what_the_user_may_not_reach_is_refused_by_the_system)
{
	if (ordinary_is_missing())
		return;
	make_file("secret", "", 0);
	make_file("plain", "", 0644);
	cr_assert_eq(mkdir(here("closed"), 0), 0);
	directory_fails(here("closed"), EACCES);
	program_fails(here("closed/program"), EACCES);
	program_fails(here("secret"), EACCES);
	file_fails(here("secret"), O_RDONLY, EACCES);
	file_fails(here("closed/file"), O_WRONLY | O_CREAT, EACCES);
	cr_assert_eq(chmod(here("closed"), 0700), 0);
}

Test(spawn_fail_ordinary, P6_limits_above_the_hard_one_are_refused_by_the_system)
{
	struct redd_limit limit = { .name = "nofile", .has_hard = true };
	struct redd_spawn_options o = { .size = sizeof(o), .limits = &limit, .n_limits = 1 };
	struct rlimit now;

	if (ordinary_is_missing())
		return;
	getrlimit(RLIMIT_NOFILE, &now);
	limit.hard = (uint64_t)now.rlim_max + 1;
	fails("hard nofile", &o, EPERM, REDD_STAGE_LIMITS);
	limit = (struct redd_limit){ .name = "nofile", .has_soft = true, .soft = limit.hard };
	fails("soft nofile", &o, EINVAL, REDD_STAGE_LIMITS);
	o = (struct redd_spawn_options){ .size = sizeof(o), .set = REDD_SET_NICE, .nice = -20 };
	fails("nice", &o, EACCES, REDD_STAGE_LIMITS);
}

Test(spawn_fail_ordinary, P6_another_identity_is_refused_before_anything_is_started)
{
	const uint32_t group = 0;
	struct redd_spawn_options o = { .size = sizeof(o), .set = REDD_SET_UID };

	if (ordinary_is_missing())
		return;
	fails("uid", &o, EPERM, REDD_STAGE_REQUEST);
	cr_expect_eq(redd_last_error(r)->code, REDD_PERMISSION_DENIED);
	o.set = REDD_SET_GID;
	fails("gid", &o, EPERM, REDD_STAGE_REQUEST);
	o.set = REDD_SET_GROUPS;
	o.groups = &group;
	o.n_groups = 1;
	fails("groups", &o, EPERM, REDD_STAGE_REQUEST);
}
