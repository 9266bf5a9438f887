#include "broker/candidates.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "proto/base/cleanup.h"
#include "tests/lib/countdown.h"

static struct string_block block;

static void fini(void)
{
	string_block_deinit(&block);
}

TestSuite(candidates, .timeout = 20, .fini = fini);

/* The candidates with '|' behind each. */
static const char *found(const char *program, const char *path)
{
	static char text[1000];
	const char *at = NULL;

	string_block_deinit(&block);
	text[0] = '\0';
	cr_assert_eq(
		candidates_add(&block, program, strlen(program), path, path ? strlen(path) : 0), 0);
	while ((at = string_block_next(&block, at)))
		strcat(strcat(text, at), "|");
	return text;
}

Test(candidates, a_program_with_a_slash_is_the_only_one)
{
	cr_assert_str_eq(found("/bin/ls", "/usr/bin:/bin"), "/bin/ls|");
	cr_assert_str_eq(found("./a", "/usr/bin:/bin"), "./a|");
	cr_assert_str_eq(found("b/", NULL), "b/|");
	cr_assert_eq(block.count, 1);
}

Test(candidates, each_directory_gives_one_in_order)
{
	cr_assert_str_eq(found("ls", "/usr/bin:bin:/opt/x/"), "/usr/bin/ls|bin/ls|/opt/x//ls|");
	cr_assert_eq(block.count, 3);
	cr_assert_str_eq(found("ls", NULL), "/usr/local/bin/ls|/usr/bin/ls|/bin/ls|");
}

Test(candidates, an_empty_directory_is_that_of_the_child)
{
	cr_assert_str_eq(found("ls", ""), "./ls|");
	cr_assert_str_eq(found("ls", ":/bin"), "./ls|/bin/ls|");
	cr_assert_str_eq(found("ls", "/bin:"), "/bin/ls|./ls|");
	cr_assert_str_eq(found("ls", "/bin::/usr/bin"), "/bin/ls|./ls|/usr/bin/ls|");
	cr_assert_str_eq(found("ls", ":"), "./ls|./ls|");
}

Test(candidates, paths_too_long_for_the_system_are_left_out)
{
	char path[PATH_MAX + 20];

	memset(path, 'x', sizeof(path));
	memcpy(path + sizeof(path) - 6, ":/bin", 6);
	cr_assert_str_eq(found("ls", path), "/bin/ls|");
	string_block_deinit(&block);
	cr_assert_eq(candidates_add(&block, "ls", 2, path, PATH_MAX), CANDIDATES_E_NONE);
	cr_assert_eq(candidates_add(&block, "ls", 2, path, PATH_MAX - 4), 0);
	cr_assert_eq(block.size, PATH_MAX);
}

Test(candidates, a_search_path_cannot_be_used_to_fill_the_memory)
{
	char colons[100000], program[4000];

	memset(colons, ':', sizeof(colons));
	memset(program, 'p', sizeof(program));
	cr_assert_eq(candidates_add(&block, "ls", 2, colons, sizeof(colons)),
		     CANDIDATES_E_TOO_MANY);
	cr_assert_eq(candidates_add(&block, program, sizeof(program), colons, 500),
		     CANDIDATES_E_TOO_MANY);
	cr_assert_eq(block.size, 0);
	cr_assert_eq(candidates_add(&block, "ls", 2, colons, CANDIDATES_MAX - 1), 0);
	cr_assert_eq(block.count, CANDIDATES_MAX);
}

Test(candidates, want_of_memory_is_told)
{
	countdown_arm(COUNTDOWN_MALLOC, 1, ENOMEM);
	cr_assert_eq(candidates_add(&block, "ls", 2, "/bin", 4), -ENOMEM);
	cr_assert(countdown_off());
	countdown_arm(COUNTDOWN_MALLOC, 1, ENOMEM);
	cr_assert_eq(candidates_add(&block, "/ls", 3, "/bin", 4), -ENOMEM);
	cr_assert(countdown_off());
}

Test(candidates, blocks_grow_and_can_be_walked)
{
	const char *at = NULL;
	int n = 0;

	cr_assert_null(string_block_next(&block, NULL));
	for (int i = 0; i < 1000; i++)
		cr_assert_eq(string_block_add_parts(&block, "ab", 2, "=", "cd", (size_t)i % 3), 0);
	cr_assert_eq(string_block_add(&block, NULL, 0), 0);
	while ((at = string_block_next(&block, at))) {
		cr_assert_eq(strlen(at), n == 1000 ? 0 : 3 + (size_t)n % 3);
		n++;
	}
	cr_assert_eq(n, 1001);
	cr_assert_eq(block.count, 1001);
	cr_assert_eq(string_block_reserve(&block, SIZE_MAX), -ENOMEM);
}
