/* stand_in SOCKET: stands in for redd-broker, so that a test can be the broker: sends its
 * descriptor 3 (the keeper link) to whoever listens on SOCKET, keeps no copy, and stays. A byte
 * that comes is the status to leave with, but 255 to be busy for ever; the connection's end means
 * 0. Signals that end a service are not obeyed but told, one byte each.
 */
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define LINK_FD 3

static int connect_to(const char *path)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	strncpy(address.sun_path, path, sizeof(address.sun_path) - 1);
	if (connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0)
		return -1;
	return fd;
}

static int send_link(int sock)
{
	union {
		struct cmsghdr head;
		char room[CMSG_SPACE(sizeof(int))];
	} control;
	char byte = 0;
	struct iovec iov = { &byte, 1 };
	struct msghdr m = { .msg_iov = &iov,
			    .msg_iovlen = 1,
			    .msg_control = &control,
			    .msg_controllen = sizeof(control) };
	int fd = LINK_FD;

	memset(&control, 0, sizeof(control));
	control.head.cmsg_level = SOL_SOCKET;
	control.head.cmsg_type = SCM_RIGHTS;
	control.head.cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(&control.head), &fd, sizeof(fd));
	return sendmsg(sock, &m, 0) == 1 ? 0 : -1;
}

static int open_signals(void)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGHUP);
	sigprocmask(SIG_BLOCK, &set, NULL);
	return signalfd(-1, &set, 0);
}

static int leave(int sock)
{
	unsigned char byte = 0;

	if (read(sock, &byte, 1) != 1)
		return 0;
	alarm(60); /* should its test have gone */
	while (byte == 255)
		__asm__ volatile("");
	return byte;
}

int main(int argc, char **argv)
{
	int signals = open_signals();
	int sock = argc >= 2 ? connect_to(argv[1]) : -1;
	struct pollfd p[] = { { .fd = sock, .events = POLLIN },
			      { .fd = signals, .events = POLLIN } };
	struct signalfd_siginfo info;
	char byte;

	if (sock < 0 || send_link(sock) < 0)
		return 100;
	close(LINK_FD);
	while (poll(p, 2, -1) > 0) {
		if (p[0].revents)
			return leave(sock);
		if (read(signals, &info, sizeof(info)) != sizeof(info))
			return 101;
		byte = (char)info.ssi_signo;
		if (write(sock, &byte, 1) != 1)
			return 102;
	}
	return 103;
}
