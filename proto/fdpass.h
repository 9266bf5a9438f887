/* Bytes with descriptors on Unix sockets (SCM_RIGHTS, unix(7)). Knows nothing of frames. */
#ifndef REDD_FDPASS_H
#define REDD_FDPASS_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>
#include <sys/uio.h>

/* Most descriptors that one call can send or receive: the kernel's own limit (SCM_MAX_FD). */
#define FDPASS_MAX 253u

struct fdpass_info {
	size_t n_fds;	/* in ret_fds, now the caller's, closed on exec */
	size_t surplus; /* came but had no room: closed already */
	bool truncated; /* the kernel had to drop some (MSG_CTRUNC): the message is not to be
			   trusted */
	bool message_truncated; /* the datagram was longer than the buffer (MSG_TRUNC) */
};

/* Sends with MSG_NOSIGNAL and the given flags; descriptors go with the first byte, and stay the
 * caller's. Descriptors without a byte cannot be sent: -EINVAL; more than FDPASS_MAX: -EINVAL.
 * Returns the bytes sent, or a negative errno. EINTR is retried. -EAGAIN and what the peer can
 * cause (-EPIPE, -ECONNRESET, -ETOOMANYREFS) are expected outcomes and are not traced. */
ssize_t fdpass_send(int sock, const struct iovec *iov, size_t n_iov, const int *fds, size_t n_fds,
		    int flags);

/* Receives with MSG_CMSG_CLOEXEC and the given flags, and takes charge of every descriptor that
 * came: max_fds of them at most go to ret_fds, all others are closed (closing can block on some
 * kinds of descriptor: where strangers may send them, ask with SO_PASSRIGHTS = 0 set). Returns the
 * bytes received, 0 at the end, or a negative errno (nothing came then, and *ret is all zero).
 * Traced as in fdpass_send(). */
ssize_t fdpass_recv(int sock, void *buf, size_t size, int flags, int *ret_fds, size_t max_fds,
		    struct fdpass_info *ret);

/* Looks at what comes next, which stays where it is; buf is for its bytes, which nobody needs.
 * Returns how many there are, up to `size`, 0 at the end, or a negative errno; *ret_brings says
 * whether descriptors come with them. If not, fdpass_recv() of as many bytes brings none. */
ssize_t fdpass_peek(int sock, void *buf, size_t size, bool *ret_brings);

#endif
