/* Linear probing; a removal moves later entries of the same run back, so there are no tombstones.
 */
#include "helper/pidmap.h"

#define MASK (PIDMAP_SIZE - 1)

static uint32_t home_of(pid_t pid)
{
	return (uint32_t)pid * 2654435761u >> 16 & MASK;
}

/* Where pid is, or the free place where it would be. */
static uint32_t find(const struct pidmap *m, pid_t pid)
{
	uint32_t i = home_of(pid);

	while (m->entries[i].pid && m->entries[i].pid != pid)
		i = (i + 1) & MASK;
	return i;
}

bool pidmap_put(struct pidmap *m, pid_t pid, uint32_t value)
{
	uint32_t i = find(m, pid);

	if (!m->entries[i].pid) {
		if (m->used >= PIDMAP_SIZE / 4 * 3)
			return false;
		m->used++;
	}
	m->entries[i] = (struct pidmap_entry){ pid, value };
	return true;
}

bool pidmap_get(const struct pidmap *m, pid_t pid, uint32_t *ret_value)
{
	uint32_t i = find(m, pid);

	if (!m->entries[i].pid)
		return false;
	*ret_value = m->entries[i].value;
	return true;
}

void pidmap_remove(struct pidmap *m, pid_t pid)
{
	uint32_t hole = find(m, pid), i = hole;

	if (!m->entries[hole].pid)
		return;
	for (;;) {
		i = (i + 1) & MASK;
		if (!m->entries[i].pid)
			break;
		/* It may move if its home is not between the hole and where it is. */
		if (((i - home_of(m->entries[i].pid)) & MASK) < ((i - hole) & MASK))
			continue;
		m->entries[hole] = m->entries[i];
		hole = i;
	}
	m->entries[hole] = (struct pidmap_entry){ 0 };
	m->used--;
}
