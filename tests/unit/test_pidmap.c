#include <criterion/criterion.h>
#include <stdlib.h>

#include "helper/pidmap.h"
#include "tests/lib/random.h"

#define PIDS  4000
#define STEPS 200000

Test(pidmap, what_was_put_is_found_until_it_is_removed, .timeout = 5)
{
	struct pidmap *m = calloc(1, sizeof(*m));
	uint32_t value = 0;

	cr_assert_not(pidmap_get(m, 42, &value));
	cr_assert(pidmap_put(m, 42, 7));
	cr_assert(pidmap_put(m, 42, 8));
	cr_assert(pidmap_get(m, 42, &value));
	cr_assert_eq(value, 8);
	cr_assert_eq(m->used, 1);
	pidmap_remove(m, 43);
	pidmap_remove(m, 42);
	cr_assert_not(pidmap_get(m, 42, &value));
	cr_assert_eq(m->used, 0);
	free(m);
}

/* Against a plain array, with pids that are all over the place so that runs form and break. */
Test(pidmap, random_steps_agree_with_an_array, .timeout = 60)
{
	struct random r = { 99 };
	struct pidmap *m = calloc(1, sizeof(*m));
	uint32_t *model = calloc(PIDS, sizeof(*model)), value;

	for (int i = 0; i < STEPS; i++) {
		uint32_t n = (uint32_t)random_below(&r, PIDS);
		pid_t pid = (pid_t)(2 + n * 65537u % 4194000u);

		if (random_chance(&r, 2)) {
			model[n] = 1 + (uint32_t)i;
			cr_assert(pidmap_put(m, pid, model[n]));
		} else {
			model[n] = 0;
			pidmap_remove(m, pid);
		}
		n = (uint32_t)random_below(&r, PIDS);
		pid = (pid_t)(2 + n * 65537u % 4194000u);
		cr_assert_eq(pidmap_get(m, pid, &value), model[n] != 0, "seed 99, step %d", i);
		cr_assert(!model[n] || value == model[n], "seed 99, step %d", i);
	}
	free(model);
	free(m);
}

Test(pidmap, a_full_map_refuses_and_keeps_what_it_has, .timeout = 20)
{
	struct pidmap *m = calloc(1, sizeof(*m));
	uint32_t n = 0, value;

	while (pidmap_put(m, (pid_t)(n + 2), n))
		n++;
	cr_assert_eq(n, PIDMAP_SIZE / 4 * 3);
	for (uint32_t i = 0; i < n; i++)
		cr_assert(pidmap_get(m, (pid_t)(i + 2), &value) && value == i);
	cr_assert(pidmap_put(m, 2, 5), "one that is there can be replaced");
	pidmap_remove(m, 2);
	cr_assert(pidmap_put(m, 1000000, 5));
	free(m);
}
