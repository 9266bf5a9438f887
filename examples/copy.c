/* copy FROM TO: copies a file by way of the service: one port reads, one writes. The reader may be
 * as far ahead as its credit, which is given back as bytes are written; and the close of the writer
 * comes back when everything is in the file.
 *
 *	cc copy.c $(pkg-config --cflags --libs redd) -o copy
 */
#include <redd.h>
#include <stdio.h>

struct copy {
	struct redd_port *from, *to;
	struct redd_subscription *reader;
	bool has_failed;
};

static void on_written(struct redd *r, int result, const struct redd_reply *reply, void *user)
{
	struct copy *c = user;

	if (result == 0) {
		redd_credit(c->reader, reply->written.size + 64); /* what its output had cost */
		return;
	}
	if (!c->has_failed) {
		fprintf(stderr, "copy: %s\n", redd_last_error(r)->message);
		redd_unsubscribe_start(c->reader, NULL);
	}
	c->has_failed = true;
}

static void on_output(struct redd_subscription *s, const struct redd_output *o, void *user)
{
	struct copy *c = user;
	struct redd_call call = { .done = on_written, .user = c };

	c->reader = s;
	if (!c->has_failed && redd_write_start(c->to, o->data, o->size, NULL, &call)) {
		c->has_failed = true;
		redd_unsubscribe_start(s, NULL);
	}
}

static void on_end(struct redd_subscription *s, const struct redd_stream_end *e, void *user)
{
	struct copy *c = user;

	(void)s;
	if (e->cause == REDD_END_OF_FILE)
		return;
	fprintf(stderr, "copy: it could not be read to its end\n");
	c->has_failed = true;
}

/* 0; 1 when it has said what was wrong; negative: redd_last_error() says it. */
static int copy(struct redd *r, const char *from, const char *to)
{
	struct copy c = { 0 };
	struct redd_subscribe_options watch = {
		.size = sizeof(watch),
		.handler = { .user = &c, .on_output = on_output, .on_end = on_end },
		.credit_mode = REDD_CREDIT_MANUAL,
	};
	struct redd_open_options in = {
		.size = sizeof(in), .path = from, .read = true, .port.subscribe = &watch
	};
	struct redd_open_options out = { .size = sizeof(out), .path = to, .write = true };

	if (redd_open(r, &out, &c.to) || redd_open(r, &in, &c.from) ||
	    redd_finish(redd_port_subscription(c.from), NULL))
		return -1;
	if (!c.has_failed && redd_close(c.to, 0, NULL))
		return -1;
	return c.has_failed;
}

int main(int argc, char **argv)
{
	struct redd *r = redd_new();
	int e;

	if (argc != 3 || !r) {
		fprintf(stderr, "usage: copy FROM TO\n");
		return 2;
	}
	e = redd_connect(r, NULL) ? -1 : copy(r, argv[1], argv[2]);
	if (e < 0)
		fprintf(stderr, "copy: %s\n", redd_last_error(r)->message);
	redd_free(r);
	return e != 0;
}
