/* One sendmsg or recvmsg a call. The control buffer is always as large as the kernel can fill it,
 * so that what a peer sends is seen, counted and closed here instead of being dropped unseen: room
 * "for one" takes two because of padding, and a message may hold several SCM_RIGHTS.
 *
 * A descriptor that came is either in ret_fds or closed; there is no path on which one stays open
 * unseen. What the kernel itself dropped (no free descriptor numbers) shows as `truncated`.
 */
#include "proto/fdpass.h"

#include <errno.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>

#include "proto/base/err.h"
#include "proto/base/fd.h"

/* Room for other kinds of control data (credentials, pidfd, security label) beside the descriptors,
 * so that a socket which has them enabled cannot push descriptors out. */
#define CONTROL_OTHERS 1024u

union control {
	struct cmsghdr align;
	char descriptors[CMSG_SPACE(sizeof(int) * FDPASS_MAX)];
	char all[CMSG_SPACE(sizeof(int) * FDPASS_MAX) + CONTROL_OTHERS];
};

/* Peers and full buffers are everyday; anything else began here. */
static ssize_t failed(void)
{
	switch (errno) {
	case EAGAIN:
	case EPIPE:
	case ECONNRESET:
	case ETOOMANYREFS:
	case ENOBUFS:
		return -errno;
	default:
		return err_errno();
	}
}

static void put_descriptors(struct msghdr *message, union control *control, const int *fds,
			    size_t n_fds)
{
	struct cmsghdr *head;

	message->msg_control = control;
	message->msg_controllen = CMSG_SPACE(sizeof(int) * n_fds);
	memset(control, 0, message->msg_controllen);
	head = CMSG_FIRSTHDR(message);
	head->cmsg_level = SOL_SOCKET;
	head->cmsg_type = SCM_RIGHTS;
	head->cmsg_len = CMSG_LEN(sizeof(int) * n_fds);
	memcpy(CMSG_DATA(head), fds, sizeof(int) * n_fds);
}

static size_t total_size(const struct iovec *iov, size_t n_iov)
{
	size_t size = 0;

	for (size_t i = 0; i < n_iov; i++)
		size += iov[i].iov_len;
	return size;
}

ssize_t fdpass_send(int sock, const struct iovec *iov, size_t n_iov, const int *fds, size_t n_fds,
		    int flags)
{
	struct msghdr message = { .msg_iov = (struct iovec *)iov, .msg_iovlen = n_iov };
	union control control;
	ssize_t n;

	if (n_fds > FDPASS_MAX || (n_fds && !total_size(iov, n_iov)))
		return err_begin(-EINVAL);
	if (n_fds)
		put_descriptors(&message, &control, fds, n_fds);
	do
		n = sendmsg(sock, &message, flags | MSG_NOSIGNAL);
	while (n < 0 && errno == EINTR);
	return n < 0 ? failed() : n;
}

static void take_descriptor(int fd, int *ret_fds, size_t max_fds, struct fdpass_info *ret)
{
	if (ret->n_fds < max_fds) {
		ret_fds[ret->n_fds++] = fd;
		return;
	}
	fd_close(fd);
	ret->surplus++;
}

static void take_descriptors(struct msghdr *message, int *ret_fds, size_t max_fds,
			     struct fdpass_info *ret)
{
	for (struct cmsghdr *c = CMSG_FIRSTHDR(message); c; c = CMSG_NXTHDR(message, c)) {
		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		for (size_t at = 0; at + sizeof(int) <= c->cmsg_len - CMSG_LEN(0);
		     at += sizeof(int)) {
			int fd;

			memcpy(&fd, CMSG_DATA(c) + at, sizeof(fd));
			take_descriptor(fd, ret_fds, max_fds, ret);
		}
	}
}

ssize_t fdpass_recv(int sock, void *buf, size_t size, int flags, int *ret_fds, size_t max_fds,
		    struct fdpass_info *ret)
{
	union control control;
	struct iovec iov = { .iov_base = buf, .iov_len = size };
	struct msghdr message;
	ssize_t n;

	*ret = (struct fdpass_info){ 0 };
	do {
		message = (struct msghdr){ .msg_iov = &iov,
					   .msg_iovlen = 1,
					   .msg_control = &control,
					   .msg_controllen = sizeof(control) };
		n = recvmsg(sock, &message, flags | MSG_CMSG_CLOEXEC);
	} while (n < 0 && errno == EINTR);
	if (n < 0)
		return failed();
	take_descriptors(&message, ret_fds, max_fds, ret);
	ret->truncated = message.msg_flags & MSG_CTRUNC;
	ret->message_truncated = message.msg_flags & MSG_TRUNC;
	return n;
}

/* Without room for them the kernel says MSG_CTRUNC, and their files stay open in the socket. A look
 * ends behind the first message that carries some. */
ssize_t fdpass_peek(int sock, void *buf, size_t size, bool *ret_brings)
{
	struct iovec iov = { .iov_base = buf, .iov_len = size };
	struct msghdr message = { .msg_iov = &iov, .msg_iovlen = 1 };
	ssize_t n;

	do
		n = recvmsg(sock, &message, MSG_PEEK | MSG_DONTWAIT);
	while (n < 0 && errno == EINTR);
	*ret_brings = n >= 0 && message.msg_flags & MSG_CTRUNC;
	return n < 0 ? failed() : n;
}
