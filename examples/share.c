/* share: two clients and one process. The first client spawns a cat; the second finds it by name,
 * reads along from the beginning and writes too. Both see every byte, each with its offset.
 */
#include <redd.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

struct client {
	const char *name;
	struct redd *redd;
	struct redd_port *port;
	struct redd_subscribe_options watch;
	bool closed;
};

static void on_output(struct redd_subscription *s, const struct redd_output *o, void *user)
{
	const struct client *c = user;

	(void)s;
	printf("%s: offset %llu: %.*s", c->name, (unsigned long long)o->offset, (int)o->size,
	       (const char *)o->data);
	fflush(stdout);
}

static void on_end(struct redd_subscription *s, const struct redd_stream_end *e, void *user)
{
	const struct client *c = user;

	(void)s;
	if (e->stream == 1)
		printf("%s: end at %llu, %llu seen\n", c->name, (unsigned long long)e->total,
		       (unsigned long long)e->seen);
}

static void on_closed(struct redd_subscription *s, const struct redd_closed *closed, void *user)
{
	struct client *c = user;

	(void)s;
	c->closed = true;
	printf("%s: status %d\n", c->name, redd_exit_status(&closed->exit));
}

static void check(struct client *c, int result, const char *what)
{
	if (!result)
		return;
	fprintf(stderr, "share: %s: %s: %s\n", c->name, what, redd_last_error(c->redd)->message);
	exit(1);
}

static void client_connect(struct client *c)
{
	c->redd = redd_new();
	if (!c->redd)
		exit(1);
	c->watch.size = sizeof(c->watch);
	c->watch.handler = (struct redd_handler){
		.user = c, .on_output = on_output, .on_end = on_end, .on_closed = on_closed
	};
	check(c, redd_connect(c->redd, NULL), "connect");
}

static void client_finish(struct client *c)
{
	while (!c->closed)
		check(c, redd_run_once(c->redd, -1), "run");
}

int main(void)
{
	const struct redd_descriptor in = { .fd = 0, .kind = REDD_PIPE };
	const char *const argv[] = { "cat", NULL };
	struct client first = { .name = "first" }, second = { .name = "second" };
	struct redd_subscription *subscription;
	struct redd_spawn_options o = { .size = sizeof(o),
					.argv = argv,
					.descriptors = &in,
					.n_descriptors = 1,
					.subscribe = &first.watch };
	char name[64];

	snprintf(name, sizeof(name), "share-%d", (int)getpid());
	o.name = name;
	client_connect(&first);
	client_connect(&second);
	check(&first, redd_spawn(first.redd, &o, &first.port), "spawn");
	check(&first, redd_write(first.port, "from the first\n", 15, NULL, NULL), "write");

	check(&second, redd_port_by_name(second.redd, name, &second.port), "find");
	check(&second, redd_subscribe(second.port, &second.watch, &subscription), "subscribe");
	check(&second, redd_write(second.port, "from the second\n", 16, NULL, NULL), "write");

	check(&first, redd_close(first.port, 0, NULL), "close");
	client_finish(&first);
	client_finish(&second);
	check(&first, redd_forget(first.port), "forget");
	redd_free(second.redd);
	redd_free(first.redd);
	return 0;
}
