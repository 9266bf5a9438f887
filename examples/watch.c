/* watch PORT: follows one port's output in an event loop of its own, here plain poll(2), while
 * lines typed on stdin go to the port's input. The end of stdin closes it; the port's end ends us.
 *
 * The same four calls fit any loop: redd_fd(), redd_events(), redd_timeout(), redd_dispatch().
 */
#include <errno.h>
#include <poll.h>
#include <redd.h>
#include <stdbool.h>
#include <stdio.h>
#include <unistd.h>

struct watch {
	struct redd_port *port;
	bool done;
	int status;
};

static void on_output(struct redd_subscription *s, const struct redd_output *o, void *user)
{
	(void)s;
	(void)user;
	fwrite(o->data, 1, o->size, stdout);
	fflush(stdout);
}

/* Nothing is ever missing without being told. */
static void on_gap(struct redd_subscription *s, const struct redd_gap *g, void *user)
{
	(void)s;
	(void)user;
	fprintf(stderr, "[%llu bytes are gone]\n", (unsigned long long)(g->end - g->offset));
}

static void on_closed(struct redd_subscription *s, const struct redd_closed *c, void *user)
{
	struct watch *w = user;

	(void)s;
	w->done = true;
	w->status = redd_exit_status(&c->exit);
}

static void on_written(struct redd *r, int result, const struct redd_reply *reply, void *user)
{
	(void)reply;
	(void)user;
	if (result)
		fprintf(stderr, "watch: write: %s\n", redd_last_error(r)->message);
}

/* Returns false when stdin has ended. */
static bool feed(struct watch *w)
{
	struct redd_call call = { .done = on_written };
	char data[4096];
	ssize_t n = read(STDIN_FILENO, data, sizeof(data));

	if (n > 0) {
		redd_write_start(w->port, data, (size_t)n, NULL, &call);
		return true;
	}
	redd_close_start(w->port, REDD_STREAM_DEFAULT, NULL);
	return false;
}

static int loop(struct redd *r, struct watch *w)
{
	struct pollfd fds[2] = { { .fd = STDIN_FILENO, .events = POLLIN } };

	while (!w->done) {
		fds[1].fd = redd_fd(r);
		fds[1].events = redd_events(r);
		if (poll(fds, 2, redd_timeout(r)) < 0 && errno != EINTR)
			return 1;
		if (fds[0].revents && !feed(w))
			fds[0].fd = -1;
		if (redd_dispatch(r))
			break;
	}
	return w->done && w->status >= 0 ? w->status : 125;
}

int main(int argc, char **argv)
{
	struct watch w = { 0 };
	struct redd_subscribe_options o = {
		.size = sizeof(o),
		.handler = { .user = &w,
			     .on_output = on_output,
			     .on_gap = on_gap,
			     .on_closed = on_closed },
	};
	struct redd_subscription *subscription;
	struct redd *r = redd_new();
	int status;

	if (argc != 2 || !r) {
		fprintf(stderr, "usage: watch PORT\n");
		return 2;
	}
	if (redd_connect(r, NULL) || redd_port_find(r, argv[1], &w.port) ||
	    redd_subscribe(w.port, &o, &subscription)) {
		fprintf(stderr, "watch: %s\n", redd_last_error(r)->message);
		redd_free(r);
		return 125;
	}
	status = loop(r, &w);
	redd_free(r);
	return status;
}
