/* Everything of a child that is neither program nor descriptor: identity, signals, limits, session,
 * scheduling. Held against what was asked for, and where nothing was, against what every child has
 * whoever starts it and however the service was started. */
#include <criterion/criterion.h>
#include <errno.h>
#include <grp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/lib/childstate.h"
#include "tests/lib/collect.h"
#include "tests/lib/places.h"
#include "tests/lib/service.h"

#define NOBODY 65534
#define OWN_NOFILE \
	"valgrind keeps the limit of open files to itself: who runs in it cannot set that"

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

/* What a careless caller hands down: ignored and blocked signals, a umask, a limit. */
static void set_up_dirty(void)
{
	struct rlimit limit;
	sigset_t all;

	signal(SIGPIPE, SIG_IGN);
	signal(SIGHUP, SIG_IGN);
	signal(SIGUSR1, SIG_IGN);
	for (int n = SIGRTMIN; n <= SIGRTMAX; n++)
		signal(n, SIG_IGN);
	sigfillset(&all);
	sigdelset(&all, SIGALRM);
	sigprocmask(SIG_SETMASK, &all, NULL);
	umask(0);
	getrlimit(RLIMIT_NOFILE, &limit);
	limit.rlim_cur = 512;
	setrlimit(RLIMIT_NOFILE, &limit);
	getrlimit(RLIMIT_STACK, &limit);
	limit.rlim_cur = 4 << 20;
	setrlimit(RLIMIT_STACK, &limit);
	set_up();
}

TestSuite(spawn_child, .init = set_up, .fini = tear_down, .timeout = 60);
TestSuite(spawn_child_dirty, .init = set_up_dirty, .fini = tear_down, .timeout = 60);

static char *state;

static const char *value_of(const char *name)
{
	const char *value = childstate_value(state, name);

	cr_assert_not_null(value, "%s", name);
	return value;
}

static void look(const struct redd_spawn_options *o)
{
	free(state);
	state = NULL;
	cr_assert_eq(childstate_run(r, o, "attributes", &state), 0, "%s",
		     redd_last_error(r)->message);
}

static void is(const char *name, const char *expected)
{
	const char *value = value_of(name);

	cr_expect_str_eq(value, expected, "%s is \"%s\" instead of \"%s\"", name, value, expected);
}

/* Its own value of this resource, "soft:hard". */
static void limit_is(int resource, uint64_t soft, uint64_t hard)
{
	char expected[96];

	snprintf(expected, sizeof(expected), "%s%d:%lld:%lld ", resource ? " " : "", resource,
		 (long long)soft, (long long)hard);
	cr_expect_not_null(strstr(value_of("limits"), expected), "%s not in %s", expected,
			   value_of("limits"));
}

/* --- what every child has -------------------------------------------------------------------- */

static void look_golden(const struct redd_spawn_options *o)
{
	char text[64];

	look(o);
	snprintf(text, sizeof(text), "%d %d", (int)getuid(), (int)geteuid());
	is("uid", text);
	snprintf(text, sizeof(text), "%d %d", (int)getgid(), (int)getegid());
	is("gid", text);
	is("directory", "/");
	is("umask", "022");
	is("nice", "0");
	is("policy", "0");
	is("blocked", "0000000000000000");
	is("ignored", "0000000000000000");
	is("caught", "0000000000000000");
	is("pending", "0000000000000000");
	is("no_new_privs", "0");
	is("death_signal", "0");
	is("dumpable", "1");
	is("timer", "0");
}

Test(spawn_child, P11_S23_S24_every_child_begins_the_same)
{
	struct redd_spawn_options o = { .size = sizeof(o), .client_directory = "/" };

	look_golden(&o);
	is("session", "own");
	is("group", "own");
	o.new_group = true;
	look_golden(&o);
	is("session", "other");
	is("group", "own");
}

Test(spawn_child_dirty, P11_S22_nothing_of_a_careless_start_reaches_a_child)
{
	const struct redd_spawn_options o = { .size = sizeof(o), .client_directory = "/" };
	struct rlimit nofile, stack;

	if (place_valgrind())
		cr_skip_test(OWN_NOFILE);
	getrlimit(RLIMIT_NOFILE, &nofile);
	getrlimit(RLIMIT_STACK, &stack);
	look_golden(&o);
	limit_is(RLIMIT_NOFILE, nofile.rlim_cur, nofile.rlim_max);
	limit_is(RLIMIT_STACK, stack.rlim_cur, stack.rlim_max);
}

/* Each repeat runs where others ran before: nothing sticks to the forker. */
Test(spawn_child, P11_what_one_child_was_given_does_not_reach_the_next)
{
	const struct redd_limit limit = {
		.name = "core", .has_soft = true, .has_hard = true, .soft = 0, .hard = 0
	};
	const struct redd_terminal terminal = { .rows = 10, .columns = 20 };
	const struct redd_descriptor pipes[] = { { .fd = 1 }, { .fd = 2 } };
	struct redd_spawn_options odd = { .size = sizeof(odd),
					  .directory = "/usr",
					  .terminal = &terminal,
					  .descriptors = pipes,
					  .n_descriptors = 2,
					  .limits = &limit,
					  .n_limits = 1,
					  .nice = 5,
					  .umask = 077,
					  .set = REDD_SET_NICE | REDD_SET_UMASK,
					  .no_new_privileges = true };
	const struct redd_spawn_options plain = { .size = sizeof(plain), .client_directory = "/" };

	for (int i = 0; i < 20; i++) {
		look(&odd);
		is("nice", "5");
		look_golden(&plain);
	}
}

/* --- what was asked for ---------------------------------------------------------------------- */

Test(spawn_child, P6_umask_nice_and_no_new_privileges_are_what_was_asked_for)
{
	struct redd_spawn_options o = { .size = sizeof(o),
					.umask = 0137,
					.nice = 7,
					.set = REDD_SET_UMASK | REDD_SET_NICE,
					.no_new_privileges = true };

	look(&o);
	is("umask", "137");
	is("nice", "7");
	is("no_new_privs", "1");
	o.umask = 0;
	o.nice = 19;
	look(&o);
	is("umask", "000");
	is("nice", "19");
}

Test(spawn_child, P6_limits_are_what_was_asked_for)
{
	static const struct {
		const char *name;
		int resource;
		uint64_t soft, hard;
	} all[] = {
		{ "as", RLIMIT_AS, 1 << 30, 1ull << 32 },
		{ "core", RLIMIT_CORE, 0, 0 },
		{ "cpu", RLIMIT_CPU, 100, 200 },
		{ "fsize", RLIMIT_FSIZE, 12345, 23456 },
		{ "locks", RLIMIT_LOCKS, 10, 20 },
		{ "memlock", RLIMIT_MEMLOCK, 4096, 8192 },
		{ "msgqueue", RLIMIT_MSGQUEUE, 1000, 2000 },
		{ "nice", RLIMIT_NICE, 0, 0 },
		{ "nproc", RLIMIT_NPROC, 5000, 6000 },
		{ "rss", RLIMIT_RSS, 1 << 20, 1 << 21 },
		{ "rtprio", RLIMIT_RTPRIO, 0, 0 },
		{ "rttime", RLIMIT_RTTIME, 100000, 200000 },
		{ "sigpending", RLIMIT_SIGPENDING, 100, 200 },
		{ "data", RLIMIT_DATA, 1 << 29, 1 << 30 },
		{ "stack", RLIMIT_STACK, 1 << 20, 2 << 20 },
		{ "nofile", RLIMIT_NOFILE, 32, 64 },
	};
	enum { N = sizeof(all) / sizeof(all[0]), OF_VALGRIND = 3 };
	struct redd_limit limits[N];
	struct redd_spawn_options o = { .size = sizeof(o), .limits = limits, .n_limits = N };

	for (int i = 0; i < N; i++)
		limits[i] = (struct redd_limit){ .name = all[i].name,
						 .has_soft = true,
						 .has_hard = true,
						 .soft = all[i].soft,
						 .hard = all[i].hard };
	if (place_valgrind()) /* the last ones: as OWN_NOFILE says, and so it does with these */
		o.n_limits -= OF_VALGRIND;
	look(&o);
	for (size_t i = 0; i < o.n_limits; i++)
		limit_is(all[i].resource, all[i].soft, all[i].hard);
}

Test(spawn_child, P6_half_a_limit_leaves_the_other_half)
{
	struct redd_limit limit = { .name = "memlock", .has_soft = true, .soft = 4096 };
	const struct redd_spawn_options o = { .size = sizeof(o), .limits = &limit, .n_limits = 1 };
	struct rlimit now;

	getrlimit(RLIMIT_MEMLOCK, &now);
	look(&o);
	limit_is(RLIMIT_MEMLOCK, 4096, now.rlim_max);
	limit = (struct redd_limit){ .name = "fsize", .has_soft = true, .soft = REDD_UNLIMITED };
	look(&o);
	limit_is(RLIMIT_FSIZE, RLIM_INFINITY, RLIM_INFINITY);
}

Test(spawn_child, P6_descriptors_are_placed_before_their_number_is_limited)
{
	const struct redd_limit limit = {
		.name = "nofile", .has_soft = true, .has_hard = true, .soft = 8, .hard = 8
	};
	const struct redd_descriptor d[] = { { .fd = 900, .kind = REDD_NULL },
					     { .fd = 901, .kind = REDD_PIPE } };
	const struct redd_spawn_options o = { .size = sizeof(o),
					      .limits = &limit,
					      .n_limits = 1,
					      .descriptors = d,
					      .n_descriptors = 2 };

	if (place_valgrind())
		cr_skip_test(OWN_NOFILE);
	look(&o);
	limit_is(RLIMIT_NOFILE, 8, 8);
}

Test(spawn_child, P6_a_terminal_is_the_childs_controlling_one)
{
	const struct redd_terminal terminal = { .rows = 33, .columns = 77 };
	const char *const argv[] = { place_prog("tty"), NULL };
	struct collect c;
	struct redd_spawn_options o = {
		.size = sizeof(o), .argv = argv, .terminal = &terminal, .subscribe = NULL
	};
	struct redd_port *port;

	collect_init(&c);
	o.subscribe = &c.watch;
	cr_assert_eq(redd_spawn(r, &o, &port), 0, "%s", redd_last_error(r)->message);
	cr_assert_eq(collect_wait_bytes(&c, r, REDD_TERMINAL, 40, 20000), 0);
	cr_expect_str_eq(collect_text(&c, REDD_TERMINAL),
			 "tty yes yes yes\r\ncontrol yes\r\nsize 33 77\r\n");
	cr_assert_eq(redd_close(port, REDD_STREAM_DEFAULT, NULL), 0);
	cr_assert_eq(collect_wait(&c, r, 20000), 0);
	cr_expect_str_eq(c.wrong, "");
	cr_assert_eq(redd_forget(port), 0);
	redd_port_free(port);
	collect_deinit(&c);
}

/* --- another identity ------------------------------------------------------------------------ */

static bool identity_is_missing(void)
{
	if (geteuid() != 0)
		cr_skip_test("only root may ask for another identity");
	return geteuid() != 0;
}

Test(spawn_child, P6_root_may_ask_for_another_identity)
{
	const uint32_t groups[] = { 17, 5, 100000 };
	struct redd_spawn_options o = { .size = sizeof(o),
					.directory = "/",
					.uid = NOBODY,
					.gid = 12345,
					.groups = groups,
					.n_groups = 3,
					.set = REDD_SET_UID | REDD_SET_GID | REDD_SET_GROUPS };
	struct collect c;

	if (identity_is_missing())
		return;
	o.shell = "id -u; id -ru; id -g; id -rg; id -G; grep -E '^(Uid|Gid|CapPrm|CapEff)' "
		  "/proc/self/status";
	collect_init(&c);
	cr_assert_eq(collect_run(&c, r, &o, 20000), 0, "%s", redd_last_error(r)->message);
	cr_expect_str_eq(collect_text(&c, 1), "65534\n65534\n12345\n12345\n12345 5 17 100000\n"
					      "Uid:\t65534\t65534\t65534\t65534\n"
					      "Gid:\t12345\t12345\t12345\t12345\n"
					      "CapPrm:\t0000000000000000\n"
					      "CapEff:\t0000000000000000\n");
	collect_deinit(&c);
}

Test(spawn_child, P6_a_uid_alone_brings_no_groups_of_root)
{
	struct redd_spawn_options o = { .size = sizeof(o),
					.shell = "id -u; id -G",
					.directory = "/",
					.uid = NOBODY,
					.set = REDD_SET_UID };
	struct collect c;

	if (identity_is_missing())
		return;
	collect_init(&c);
	cr_assert_eq(collect_run(&c, r, &o, 20000), 0, "%s", redd_last_error(r)->message);
	cr_expect_str_eq(collect_text(&c, 1), "65534\n0\n");
	collect_deinit(&c);
}

Test(spawn_child, P6_files_and_directories_are_reached_under_the_childs_identity)
{
	const struct redd_descriptor d = {
		.fd = 5, .kind = REDD_FILE, .path = "/etc/shadow", .open_flags = 0
	};
	struct redd_spawn_options o = { .size = sizeof(o),
					.shell = "exit",
					.directory = "/root",
					.uid = NOBODY,
					.gid = NOBODY,
					.set = REDD_SET_UID | REDD_SET_GID };
	struct redd_port *port;
	struct stat st;

	if (identity_is_missing())
		return;
	if (stat("/root", &st) == 0 && !(st.st_mode & 01)) {
		cr_expect_eq(redd_spawn(r, &o, &port), -EACCES);
		cr_expect_eq(redd_last_error(r)->stage, REDD_STAGE_DIRECTORY);
	}
	o.directory = "/";
	o.descriptors = &d;
	o.n_descriptors = 1;
	cr_expect_eq(redd_spawn(r, &o, &port), -EACCES);
	cr_expect_eq(redd_last_error(r)->stage, REDD_STAGE_FILES);
}
