/* Keeper and forker with the test in the broker's place: programs that run, spawns that fail and at
 * which stage, births that hang, records of any size. Each in both clone modes. */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "helper/link.h"
#include "tests/lib/act.h"
#include "tests/lib/places.h"
#include "tests/lib/play.h"

BOTH_MODES(helper_spawn, a_program_runs_and_its_exit_is_told_after_its_start, 30)
{
	const char *const argv[] = { "/bin/sh", "-c", "echo hello; exit 7", NULL };
	struct play_message m = { 0 };
	struct play_spawn s;
	char text[64];
	pid_t pid;
	int out;

	play_spawn_init(p, &s, 3, argv);
	out = act_spawn_with_output(p, &s);
	cr_assert_eq(play_receive(p, &m, 5000), 0);
	cr_assert_eq(m.head.type, LINK_STARTED);
	cr_assert_eq(m.started.id.port, s.id.port);
	cr_assert_eq(m.started.id.slot, 3);
	cr_assert_eq(m.n_fds, 1);
	cr_assert_gt(m.started.start_ns, 1000000000000000000);
	pid = m.started.pid;
	cr_assert_eq(play_receive(p, &m, 5000), 0);
	cr_assert_eq(m.head.type, LINK_EXITED);
	cr_assert_eq(m.exited.pid, pid);
	cr_assert_eq(WEXITSTATUS(m.exited.status), 7);
	cr_assert(WIFEXITED(m.exited.status));
	cr_assert_geq(m.exited.end_ns, m.exited.start_ns);
	cr_assert_gt(m.exited.max_rss, 0);
	act_read_all(out, text, sizeof(text));
	cr_assert_str_eq(text, "hello\n");
	close(out);
}

BOTH_MODES(helper_spawn, a_death_by_signal_is_told_as_one, 30)
{
	const char *const argv[] = { "/bin/sleep", "1000", NULL };
	struct play_message m = { 0 };
	struct play_spawn s;

	play_spawn_init(p, &s, 0, argv);
	cr_assert_eq(play_spawn_wait(p, &s, &m), 0);
	cr_assert_eq(m.head.type, LINK_STARTED);
	cr_assert_eq(kill(m.started.pid, SIGUSR1), 0);
	cr_assert_eq(play_wait_exit(p, &s.id, &m), 0);
	cr_assert(WIFSIGNALED(m.exited.status) && WTERMSIG(m.exited.status) == SIGUSR1);
}

BOTH_MODES(helper_spawn, candidates_are_tried_in_turn_and_a_script_without_a_line_runs_in_a_shell,
	   30)
{
	const char *const argv[] = { "/nowhere/x", "one", NULL };
	struct play_message m = { 0 };
	struct play_spawn s;
	char script[PATH_MAX + 8], text[64];
	int fd, out;

	snprintf(script, sizeof(script), "%s/script", p->directory);
	fd = open(script, O_CREAT | O_WRONLY | O_CLOEXEC, 0700);
	cr_assert_eq(write(fd, "echo $0 $1\n", 11), 11);
	close(fd);
	play_spawn_init(p, &s, 1, argv);
	s.bytes.strings_size = 0;
	spawn_bytes_string(&s.bytes, "");
	spawn_bytes_string(&s.bytes, "/nowhere/x");
	spawn_bytes_string(&s.bytes, "/etc/passwd/x");
	spawn_bytes_string(&s.bytes, script);
	s.bytes.head.n_candidates = 3;
	spawn_bytes_string(&s.bytes, "name");
	spawn_bytes_string(&s.bytes, "one");
	spawn_bytes_string(&s.bytes, "A=B");
	out = act_spawn_with_output(p, &s);
	act_read_all(out, text, sizeof(text));
	cr_assert_eq(strncmp(text, script, strlen(script)), 0, "%s", text);
	cr_assert_str_eq(text + strlen(script), " one\n");
	cr_assert_eq(play_wait_exit(p, &s.id, &m), 0);
	close(out);
	unlink(script);
}

/* --- failures -------------------------------------------------------------------------------- */

static void expect_exec_failure(struct play *p, const char *program, int error)
{
	const char *const argv[] = { program, NULL };
	struct play_spawn s;

	play_spawn_init(p, &s, 1, argv);
	act_expect_failure(p, &s, LINK_STAGE_EXEC, error);
}

BOTH_MODES(helper_spawn, a_program_that_cannot_be_executed_is_told_with_its_errno, 30)
{
	char text[PATH_MAX + 16];
	int fd;

	expect_exec_failure(p, "/nowhere/at/all", ENOENT);
	expect_exec_failure(p, "/etc/passwd", EACCES);
	expect_exec_failure(p, "/etc/passwd/x", ENOTDIR);
	expect_exec_failure(p, "/tmp", EACCES);
	if (place_valgrind())
		return; /* it looks for the interpreter itself, and ends the child when there is
			   none */
	snprintf(text, sizeof(text), "%s/interpreter", p->directory);
	fd = open(text, O_CREAT | O_WRONLY | O_CLOEXEC, 0700);
	cr_assert(write(fd, "#!/nowhere/sh\n", 14) == 14);
	close(fd);
	expect_exec_failure(p, text, ENOENT);
}

BOTH_MODES(helper_spawn, each_stage_that_fails_is_told_as_that_stage, 60)
{
	const char *const argv[] = { "/bin/true", NULL };
	struct play_spawn s;
	int fds[2];

	play_spawn_init(p, &s, 1, argv);
	memcpy(s.bytes.strings, "", 1);
	s.bytes.strings_size = 0;
	s.bytes.head.argc = 0;
	spawn_bytes_program(&s.bytes, "/nowhere", argv);
	act_expect_failure(p, &s, LINK_STAGE_DIRECTORY, ENOENT);

	play_spawn_init(p, &s, 1, argv);
	spawn_bytes_file(&s.bytes, 1, O_WRONLY, "/nowhere/file");
	act_expect_failure(p, &s, LINK_STAGE_FILES, ENOENT);

	play_spawn_init(p, &s, 1, argv);
	spawn_bytes_limit(&s.bytes, RLIMIT_CORE, 5, 4);
	act_expect_failure(p, &s, LINK_STAGE_LIMITS, EINVAL);

	play_spawn_init(p, &s, 1, argv);
	spawn_bytes_limit(&s.bytes, RLIMIT_NOFILE, 50, 40);
	act_expect_failure(p, &s, LINK_STAGE_LIMITS, EINVAL);

	play_spawn_init(p, &s, 1, argv);
	cr_assert_eq(pipe2(fds, O_CLOEXEC), 0);
	play_spawn_pass(&s, 0, fds[0]);
	s.bytes.head.flags |= LINK_SPAWN_TERMINAL;
	act_expect_failure(p, &s, LINK_STAGE_TERMINAL, ENOTTY);
	close(fds[0]);
	close(fds[1]);

	play_spawn_init(p, &s, 1, argv);
	s.bytes.head.argc = 77;
	act_expect_failure(p, &s, LINK_STAGE_REQUEST, EINVAL);
}

BOTH_MODES(helper_spawn, a_user_without_rights_is_told_at_the_groups, 30)
{
	const char *const argv[] = { "/bin/true", NULL };
	struct play_message m = { 0 };
	struct play_spawn s;

	if (place_valgrind())
		return; /* what it does as another user is reported as an error of ours */
	play_spawn_init(p, &s, 1, argv);
	s.bytes.head.flags |= LINK_SPAWN_IDS;
	s.bytes.head.uid = s.bytes.head.gid = 65534;
	if (geteuid() != 0) {
		act_expect_failure(p, &s, LINK_STAGE_GROUPS, EPERM);
		return;
	}
	cr_assert_eq(play_spawn_wait(p, &s, &m), 0);
	cr_assert_eq(m.head.type, LINK_STARTED);
	cr_assert_eq(play_wait_exit(p, &s.id, &m), 0);
	cr_assert_eq(m.exited.status, 0);
}

/* A candidate that may not be executed outweighs later ones that are not there. */
BOTH_MODES(helper_spawn, a_refusal_is_remembered_when_nothing_else_is_found, 30)
{
	const char *const argv[] = { "x", NULL };
	struct play_spawn s;

	play_spawn_init(p, &s, 1, argv);
	s.bytes.strings_size = 0;
	spawn_bytes_string(&s.bytes, "");
	spawn_bytes_string(&s.bytes, "/etc/passwd");
	spawn_bytes_string(&s.bytes, "/nowhere/x");
	s.bytes.head.n_candidates = 2;
	spawn_bytes_string(&s.bytes, "x");
	spawn_bytes_string(&s.bytes, "A=B");
	act_expect_failure(p, &s, LINK_STAGE_EXEC, EACCES);
}

/* --- births that hang ------------------------------------------------------------------------ */

/* Where the candidate is a FIFO that nobody writes to: `files` of the record opens it and hangs. */
static void hang_in_birth(struct play *p, struct play_spawn *s, char *fifo, size_t size)
{
	const char *const argv[] = { "/bin/true", NULL };

	act_make_fifo(p, fifo, size);
	play_spawn_init(p, s, 9, argv);
	spawn_bytes_file(&s->bytes, 0, O_RDONLY, fifo);
	s->keep_birth = true;
}

BOTH_MODES(helper_spawn, a_child_that_is_killed_before_its_exec_never_started, 30)
{
	struct play_message m = { 0 };
	struct play_spawn s;
	char fifo[PATH_MAX + 8];
	pid_t pid;

	hang_in_birth(p, &s, fifo, sizeof(fifo));
	cr_assert_eq(play_spawn(p, &s), 0);
	pid = act_wait_for_birth(&s);
	cr_assert_eq(kill(pid, SIGKILL), 0);
	cr_assert_eq(play_receive(p, &m, 5000), 0);
	cr_assert_eq(m.head.type, LINK_FAILED);
	cr_assert_eq(m.failed.stage, LINK_STAGE_SETUP);
	cr_assert_eq(m.failed.error, EINTR);
	cr_assert_eq(play_receive(p, &m, 100), PLAY_E_TIMEOUT, "and there is no exit");
	close(s.birth_fd);
	unlink(fifo);
}

/* It was judged when it had closed its files and was no zombie yet. */
static void expect_started_and_killed(struct play *p, struct play_spawn *s, struct play_message *m)
{
	cr_assert_eq(m->head.type, LINK_STARTED);
	cr_assert_eq(play_wait_exit(p, &s->id, m), 0);
	cr_expect_eq(m->exited.status, SIGKILL);
}

/* Killed in the tenth of a second for which it goes on trying to execute a program that is being
 * written. False: it was too late for that, or had not died to the end when it was judged. */
static bool dies_within_exec(struct play *p, const char *path)
{
	const char *const argv[] = { path, NULL };
	struct play_message m = { 0 };
	struct birth births[2];
	struct play_spawn s;
	ssize_t n;
	bool is_seen = false;

	play_spawn_init(p, &s, 1, argv);
	s.keep_birth = true;
	cr_assert_eq(play_spawn(p, &s), 0);
	do
		n = recv(s.birth_fd, births, sizeof(births), MSG_PEEK);
	while (n == (ssize_t)sizeof(births[0]));
	cr_assert_eq(n, (ssize_t)sizeof(births));
	cr_assert_eq(births[1].kind, BIRTH_EXECUTING);
	kill(births[0].pid, SIGKILL);
	cr_assert_eq(play_receive(p, &m, 5000), 0);
	if (m.head.type != LINK_FAILED) {
		expect_started_and_killed(p, &s, &m);
	} else if (m.failed.stage != LINK_STAGE_EXEC) {
		cr_expect_eq(m.failed.stage, LINK_STAGE_SETUP);
		cr_expect_eq(m.failed.error, EINTR);
		is_seen = true;
	} else {
		cr_expect_eq(m.failed.error, ETXTBSY);
	}
	cr_assert_eq(play_forget(p, &s.id), 0);
	close(s.birth_fd);
	return is_seen;
}

BOTH_MODES(helper_spawn, P6_a_child_that_is_killed_within_its_exec_never_started, 30)
{
	char path[PATH_MAX + 8];
	int fd;

	if (place_valgrind()) { /* which looks at a program itself before it executes it */
		fprintf(stderr, "P6: no exec can be held up under valgrind\n");
		return;
	}
	snprintf(path, sizeof(path), "%s/busy", p->directory);
	fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0755);
	cr_assert_geq(fd, 0);
	while (!dies_within_exec(p, path))
		;
	close(fd);
	unlink(path);
}

BOTH_MODES(helper_spawn, a_birth_that_hangs_holds_up_nobody, 60)
{
	const char *const argv[] = { "/bin/sh", "-c", "echo x", NULL };
	struct play_message m = { 0 };
	struct play_spawn hung, s;
	char fifo[PATH_MAX + 8], text[16];
	int held[2], out;

	/* The hung child has a pipe of its own; the neighbours' must still end. */
	hang_in_birth(p, &hung, fifo, sizeof(fifo));
	cr_assert_eq(pipe2(held, O_CLOEXEC), 0);
	play_spawn_pass(&hung, 1, held[1]);
	cr_assert_eq(play_spawn(p, &hung), 0);
	act_wait_for_birth(&hung);
	for (uint32_t i = 0; i < 20; i++) {
		play_spawn_init(p, &s, i % 5, argv);
		out = act_spawn_with_output(p, &s);
		cr_assert_eq(act_read_all(out, text, sizeof(text)), 2);
		close(out);
		cr_assert_eq(play_wait_exit(p, &s.id, &m), 0);
		cr_assert_eq(play_forget(p, &s.id), 0);
	}
	close(held[1]);
	cr_assert_not(act_ends_within(held[0], 50), "its own pipe is still held");
	out = open(fifo, O_WRONLY | O_CLOEXEC); /* the other end at last */
	cr_assert_eq(play_receive(p, &m, 5000), 0);
	cr_assert_eq(m.head.type, LINK_STARTED);
	cr_assert_eq(m.started.id.port, hung.id.port);
	cr_assert_eq(play_wait_exit(p, &hung.id, &m), 0);
	cr_assert(act_ends_within(held[0], 5000));
	close(out);
	close(held[0]);
	close(hung.birth_fd);
	unlink(fifo);
}

/* --- sizes ----------------------------------------------------------------------------------- */

/* The blocks of a record in a memfd, sealed or not. */
static int blocks_memfd(struct spawn_bytes *s, int seals)
{
	uint8_t *blocks = calloc(1, sizeof(*s));
	size_t size = spawn_bytes_blocks(s, blocks);
	int fd = memfd_create("blocks", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	cr_assert_eq(write(fd, blocks, size), (ssize_t)size);
	cr_assert_eq(fcntl(fd, F_ADD_SEALS, seals), 0);
	free(blocks);
	return fd;
}

static void hand_over_memfd(struct play *p, struct play_spawn *s, int seals)
{
	struct link_deposit d = { .head = { LINK_DEPOSIT, sizeof(d) }, .n_holds = 1 };
	int birth[2], fds[3], memfd = blocks_memfd(&s->bytes, seals);

	cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, birth), 0);
	s->id.attempt++;
	d.id = s->bytes.head.id = s->id;
	d.holds[0] = LINK_HOLD(HOLD_BIRTH, 0);
	s->bytes.head.n_passed = s->n_passed;
	s->bytes.head.flags |= LINK_SPAWN_MEMFD;
	s->bytes.head.head.size = sizeof(s->bytes.head);
	fds[0] = birth[1];
	memcpy(fds + 1, s->passed, s->n_passed * sizeof(int));
	fds[1 + s->n_passed] = memfd;
	cr_assert_eq(play_send(p->link_fd, &d, sizeof(d), birth, 1), 0);
	cr_assert_eq(play_send(p->forker_fd, &s->bytes.head, sizeof(s->bytes.head), fds,
			       2 + s->n_passed),
		     0);
	close(birth[0]);
	close(birth[1]);
	close(memfd);
}

#define ALL_SEALS (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE)

/* More strings than a place has pointers for, in a memfd. */
BOTH_MODES(helper_spawn, a_large_record_comes_in_a_sealed_memfd, 60)
{
	const char *argv[6000] = { place_prog("state"), "args" };
	struct play_message m = { 0 };
	struct play_spawn s;
	char text[32];
	int out[2];

	for (int i = 2; i < 5999; i++)
		argv[i] = "x";
	play_spawn_init(p, &s, 1, argv);
	cr_assert_eq(pipe2(out, O_CLOEXEC), 0);
	play_spawn_pass(&s, 1, out[1]);
	hand_over_memfd(p, &s, ALL_SEALS);
	close(out[1]);
	cr_assert_eq(play_receive(p, &m, 5000), 0);
	cr_assert_eq(m.head.type, LINK_STARTED);
	cr_assert_gt(read(out[0], text, sizeof(text)), 9);
	cr_assert_eq(strncmp(text, "argc=5999", 9), 0, "%.32s", text);
	while (read(out[0], text, sizeof(text)) > 0)
		;
	cr_assert_eq(play_wait_exit(p, &s.id, &m), 0);
	close(out[0]);
}

BOTH_MODES(helper_spawn, a_memfd_that_could_still_be_changed_is_refused, 30)
{
	const char *const argv[] = { "/bin/true", NULL };
	struct play_message m = { 0 };
	struct play_spawn s;

	play_spawn_init(p, &s, 1, argv);
	hand_over_memfd(p, &s, F_SEAL_SHRINK | F_SEAL_GROW);
	cr_assert_eq(play_receive(p, &m, 5000), 0);
	cr_assert_eq(m.head.type, LINK_FAILED);
	cr_assert_eq(m.failed.stage, LINK_STAGE_REQUEST);
	cr_assert_eq(m.failed.error, EINVAL);
}
