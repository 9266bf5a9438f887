#include "tests/lib/linger.h"

#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include "proto/base/fd.h"

static int fill(int fd, int seconds)
{
	const struct linger linger = { 1, seconds };
	static char data[65536];

	while (send(fd, data, sizeof(data), MSG_DONTWAIT) > 0)
		;
	return setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger));
}

int linger_make(int seconds, int *ret_fd, int *ret_peer)
{
	struct sockaddr_in address = { .sin_family = AF_INET,
				       .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	_cleanup_(fd_closep) int l = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	_cleanup_(fd_closep) int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	_cleanup_(fd_closep) int peer = -1;
	socklen_t size = sizeof(address);

	if (l < 0 || fd < 0 || bind(l, (struct sockaddr *)&address, size) || listen(l, 1) ||
	    getsockname(l, (struct sockaddr *)&address, &size) ||
	    connect(fd, (struct sockaddr *)&address, size))
		return -1;
	peer = accept4(l, NULL, NULL, SOCK_CLOEXEC);
	if (peer < 0 || fill(fd, seconds))
		return -1;
	*ret_fd = TAKE_FD(fd);
	*ret_peer = TAKE_FD(peer);
	return 0;
}
