/* Tokens and names: a repeated spawn runs once and gets the first one's answer; a name is one
 * port's. What ran is counted by what ran: each child appends a line to a file. */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "tests/lib/collect.h"
#include "tests/lib/places.h"
#include "tests/lib/service.h"

static struct service service;
static struct redd *r;
static char file[PATH_MAX + 8];

static void set_up(void)
{
	cr_assert_eq(service_start(&service, NULL), 0);
	snprintf(file, sizeof(file), "%s/marks", service.directory);
	r = service_connect(&service);
	cr_assert_not_null(r);
}

static void tear_down(void)
{
	redd_free(r);
	cr_assert_eq(service_finish(&service), 0);
}

TestSuite(spawn_token, .init = set_up, .fini = tear_down, .timeout = 60);

static const char *mark_argv[4];

static struct redd_spawn_options mark_options(const char *text, const char *token)
{
	mark_argv[0] = place_prog("mark");
	mark_argv[1] = file;
	mark_argv[2] = text;
	return (struct redd_spawn_options){ .size = sizeof(struct redd_spawn_options),
					    .argv = mark_argv,
					    .token = token,
					    .token_size = token ? strlen(token) : 0 };
}

static unsigned marks(void)
{
	int fd = open(file, O_RDONLY | O_CLOEXEC);
	unsigned n = 0;
	char byte;

	while (fd >= 0 && read(fd, &byte, 1) == 1)
		n += byte == '\n';
	if (fd >= 0)
		close(fd);
	return n;
}

static void end(struct redd_port *port)
{
	struct redd_waited waited;

	cr_assert_eq(redd_wait(port, REDD_UNTIL_CLOSED, 20000, &waited), 0, "%s",
		     redd_last_error(r)->message);
	redd_forget(port);
	redd_port_free(port);
}

/* --- tokens ---------------------------------------------------------------------------------- */

struct answer {
	int result, n;
	struct redd_spawned spawned;
};

static void on_spawned(struct redd *handle, int result, const struct redd_reply *reply, void *user)
{
	struct answer *a = user;

	(void)handle;
	a->result = result;
	a->n++;
	if (reply)
		a->spawned = reply->spawned;
}

Test(spawn_token, P12_a_repeat_in_the_same_packet_runs_once)
{
	enum { N = 50 };
	struct redd_spawn_options o = mark_options("once", "token");
	struct answer answers[N] = { 0 };
	struct redd_port *ports[N];
	unsigned first = 0;

	for (int i = 0; i < N; i++) {
		struct redd_call call = { .done = on_spawned, .user = &answers[i] };

		cr_assert_eq(redd_spawn_start(r, &o, &ports[i], &call), 0);
	}
	for (int i = 0; i < N; i++) {
		while (!answers[i].n)
			cr_assert_eq(redd_run_once(r, 20000), 0);
		cr_expect_eq(answers[i].result, 0);
		cr_expect_eq(answers[i].spawned.port, answers[0].spawned.port);
		cr_expect_eq(answers[i].spawned.pid, answers[0].spawned.pid);
		cr_expect_eq(answers[i].spawned.start_ns, answers[0].spawned.start_ns);
		first += !answers[i].spawned.repeated;
	}
	cr_expect_eq(first, 1, "%u were told to be the first", first);
	for (int i = 1; i < N; i++)
		redd_port_free(ports[i]);
	end(ports[0]);
	cr_expect_eq(marks(), 1);
}

Test(spawn_token, P12_a_repeat_after_the_end_and_from_another_connection_runs_nothing)
{
	struct redd_spawn_options o = mark_options("once", "token");
	struct redd *other = service_connect(&service);
	struct redd_port *port, *again;
	struct redd_waited waited;
	struct collect c;

	cr_assert_eq(redd_spawn(r, &o, &port), 0);
	cr_assert_eq(redd_wait(port, REDD_UNTIL_CLOSED, 20000, &waited), 0);
	collect_init(&c);
	o.subscribe = &c.watch;
	cr_assert_eq(redd_spawn(other, &o, &again), 0, "%s", redd_last_error(other)->message);
	cr_expect_eq(redd_port_id(again), redd_port_id(port));
	cr_assert_eq(collect_wait(&c, other, 20000), 0);
	cr_expect_str_eq(c.wrong, "");
	cr_expect_eq(redd_exit_status(&c.exit), 0);
	cr_expect_eq(marks(), 1);
	redd_port_free(again);
	redd_free(other);
	collect_deinit(&c);
	end(port);
	o.subscribe = NULL;
	cr_assert_eq(redd_spawn(r, &o, &port), 0, "the token went with its port");
	end(port);
	cr_expect_eq(marks(), 2);
}

Test(spawn_token, P12_a_repeat_gets_a_subscription_of_its_own)
{
	const struct redd_descriptor in = { .fd = 0 };
	const char *const argv[] = { place_prog("cat"), NULL };
	struct collect c[2];
	struct redd_spawn_options o = { .size = sizeof(o),
					.argv = argv,
					.token = "t",
					.token_size = 1,
					.descriptors = &in,
					.n_descriptors = 1 };
	struct redd_port *ports[2];

	for (int i = 0; i < 2; i++) {
		collect_init(&c[i]);
		o.subscribe = &c[i].watch;
		cr_assert_eq(redd_spawn(r, &o, &ports[i]), 0, "%s", redd_last_error(r)->message);
	}
	cr_assert_eq(redd_write(ports[1], "both", 4, NULL, NULL), 0);
	cr_assert_eq(redd_close(ports[0], 0, NULL), 0);
	for (int i = 0; i < 2; i++) {
		cr_assert_eq(collect_wait(&c[i], r, 20000), 0);
		cr_expect_str_eq(c[i].wrong, "");
		cr_expect_str_eq(collect_text(&c[i], 1), "both");
	}
	redd_port_free(ports[1]);
	end(ports[0]);
	collect_deinit(&c[0]);
	collect_deinit(&c[1]);
}

static void differs(struct redd_spawn_options o, const char *how)
{
	struct redd_port *port = NULL;

	cr_expect_eq(redd_spawn(r, &o, &port), -EEXIST, "%s", how);
	cr_expect_eq(redd_last_error(r)->code, REDD_ALREADY_EXISTS, "%s", how);
	cr_expect_null(port);
}

Test(spawn_token, P12_another_request_under_the_same_token_is_refused)
{
	struct redd_spawn_options first = mark_options("once", "token"), o = first;
	const struct redd_descriptor d = { .fd = 3 };
	struct redd_port *port;

	cr_assert_eq(redd_spawn(r, &first, &port), 0);
	mark_argv[2] = "other";
	differs(o, "another argument");
	mark_argv[2] = "once";
	o.directory = "/usr";
	differs(o, "another directory");
	o = first;
	o.set = REDD_SET_UMASK;
	differs(o, "a umask");
	o = first;
	o.descriptors = &d;
	o.n_descriptors = 1;
	differs(o, "another descriptor");
	o = first;
	o.name = "name";
	differs(o, "a name");
	end(port);
	cr_expect_eq(marks(), 1);
}

Test(spawn_token, P12_a_failed_spawn_leaves_its_token_and_name_free)
{
	static const char *const argv[] = { "/no/such/program", NULL };
	struct redd_spawn_options o = {
		.size = sizeof(o), .argv = argv, .token = "token", .token_size = 5, .name = "name"
	};
	struct redd_port *port;

	cr_expect_eq(redd_spawn(r, &o, &port), -ENOENT);
	cr_expect_eq(redd_spawn(r, &o, &port), -ENOENT, "tried again, not remembered");
	o = mark_options("once", "token");
	o.name = "name";
	cr_assert_eq(redd_spawn(r, &o, &port), 0, "%s", redd_last_error(r)->message);
	end(port);
	cr_expect_eq(marks(), 1);
}

Test(spawn_token, P12_the_longest_token_is_taken_and_one_byte_more_refused)
{
	static const char token[65] = { 0, 1, 2 }; /* any bytes */
	struct redd_spawn_options o = mark_options("once", NULL);
	struct redd_port *port, *again;

	o.token = token;
	o.token_size = 64;
	cr_assert_eq(redd_spawn(r, &o, &port), 0, "%s", redd_last_error(r)->message);
	cr_assert_eq(redd_spawn(r, &o, &again), 0);
	cr_expect_eq(redd_port_id(again), redd_port_id(port));
	redd_port_free(again);
	o.token_size = 65;
	cr_expect_eq(redd_spawn(r, &o, &again), -EINVAL);
	end(port);
	cr_expect_eq(marks(), 1);
}

/* --- names ----------------------------------------------------------------------------------- */

Test(spawn_token, P6_S66_a_name_is_one_ports_until_that_is_forgotten)
{
	const char *const argv[] = { place_prog("hang"), NULL };
	struct redd_spawn_options o = { .size = sizeof(o), .argv = argv, .name = "a/b:c@d-e_f.9" };
	struct redd *other = service_connect(&service);
	struct redd_port *port, *named, *next = NULL;

	cr_assert_eq(redd_spawn(r, &o, &port), 0, "%s", redd_last_error(r)->message);
	cr_expect_eq(redd_spawn(r, &o, &next), -EEXIST);
	cr_expect_eq(redd_spawn(other, &o, &next), -EEXIST);
	cr_expect_eq(redd_last_error(other)->code, REDD_ALREADY_EXISTS);
	cr_assert_eq(redd_port_by_name(other, o.name, &named), 0);
	cr_assert_eq(redd_signal(named, 9, REDD_LEADER, NULL), 0);
	cr_assert_eq(redd_wait(named, REDD_UNTIL_CLOSED, 20000, &(struct redd_waited){ 0 }), 0);
	cr_expect_eq(redd_spawn(r, &o, &next), -EEXIST, "an ended port keeps its name");
	redd_port_free(named);
	redd_free(other);
	end(port);
	cr_assert_eq(redd_spawn(r, &o, &port), 0);
	cr_assert_eq(redd_signal(port, 9, REDD_LEADER, NULL), 0);
	end(port);
}

Test(spawn_token, P15_names_that_are_none_are_refused)
{
	static char longest[130];
	const char *const wrong[] = { "", "9lives", "a b", "a\n", "\xc3\xa9", longest };
	struct redd_spawn_options o = { .size = sizeof(o), .shell = "exit" };
	struct redd_port *port = NULL;

	memset(longest, 'n', 129);
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		o.name = wrong[i];
		cr_expect_eq(redd_spawn(r, &o, &port), -EINVAL, "%s", wrong[i]);
		cr_expect_eq(redd_last_error(r)->code, REDD_INVALID_ARGUMENT, "%s", wrong[i]);
	}
	longest[128] = '\0';
	cr_assert_eq(redd_spawn(r, &o, &port), 0);
	end(port);
}
