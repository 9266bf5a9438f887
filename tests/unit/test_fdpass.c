#include "proto/fdpass.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "proto/base/fd.h"

static int pair[2], before;

static void open_pair(int type)
{
	before = fd_count();
	cr_assert_eq(socketpair(AF_UNIX, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair), 0);
}

/* All that a test opened is closed again. */
static void close_pair(void)
{
	fd_close_many(pair, 2);
	cr_assert_eq(fd_count(), before, "a descriptor was left behind");
}

TestSuite(fdpass, .timeout = 10);

static ssize_t send_bytes(const void *data, size_t size, const int *fds, size_t n_fds)
{
	struct iovec iov = { (void *)data, size };

	return fdpass_send(pair[0], &iov, 1, fds, n_fds, 0);
}

/* Opens n descriptors of the null device. */
static void open_many(int *fds, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		fds[i] = open("/dev/null", O_RDWR | O_CLOEXEC);
		cr_assert_geq(fds[i], 0);
	}
}

static ino_t inode_of(int fd)
{
	struct stat st;

	cr_assert_eq(fstat(fd, &st), 0);
	return st.st_ino;
}

Test(fdpass, bytes_and_descriptors_arrive_in_order_and_closed_on_exec)
{
	struct fdpass_info info;
	char data[16];
	int sent[2], got[4];

	open_pair(SOCK_STREAM);
	cr_assert_eq(pipe2(sent, O_CLOEXEC), 0);
	fcntl(sent[0], F_SETFD, 0);
	cr_assert_eq(send_bytes("spawn", 5, sent, 2), 5);
	cr_assert_eq(fdpass_recv(pair[1], data, sizeof(data), 0, got, 4, &info), 5);
	cr_assert_arr_eq(data, "spawn", 5);
	cr_assert_eq(info.n_fds, 2);
	cr_assert(!info.surplus && !info.truncated && !info.message_truncated);
	for (int i = 0; i < 2; i++) {
		cr_assert_eq(inode_of(got[i]), inode_of(sent[i]));
		cr_assert(fcntl(got[i], F_GETFD) & FD_CLOEXEC);
		cr_assert_geq(fcntl(sent[i], F_GETFD), 0, "the sender keeps its own");
	}
	cr_assert_eq(write(got[1], "x", 1), 1, "the right end");
	fd_close_many(got, 2);
	fd_close_many(sent, 2);
	close_pair();
}

Test(fdpass, many_pieces_go_out_as_one)
{
	struct iovec iov[3] = { { "re", 2 }, { "", 0 }, { "dd", 2 } };
	struct fdpass_info info;
	char data[16];

	open_pair(SOCK_SEQPACKET);
	cr_assert_eq(fdpass_send(pair[0], iov, 3, NULL, 0, 0), 4);
	cr_assert_eq(fdpass_recv(pair[1], data, sizeof(data), 0, NULL, 0, &info), 4);
	cr_assert_arr_eq(data, "redd", 4);
	close_pair();
}

Test(fdpass, what_has_no_room_is_counted_and_closed)
{
	struct fdpass_info info;
	int sent[8], got[8];
	char byte;

	for (size_t room = 0; room <= 8; room++) {
		open_pair(SOCK_STREAM);
		open_many(sent, 8);
		memset(got, -1, sizeof(got));
		cr_assert_eq(send_bytes("x", 1, sent, 8), 1);
		cr_assert_eq(fdpass_recv(pair[1], &byte, 1, 0, got, room, &info), 1);
		cr_assert_eq(info.n_fds, room);
		cr_assert_eq(info.surplus, 8 - room);
		cr_assert_not(info.truncated);
		for (size_t i = room; i < 8; i++)
			cr_assert_eq(got[i], -1, "nothing is written beyond the room");
		fd_close_many(got, room);
		fd_close_many(sent, 8);
		close_pair();
	}
}

Test(fdpass, the_kernel_s_most_go_through_and_one_more_is_refused_here)
{
	int sent[FDPASS_MAX + 1], got[FDPASS_MAX];
	struct fdpass_info info;
	char byte;

	open_pair(SOCK_STREAM);
	open_many(sent, FDPASS_MAX + 1);
	cr_assert_eq(send_bytes("x", 1, sent, FDPASS_MAX + 1), -EINVAL);
	cr_assert_eq(send_bytes("x", 1, sent, FDPASS_MAX), 1);
	cr_assert_eq(fdpass_recv(pair[1], &byte, 1, 0, got, FDPASS_MAX, &info), 1);
	cr_assert_eq(info.n_fds, FDPASS_MAX);
	cr_assert(!info.surplus && !info.truncated);
	fd_close_many(got, FDPASS_MAX);
	fd_close_many(sent, FDPASS_MAX + 1);
	close_pair();
}

Test(fdpass, descriptors_without_a_byte_are_refused)
{
	open_pair(SOCK_STREAM);
	cr_assert_eq(send_bytes("", 0, pair, 1), -EINVAL);
	cr_assert_eq(fdpass_send(pair[0], NULL, 0, pair, 1, 0), -EINVAL);
	close_pair();
}

Test(fdpass, S29_what_the_kernel_drops_for_want_of_numbers_is_told)
{
	int sent[8], got[8], lowest;
	struct fdpass_info info;
	struct rlimit limit, old;
	char byte;

	if (getenv("REDD_VALGRIND"))
		cr_skip_test("valgrind plays RLIMIT_NOFILE itself, and not for recvmsg");
	open_pair(SOCK_STREAM);
	open_many(sent, 8);
	cr_assert_eq(send_bytes("x", 1, sent, 8), 1);
	fd_close_many(sent + 3, 5);
	lowest = open("/dev/null", O_RDONLY | O_CLOEXEC);
	close(lowest);
	cr_assert_eq(getrlimit(RLIMIT_NOFILE, &old), 0);
	limit = (struct rlimit){ (rlim_t)lowest + 3, old.rlim_max };
	cr_assert_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
	cr_assert_eq(fdpass_recv(pair[1], &byte, 1, 0, got, 8, &info), 1);
	cr_assert_eq(setrlimit(RLIMIT_NOFILE, &old), 0);
	cr_assert(info.truncated);
	cr_assert_leq(info.n_fds, 3);
	cr_assert_eq(info.surplus, 0);
	fd_close_many(got, info.n_fds);
	fd_close_many(sent, 8);
	close_pair();
}

Test(fdpass, a_datagram_that_is_cut_is_told_and_its_descriptors_still_come)
{
	struct fdpass_info info;
	char data[4];
	int got[2];

	open_pair(SOCK_SEQPACKET);
	cr_assert_eq(send_bytes("much too long", 13, pair, 1), 13);
	cr_assert_eq(fdpass_recv(pair[1], data, sizeof(data), 0, got, 2, &info), 4);
	cr_assert(info.message_truncated && !info.truncated);
	cr_assert_eq(info.n_fds, 1);
	fd_close(got[0]);
	close_pair();
}

Test(fdpass, other_control_data_pushes_no_descriptor_out)
{
	int sent[FDPASS_MAX], got[FDPASS_MAX], on = 1;
	struct fdpass_info info;
	char byte;

	open_pair(SOCK_STREAM);
	cr_assert_eq(setsockopt(pair[1], SOL_SOCKET, SO_PASSCRED, &on, sizeof(on)), 0);
	open_many(sent, FDPASS_MAX);
	cr_assert_eq(send_bytes("x", 1, sent, FDPASS_MAX), 1);
	cr_assert_eq(fdpass_recv(pair[1], &byte, 1, 0, got, FDPASS_MAX, &info), 1);
	cr_assert_eq(info.n_fds, FDPASS_MAX);
	cr_assert_not(info.truncated);
	fd_close_many(got, FDPASS_MAX);
	fd_close_many(sent, FDPASS_MAX);
	close_pair();
}

Test(fdpass, end_and_emptiness_and_a_lost_peer_are_told)
{
	struct fdpass_info info = { .n_fds = 9 };
	char byte;

	open_pair(SOCK_STREAM);
	cr_assert_eq(fdpass_recv(pair[1], &byte, 1, 0, NULL, 0, &info), -EAGAIN);
	cr_assert_eq(info.n_fds, 0);
	cr_assert_eq(shutdown(pair[0], SHUT_WR), 0);
	cr_assert_eq(fdpass_recv(pair[1], &byte, 1, 0, NULL, 0, &info), 0);
	pair[1] = fd_close(pair[1]);
	cr_assert_eq(send_bytes("x", 1, NULL, 0), -EPIPE, "and no SIGPIPE");
	close_pair();
}

Test(fdpass, a_full_socket_takes_part_or_nothing_and_waits_for_nobody)
{
	static char much[1 << 20];
	ssize_t n;

	open_pair(SOCK_STREAM);
	n = send_bytes(much, sizeof(much), NULL, 0);
	cr_assert(n > 0 && n < (ssize_t)sizeof(much));
	cr_assert_eq(send_bytes(much, sizeof(much), pair, 1), -EAGAIN);
	close_pair();
}

Test(fdpass, a_wrong_socket_is_an_error)
{
	struct fdpass_info info;
	char byte;

	open_pair(SOCK_STREAM);
	cr_assert_eq(fdpass_recv(-1, &byte, 1, 0, NULL, 0, &info), -EBADF);
	cr_assert_eq(fdpass_send(-1, &(struct iovec){ "x", 1 }, 1, NULL, 0, 0), -EBADF);
	close_pair();
}

Test(fdpass, a_look_tells_whether_descriptors_come_and_takes_nothing)
{
	struct fdpass_info info;
	char data[16];
	bool brings = true;
	int fd, got;

	open_pair(SOCK_STREAM);
	open_many(&fd, 1);
	cr_assert_eq(fdpass_peek(pair[1], data, sizeof(data), &brings), -EAGAIN);
	cr_assert_not(brings);
	cr_assert_eq(send_bytes("abc", 3, NULL, 0), 3);
	cr_assert_eq(fdpass_peek(pair[1], data, sizeof(data), &brings), 3);
	cr_assert_not(brings);
	cr_assert_eq(send_bytes("d", 1, &fd, 1), 1);
	cr_assert_eq(fdpass_peek(pair[1], data, sizeof(data), &brings), 4);
	cr_assert(brings);
	cr_assert_eq(fdpass_recv(pair[1], data, 3, MSG_DONTWAIT, &got, 1, &info), 3);
	cr_assert_eq(info.n_fds, 0);
	cr_assert_eq(fdpass_recv(pair[1], data, 3, MSG_DONTWAIT, &got, 1, &info), 1);
	cr_assert_eq(info.n_fds, 1);
	cr_assert_eq(inode_of(got), inode_of(fd));
	fd_close(got);
	fd_close(fd);
	shutdown(pair[0], SHUT_WR);
	cr_assert_eq(fdpass_peek(pair[1], data, sizeof(data), &brings), 0);
	cr_assert_not(brings);
	close_pair();
}
