#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "helper/spawn_check.h"
#include "proto/base/cleanup.h"
#include "tests/lib/random.h"
#include "tests/lib/spawn_bytes.h"

/* One message under test: what a test makes wrong in `s` is in the datagram afterwards. */
struct message {
	struct spawn_bytes s;
	_Alignas(8) uint8_t bytes[LINK_DATAGRAM_MAX];
	size_t size;
	struct spawn_view view;
	char *pointers[4096];
};

static struct message *message_new(void)
{
	static const char *const argv[] = { "/bin/echo", "a", "", NULL };
	struct message *m = calloc(1, sizeof(*m));

	spawn_bytes_init(&m->s);
	m->s.head.flags = LINK_SPAWN_SETSID | LINK_SPAWN_IDS | LINK_SPAWN_UMASK;
	m->s.groups[0] = 5;
	m->s.head.n_groups = 1;
	spawn_bytes_program(&m->s, "/tmp", argv);
	spawn_bytes_descriptor(&m->s, 0, LINK_SOURCE_NULL);
	spawn_bytes_descriptor(&m->s, 1, 0);
	spawn_bytes_limit(&m->s, 4, 0, 0);
	spawn_bytes_file(&m->s, 2, 1, "out");
	m->size = spawn_bytes_datagram(&m->s, 1, m->bytes);
	return m;
}

/* The three steps, as the forker takes them. */
static int check(struct message *m, size_t size, size_t n_fds)
{
	int r = spawn_check_head(m->bytes, size, n_fds, &m->view);
	const void *blocks = m->bytes + sizeof(struct link_spawn);

	if (!r)
		r = spawn_check_blocks(&m->view, blocks, size - sizeof(struct link_spawn));
	if (r)
		return r;
	cr_assert_leq(spawn_check_n_pointers(&m->view), ARRAY_SIZE(m->pointers));
	return spawn_check_strings(&m->view, m->pointers);
}

/* Makes the datagram again after `s` was changed, and checks it. */
static int check_again(struct message *m)
{
	m->size = spawn_bytes_datagram(&m->s, 1, m->bytes);
	return check(m, m->size, 2);
}

Test(spawn_check, a_right_message_is_pointed_into, .timeout = 5)
{
	struct message *m = message_new();

	cr_assert_eq(check(m, m->size, 2), 0);
	cr_assert_str_eq(m->view.directory, "/tmp");
	cr_assert_str_eq(m->view.candidates[0], "/bin/echo");
	cr_assert_str_eq(m->view.argv[1], "a");
	cr_assert_str_eq(m->view.argv[2], "");
	cr_assert_null(m->view.argv[3]);
	cr_assert_null(m->view.argv[-1], "the spare place for a shell");
	cr_assert_str_eq(m->view.envp[0], "PATH=/usr/bin:/bin");
	cr_assert_null(m->view.envp[1]);
	cr_assert_str_eq(m->view.paths[0], "out");
	cr_assert_eq(m->view.limits[0].resource, 4);
	cr_assert_eq(m->view.groups[0], 5);
	free(m);
}

Test(spawn_check, every_other_size_is_refused, .timeout = 20)
{
	struct message *m = message_new();

	for (size_t size = 0; size <= m->size + 16; size++)
		if (size != m->size)
			cr_assert_eq(check(m, size, 2), SPAWN_CHECK_E_INVALID, "size %zu", size);
	free(m);
}

Test(spawn_check, surplus_and_missing_descriptors_are_refused, .timeout = 5)
{
	struct message *m = message_new();

	cr_assert_eq(check(m, m->size, 0), SPAWN_CHECK_E_INVALID);
	cr_assert_eq(check(m, m->size, 1), SPAWN_CHECK_E_INVALID);
	cr_assert_eq(check(m, m->size, 3), SPAWN_CHECK_E_INVALID);
	free(m);
}

#define REFUSED(change)                                                             \
	do {                                                                        \
		struct message *m = message_new();                                  \
		change;                                                             \
		cr_assert_eq(check_again(m), SPAWN_CHECK_E_INVALID, "%s", #change); \
		free(m);                                                            \
	} while (0)

Test(spawn_check, numbers_out_of_range_are_refused, .timeout = 5)
{
	REFUSED(m->s.head.uid = UINT32_MAX);
	REFUSED(m->s.head.gid = UINT32_MAX);
	REFUSED(m->s.head.umask = 01000);
	REFUSED(m->s.head.flags |= 1u << 30);
	REFUSED(m->s.head.flags |= LINK_SPAWN_TERMINAL; m->s.head.terminal_source = 1);
	REFUSED(m->s.limits[0].resource = 16);
	REFUSED(m->s.limits[0].set = 0);
	REFUSED(m->s.limits[0].set = 4);
	REFUSED(m->s.descriptors[0].target = CHILD_FD_MAX + 1);
	REFUSED(m->s.descriptors[1].target = 0);
	REFUSED(m->s.descriptors[1].source = 1);
	REFUSED(m->s.files[0].target = CHILD_FD_MAX + 1);
	REFUSED(m->s.files[0].path = 1);
	REFUSED(m->s.files[0].flags = LINK_FILE_SAME; m->s.files[0].path = 2);
	REFUSED(m->s.files[0].flags = LINK_FILE_SAME; m->s.files[0].path = CHILD_FD_MAX + 1);
	REFUSED(m->s.head.head.type = LINK_BEAT);
}

Test(spawn_check, counts_that_lie_are_refused, .timeout = 5)
{
	REFUSED(m->s.head.argc = 0);
	REFUSED(m->s.head.argc++);
	REFUSED(m->s.head.argc--);
	REFUSED(m->s.head.envc++);
	REFUSED(m->s.head.n_candidates = 0);
	REFUSED(m->s.head.n_paths = 2);
	REFUSED(m->s.head.n_paths = 0);
	REFUSED(m->s.strings[m->s.strings_size - 1] = 'x');
	REFUSED(m->s.strings_size--);
	REFUSED(spawn_bytes_string(&m->s, "one more"));
}

Test(spawn_check, counts_that_would_wrap_around_are_refused, .timeout = 5)
{
	struct message *m = message_new();
	struct link_spawn *head = (struct link_spawn *)m->bytes;

	head->n_limits = UINT32_MAX / sizeof(struct link_limit) + 1;
	cr_assert_eq(check(m, m->size, 2), SPAWN_CHECK_E_INVALID);
	*head = m->s.head;
	head->n_groups = 1u << 30;
	cr_assert_eq(check(m, m->size, 2), SPAWN_CHECK_E_INVALID);
	*head = m->s.head;
	head->argc = UINT32_MAX;
	head->envc = 5;
	cr_assert_neq(check(m, m->size, 2), 0);
	*head = m->s.head;
	head->strings_size = UINT32_MAX - 3;
	cr_assert_eq(check(m, m->size, 2), SPAWN_CHECK_E_INVALID);
	free(m);
}

/* Sizes that would be 0 when they are rounded up in 32 bits. */
Test(spawn_check, a_size_that_rounds_up_to_nothing_is_refused, .timeout = 5)
{
	for (uint32_t less = 0; less < 8; less++) {
		struct message *m = message_new();
		struct link_spawn *head = (struct link_spawn *)m->bytes;

		head->blocks_size -= LINK_ALIGN(head->strings_size);
		head->strings_size = UINT32_MAX - less;
		head->head.size = (uint32_t)sizeof(*head) + head->blocks_size;
		cr_assert_neq(spawn_check_head(m->bytes, head->head.size, 2, &m->view), 0,
			      "%u less", less);
		free(m);
	}
}

Test(spawn_check, what_no_exec_would_take_is_told_apart, .timeout = 5)
{
	struct message *m = message_new();
	struct link_spawn *head = (struct link_spawn *)m->bytes;

	head->flags |= LINK_SPAWN_MEMFD;
	head->head.size = sizeof(*head);
	head->blocks_size -= LINK_ALIGN(head->strings_size);
	head->strings_size = SPAWN_BLOCKS_MAX;
	head->blocks_size += SPAWN_BLOCKS_MAX;
	cr_assert_eq(check(m, sizeof(*head), 3), SPAWN_CHECK_E_TOO_BIG);
	free(m);
}

/* Whatever is in it: no access outside (a sanitizer sees that), and what passes keeps its word. */
Test(spawn_check, mutated_messages_are_refused_or_right, .timeout = 60)
{
	struct random r = { 4711 };

	for (int i = 0; i < 20000; i++) {
		struct message *m = message_new();

		for (uint64_t n = random_below(&r, 4); n-- > 0;)
			m->bytes[random_below(&r, m->size)] = (uint8_t)random_number(&r);
		if (check(m, m->size, 2) == 0) {
			for (uint32_t j = 0; j < m->view.head.argc; j++)
				cr_assert_lt(strlen(m->view.argv[j]), m->size);
			cr_assert_null(m->view.argv[m->view.head.argc]);
			cr_assert_null(m->view.envp[m->view.head.envc]);
		}
		free(m);
	}
}
