/* Keeper and forker with the test in the broker's place: spawns, their failures, what a child is
 * given, and that nothing is left. Each in both clone modes. */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "helper/link.h"
#include "helper/spawn.h"
#include "proto/base/cleanup.h"
#include "proto/base/fd.h"
#include "tests/lib/census.h"
#include "tests/lib/places.h"
#include "tests/lib/play.h"

/* The same body with children that share the forker's memory, and with such that do not. */
#define BOTH_MODES(name, limit)                                            \
	static void name(struct play *p);                                  \
	static void name##_run(uint32_t flags)                             \
	{                                                                  \
		static struct play p;                                      \
                                                                           \
		cr_assert_eq(play_start(&p, flags), 0);                    \
		name(&p);                                                  \
		cr_assert_eq(play_stop(&p, 0), 0);                         \
	}                                                                  \
	Test(helper_spawn, name, .timeout = limit)                         \
	{                                                                  \
		name##_run(0);                                             \
	}                                                                  \
	Test(helper_spawn, name##_without_shared_memory, .timeout = limit) \
	{                                                                  \
		name##_run(LINK_CONFIG_PLAIN_CLONE);                       \
	}                                                                  \
	static void name(struct play *p)

/* Reads to the end into text, which is NUL-terminated; returns the size. */
static size_t read_all(int fd, char *text, size_t size)
{
	size_t at = 0;
	ssize_t n;

	while (at < size - 1 && (n = read(fd, text + at, size - 1 - at)) > 0)
		at += (size_t)n;
	text[at] = '\0';
	return at;
}

static bool ends_within(int fd, int timeout_ms)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };

	return poll(&p, 1, place_patience_ms(timeout_ms)) == 1 && (p.revents & POLLHUP);
}

/* Spawns with a pipe on descriptor 1; returns its read end. */
static int spawn_with_output(struct play *p, struct play_spawn *s)
{
	int fds[2], r;

	cr_assert_eq(pipe2(fds, O_CLOEXEC), 0);
	play_spawn_pass(s, 1, fds[1]);
	r = play_spawn(p, s);
	close(fds[1]);
	cr_assert_eq(r, 0);
	return fds[0];
}

BOTH_MODES(a_program_runs_and_its_exit_is_told_after_its_start, 30)
{
	const char *const argv[] = { "/bin/sh", "-c", "echo hello; exit 7", NULL };
	struct play_message m = { 0 };
	struct play_spawn s;
	char text[64];
	pid_t pid;
	int out;

	play_spawn_init(p, &s, 3, argv);
	out = spawn_with_output(p, &s);
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
	read_all(out, text, sizeof(text));
	cr_assert_str_eq(text, "hello\n");
	close(out);
}

BOTH_MODES(a_death_by_signal_is_told_as_one, 30)
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

/* --- failures ----------------------------------------------------------------------------------
 */

static void expect_failure(struct play *p, struct play_spawn *s, uint32_t stage, int error)
{
	struct play_message m = { 0 };

	cr_assert_eq(play_spawn_wait(p, s, &m), 0);
	cr_assert_eq(m.head.type, LINK_FAILED, "got %u", m.head.type);
	cr_assert_eq(m.failed.stage, stage, "stage %u, not %u", m.failed.stage, stage);
	cr_assert_eq(m.failed.error, error, "%s", strerror(m.failed.error));
	cr_assert_eq(play_forget(p, &s->id), 0);
}

static void expect_exec_failure(struct play *p, const char *program, int error)
{
	const char *const argv[] = { program, NULL };
	struct play_spawn s;

	play_spawn_init(p, &s, 1, argv);
	expect_failure(p, &s, LINK_STAGE_EXEC, error);
}

BOTH_MODES(a_program_that_cannot_be_executed_is_told_with_its_errno, 30)
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

BOTH_MODES(each_stage_that_fails_is_told_as_that_stage, 60)
{
	const char *const argv[] = { "/bin/true", NULL };
	struct play_spawn s;
	int fds[2];

	play_spawn_init(p, &s, 1, argv);
	memcpy(s.bytes.strings, "", 1);
	s.bytes.strings_size = 0;
	s.bytes.head.argc = 0;
	spawn_bytes_program(&s.bytes, "/nowhere", argv);
	expect_failure(p, &s, LINK_STAGE_DIRECTORY, ENOENT);

	play_spawn_init(p, &s, 1, argv);
	spawn_bytes_file(&s.bytes, 1, O_WRONLY, "/nowhere/file");
	expect_failure(p, &s, LINK_STAGE_FILES, ENOENT);

	play_spawn_init(p, &s, 1, argv);
	spawn_bytes_limit(&s.bytes, RLIMIT_CORE, 5, 4);
	expect_failure(p, &s, LINK_STAGE_LIMITS, EINVAL);

	play_spawn_init(p, &s, 1, argv);
	spawn_bytes_limit(&s.bytes, RLIMIT_NOFILE, 50, 40);
	expect_failure(p, &s, LINK_STAGE_LIMITS, EINVAL);

	play_spawn_init(p, &s, 1, argv);
	cr_assert_eq(pipe2(fds, O_CLOEXEC), 0);
	play_spawn_pass(&s, 0, fds[0]);
	s.bytes.head.flags |= LINK_SPAWN_TERMINAL;
	expect_failure(p, &s, LINK_STAGE_TERMINAL, ENOTTY);
	close(fds[0]);
	close(fds[1]);

	play_spawn_init(p, &s, 1, argv);
	s.bytes.head.argc = 77;
	expect_failure(p, &s, LINK_STAGE_REQUEST, EINVAL);
}

BOTH_MODES(a_user_without_rights_is_told_at_the_groups, 30)
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
		expect_failure(p, &s, LINK_STAGE_GROUPS, EPERM);
		return;
	}
	cr_assert_eq(play_spawn_wait(p, &s, &m), 0);
	cr_assert_eq(m.head.type, LINK_STARTED);
	cr_assert_eq(play_wait_exit(p, &s.id, &m), 0);
	cr_assert_eq(m.exited.status, 0);
}

/* Where the candidate is a FIFO that nobody writes to: `files` of the record opens it and hangs. */
static void hang_in_birth(struct play *p, struct play_spawn *s, char *fifo, size_t size)
{
	const char *const argv[] = { "/bin/true", NULL };

	snprintf(fifo, size, "%s/fifo", p->directory);
	cr_assert_eq(mkfifo(fifo, 0600), 0);
	play_spawn_init(p, s, 9, argv);
	spawn_bytes_file(&s->bytes, 0, O_RDONLY, fifo);
	s->keep_birth = true;
}

static pid_t wait_for_birth(const struct play_spawn *s)
{
	struct birth b;

	cr_assert_eq(recv(s->birth_fd, &b, sizeof(b), MSG_PEEK | MSG_WAITALL), (ssize_t)sizeof(b));
	cr_assert_eq(b.kind, BIRTH_BORN);
	return b.pid;
}

BOTH_MODES(a_child_that_is_killed_before_its_exec_never_started, 30)
{
	struct play_message m = { 0 };
	struct play_spawn s;
	char fifo[PATH_MAX + 8];
	pid_t pid;

	hang_in_birth(p, &s, fifo, sizeof(fifo));
	cr_assert_eq(play_spawn(p, &s), 0);
	pid = wait_for_birth(&s);
	cr_assert_eq(kill(pid, SIGKILL), 0);
	cr_assert_eq(play_receive(p, &m, 5000), 0);
	cr_assert_eq(m.head.type, LINK_FAILED);
	cr_assert_eq(m.failed.stage, LINK_STAGE_SETUP);
	cr_assert_eq(m.failed.error, EINTR);
	cr_assert_eq(play_receive(p, &m, 100), PLAY_E_TIMEOUT, "and there is no exit");
	close(s.birth_fd);
	unlink(fifo);
}

BOTH_MODES(a_birth_that_hangs_holds_up_nobody, 60)
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
	wait_for_birth(&hung);
	for (uint32_t i = 0; i < 20; i++) {
		play_spawn_init(p, &s, i % 5, argv);
		out = spawn_with_output(p, &s);
		cr_assert_eq(read_all(out, text, sizeof(text)), 2);
		close(out);
		cr_assert_eq(play_wait_exit(p, &s.id, &m), 0);
		cr_assert_eq(play_forget(p, &s.id), 0);
	}
	close(held[1]);
	cr_assert_not(ends_within(held[0], 50), "its own pipe is still held");
	out = open(fifo, O_WRONLY | O_CLOEXEC); /* the other end at last */
	cr_assert_eq(play_receive(p, &m, 5000), 0);
	cr_assert_eq(m.head.type, LINK_STARTED);
	cr_assert_eq(m.started.id.port, hung.id.port);
	cr_assert_eq(play_wait_exit(p, &hung.id, &m), 0);
	cr_assert(ends_within(held[0], 5000));
	close(out);
	close(held[0]);
	close(hung.birth_fd);
	unlink(fifo);
}

/* --- what a child is given ---------------------------------------------------------------------
 */

/* Runs tests/progs/state with some arguments and returns what it printed (malloc'd). */
static char *state_of(struct play *p, struct play_spawn *s)
{
	struct play_message m = { 0 };
	char *text = calloc(1, 65536);
	int out = spawn_with_output(p, s);

	read_all(out, text, 65536);
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

BOTH_MODES(a_child_has_the_descriptors_it_was_given_and_no_others, 30)
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

BOTH_MODES(sources_and_targets_may_cross, 30)
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
	out = spawn_with_output(p, &s);
	read_all(out, text, sizeof(text));
	for (int n = 3; n <= 8; n++)
		sprintf(expected + strlen(expected), "%d=%d\n", n, 8 - n);
	cr_assert_str_eq(text, expected);
	cr_assert_eq(play_wait_exit(p, &s.id, &m), 0);
	for (uint32_t i = 0; i < 6; i++)
		close(fds[i][0]);
	close(out);
}

BOTH_MODES(a_child_has_a_clean_state_whatever_the_service_had, 30)
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

BOTH_MODES(limits_nice_and_privileges_are_as_asked_for, 30)
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

BOTH_MODES(descriptors_may_be_above_the_limit_that_is_set, 30)
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

BOTH_MODES(candidates_are_tried_in_turn_and_a_script_without_a_line_runs_in_a_shell, 30)
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
	out = spawn_with_output(p, &s);
	read_all(out, text, sizeof(text));
	cr_assert_eq(strncmp(text, script, strlen(script)), 0, "%s", text);
	cr_assert_str_eq(text + strlen(script), " one\n");
	cr_assert_eq(play_wait_exit(p, &s.id, &m), 0);
	close(out);
	unlink(script);
}

/* A candidate that may not be executed outweighs later ones that are not there. */
BOTH_MODES(a_refusal_is_remembered_when_nothing_else_is_found, 30)
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
	expect_failure(p, &s, LINK_STAGE_EXEC, EACCES);
}

/* --- sizes -------------------------------------------------------------------------------------
 */

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
BOTH_MODES(a_large_record_comes_in_a_sealed_memfd, 60)
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

BOTH_MODES(a_memfd_that_could_still_be_changed_is_refused, 30)
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

/* --- many, and nothing left --------------------------------------------------------------------
 */

#define MANY   1000
#define WINDOW 64

struct tally {
	uint8_t started[MANY + 1], exited[MANY + 1];
	unsigned n_exited, n_wrong;
};

static void count(struct tally *t, const struct play_message *m)
{
	uint64_t port = m->started.id.port;

	if (port > MANY) {
		t->n_wrong++;
	} else if (m->head.type == LINK_STARTED) {
		t->n_wrong += t->started[port]++ != 0 || m->n_fds != 1;
	} else if (m->head.type == LINK_EXITED) {
		t->n_wrong += t->exited[port]++ != 0 || !t->started[port];
		t->n_wrong += WEXITSTATUS(m->exited.status) != (int)(port % 256);
		t->n_exited++;
	} else {
		t->n_wrong++;
	}
}

BOTH_MODES(quick_programs_start_once_and_exit_once_each, 120)
{
	unsigned n = place_rounds(MANY), sent = 0;
	struct play_message m = { 0 };
	struct tally t = { 0 };
	struct play_spawn s;
	char status[8];
	const char *const argv[] = { place_prog("exit"), status, NULL };

	while (t.n_exited < n) {
		while (sent < n && sent - t.n_exited < WINDOW) {
			snprintf(status, sizeof(status), "%u", ++sent % 256);
			play_spawn_init(p, &s, sent % PORTS_MAX, argv);
			cr_assert_eq(play_spawn(p, &s), 0);
		}
		cr_assert_eq(play_receive(p, &m, 10000), 0, "%u of %u ended", t.n_exited, n);
		count(&t, &m);
		cr_assert_eq(t.n_wrong, 0, "message %u about %llu", m.head.type,
			     (unsigned long long)m.started.id.port);
		if (m.head.type == LINK_EXITED)
			cr_assert_eq(play_forget(p, &m.exited.id), 0);
	}
}

/* Answers come in order, so what was asked before was done when an answer comes. */
static void settle(struct play *p)
{
	struct link_release r = { .head = { LINK_RELEASE, sizeof(r) },
				  .id = { 1, 0, 1 },
				  .hold = LINK_HOLD(HOLD_INPUT, 9) };
	struct play_message m = { 0 };

	cr_assert_eq(play_send(p->link_fd, &r, sizeof(r), NULL, 0), 0);
	do
		cr_assert_eq(play_receive(p, &m, 10000), 0);
	while (m.head.type != LINK_RELEASED);
}

/* Until the keeper has no zombies and no other children than broker and forker. */
static bool becomes_childless(struct play *p)
{
	pid_t children[16];

	for (int i = 0; i < 500; i++) {
		if (census_children(p->keeper, children, 16) == 2)
			return true;
		poll(NULL, 0, 10);
	}
	return false;
}

BOTH_MODES(nothing_is_left_of_spawns_that_ran_or_failed, 120)
{
	const char *const good[] = { place_prog("exit"), "0", NULL };
	const char *const bad[] = { "/nowhere/x", NULL };
	int keeper_fds, forker_fds, fds[2];
	struct play_message m = { 0 };
	struct play_spawn s;

	play_spawn_init(p, &s, 0, good); /* until then the forker may not have its link yet */
	cr_assert_eq(play_spawn(p, &s), 0);
	cr_assert_eq(play_wait_exit(p, &s.id, &m), 0);
	cr_assert_eq(play_forget(p, &s.id), 0);
	settle(p);
	keeper_fds = census_fds(p->keeper);
	forker_fds = census_fds(p->forker);
	for (uint32_t i = 0; i < place_rounds(100); i++) {
		play_spawn_init(p, &s, i % 7, i % 2 ? good : bad);
		cr_assert_eq(pipe2(fds, O_CLOEXEC), 0);
		play_spawn_pass(&s, 1, fds[1]);
		s.holds[s.n_holds] = LINK_HOLD(HOLD_OUTPUT, 1);
		s.hold_fds[s.n_holds++] = fds[0];
		cr_assert_eq(play_spawn_wait(p, &s, &m), 0);
		close(fds[0]);
		close(fds[1]);
		if (i % 2)
			cr_assert_eq(play_wait_exit(p, &s.id, &m), 0);
		else
			cr_assert_eq(m.head.type, LINK_FAILED);
		cr_assert_eq(play_forget(p, &s.id), 0);
	}
	settle(p);
	cr_assert(becomes_childless(p));
	cr_assert_eq(census_fds(p->keeper), keeper_fds);
	cr_assert_eq(census_fds(p->forker), forker_fds);
}

/* How many descriptors a process's epoll watches, of closed ones that others have open too. */
static int n_watched(pid_t pid)
{
	char path[64], text[8192];
	int n = 0;

	for (int fd = 0; fd < 32; fd++) {
		FILE *f;

		snprintf(path, sizeof(path), "/proc/%d/fdinfo/%d", (int)pid, fd);
		f = fopen(path, "re");
		while (f && fgets(text, sizeof(text), f))
			n += strncmp(text, "tfd:", 4) == 0;
		if (f)
			fclose(f);
	}
	return n;
}

/* Closing does not end a watch while somebody else has the same file open: the keeper would be told
 * of it for ever. */
BOTH_MODES(what_the_broker_keeps_open_does_not_keep_the_keeper_busy, 30)
{
	const char *const argv[] = { "/bin/sleep", "1000", NULL };
	struct play_message started = { 0 }, m = { 0 };
	struct play_spawn s;
	int before;

	settle(p);
	before = n_watched(p->keeper);
	play_spawn_init(p, &s, 1, argv);
	s.keep_birth = true;
	cr_assert_eq(play_spawn_wait(p, &s, &started), 0);
	cr_assert_eq(started.n_fds, 1, "and the pidfd stays open here");
	cr_assert_eq(kill(started.started.pid, SIGKILL), 0);
	cr_assert_eq(play_wait_exit(p, &s.id, &m), 0);
	cr_assert_eq(n_watched(p->keeper), before);
	cr_assert_eq(play_forget(p, &s.id), 0);
	play_message_close(&started);
	close(s.birth_fd);
}

/* Daemons that came to the keeper when their parents ended: killed, they must not stay as zombies.
 */
BOTH_MODES(orphans_are_reaped_and_named_to_nobody, 60)
{
	const char *const argv[] = { place_prog("stray"), "20", NULL };
	struct play_message m = { 0 };
	struct play_spawn s;
	char text[4096], *at, *end;
	int out;

	play_spawn_init(p, &s, 1, argv);
	out = spawn_with_output(p, &s);
	read_all(out, text, sizeof(text));
	cr_assert_eq(play_wait_exit(p, &s.id, &m), 0);
	cr_assert_eq(m.exited.status, 0);
	cr_assert_eq(play_forget(p, &s.id), 0);
	for (at = text;; at = end) {
		pid_t pid = (pid_t)strtol(at, &end, 10);

		if (end == at)
			break;
		cr_assert_eq(kill(pid, SIGKILL), 0);
	}
	cr_assert_geq(at - text, 40, "twenty numbers");
	cr_assert(becomes_childless(p));
	cr_assert_eq(play_receive(p, &m, 50), PLAY_E_TIMEOUT);
	close(out);
}

/* --- holding, releasing, signalling ------------------------------------------------------------
 */

BOTH_MODES(a_released_descriptor_is_closed_before_the_answer, 30)
{
	const char *const argv[] = { "/bin/sleep", "1000", NULL };
	struct play_message m = { 0 };
	struct link_release r = { .head = { LINK_RELEASE, sizeof(r) } };
	struct play_spawn s;
	int fds[2];

	cr_assert_eq(pipe2(fds, O_CLOEXEC), 0);
	play_spawn_init(p, &s, 1, argv);
	s.holds[0] = LINK_HOLD(HOLD_INPUT, 0);
	s.hold_fds[0] = fds[1];
	s.n_holds = 1;
	cr_assert_eq(play_spawn_wait(p, &s, &m), 0);
	cr_assert_eq(m.head.type, LINK_STARTED);
	close(fds[1]);
	cr_assert_not(ends_within(fds[0], 50), "the keeper holds it");
	r.id = s.id;
	r.hold = s.holds[0];
	cr_assert_eq(play_send(p->link_fd, &r, sizeof(r), NULL, 0), 0);
	cr_assert_eq(play_receive(p, &m, 5000), 0);
	cr_assert_eq(m.head.type, LINK_RELEASED);
	cr_assert_eq(m.released.hold, r.hold);
	cr_assert(ends_within(fds[0], 0));
	close(fds[0]);
	cr_assert_eq(play_forget(p, &s.id), 0);
}

static int signal_by_keeper(struct play *p, const struct link_spawn_id *id, uint32_t type,
			    int signal)
{
	struct link_group_signal g = {
		.head = { type, sizeof(g) }, .id = *id, .cookie = 4711, .signal = signal
	};
	struct play_message m = { 0 };

	cr_assert_eq(play_send(p->link_fd, &g, sizeof(g), NULL, 0), 0);
	do
		cr_assert_eq(play_receive(p, &m, 5000), 0);
	while (m.head.type != LINK_GROUP_SIGNALLED);
	cr_assert_eq(m.signalled.cookie, 4711);
	return m.signalled.error;
}

BOTH_MODES(leader_and_group_are_signalled_until_the_leader_is_reaped, 30)
{
	const char *const argv[] = { "/bin/sh", "-c",
				     "trap 'exit 3' TERM; (echo r; exec sleep 100) & wait", NULL };
	struct play_message m = { 0 };
	struct play_spawn s;
	char c;
	int out;

	play_spawn_init(p, &s, 1, argv);
	cr_assert_eq(signal_by_keeper(p, &s.id, LINK_SIGNAL_GROUP, SIGTERM), ESRCH);
	out = spawn_with_output(p, &s);
	cr_assert_eq(read(out, &c, 1), 1);
	cr_assert_eq(play_receive(p, &m, 5000), 0);
	cr_assert_eq(signal_by_keeper(p, &s.id, LINK_SIGNAL, 99), EINVAL);
	cr_assert_eq(signal_by_keeper(p, &s.id, LINK_SIGNAL, 0), 0);
	cr_assert_eq(signal_by_keeper(p, &s.id, LINK_SIGNAL_GROUP, SIGTERM), 0);
	cr_assert_eq(play_wait_exit(p, &s.id, &m), 0);
	cr_assert_eq(WEXITSTATUS(m.exited.status), 3);
	while (read(out, &c, 1) > 0)
		; /* the end comes only when sleep is gone too */
	cr_assert_eq(signal_by_keeper(p, &s.id, LINK_SIGNAL, SIGTERM), ESRCH);
	close(out);
}

BOTH_MODES(a_forgotten_process_goes_on_and_is_reaped_quietly, 30)
{
	const char *const argv[] = { "/bin/cat", NULL };
	struct play_message m = { 0 };
	struct play_spawn s;
	int fds[2], out;

	cr_assert_eq(pipe2(fds, O_CLOEXEC), 0);
	play_spawn_init(p, &s, 1, argv);
	play_spawn_pass(&s, 0, fds[0]);
	out = spawn_with_output(p, &s);
	close(fds[0]);
	cr_assert_eq(play_receive(p, &m, 5000), 0);
	cr_assert_eq(m.head.type, LINK_STARTED);
	cr_assert_eq(play_forget(p, &s.id), 0);
	settle(p);
	cr_assert_not(ends_within(out, 20), "it was not touched");
	close(fds[1]);
	cr_assert(ends_within(out, 5000));
	cr_assert(becomes_childless(p));
	cr_assert_eq(play_receive(p, &m, 20), PLAY_E_TIMEOUT);
	close(out);
}

/* --- when there is no room ---------------------------------------------------------------------
 */

#define HUNG (SPAWN_PLACES + 5)

/* More births hang than the forker has places: those beyond wait, and none is lost. */
Test(helper_spawn, births_beyond_the_forkers_places_wait_for_one, .timeout = 60)
{
	const char *const argv[] = { "/bin/true", NULL };
	unsigned n_started = 0, n_exited = 0;
	struct play_message m = { 0 };
	static struct play p;
	struct play_spawn s;
	char fifo[PATH_MAX + 8];
	int fd;

	if (place_plain_clone())
		return; /* then a place is free at once */
	cr_assert_eq(play_start(&p, 0), 0);
	snprintf(fifo, sizeof(fifo), "%s/fifo", p.directory);
	cr_assert_eq(mkfifo(fifo, 0600), 0);
	for (uint32_t i = 0; i < HUNG; i++) {
		play_spawn_init(&p, &s, i, argv);
		spawn_bytes_file(&s.bytes, 0, O_RDONLY, fifo);
		cr_assert_eq(play_spawn(&p, &s), 0);
	}
	cr_assert_eq(play_receive(&p, &m, 50), PLAY_E_TIMEOUT);
	fd = open(fifo, O_RDWR | O_CLOEXEC); /* stays open for the late ones */
	while (n_exited < HUNG) {
		cr_assert_eq(play_receive(&p, &m, 10000), 0, "%u started", n_started);
		n_started += m.head.type == LINK_STARTED;
		n_exited += m.head.type == LINK_EXITED;
		cr_assert(m.head.type == LINK_STARTED || m.head.type == LINK_EXITED);
	}
	cr_assert_eq(n_started, HUNG);
	close(fd);
	unlink(fifo);
	cr_assert_eq(play_stop(&p, 0), 0);
}

#define FEW_DESCRIPTORS 400

static void deposit_many(struct play *p, uint64_t port, uint32_t slot, int fd)
{
	struct link_deposit m = { .head = { LINK_DEPOSIT, sizeof(m) }, .id = { port, slot, 1 } };
	int fds[LINK_HOLDS_MAX];

	for (; m.n_holds < LINK_HOLDS_MAX - 1; m.n_holds++) {
		m.holds[m.n_holds] = LINK_HOLD(HOLD_OUTPUT, m.n_holds);
		fds[m.n_holds] = fd;
	}
	cr_assert_eq(play_send(p->link_fd, &m, sizeof(m), fds, m.n_holds), 0);
}

#define MANY_SLOTS (FEW_DESCRIPTORS / LINK_HOLDS_MAX)

/* A keeper that holds as much as it may, and a spawn with more holds than the rest of that. */
static void fill_keeper(struct play *p, struct play_spawn *s, const char *const *argv, int fd)
{
	const struct rlimit few = { FEW_DESCRIPTORS, FEW_DESCRIPTORS };

	cr_assert_eq(setrlimit(RLIMIT_NOFILE, &few), 0);
	cr_assert_eq(play_start(p, 0), 0);
	for (uint32_t i = 1; i < MANY_SLOTS; i++)
		deposit_many(p, 1000 + i, i, fd);
	play_spawn_init(p, s, 100, argv);
	while (s->n_holds < LINK_HOLDS_MAX - 1) {
		s->holds[s->n_holds] = LINK_HOLD(HOLD_OUTPUT, s->n_holds);
		s->hold_fds[s->n_holds++] = fd;
	}
}

static void empty_keeper(struct play *p)
{
	for (uint32_t i = 1; i < MANY_SLOTS; i++)
		cr_assert_eq(play_forget(p, &(struct link_spawn_id){ 1000 + i, i, 1 }), 0);
}

static void run_again(struct play *p, struct play_spawn *s)
{
	struct play_message m = { 0 };

	s->id.port++;
	s->id.attempt = 0;
	cr_assert_eq(play_spawn_wait(p, s, &m), 0);
	cr_assert_eq(m.head.type, LINK_STARTED);
	cr_assert_eq(play_wait_exit(p, &s->id, &m), 0);
	cr_assert_eq(m.exited.status, 0);
}

Test(helper_spawn, what_a_keeper_has_no_room_for_is_refused_and_does_not_run, .timeout = 60)
{
	char file[] = "/tmp/redd-mark-XXXXXX";
	const char *const argv[] = { place_prog("mark"), file, "x", NULL };
	int fd = open("/dev/null", O_RDWR | O_CLOEXEC);
	struct play_message m = { 0 };
	static struct play p;
	struct play_spawn s;
	struct stat st;

	if (place_valgrind())
		return; /* it plays another limit */
	close(mkostemp(file, O_CLOEXEC));
	fill_keeper(&p, &s, argv, fd);
	cr_assert_eq(kill(p.forker, SIGSTOP), 0); /* no birth before the refusal */
	cr_assert_eq(play_spawn_wait(&p, &s, &m), 0);
	cr_assert_eq(m.head.type, LINK_FAILED);
	cr_assert_eq(m.failed.stage, LINK_STAGE_REQUEST);
	cr_assert_eq(m.failed.error, EMFILE);
	cr_assert_eq(kill(p.forker, SIGCONT), 0);
	cr_assert_eq(play_forget(&p, &s.id), 0);
	empty_keeper(&p);
	run_again(&p, &s);
	cr_assert_eq(stat(file, &st), 0);
	cr_assert_eq(st.st_size, 2, "one line, not two");
	unlink(file);
	close(fd);
	cr_assert_eq(play_stop(&p, 0), 0);
}

Test(helper_spawn, what_was_born_but_not_executed_is_refused_all_the_same, .timeout = 60)
{
	int fd = open("/dev/null", O_RDWR | O_CLOEXEC);
	const char *const argv[] = { "/bin/true", NULL };
	struct play_message m = { 0 };
	static struct play p;
	struct play_spawn s;
	char fifo[PATH_MAX + 8];
	int writer;

	if (place_valgrind())
		return; /* it plays another limit */
	fill_keeper(&p, &s, argv, fd);
	settle(&p);
	snprintf(fifo, sizeof(fifo), "%s/fifo", p.directory);
	cr_assert_eq(mkfifo(fifo, 0600), 0);
	spawn_bytes_file(&s.bytes, 0, O_RDONLY, fifo);
	s.keep_birth = true;
	cr_assert_eq(kill(p.keeper, SIGSTOP), 0); /* no refusal before the birth */
	cr_assert_eq(play_spawn(&p, &s), 0);
	wait_for_birth(&s);
	cr_assert_eq(kill(p.keeper, SIGCONT), 0);
	settle(&p);
	writer = open(fifo, O_WRONLY | O_CLOEXEC);
	do
		cr_assert_eq(play_receive(&p, &m, 5000), 0);
	while (m.head.type != LINK_FORKER && m.failed.id.port != s.id.port);
	cr_assert_eq(m.head.type, LINK_FAILED);
	cr_assert_eq(m.failed.stage, LINK_STAGE_REQUEST);
	cr_assert_eq(m.failed.error, EMFILE);
	close(writer);
	unlink(fifo);
	close(s.birth_fd);
	close(fd);
	cr_assert_eq(play_stop(&p, 0), 0);
}

Test(helper_spawn, what_runs_before_it_could_be_refused_is_kept, .timeout = 60)
{
	const char *const argv[] = { "/bin/sh", "-c", "echo x; exit 9", NULL };
	int fd = open("/dev/null", O_RDWR | O_CLOEXEC), out;
	struct play_message m = { 0 };
	static struct play p;
	struct play_spawn s;
	char c;

	if (place_valgrind())
		return; /* it plays another limit */
	fill_keeper(&p, &s, argv, fd);
	settle(&p);
	cr_assert_eq(kill(p.keeper, SIGSTOP), 0);
	out = spawn_with_output(&p, &s);
	cr_assert_eq(read(out, &c, 1), 1);
	cr_assert_eq(kill(p.keeper, SIGCONT), 0);
	cr_assert_eq(play_wait_exit(&p, &s.id, &m), 0);
	cr_assert_eq(WEXITSTATUS(m.exited.status), 9);
	cr_assert_eq(play_forget(&p, &s.id), 0);
	close(out);
	close(fd);
	cr_assert_eq(play_stop(&p, 0), 0);
}
