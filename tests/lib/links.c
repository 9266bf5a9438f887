/* Owns core and message of the test that runs. A child is its test's until child_free(); one that
 * `dies` is freed by its failure. */
#include "tests/lib/links.h"

#include <criterion/criterion.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "proto/base/fd.h"

struct links links;

void links_begin(void)
{
	links.core = core_open();
	links.heard = calloc(1, sizeof(*links.heard));
}

void links_end(void)
{
	core_message_close(links.heard);
	free(links.heard);
	core_close(links.core);
}

static bool hears(int link, enum link_type type)
{
	return core_hear(link, links.heard) && links.heard->head.type == (uint32_t)type;
}

bool links_keeper_hears(enum link_type type)
{
	return hears(links.core->keeper, type);
}

bool links_forker_hears(enum link_type type)
{
	return hears(links.core->forker, type);
}

/* --- a process with what its owner was told -------------------------------------------------- */

static struct child *child_of(struct process *p)
{
	return container_of(p, struct child, process);
}

void child_free(struct child *c)
{
	process_deinit(&c->process);
	fd_close(c->ours);
	fd_close(c->theirs);
	free(c);
}

static void on_started(struct process *p)
{
	child_of(p)->n_started++;
}

static void on_failed(struct process *p, uint32_t stage, int error)
{
	struct child *c = child_of(p);

	c->n_failed++;
	c->stage = stage;
	c->error = error;
	if (c->dies)
		child_free(c);
}

static void on_exited(struct process *p, const struct link_exited *e)
{
	child_of(p)->n_exited++;
	child_of(p)->status = e->status;
}

static void on_released(struct process *p, uint32_t hold)
{
	child_of(p)->n_released++;
	child_of(p)->hold = hold;
}

const struct process_events child_events = {
	.started = on_started, .failed = on_failed, .exited = on_exited, .released = on_released
};

struct child *child_new_sized(uint64_t id, size_t size)
{
	struct child *c = calloc(1, sizeof(*c));
	struct link_spawn *record = calloc(1, size);
	int fds[2], theirs;
	uint32_t source;

	cr_assert_eq(process_init(&c->process, &links.core->b.helper, &child_events, id), 0);
	cr_assert_eq(pipe2(fds, O_CLOEXEC), 0);
	c->ours = fds[0];
	c->theirs = fds[1];
	cr_assert_eq(fd_dup(fds[1], &theirs), 0);
	cr_assert_eq(process_add_child_fd(&c->process, theirs, &source), 0);
	cr_assert_eq(source, 0);
	cr_assert_eq(process_add_hold(&c->process, LINK_HOLD(HOLD_OUTPUT, 1), fds[0]), 0);
	if (links.line)
		process_join_line(&c->process, links.line);
	record->head = (struct link_head){ LINK_SPAWN, (uint32_t)size };
	record->n_passed = 1;
	process_start(&c->process, (uint8_t *)record, size, -1);
	cr_assert_eq(c->n_failed + c->n_started, 0, "nothing comes from within");
	return c;
}

struct child *child_new(uint64_t id)
{
	return child_new_sized(id, sizeof(struct link_spawn));
}

struct link_spawn_id child_id(const struct child *c)
{
	return (struct link_spawn_id){ c->process.id, c->process.slot, c->process.attempt };
}

/* --- descriptors ----------------------------------------------------------------------------- */

bool links_are_one_file(int a, int b)
{
	struct stat x, y;

	cr_assert_eq(fstat(a, &x), 0);
	cr_assert_eq(fstat(b, &y), 0);
	return x.st_dev == y.st_dev && x.st_ino == y.st_ino;
}

bool links_has_hung_up(int fd)
{
	char byte;

	return recv(fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) == 0;
}
