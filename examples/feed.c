/* feed PORT: sends stdin to a port's input, and stops reading it while that input is busy.
 *
 * Every write is sent with no_wait, so that nothing ever waits in the broker beyond the input's
 * marks, whoever else writes there. A write that is refused because the input has just become busy
 * is kept and sent again when the broker says that it is free. Lines on stderr tell both.
 */
#include <errno.h>
#include <poll.h>
#include <redd.h>
#include <stdbool.h>
#include <stdio.h>
#include <unistd.h>

struct feed {
	struct redd_port *port;
	char data[4096]; /* what the input has not taken yet */
	size_t size;
	bool is_busy, is_sent, has_ended, is_done;
	unsigned long long total;
	int status;
};

static void on_marks(struct redd_subscription *s, const struct redd_marks *m, void *user)
{
	struct feed *f = user;

	(void)s;
	if (m->stream != 0)
		return;
	f->is_busy = m->busy;
	if (m->busy)
		fprintf(stderr, "busy, with %llu bytes before it\n", (unsigned long long)m->queued);
	else
		fprintf(stderr, "free\n");
}

static void on_closed(struct redd_subscription *s, const struct redd_closed *c, void *user)
{
	struct feed *f = user;

	(void)s;
	f->is_done = true;
	f->status = redd_exit_status(&c->exit);
}

static void on_written(struct redd *r, int result, const struct redd_reply *reply, void *user)
{
	struct feed *f = user;

	f->is_sent = false;
	if (result == 0) {
		f->total += reply->written.size;
		f->size = 0;
	} else if (result != -EAGAIN) { /* else it goes again when the input is free */
		fprintf(stderr, "feed: %s\n", redd_last_error(r)->message);
		f->is_done = true;
		f->status = 1;
	}
}

/* One write at a time: what comes next is not even read while that one waits. */
static void send_it(struct feed *f)
{
	const struct redd_write_options o = { .size = sizeof(o), .no_wait = true };
	struct redd_call call = { .done = on_written, .user = f };

	f->is_sent = redd_write_start(f->port, f->data, f->size, &o, &call) == 0;
}

static void take(struct feed *f)
{
	ssize_t n = read(STDIN_FILENO, f->data, sizeof(f->data));

	f->size = n > 0 ? (size_t)n : 0;
	if (n > 0)
		return;
	f->has_ended = true;
	redd_close_start(f->port, 0, NULL);
}

static int loop(struct redd *r, struct feed *f)
{
	while (!f->is_done) {
		bool wants = !f->has_ended && !f->size && !f->is_busy;
		struct pollfd fds[] = { { wants ? STDIN_FILENO : -1, POLLIN, 0 },
					{ redd_fd(r), redd_events(r), 0 } };

		if (poll(fds, 2, redd_timeout(r)) < 0 && errno != EINTR)
			return 125;
		if (fds[0].revents)
			take(f);
		if (redd_dispatch(r) < 0)
			return 125;
		if (f->size && !f->is_sent && !f->is_busy)
			send_it(f);
	}
	fprintf(stderr, "%llu bytes\n", f->total);
	return f->status;
}

int main(int argc, char **argv)
{
	struct feed f = { .status = 125 };
	struct redd_subscribe_options o = {
		.size = sizeof(o),
		.handler = { .user = &f, .on_marks = on_marks, .on_closed = on_closed },
	};
	struct redd_subscription *subscription;
	struct redd *r = redd_new();

	if (argc != 2 || !r) {
		fprintf(stderr, "usage: feed PORT\n");
		return 2;
	}
	if (redd_connect(r, NULL) || redd_port_find(r, argv[1], &f.port) ||
	    redd_subscribe(f.port, &o, &subscription)) {
		fprintf(stderr, "feed: %s\n", redd_last_error(r)->message);
		redd_free(r);
		return 125;
	}
	f.status = loop(r, &f);
	redd_free(r);
	return f.status;
}
