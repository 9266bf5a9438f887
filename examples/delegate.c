/* delegate: hands a part of a port to a child that has nothing else. The parent starts a cat and
 * makes a door that allows writing to it; the child, which could be in any sandbox, gets the door
 * as a descriptor, writes, and is refused when it tries to kill. With the child the door is gone.
 */
#include <errno.h>
#include <redd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

static void check(struct redd *r, int result, const char *what)
{
	if (!result)
		return;
	fprintf(stderr, "delegate: %s: %s\n", what, redd_last_error(r)->message);
	exit(1);
}

/* All that it knows is the descriptor and the port's id. */
static int child(int door, uint64_t id)
{
	struct redd *r = redd_new();
	struct redd_connect_options o = { .size = sizeof(o) };
	struct redd_port *cat;
	char place[32];

	snprintf(place, sizeof(place), "fd:%d", door);
	o.socket = place;
	check(r, redd_connect(r, &o), "connect through the door");
	check(r, redd_port_by_id(r, id, &cat), "port");
	check(r, redd_write(cat, "from the child\n", 15, NULL, NULL), "write");
	if (redd_signal(cat, SIGKILL, REDD_LEADER, NULL) != -EPERM)
		return 1;
	printf("child: %s\n", redd_last_error(r)->message);
	redd_free(r);
	return 0;
}

static void on_output(struct redd_subscription *s, const struct redd_output *o, void *user)
{
	(void)s;
	(void)user;
	printf("parent: %.*s", (int)o->size, (const char *)o->data);
}

int main(void)
{
	static const char *const argv[] = { "cat", NULL };
	const struct redd_descriptor in = { .fd = 0, .kind = REDD_PIPE };
	struct redd_subscribe_options watch = { .size = sizeof(watch),
						.handler.on_output = on_output };
	struct redd_spawn_options spawn = { .size = sizeof(spawn),
					    .argv = argv,
					    .descriptors = &in,
					    .n_descriptors = 1,
					    .subscribe = &watch };
	struct redd_delegate_options part = { .size = sizeof(part), .rights.write = true };
	struct redd *r = redd_new();
	struct redd_delegated door;
	struct redd_closed end;
	struct redd_port *cat;
	pid_t pid;
	int status;

	check(r, redd_connect(r, NULL), "connect");
	check(r, redd_spawn(r, &spawn, &cat), "spawn");
	part.ports = &cat;
	part.n_ports = 1;
	check(r, redd_delegate(r, &part, &door), "delegate");
	pid = fork();
	if (pid < 0)
		return 1;
	if (pid == 0) {
		status = child(door.door, redd_port_id(cat));
		fflush(stdout);
		_exit(status);
	}
	close(door.door);
	if (waitpid(pid, &status, 0) != pid || status)
		return 1;
	check(r, redd_close(cat, REDD_STREAM_DEFAULT, NULL), "close");
	check(r, redd_finish(redd_port_subscription(cat), &end), "finish");
	check(r, redd_forget(cat), "forget");
	redd_free(r);
	return redd_exit_status(&end.exit);
}
