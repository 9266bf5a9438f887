#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "helper/fdmap.h"
#include "tests/lib/random.h"

#define TABLE 4096 /* numbers of the model's descriptor table */
#define MAPS  100000

/* What each number of a process is: 0 closed, else who it is. */
struct model {
	int what[TABLE];
	bool is_kept_over_exec[TABLE];
};

struct map {
	struct fdmap_pair pairs[FDMAP_PAIRS_MAX];
	size_t n;
	int reserved[FDMAP_PAIRS_MAX];
	size_t n_reserved;
	int keep;
};

static const char *take_step(struct model *m, const struct fdmap_step *s)
{
	if (s->from < 0 || s->to < 0 || s->from >= TABLE || s->to >= TABLE)
		return "a number out of range";
	if (!m->what[s->from])
		return "a step from a closed descriptor";
	m->what[s->to] = m->what[s->from];
	m->is_kept_over_exec[s->to] = !s->is_temporary;
	return NULL;
}

static bool is_target(const struct map *map, int fd)
{
	for (size_t i = 0; i < map->n; i++)
		if (map->pairs[i].target == fd)
			return true;
	return false;
}

static bool is_reserved(const struct map *map, int fd)
{
	for (size_t i = 0; i < map->n_reserved; i++)
		if (map->reserved[i] == fd)
			return true;
	return false;
}

/* What is wrong with the end, or NULL. before: who each source was. */
static const char *judge(const struct map *map, const struct model *before,
			 const struct model *after, int keep)
{
	for (size_t i = 0; i < map->n; i++) {
		int target = map->pairs[i].target;

		if (after->what[target] != before->what[map->pairs[i].source])
			return "a target is the wrong one";
		if (!after->is_kept_over_exec[target])
			return "a target is closed on exec";
	}
	for (int fd = 0; fd < TABLE; fd++)
		if (after->is_kept_over_exec[fd] && !is_target(map, fd))
			return "something else is kept over exec";
	if (after->what[keep] != before->what[map->keep])
		return "the kept one is lost";
	if (is_target(map, keep) || is_reserved(map, keep))
		return "the kept one is in the way";
	return NULL;
}

static const char *try_map(const struct map *map)
{
	struct fdmap_step steps[FDMAP_STEPS_MAX];
	struct model before = { 0 }, after;
	const char *wrong = NULL;
	int keep = map->keep;
	size_t n;

	for (size_t i = 0; i < map->n; i++)
		before.what[map->pairs[i].source] = 1 + map->pairs[i].source;
	before.what[keep] = 1 + keep;
	after = before;
	n = fdmap_plan(map->pairs, map->n, map->reserved, map->n_reserved, &keep, steps);
	if (n > FDMAP_STEPS_MAX)
		return "too many steps";
	for (size_t i = 0; i < n && !wrong; i++) {
		/* The caller counts on it to know where the kept one is while the steps are taken.
		 */
		if (!steps[i].is_temporary && steps[i].to == keep)
			return "a step overwrites the kept one";
		wrong = take_step(&after, &steps[i]);
	}
	return wrong ? wrong : judge(map, &before, &after, keep);
}

/* Numbers from a small range, so that most of them collide. */
static void random_map(struct random *r, struct map *map)
{
	int range = 1 + (int)random_below(r, random_chance(r, 4) ? 1000 : 24);
	size_t n = random_below(r, FDMAP_PAIRS_MAX + 1);

	*map = (struct map){ .keep = (int)random_below(r, (uint64_t)range) };
	for (size_t i = 0; i < n; i++) {
		struct fdmap_pair pair = { (int)random_below(r, (uint64_t)range),
					   (int)random_below(r, (uint64_t)range) };

		/* Nobody passes the kept one on. */
		if (!is_target(map, pair.target) && pair.source != map->keep)
			map->pairs[map->n++] = pair;
	}
	for (n = random_below(r, 4); map->n_reserved < n;)
		map->reserved[map->n_reserved++] = (int)random_below(r, (uint64_t)range);
}

static void print_map(const struct map *map)
{
	for (size_t i = 0; i < map->n; i++)
		fprintf(stderr, " %d<-%d", map->pairs[i].target, map->pairs[i].source);
	fprintf(stderr, " keep %d reserved", map->keep);
	for (size_t i = 0; i < map->n_reserved; i++)
		fprintf(stderr, " %d", map->reserved[i]);
	fprintf(stderr, "\n");
}

Test(fdmap, random_maps_end_as_asked_for, .timeout = 120)
{
	struct random r = { 20240811 };
	struct map map;

	for (int i = 0; i < MAPS; i++) {
		const char *wrong;

		random_map(&r, &map);
		wrong = try_map(&map);
		if (wrong)
			print_map(&map);
		cr_assert_null(wrong, "seed 20240811, map %d: %s", i, wrong);
	}
}

static size_t plan(const struct fdmap_pair *pairs, size_t n, int *keep, struct fdmap_step *steps)
{
	return fdmap_plan(pairs, n, NULL, 0, keep, steps);
}

Test(fdmap, nothing_asked_for_is_nothing_to_do, .timeout = 5)
{
	struct fdmap_step steps[FDMAP_STEPS_MAX];
	int keep = 7;

	cr_assert_eq(plan(NULL, 0, &keep, steps), 0);
	cr_assert_eq(keep, 7);
}

Test(fdmap, three_pipes_take_one_step_each, .timeout = 5)
{
	const struct fdmap_pair pairs[] = { { 0, 9 }, { 1, 10 }, { 2, 11 } };
	struct fdmap_step steps[FDMAP_STEPS_MAX];
	int keep = 8;

	cr_assert_eq(plan(pairs, 3, &keep, steps), 3);
	cr_assert_eq(keep, 8);
}

Test(fdmap, a_swap_takes_one_copy_more, .timeout = 5)
{
	const struct fdmap_pair pairs[] = { { 4, 5 }, { 5, 4 } };
	struct fdmap_step steps[FDMAP_STEPS_MAX];
	int keep = 9;

	cr_assert_eq(plan(pairs, 2, &keep, steps), 3);
	cr_assert(steps[0].is_temporary);
	cr_assert_not(steps[1].is_temporary || steps[2].is_temporary);
}

Test(fdmap, what_stays_where_it_is_is_only_kept_over_exec, .timeout = 5)
{
	const struct fdmap_pair pair = { 5, 5 };
	struct fdmap_step steps[FDMAP_STEPS_MAX];
	int keep = 9;

	cr_assert_eq(plan(&pair, 1, &keep, steps), 1);
	cr_assert_eq(steps[0].from, 5);
	cr_assert_eq(steps[0].to, 5);
	cr_assert_not(steps[0].is_temporary);
}

Test(fdmap, the_kept_one_leaves_a_number_that_a_file_will_take, .timeout = 5)
{
	const int reserved = 6;
	struct fdmap_step steps[FDMAP_STEPS_MAX];
	int keep = 6;

	cr_assert_eq(fdmap_plan(NULL, 0, &reserved, 1, &keep, steps), 1);
	cr_assert(steps[0].is_temporary);
	cr_assert_eq(steps[0].from, 6);
	cr_assert_eq(steps[0].to, keep);
	cr_assert_neq(keep, 6);
}
