/* packets [-3] PROGRAM WORD...: runs a program that speaks Erlang's {packet, 4}, such as
 * port_program.c, sends it each word as a packet, and prints each answer on a line. With -3 they
 * talk over the program's descriptors 3 and 4 instead of 0 and 1, and PROGRAM gets the argument -3.
 *
 *	cc packets.c $(pkg-config --cflags --libs redd) -o packets
 */
#include <redd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct answers {
	char *text; /* of the one at hand, as far as it came */
	size_t size;
	unsigned n;
	bool closed;
};

/* A packet comes in as many parts as it takes; the last one says so. */
static void on_output(struct redd_subscription *s, const struct redd_output *o, void *user)
{
	struct answers *a = user;
	char *more = realloc(a->text, a->size + o->size + 1);

	(void)s;
	if (!more)
		abort();
	memcpy(more + a->size, o->data, o->size);
	a->text = more;
	a->size += o->size;
	if (o->record != REDD_RECORD_END)
		return;
	printf("%.*s\n", (int)a->size, a->text);
	a->size = 0;
	a->n++;
}

static void on_closed(struct redd_subscription *s, const struct redd_closed *c, void *user)
{
	struct answers *a = user;

	(void)s;
	(void)c;
	a->closed = true;
}

static void check(struct redd *r, int result, const char *what)
{
	if (!result)
		return;
	fprintf(stderr, "packets: %s: %s\n", what, redd_last_error(r)->message);
	exit(125);
}

static struct redd_port *start(struct redd *r, const char *program, bool other, struct answers *a)
{
	const struct redd_descriptor fds[] = {
		{ .fd = other ? 3 : 0, .kind = REDD_PIPE, .direction = REDD_INPUT },
		{ .fd = other ? 4 : 1, .kind = REDD_PIPE, .direction = REDD_OUTPUT },
	};
	const uint32_t answers = fds[1].fd;
	const char *const argv[] = { program, other ? "-3" : NULL, NULL };
	struct redd_subscribe_options watch = {
		.size = sizeof(watch),
		.handler = { .user = a, .on_output = on_output, .on_closed = on_closed },
		.streams = &answers,
		.n_streams = 1
	};
	struct redd_spawn_options o = { .size = sizeof(o),
					.argv = argv,
					.descriptors = fds,
					.n_descriptors = 2,
					/* What both directions speak. */
					.framing = { .cut = REDD_PACKETS, .header = 4 },
					.subscribe = &watch };
	struct redd_port *port;

	check(r, redd_spawn(r, &o, &port), program);
	return port;
}

/* The program goes on, and nobody understands it. */
static void give_up(struct redd_port *port, const struct redd_closed *end)
{
	struct redd_waited waited;

	fprintf(stderr, "packets: at byte %llu of descriptor %u stands no packet\n",
		(unsigned long long)end->bad_offset, end->bad_stream);
	redd_signal(port, SIGKILL, REDD_TREE, NULL);
	redd_wait(port, REDD_UNTIL_CLOSED, -1, &waited);
}

int main(int argc, char **argv)
{
	bool other = argc > 1 && !strcmp(argv[1], "-3");
	const struct redd_write_options to = { .size = sizeof(to),
					       .other_stream = true,
					       .stream = other ? 3 : 0 };
	char **words = argv + other;
	struct redd *r = redd_new();
	struct answers a = { 0 };
	struct redd_closed end;
	struct redd_port *port;

	if (argc - other < 2 || !r) {
		fprintf(stderr, "usage: packets [-3] PROGRAM WORD...\n");
		return 2;
	}
	check(r, redd_connect(r, NULL), "connect");
	port = start(r, words[1], other, &a);
	for (int i = 2; i < argc - other; i++) {
		if (a.closed || redd_write(port, words[i], strlen(words[i]), &to, NULL))
			break; /* it reads no more: how it ended is told below */
		while (a.n < (unsigned)i - 1 && !a.closed)
			check(r, redd_run_once(r, -1), "run");
	}
	redd_close(port, to.stream, NULL); /* which a program that has ended needs no more */
	check(r, redd_finish(redd_port_subscription(port), &end), "finish");
	if (end.cause == REDD_BAD_RECORD)
		give_up(port, &end);
	free(a.text);
	redd_forget(port);
	redd_free(r);
	return end.cause == REDD_PORT_CLOSED ? redd_exit_status(&end.exit) : 125;
}
