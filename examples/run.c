/* run PROGRAM [ARG...]: spawns a program through redd, waits for its end, and prints what it said
 * and how it ended. Blocking calls only.
 *
 *	cc run.c $(pkg-config --cflags --libs redd) -o run
 */
#include <redd.h>
#include <stdio.h>
#include <stdlib.h>

static void print_output(struct redd_subscription *s, const struct redd_output *o, void *user)
{
	FILE *to = o->stream == 2 ? stderr : stdout;

	(void)s;
	(void)user;
	fwrite(o->data, 1, o->size, to);
	fflush(to);
}

static void print_exit(const struct redd_exit *e)
{
	switch (e->state) {
	case REDD_EXIT_CODE:
		fprintf(stderr, "[code %d]\n", e->code);
		break;
	case REDD_EXIT_SIGNAL:
		fprintf(stderr, "[signal %d%s]\n", e->signal, e->core ? ", core dumped" : "");
		break;
	default:
		fprintf(stderr, "[nobody knows: %s]\n", e->reason);
	}
}

static int fail(struct redd *r, const char *what)
{
	fprintf(stderr, "run: %s: %s\n", what, redd_last_error(r)->message);
	redd_free(r);
	return 125;
}

int main(int argc, char **argv)
{
	/* The subscription is part of the spawn, so not one byte can be missed. */
	struct redd_subscribe_options watch = { .size = sizeof(watch),
						.handler = { .on_output = print_output } };
	struct redd_spawn_options o = { .size = sizeof(o),
					.argv = (const char *const *)(argv + 1),
					.subscribe = &watch };
	struct redd *r = redd_new();
	struct redd_port *port;
	struct redd_closed end;
	int status;

	if (argc < 2 || !r) {
		fprintf(stderr, "usage: run PROGRAM [ARG...]\n");
		return 2;
	}
	if (redd_connect(r, NULL))
		return fail(r, "connect");
	if (redd_spawn(r, &o, &port))
		return fail(r, argv[1]);
	/* Output is handed to print_output() while this waits. */
	if (redd_finish(redd_port_subscription(port), &end))
		return fail(r, "wait");
	print_exit(&end.exit);
	status = redd_exit_status(&end.exit);
	redd_forget(port);
	redd_free(r);
	return status < 0 ? 125 : status;
}
