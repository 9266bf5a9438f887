/* Two processes, so that a write that blocks stops no reading: the leader writes, and waits for its
 * child, which reads. Each copies with splice(2) as long as both sides can, else by a buffer.
 *
 * The port's pipes are ours alone and do not block. What we were given is perhaps shared with
 * others: its flags and modes stay as they are, so a read or write of it may block, or say EAGAIN,
 * as whoever shares it likes; both are waited out. It is closed in the end, and nothing else.
 *
 * The good path: open, report OPENED; end of file on a side, all copied, the side closed (which
 * may fail as a write does), its report; then its pipe is closed: who sees the pipe's end finds the
 * report. A failure is the same with an errno; for a child that was killed the leader tells it.
 * When reading is to stop (end of file on the reports' socket), the child ends by itself; one that
 * hangs in a read(2) is killed, once all is written.
 */
#include "helper/pump_role.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "helper/link.h"
#include "proto/base/cleanup.h"
#include "proto/base/fd.h"

#define INPUT	      0
#define OUTPUT	      1
#define REPORTS	      2
#define ADOPTED_READ  3
#define ADOPTED_WRITE 4

#define SPLICE_SIZE  MIB(1)
#define BUFFER_SIZE  KIB(64)
#define STOP_WAIT_MS 200 /* that a reader which is not stuck may take to stop */

/* One direction. */
struct way {
	int from, to;
	int stop_fd; /* its end of file stops us; -1: nothing does */
	int hang_fd; /* nobody is behind it any more: POLLHUP; -1: not asked */
	bool copies; /* splice(2) cannot do it */
	uint64_t bytes;
	struct pump *pump; /* whose reader is looked after meanwhile; NULL: nobody's */
};

static uint8_t buffer[BUFFER_SIZE];

static void report(uint32_t what, int error, uint64_t bytes)
{
	const struct pump_report r = { .what = what, .error = error, .bytes = bytes };

	send(REPORTS, &r, sizeof(r), MSG_NOSIGNAL);
}

/* --- what is copied --------------------------------------------------------------------------
 */

struct pump {
	bool reads, writes;
	int from, to;
	pid_t reader; /* 0: there is none, or no more */
	int life_fd;  /* end of file: the reader is gone; -1: as the above */
	bool is_stopped;
	int read_error; /* the errno with which reading failed, or 0 */
};

/* The reader has ended, or is about to. One that was killed did not say so. */
static void reader_over(struct pump *p)
{
	int status;

	while (waitpid(p->reader, &status, 0) < 0 && errno == EINTR)
		;
	p->life_fd = fd_close(p->life_fd);
	p->reader = 0;
	if (WIFEXITED(status)) {
		p->read_error = WEXITSTATUS(status);
		return;
	}
	p->read_error = p->is_stopped ? 0 : EINTR;
	report(PUMP_READ, p->is_stopped ? ECANCELED : EINTR, 0);
}

/* --- one direction ---------------------------------------------------------------------------
 */

/* 0 when fd is ready; -ECANCELED: we are to stop; -ENOLINK: hung up. */
static int way_wait(const struct way *w, int fd, short events)
{
	struct pollfd p[] = { { .fd = fd, .events = events },
			      { .fd = w->stop_fd, .events = POLLIN },
			      { .fd = w->hang_fd },
			      { .fd = w->pump ? w->pump->life_fd : -1 } };

	for (;;) {
		if (poll(p, ARRAY_SIZE(p), -1) < 0) {
			if (errno != EINTR)
				return -errno;
			continue;
		}
		if (p[3].revents) {
			reader_over(w->pump);
			p[3].fd = -1;
		}
		if (p[1].revents)
			return -ECANCELED;
		if (p[0].revents)
			return 0;
		if (p[2].revents & POLLHUP)
			return -ENOLINK;
		if (p[2].revents)
			p[2].fd = -1; /* POLLERR: a fifo without readers, who may come back */
	}
}

static int write_all(const struct way *w, const uint8_t *data, size_t size)
{
	while (size) {
		ssize_t n = write(w->to, data, size);
		int r = 0;

		if (n >= 0) {
			data += n;
			size -= (size_t)n;
			continue;
		}
		if (errno == EAGAIN)
			r = way_wait(w, w->to, POLLOUT);
		else if (errno != EINTR)
			r = -errno;
		if (r < 0)
			return r;
	}
	return 0;
}

/* One piece: more than 0, 0 at the end of file, or a negative errno (-EAGAIN: none was there). */
static ssize_t copy_piece(const struct way *w)
{
	ssize_t n = read(w->from, buffer, sizeof(buffer));
	int r;

	if (n <= 0)
		return n < 0 ? -errno : 0;
	r = write_all(w, buffer, (size_t)n);
	return r < 0 ? r : n;
}

/* There was something to read, so EAGAIN means that there is no room. */
static ssize_t splice_piece(struct way *w)
{
	unsigned flags = SPLICE_F_MOVE | (w->to == OUTPUT ? SPLICE_F_NONBLOCK : 0);
	ssize_t n = splice(w->from, NULL, w->to, NULL, SPLICE_SIZE, flags);
	int r;

	if (n >= 0)
		return n;
	if (errno == EINVAL || errno == ENOSYS) {
		w->copies = true;
		return -EAGAIN;
	}
	if (errno != EAGAIN)
		return -errno;
	r = way_wait(w, w->to, POLLOUT);
	return r < 0 ? r : -EAGAIN;
}

/* Until end of file: 0, or a negative errno. */
static int way_run(struct way *w)
{
	for (;;) {
		int r = way_wait(w, w->from, POLLIN);
		ssize_t n;

		if (r < 0)
			return r;
		n = w->copies ? copy_piece(w) : splice_piece(w);
		if (n == 0)
			return 0;
		if (n > 0)
			w->bytes += (uint64_t)n;
		else if (n != -EAGAIN && n != -EINTR)
			return (int)n;
	}
}

/* What a terminal says whose other side is gone is its end (pty(7)). */
static bool is_end(int fd, int error)
{
	return error == -EIO && isatty(fd);
}

/* --- both ------------------------------------------------------------------------------------
 */

/* Two descriptors of its own, if it is both read and written, so that each side can be closed. */
static int pump_place(struct pump *p, int fd)
{
	p->from = p->reads ? fd : -1;
	p->to = p->writes ? fd : -1;
	return p->reads && p->writes ? fd_dup(fd, &p->to) : 0;
}

/* What open(2) lets through although nothing can be read from it. */
static int check_kind(int fd)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return -errno;
	return S_ISDIR(st.st_mode) ? -EISDIR : 0;
}

static int pump_open(struct pump *p, const char *flags, const char *mode, const char *path)
{
	int fd = open(path, (int)strtol(flags, NULL, 8) | O_NOCTTY | O_CLOEXEC,
		      (mode_t)strtol(mode, NULL, 8));
	int r = fd < 0 ? -errno : check_kind(fd);

	return r < 0 ? r : pump_place(p, fd);
}

static int pump_adopt(struct pump *p)
{
	p->from = p->reads ? ADOPTED_READ : -1;
	p->to = p->writes ? ADOPTED_WRITE : -1;
	return 0;
}

/* --- reading, in the child -------------------------------------------------------------------
 */

static int read_side(struct pump *p)
{
	struct way w = { .from = p->from, .to = OUTPUT, .stop_fd = REPORTS, .hang_fd = -1 };
	int r = way_run(&w);

	if (is_end(p->from, r))
		r = 0;
	report(PUMP_READ, -r, w.bytes);
	return r == -ECANCELED ? 0 : -r;
}

/* Ends with the leader, whatever ends that. */
static void reader_run(struct pump *p, pid_t leader)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != leader)
		_exit(0);
	prctl(PR_SET_NAME, "redd-pump-read");
	close(INPUT);
	fd_close(p->to);
	_exit(read_side(p));
}

static int reader_start(struct pump *p)
{
	pid_t leader = getpid();
	int life[2];

	if (pipe2(life, O_CLOEXEC) < 0)
		return -errno;
	p->reader = fork();
	if (p->reader < 0)
		return -errno;
	if (p->reader == 0) {
		close(life[0]);
		reader_run(p, leader);
	}
	close(life[1]);
	close(OUTPUT);
	p->from = fd_close(p->from);
	p->life_fd = life[0];
	return 0;
}

/* Until the reader is gone, or reading is to stop. */
static void reader_await(struct pump *p)
{
	struct pollfd fds[] = { { .fd = p->life_fd }, { .fd = REPORTS, .events = POLLIN } };
	int timeout = -1;

	for (;;) {
		int n = poll(fds, ARRAY_SIZE(fds), timeout);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0 || fds[0].revents)
			return;
		p->is_stopped = true;
		timeout = STOP_WAIT_MS;
		fds[1].fd = -1;
	}
}

static void reader_end(struct pump *p)
{
	if (!p->reader)
		return;
	reader_await(p);
	if (p->is_stopped)
		kill(p->reader, SIGKILL);
	reader_over(p);
}

/* --- writing, in the leader ------------------------------------------------------------------
 */

static int write_side(struct pump *p)
{
	struct way w = { .from = INPUT, .to = p->to, .stop_fd = -1, .hang_fd = p->to, .pump = p };
	int r = way_run(&w);

	/* Nothing is lost by that, unless more is on its way: the broker compares. */
	if (r == -ENOLINK)
		r = 0;
	/* Some file systems tell only now that it did not all fit. */
	if (close(p->to) < 0 && !r && errno != EINTR)
		r = -errno;
	p->to = -1;
	report(PUMP_WRITTEN, -r, w.bytes);
	close(INPUT);
	return -r;
}

static int pump_begin(struct pump *p, int argc, char **argv)
{
	int r = argc == 5 ? pump_open(p, argv[2], argv[3], argv[4]) : pump_adopt(p);

	if (!r && chdir("/") < 0)
		r = -errno;
	if (!r && p->reads)
		r = fd_set_nonblocking(OUTPUT);
	if (!r && p->writes)
		r = fd_set_nonblocking(INPUT);
	report(PUMP_OPENED, -r, 0);
	return r;
}

/* Where there can be no reader, nothing is read. */
static void reader_begin(struct pump *p)
{
	int r = reader_start(p);

	if (r == 0)
		return;
	report(PUMP_READ, -r, 0);
	close(OUTPUT);
	p->reader = 0;
	p->read_error = -r;
}

/* What a wait status can carry. */
static int status_of(int write_error, int read_error)
{
	int error = write_error ? write_error : read_error;

	if (error > PUMP_ERROR_MAX)
		error = EIO;
	return error && !write_error ? PUMP_READ_FAILED | error : error;
}

int pump_main(int argc, char **argv)
{
	struct pump p = { .from = -1, .to = -1, .life_fd = -1 };
	int r, write_error = 0;

	if (argc != 2 && argc != 5)
		return 2;
	p.reads = strchr(argv[1], 'r') != NULL;
	p.writes = strchr(argv[1], 'w') != NULL;
	prctl(PR_SET_NAME, "redd-pump");
	signal(SIGPIPE, SIG_IGN);
	signal(SIGXFSZ, SIG_IGN); /* EFBIG says it */
	r = pump_begin(&p, argc, argv);
	if (r < 0)
		return status_of(-r, 0);
	if (p.reads)
		reader_begin(&p);
	if (p.writes)
		write_error = write_side(&p);
	reader_end(&p);
	return status_of(write_error, p.read_error);
}
