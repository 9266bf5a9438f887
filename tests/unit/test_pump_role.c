/* The pump by itself: whatever stands on its far sides, every byte goes over in order, its reports
 * tell how each direction ended, and its status says the same. */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "helper/link.h"
#include "helper/pump_role.h"
#include "proto/base/fd.h"
#include "tests/lib/pattern.h"
#include "tests/lib/places.h"
#include "tests/lib/random.h"

#define PIECE (64u << 10)

TestSuite(pump_role, .timeout = 60);

/* --- a pump ---------------------------------------------------------------------------------- */

struct pump_run {
	pid_t pid;
	int input, output, reports; /* the broker's ends; -1: closed */
};

static uid_t other_user; /* that a pump becomes, as the forker's child does; 0: none */

/* With descriptors to adopt, -1 for none, which stay ours; or with a file's arguments. */
static void start(struct pump_run *p, int read_fd, int write_fd, char **argv)
{
	int in[2], out[2], reports[2], argc = 0;

	cr_assert_eq(pipe2(in, O_CLOEXEC), 0);
	cr_assert_eq(pipe2(out, O_CLOEXEC), 0);
	cr_assert_eq(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, reports), 0);
	while (argv[argc])
		argc++;
	p->pid = fork();
	cr_assert_geq(p->pid, 0);
	if (p->pid == 0) {
		int from[] = { in[0], out[1], reports[1], read_fd, write_fd }, high[5];

		for (int i = 0; i < 5; i++)
			high[i] = from[i] < 0 ? -1 : fcntl(from[i], F_DUPFD_CLOEXEC, 600);
		for (int i = 0; i < 5; i++) {
			close(i);
			if (high[i] >= 0)
				dup2(high[i], i);
		}
		for (int i = 5; i < 1000; i++)
			close(i);
		if (other_user && setresuid(other_user, other_user, other_user))
			_exit(99);
		_exit(pump_main(argc, argv));
	}
	close(in[0]);
	close(out[1]);
	close(reports[1]);
	*p = (struct pump_run){ p->pid, in[1], out[0], reports[0] };
}

static char *const both[] = { "pump", "rw", NULL }, *const reading[] = { "pump", "r", NULL },
		   *const writing[] = { "pump", "w", NULL };

static struct pump_report report_next(struct pump_run *p)
{
	struct pollfd fd = { .fd = p->reports, .events = POLLIN };
	struct pump_report r = { 0 };

	cr_assert_eq(poll(&fd, 1, place_patience_ms(20000)), 1, "no report");
	cr_assert_eq(recv(p->reports, &r, sizeof(r), 0), (ssize_t)sizeof(r), "no report came");
	return r;
}

static void expect_report(struct pump_run *p, uint32_t what, int error, uint64_t bytes)
{
	struct pump_report r = report_next(p);

	cr_expect_eq(r.what, what, "%u instead of %u", r.what, what);
	cr_expect_eq(r.error, error, "%u: errno %d", what, r.error);
	cr_expect_eq(r.bytes, bytes, "%u: %llu bytes", what, (unsigned long long)r.bytes);
}

static int finish(struct pump_run *p)
{
	int status;

	cr_assert_eq(waitpid(p->pid, &status, 0), p->pid);
	p->input = fd_close(p->input);
	p->output = fd_close(p->output);
	p->reports = fd_close(p->reports);
	cr_assert(WIFEXITED(status), "status %x", status);
	return WEXITSTATUS(status);
}

/* --- any descriptors, any sizes -------------------------------------------------------------- */

enum far { FAR_PIPE, FAR_SOCKET, FAR_KINDS };

/* A one-way connection of some kind: bytes go in at [1] and come out at [0], whose end is seen when
 * [1] is closed. */
static void far_make(struct random *r, enum far kind, int fds[2])
{
	int flags = random_chance(r, 2) ? O_NONBLOCK : 0;

	if (kind == FAR_SOCKET)
		cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
	else
		cr_assert_eq(pipe2(fds, O_CLOEXEC), 0);
	if (flags)
		for (int i = 0; i < 2; i++)
			fcntl(fds[i], F_SETFL, fcntl(fds[i], F_GETFL) | flags);
}

/* One end of bytes: writes or reads a share when it can. */
struct party {
	int fd;
	bool writes;
	uint64_t done, size; /* size UINT64_MAX: until end of file */
};

static bool party_is_over(const struct party *p)
{
	return p->fd < 0;
}

static void party_move(struct random *r, struct party *p)
{
	static uint8_t data[PIECE];
	/* A descriptor that is ready takes PIPE_BUF bytes without blocking us, and may not take
	 * more. */
	uint64_t most = 1 + random_below(r, p->writes ? PIPE_BUF : sizeof(data));
	ssize_t n;

	if (p->writes && p->done == p->size) {
		p->fd = fd_close(p->fd);
		return;
	}
	if (p->writes) {
		most = most < p->size - p->done ? most : p->size - p->done;
		pattern_fill(data, most, p->done);
		n = write(p->fd, data, most);
	} else {
		n = read(p->fd, data, most);
	}
	if (n < 0 && errno == EAGAIN)
		return;
	cr_assert_geq(n, 0, "%s", strerror(errno));
	if (!p->writes)
		cr_assert_eq(pattern_match(data, (size_t)n, p->done), (size_t)n, "at %llu",
			     (unsigned long long)p->done);
	p->done += (uint64_t)n;
	if (!p->writes && n == 0)
		p->fd = fd_close(p->fd);
}

static void parties_run(struct random *r, struct party *parties, unsigned n)
{
	for (unsigned over = 0; over < n;) {
		struct pollfd fds[4];

		over = 0;
		for (unsigned i = 0; i < n; i++) {
			fds[i] = (struct pollfd){ parties[i].fd,
						  parties[i].writes ? POLLOUT : POLLIN, 0 };
			over += party_is_over(&parties[i]);
		}
		if (over == n)
			return;
		cr_assert_gt(poll(fds, n, place_patience_ms(20000)), 0, "it hangs");
		for (unsigned i = 0; i < n; i++)
			if (fds[i].revents && random_below(r, 3))
				party_move(r, &parties[i]);
	}
}

/* Our ends do not block, so that we can be slow in any order. */
static void unblock(int fd)
{
	cr_assert_eq(fd_set_nonblocking(fd), 0);
}

static void random_round(struct random *r)
{
	uint64_t in_size = random_below(r, 6 * PIECE), out_size = random_below(r, 6 * PIECE);
	int from[2], to[2], flags[2];
	struct pump_run p;

	far_make(r, (enum far)random_below(r, FAR_KINDS), from);
	far_make(r, (enum far)random_below(r, FAR_KINDS), to);
	flags[0] = fcntl(from[0], F_GETFL);
	flags[1] = fcntl(to[1], F_GETFL);
	start(&p, from[0], to[1], (char **)both);
	cr_assert_eq(report_next(&p).error, 0);
	unblock(from[1]);
	unblock(to[0]);
	unblock(p.input);
	unblock(p.output);
	/* The pump's copies alone are to keep these open. */
	cr_expect_eq(fcntl(from[0], F_GETFL), flags[0]);
	cr_expect_eq(fcntl(to[1], F_GETFL), flags[1]);
	close(from[0]);
	close(to[1]);
	struct party parties[] = {
		{ from[1], true, 0, out_size },
		{ p.output, false, 0, UINT64_MAX },
		{ p.input, true, 0, in_size },
		{ to[0], false, 0, UINT64_MAX },
	};
	parties_run(r, parties, 4);
	p.input = p.output = -1;
	cr_expect_eq(parties[1].done, out_size);
	cr_expect_eq(parties[3].done, in_size);
	for (int i = 0; i < 2; i++) {
		struct pump_report report = report_next(&p);

		cr_expect_eq(report.error, 0);
		cr_expect_eq(report.bytes, report.what == PUMP_READ ? out_size : in_size);
	}
	cr_expect_eq(finish(&p), 0);
}

Test(pump_role, S62_any_two_descriptors_in_any_mode_lose_nothing_and_change_nothing)
{
	struct random r = { (uint64_t)getpid() << 32 | 7 };
	uint64_t seed;

	for (unsigned i = place_rounds(60); i--;) {
		seed = r.state;
		cr_log_info("seed %llu", (unsigned long long)seed);
		random_round(&r);
	}
}

/* --- how it ends ----------------------------------------------------------------------------- */

Test(pump_role, a_file_is_opened_and_its_end_is_told)
{
	struct pump_run p;
	char path[] = "/tmp/redd-pump-XXXXXX", data[16];
	int fd = mkstemp(path);

	cr_assert_eq(write(fd, "content", 7), 7);
	close(fd);
	start(&p, -1, -1, (char *[]){ "pump", "r", "0", "0", path, NULL });
	expect_report(&p, PUMP_OPENED, 0, 0);
	expect_report(&p, PUMP_READ, 0, 7);
	cr_expect_eq(read(p.output, data, sizeof(data)), 7);
	cr_expect_eq(read(p.output, data, sizeof(data)), 0);
	cr_expect_eq(finish(&p), 0);
	unlink(path);
	start(&p, -1, -1, (char *[]){ "pump", "r", "0", "0", path, NULL });
	expect_report(&p, PUMP_OPENED, ENOENT, 0);
	cr_expect_eq(finish(&p), ENOENT);
	start(&p, -1, -1, (char *[]){ "pump", "r", "0", "0", "/", NULL });
	expect_report(&p, PUMP_OPENED, EISDIR, 0);
	cr_expect_eq(finish(&p), EISDIR);
}

Test(pump_role, P14_a_file_is_opened_with_the_rights_of_its_user)
{
	struct pump_run p;
	char path[] = "/tmp/redd-pump-XXXXXX"; /* 0600 */

	if (geteuid())
		cr_skip_test("becoming another user needs root");
	close(mkstemp(path));
	other_user = 65534;
	start(&p, -1, -1, (char *[]){ "pump", "r", "0", "0", path, NULL });
	expect_report(&p, PUMP_OPENED, EACCES, 0);
	cr_expect_eq(finish(&p), EACCES);
	unlink(path);
}

Test(pump_role, the_status_says_which_direction_failed)
{
	struct pump_run p;
	int full = open("/dev/full", O_WRONLY | O_CLOEXEC);
	int memory = open("/proc/self/mem", O_RDONLY | O_CLOEXEC);

	start(&p, -1, full, (char **)writing);
	expect_report(&p, PUMP_OPENED, 0, 0);
	cr_assert_eq(write(p.input, "x", 1), 1);
	expect_report(&p, PUMP_WRITTEN, ENOSPC, 0);
	cr_expect_eq(finish(&p), ENOSPC);
	start(&p, memory, -1, (char **)reading);
	expect_report(&p, PUMP_OPENED, 0, 0);
	expect_report(&p, PUMP_READ, EIO, 0);
	cr_expect_eq(finish(&p), PUMP_READ_FAILED | EIO);
	close(full);
	close(memory);
}

/* A peer that goes while nothing is on its way is no error; bytes that it did not get are. */
Test(pump_role, a_peer_that_goes_is_an_error_only_for_bytes)
{
	struct pump_run p;
	int pair[2];

	cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	start(&p, -1, pair[0], (char **)writing);
	expect_report(&p, PUMP_OPENED, 0, 0);
	close(pair[0]);
	cr_assert_eq(write(p.input, "x", 1), 1);
	cr_assert_eq(read(pair[1], (char[4]){ 0 }, 4), 1);
	close(pair[1]);
	expect_report(&p, PUMP_WRITTEN, 0, 1);
	cr_expect_eq(finish(&p), 0);
}

/* Writing may go on for as long as it likes. */
Test(pump_role, P3_a_reader_that_is_killed_is_told_at_once)
{
	char path[64], number[16] = "";
	struct pump_run p;
	int pair[2], fd;

	cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	start(&p, pair[0], pair[0], (char **)both);
	close(pair[0]);
	expect_report(&p, PUMP_OPENED, 0, 0);
	snprintf(path, sizeof(path), "/proc/%d/task/%d/children", (int)p.pid, (int)p.pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	while (pread(fd, number, sizeof(number) - 1, 0) == 0)
		;
	close(fd);
	cr_assert_gt(atoi(number), 0);
	cr_assert_eq(kill(atoi(number), SIGKILL), 0);
	expect_report(&p, PUMP_READ, EINTR, 0);
	cr_assert_eq(write(p.input, "rest", 4), 4);
	p.input = fd_close(p.input);
	expect_report(&p, PUMP_WRITTEN, 0, 4);
	cr_expect_eq(finish(&p), PUMP_READ_FAILED | EINTR);
	close(pair[1]);
}

Test(pump_role, S61_reading_stops_when_it_is_told_and_writing_goes_on)
{
	struct pump_run p;
	int pair[2];
	char data[8];

	cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	start(&p, pair[0], pair[0], (char **)both);
	close(pair[0]);
	expect_report(&p, PUMP_OPENED, 0, 0);
	cr_assert_eq(shutdown(p.reports, SHUT_WR), 0);
	expect_report(&p, PUMP_READ, ECANCELED, 0);
	cr_assert_eq(write(p.input, "rest", 4), 4);
	p.input = fd_close(p.input);
	expect_report(&p, PUMP_WRITTEN, 0, 4);
	cr_expect_eq(finish(&p), 0);
	cr_expect_eq(read(pair[1], data, sizeof(data)), 4);
	cr_expect_eq(read(pair[1], data, sizeof(data)), 0);
	close(pair[1]);
}
