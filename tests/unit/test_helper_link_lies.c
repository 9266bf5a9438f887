/* The test is a keeper that lies: what it says ends the link or changes nothing, and what comes
 * with it is closed. */
#include "broker/helper_link.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "proto/base/fd.h"
#include "tests/lib/core.h"
#include "tests/lib/links.h"
#include "tests/lib/places.h"
#include "tests/lib/random.h"

TestSuite(helper_link_lies, .timeout = 30, .init = links_begin, .fini = links_end);

/* The link gives up, and what came with the message is closed. */
static void is_lost(const void *message, size_t size, size_t n_fds)
{
	int fd = open("/dev/null", O_RDONLY | O_CLOEXEC), all[LINK_FDS_MAX], before = fd_count();

	for (size_t i = 0; i < n_fds; i++)
		all[i] = fd;
	core_say(links.core, message, size, all, n_fds);
	cr_assert_eq(links.core->unclaimed.lost, -EBADMSG, "%d", links.core->unclaimed.lost);
	cr_assert_eq(fd_count(), before);
	close(fd);
	links.core->unclaimed.lost = 0;
	uv_poll_start(&links.core->b.helper.keeper_poll, UV_READABLE,
		      links.core->b.helper.keeper_poll.poll_cb);
}

Test(helper_link_lies, wrong_sizes_and_unknown_types_end_the_link)
{
	struct link_started m = { .head = { LINK_STARTED, sizeof(m) } };
	struct link_head head = { LINK_SPAWN, sizeof(head) };
	uint8_t large[1024] = { 0 };

	for (size_t size = 1; size < sizeof(m); size++)
		is_lost(&m, size, 1);
	m.head.size = sizeof(m) + 1;
	is_lost(&m, sizeof(m), 1);
	is_lost(&head, sizeof(head), 1);
	for (uint32_t type = 0; type < 200; type++) {
		head.type = type;
		if (type != LINK_READY && type != LINK_RECORDS)
			is_lost(&head, sizeof(head), 0);
	}
	head = (struct link_head){ LINK_READY, sizeof(large) };
	memcpy(large, &head, sizeof(head));
	is_lost(large, sizeof(large), 2);
	head.type = UINT32_MAX;
	memcpy(large, &head, sizeof(head));
	is_lost(large, sizeof(large), 0);
}

Test(helper_link_lies, a_message_longer_than_any_ends_the_link)
{
	static uint8_t large[8192];
	struct link_head head = { LINK_READY, sizeof(large) };

	memcpy(large, &head, sizeof(head));
	core_say(links.core, large, sizeof(large), NULL, 0);
	cr_assert_lt(links.core->unclaimed.lost, 0);
}

Test(helper_link_lies, a_new_forker_without_its_descriptor_ends_the_link)
{
	struct link_forker m = { .head = { LINK_FORKER, sizeof(m) } };

	is_lost(&m, sizeof(m), 0);
	is_lost(&m, sizeof(m), 2);
}

Test(helper_link_lies, unknown_slots_and_ports_are_nobodys)
{
	static const uint32_t slots[] = { 0, 1, 2, PORTS_MAX - 1, PORTS_MAX, UINT32_MAX };
	static const uint64_t ports[] = { 0, 1, 2, UINT64_MAX };
	struct child *c = child_new(1);

	core_turn(links.core);
	for (unsigned i = 0; i < ARRAY_SIZE(slots); i++)
		for (unsigned k = 0; k < ARRAY_SIZE(ports); k++) {
			struct link_spawn_id id = { ports[k], slots[i], 1 };

			if (slots[i] == c->process.slot && ports[k] == c->process.id)
				continue;
			core_say_started(links.core, id, 1);
			core_say_exited(links.core, id, 0);
			core_say_failed(links.core, id, 1, 1);
			core_say_id(links.core, LINK_UNBORN, id);
		}
	cr_assert_eq(links.core->unclaimed.lost, 0);
	cr_assert_eq(c->n_started + c->n_failed + c->n_exited, 0);
	child_free(c);
}

Test(helper_link_lies, descriptors_that_were_not_asked_for_are_closed)
{
	struct child *c = child_new(1);
	struct link_started m = { .head = { LINK_STARTED, sizeof(m) } };
	struct link_ready ready = { .head = { LINK_READY, sizeof(ready) } };
	int fds[40], before;

	core_turn(links.core);
	core_ignore_keeper(links.core);
	cr_assert(links_forker_hears(LINK_SPAWN));
	core_message_close(links.heard);
	for (int i = 0; i < 40; i++)
		fds[i] = 0;
	before = fd_count();
	m.id = child_id(c);
	core_say(links.core, &m, sizeof(m), fds, 40);
	cr_assert_eq(c->n_started, 1);
	core_say(links.core, &ready, sizeof(ready), fds, 3);
	cr_assert_eq(links.core->unclaimed.n_ready, 1);
	/* A pidfd more; of the child's own descriptor the broker has let go. */
	cr_assert_eq(fd_count(), before + 1 - 1);
	child_free(c);
}

Test(helper_link_lies, random_messages_end_the_link_or_change_nothing)
{
	struct random r = { 1234 };
	struct child *c = child_new(1);

	core_turn(links.core);
	for (unsigned i = 0; i < place_rounds(20000); i++) {
		uint8_t bytes[256];
		struct link_head head = { (uint32_t)random_below(&r, 100),
					  (uint32_t)(8 + random_below(&r, sizeof(bytes) - 8)) };
		size_t size = random_chance(&r, 4) ? 1 + random_below(&r, 200) : head.size;
		int fds[3] = { 0, 0, 0 };

		random_fill(&r, bytes, sizeof(bytes));
		memcpy(bytes, &head, sizeof(head));
		core_say(links.core, bytes, size, fds, random_below(&r, 4));
		if (links.core->unclaimed.lost)
			uv_poll_start(&links.core->b.helper.keeper_poll, UV_READABLE,
				      links.core->b.helper.keeper_poll.poll_cb);
		links.core->unclaimed.lost = 0;
	}
	cr_assert_eq(c->n_started + c->n_failed, 0, "its id cannot be guessed");
	child_free(c);
}

Test(helper_link_lies, a_keeper_that_hangs_up_is_lost)
{
	links.core->keeper = fd_close(links.core->keeper);
	core_until(links.core, links.core->unclaimed.lost);
	cr_assert_eq(links.core->unclaimed.lost, -ENOTCONN);
}
