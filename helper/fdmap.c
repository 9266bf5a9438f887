/* A parallel move. A pair can be carried out when no other waiting pair still needs what its target
 * is now. When none can, the rest is made of cycles: what one target is now is copied out of the
 * way, those who need it are told its new number, and the cycle is open.
 *
 * Each pair costs one step, each cycle one more, the kept descriptor at most one.
 */
#include "helper/fdmap.h"

#include <string.h>

struct plan {
	struct fdmap_pair left[FDMAP_PAIRS_MAX]; /* not carried out yet */
	size_t n_left;
	const struct fdmap_pair *pairs; /* as asked for */
	size_t n_pairs;
	const int *reserved;
	size_t n_reserved;
	int keep;
	struct fdmap_step *steps;
	size_t n_steps;
};

static bool is_target(const struct plan *p, int fd)
{
	for (size_t i = 0; i < p->n_pairs; i++)
		if (p->pairs[i].target == fd)
			return true;
	for (size_t i = 0; i < p->n_reserved; i++)
		if (p->reserved[i] == fd)
			return true;
	return false;
}

static bool is_in_use(const struct plan *p, int fd)
{
	if (fd == p->keep || is_target(p, fd))
		return true;
	for (size_t i = 0; i < p->n_pairs; i++)
		if (p->pairs[i].source == fd)
			return true;
	for (size_t i = 0; i < p->n_steps; i++)
		if (p->steps[i].to == fd)
			return true;
	return false;
}

static int unused(const struct plan *p)
{
	int fd = 0;

	while (is_in_use(p, fd))
		fd++;
	return fd;
}

static void step(struct plan *p, int from, int to, bool is_temporary)
{
	p->steps[p->n_steps++] = (struct fdmap_step){ from, to, is_temporary };
}

static bool is_needed_by_another(const struct plan *p, size_t index)
{
	for (size_t i = 0; i < p->n_left; i++)
		if (i != index && p->left[i].source == p->left[index].target)
			return true;
	return false;
}

/* Carries out what can be; true if that was anything. */
static bool advance(struct plan *p)
{
	size_t before = p->n_left;

	for (size_t i = 0; i < p->n_left;) {
		if (is_needed_by_another(p, i)) {
			i++;
			continue;
		}
		step(p, p->left[i].source, p->left[i].target, false);
		p->left[i] = p->left[--p->n_left];
	}
	return p->n_left < before;
}

static void open_cycle(struct plan *p)
{
	int fd = p->left[0].target, copy = unused(p);

	step(p, fd, copy, true);
	for (size_t i = 0; i < p->n_left; i++)
		if (p->left[i].source == fd)
			p->left[i].source = copy;
}

size_t fdmap_plan(const struct fdmap_pair *pairs, size_t n, const int *reserved, size_t n_reserved,
		  int *keep, struct fdmap_step *steps)
{
	struct plan p = { .n_left = n,
			  .pairs = pairs,
			  .n_pairs = n,
			  .reserved = reserved,
			  .n_reserved = n_reserved,
			  .keep = *keep,
			  .steps = steps };

	if (n)
		memcpy(p.left, pairs, n * sizeof(*pairs));
	if (is_target(&p, p.keep)) {
		int moved = unused(&p);

		step(&p, p.keep, moved, true);
		p.keep = moved;
	}
	while (p.n_left)
		if (!advance(&p))
			open_cycle(&p);
	*keep = p.keep;
	return p.n_steps;
}
