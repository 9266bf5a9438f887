#include "helper/opener.h"

#include <errno.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "proto/base/cleanup.h"
#include "proto/limits.h"

int64_t opener_now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

bool opener_is_excluded(const struct opener_request *request, pid_t pid)
{
	if (pid <= 1 || pid == getpid())
		return true;
	for (size_t i = 0; i < ARRAY_SIZE(request->exclude); i++)
		if (request->exclude[i] == pid)
			return true;
	return false;
}

static bool request_is_right(const struct opener_request *r, ssize_t size)
{
	return size == (ssize_t)sizeof(*r) && memchr(r->mark, '\0', sizeof(r->mark)) &&
	       r->n_inodes <= PORT_STREAMS_MAX && r->signal >= 0 && r->signal <= 64 &&
	       r->leader >= 0;
}

static void serve(const struct opener_request *request, struct opener_reply *ret)
{
	switch (request->verb) {
	case OPENER_TREE:
		opener_tree(request, ret);
		break;
	case OPENER_HOLDERS:
		opener_holders(request, ret);
		break;
	default:
		ret->error = EINVAL;
		break;
	}
}

int opener_main(void)
{
	struct opener_request request;
	struct opener_reply reply = { 0 };
	struct rlimit limit;
	ssize_t n = recv(STDIN_FILENO, &request, sizeof(request), MSG_TRUNC);

	/* Whoever sent us waits less; but it may have died, and what we read may hang. */
	alarm(OPENER_LIFE_S);
	/* A tree may be large, and each process costs a descriptor. */
	if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
		limit.rlim_cur = limit.rlim_max;
		setrlimit(RLIMIT_NOFILE, &limit);
	}
	if (request_is_right(&request, n))
		serve(&request, &reply);
	else
		reply.error = EINVAL;
	return send(STDIN_FILENO, &reply, sizeof(reply), MSG_NOSIGNAL) != (ssize_t)sizeof(reply);
}
