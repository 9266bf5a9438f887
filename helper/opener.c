#include "helper/opener.h"

#include <errno.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "proto/base/cleanup.h"
#include "proto/fdpass.h"
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

/* --- the message ----------------------------------------------------------------------------- */

static struct message {
	struct opener_request requests[OPENER_REQUESTS_MAX];
	struct opener_reply replies[OPENER_REQUESTS_MAX];
	int pidfds[OPENER_REQUESTS_MAX];
	size_t n;
} message;

static bool request_is_right(const struct opener_request *r)
{
	return memchr(r->mark, '\0', sizeof(r->mark)) && r->n_inodes <= PORT_STREAMS_MAX &&
	       r->signal >= 0 && r->signal <= 64 && r->leader >= 0 && r->has_pidfd <= 1;
}

static bool requests_are_right(const struct message *m)
{
	const struct opener_request *first = &m->requests[0];

	for (size_t i = 0; i < m->n; i++) {
		const struct opener_request *r = &m->requests[i];

		if (!request_is_right(r))
			return false;
		if (m->n > 1 && (r->verb != OPENER_TREE || r->signal != first->signal))
			return false;
	}
	return true;
}

/* False when the numbers do not agree. */
static bool place_pidfds(struct message *m, const int *fds, size_t n_fds)
{
	size_t next = 0;

	for (size_t i = 0; i < m->n; i++) {
		bool has_one = m->requests[i].has_pidfd != 0;

		if (has_one && next == n_fds)
			return false;
		m->pidfds[i] = has_one ? fds[next++] : -1;
	}
	return next == n_fds;
}

static bool message_receive(struct message *m)
{
	int fds[OPENER_REQUESTS_MAX];
	struct fdpass_info info;
	ssize_t size = fdpass_recv(STDIN_FILENO, m->requests, sizeof(m->requests), 0, fds,
				   ARRAY_SIZE(fds), &info);

	if (size <= 0 || (size_t)size % sizeof(m->requests[0]) || info.message_truncated ||
	    info.truncated || info.surplus)
		return false;
	m->n = (size_t)size / sizeof(m->requests[0]);
	return requests_are_right(m) && place_pidfds(m, fds, info.n_fds);
}

/* --- serving --------------------------------------------------------------------------------- */

static void serve(struct message *m)
{
	switch (m->requests[0].verb) {
	case OPENER_TREE:
		opener_trees(m->requests, m->n, m->pidfds, m->replies);
		break;
	case OPENER_HOLDERS:
		opener_holders(&m->requests[0], &m->replies[0]);
		break;
	default:
		m->replies[0].error = EINVAL;
		break;
	}
}

/* A tree may be large, and each process costs a descriptor. */
static void raise_descriptor_limit(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
		limit.rlim_cur = limit.rlim_max;
		setrlimit(RLIMIT_NOFILE, &limit);
	}
}

int opener_main(void)
{
	struct message *m = &message;
	size_t size;

	/* Whoever sent us waits less; but it may have died, and what we read may hang. */
	alarm(OPENER_LIFE_S);
	raise_descriptor_limit();
	if (message_receive(m)) {
		serve(m);
	} else {
		m->n = 1;
		m->replies[0].error = EINVAL;
	}
	size = m->n * sizeof(m->replies[0]);
	return send(STDIN_FILENO, m->replies, size, MSG_NOSIGNAL) != (ssize_t)size;
}
