#include "helper/hold.h"

#include <assert.h>
#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "proto/base/err.h"
#include "proto/base/fd.h"

#define BIT(state) (1u << (state))

static const char *const names[] = {
	[HOLD_STATE_FREE] = "free",	    [HOLD_STATE_IDLE] = "idle",
	[HOLD_STATE_AWAITING] = "awaiting", [HOLD_STATE_UNBORN] = "unborn",
	[HOLD_STATE_FAILED] = "failed",	    [HOLD_STATE_RUNNING] = "running",
	[HOLD_STATE_EXITED] = "exited",
};

static const unsigned int moves[] = {
	[HOLD_STATE_FREE] = BIT(HOLD_STATE_IDLE),
	[HOLD_STATE_IDLE] = BIT(HOLD_STATE_AWAITING) | BIT(HOLD_STATE_FREE),
	[HOLD_STATE_AWAITING] = BIT(HOLD_STATE_UNBORN) | BIT(HOLD_STATE_FAILED) |
				BIT(HOLD_STATE_RUNNING) | BIT(HOLD_STATE_FREE),
	[HOLD_STATE_UNBORN] = BIT(HOLD_STATE_AWAITING) | BIT(HOLD_STATE_FREE),
	[HOLD_STATE_FAILED] = BIT(HOLD_STATE_FREE),
	[HOLD_STATE_RUNNING] = BIT(HOLD_STATE_EXITED) | BIT(HOLD_STATE_FREE),
	[HOLD_STATE_EXITED] = BIT(HOLD_STATE_FREE),
};

const char *hold_state_name(enum hold_state state)
{
	return names[state];
}

int hold_new(struct hold **ret, uint32_t fds_max)
{
	struct hold *h = mmap(NULL, sizeof(*h), PROT_READ | PROT_WRITE,
			      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (h == MAP_FAILED)
		return err_errno();
	h->fds_max = fds_max;
	for (uint32_t i = 0; i < LINK_RECORDS_FDS; i++)
		h->records_fds[i] = -1;
	list_init(&h->awaiting);
	list_init(&h->telling);
	list_init(&h->troubled);
	*ret = h;
	return 0;
}

void hold_free(struct hold *h)
{
	if (!h)
		return;
	for (uint32_t i = 0; i < h->n_slots; i++)
		if (h->slots[i].state != HOLD_STATE_FREE)
			hold_forget(h, &h->slots[i]);
	for (uint32_t i = 0; i < h->n_rings; i++)
		hold_set_ring(h, i, 0, -1);
	hold_set_records(h, NULL);
	munmap(h, sizeof(*h));
}

struct hold_slot *hold_find(struct hold *h, const struct link_spawn_id *id)
{
	struct hold_slot *s = id->slot < PORTS_MAX ? &h->slots[id->slot] : NULL;

	if (!s || s->state == HOLD_STATE_FREE || s->id.port != id->port)
		return NULL;
	return s;
}

uint32_t hold_index(const struct hold *h, const struct hold_slot *s)
{
	return (uint32_t)(s - h->slots);
}

bool hold_is_full(const struct hold *h, size_t n)
{
	return n > h->fds_max || h->n_fds > h->fds_max - n;
}

/* --- states ------------------------------------------------------------------------------------
 */

void hold_set_state(struct hold *h, struct hold_slot *s, enum hold_state state)
{
	assert(moves[s->state] & BIT(state));
	s->state = state;
	if (state == HOLD_STATE_AWAITING)
		list_append(&h->awaiting, &s->awaiting);
	else
		list_remove(&s->awaiting);
}

static struct hold_slot *slot_begin(struct hold *h, const struct link_spawn_id *id)
{
	struct hold_slot *s = &h->slots[id->slot];
	uint32_t generation = s->generation + 1;

	*s = (struct hold_slot){ .generation = generation, .id = *id, .pidfd = -1 };
	list_init(&s->awaiting);
	list_init(&s->telling);
	list_init(&s->troubled);
	hold_set_state(h, s, HOLD_STATE_IDLE);
	h->n_slots = MAX(h->n_slots, id->slot + 1);
	return s;
}

void hold_forget(struct hold *h, struct hold_slot *s)
{
	bool lives = s->state == HOLD_STATE_AWAITING || s->state == HOLD_STATE_RUNNING;

	if (s->pid && lives)
		pidmap_put(&h->pids, s->pid, HOLD_NOBODY);
	while (s->n_holds)
		hold_drop(h, s, s->holds[0]);
	hold_drop_pidfd(h, s);
	hold_told(s);
	list_remove(&s->troubled);
	hold_set_state(h, s, HOLD_STATE_FREE);
}

void hold_tell(struct hold *h, struct hold_slot *s)
{
	s->tells_exit |= s->state == HOLD_STATE_EXITED;
	s->tells_verdict |= s->state != HOLD_STATE_EXITED;
	if (!list_is_linked(&s->telling))
		list_append(&h->telling, &s->telling);
}

void hold_tell_all(struct hold *h)
{
	for (uint32_t i = 0; i < h->n_slots; i++) {
		struct hold_slot *s = &h->slots[i];

		if (s->state < HOLD_STATE_UNBORN)
			continue;
		/* A process that has no pidfd yet is told when it has one. */
		if (s->state == HOLD_STATE_RUNNING && s->pidfd < 0)
			continue;
		s->tells_verdict = true;
		hold_tell(h, s);
	}
}

void hold_told(struct hold_slot *s)
{
	s->tells_verdict = s->tells_exit = false;
	list_remove(&s->telling);
}

/* --- descriptors -------------------------------------------------------------------------------
 */

static uint32_t find_hold(const struct hold_slot *s, uint32_t name)
{
	uint32_t i = 0;

	while (i < s->n_holds && s->holds[i] != name)
		i++;
	return i;
}

int hold_get(const struct hold_slot *s, uint32_t name)
{
	uint32_t i = find_hold(s, name);

	return i < s->n_holds ? s->fds[i] : -1;
}

void hold_drop(struct hold *h, struct hold_slot *s, uint32_t name)
{
	uint32_t i = find_hold(s, name);

	if (i == s->n_holds)
		return;
	fd_close(s->fds[i]);
	s->n_holds--;
	s->holds[i] = s->holds[s->n_holds];
	s->fds[i] = s->fds[s->n_holds];
	h->n_fds--;
}

void hold_drop_pidfd(struct hold *h, struct hold_slot *s)
{
	if (s->pidfd < 0)
		return;
	s->pidfd = fd_close(s->pidfd);
	h->n_fds--;
}

void hold_take_pidfd(struct hold *h, struct hold_slot *s, int take_fd)
{
	hold_drop_pidfd(h, s);
	s->pidfd = take_fd;
	h->n_fds++;
}

static bool name_is_right(uint32_t name)
{
	switch (LINK_HOLD_KIND(name)) {
	case HOLD_BIRTH:
		return LINK_HOLD_NUMBER(name) == 0;
	case HOLD_INPUT:
	case HOLD_OUTPUT:
		return true;
	default:
		return false;
	}
}

/* The names are known ones, and each is there once. */
static bool holds_are_right(const struct link_deposit *m)
{
	if (m->n_holds > LINK_HOLDS_MAX)
		return false;
	for (uint32_t i = 0; i < m->n_holds; i++) {
		if (!name_is_right(m->holds[i]))
			return false;
		for (uint32_t j = 0; j < i; j++)
			if (m->holds[j] == m->holds[i])
				return false;
	}
	return true;
}

static bool has_birth(const struct link_deposit *m)
{
	for (uint32_t i = 0; i < m->n_holds; i++)
		if (m->holds[i] == LINK_HOLD(HOLD_BIRTH, 0))
			return true;
	return false;
}

/* Room for those names that the slot does not have yet; the pidfd takes the birth socket's place.
 */
static bool has_room(const struct hold_slot *s, const struct link_deposit *m)
{
	uint32_t n = s->n_holds + 1;

	for (uint32_t i = 0; i < m->n_holds; i++)
		n += m->holds[i] != LINK_HOLD(HOLD_BIRTH, 0) &&
		     find_hold(s, m->holds[i]) == s->n_holds;
	return n <= LINK_HOLDS_MAX;
}

static void slot_take(struct hold *h, struct hold_slot *s, const struct link_deposit *m,
		      const int *take_fds)
{
	for (uint32_t i = 0; i < m->n_holds; i++) {
		hold_drop(h, s, m->holds[i]);
		s->holds[s->n_holds] = m->holds[i];
		s->fds[s->n_holds++] = take_fds[i];
		h->n_fds++;
	}
}

/* What a new slot would be like, for checks. */
static const struct hold_slot nothing = { .state = HOLD_STATE_FREE };

int hold_deposit(struct hold *h, const struct link_deposit *m, const int *take_fds,
		 struct hold_slot **ret_slot)
{
	struct hold_slot *s;
	bool is_new, is_birth = has_birth(m);

	if (m->id.slot >= PORTS_MAX || !m->id.port || !m->id.attempt || !holds_are_right(m))
		return HOLD_E_UNKNOWN;
	s = &h->slots[m->id.slot];
	is_new = s->state == HOLD_STATE_FREE;
	if (!is_new && s->id.port != m->id.port)
		return HOLD_E_CONFLICT;
	if (!is_new && is_birth && !(moves[s->state] & BIT(HOLD_STATE_AWAITING)))
		return HOLD_E_CONFLICT;
	if (!has_room(is_new ? &nothing : s, m))
		return HOLD_E_CONFLICT;
	if (hold_is_full(h, m->n_holds) && !(is_birth && m->n_holds == 1))
		return HOLD_E_FULL;
	if (is_new)
		s = slot_begin(h, &m->id);
	slot_take(h, s, m, take_fds);
	if (is_birth) {
		s->id.attempt = m->id.attempt;
		/* The end of the birth socket before may be announced once more: a process that we
		 * have just forked has it open until its exec, and so has epoll. */
		s->generation++;
		s->pid = 0;
		s->is_cancelled = false;
		hold_told(s); /* what was to be said of the attempt before */
		hold_set_state(h, s, HOLD_STATE_AWAITING);
	}
	*ret_slot = s;
	return 0;
}

int hold_set_ring(struct hold *h, uint32_t number, uint32_t size, int take_fd)
{
	struct hold_ring *r = number < LINK_RINGS_MAX ? &h->rings[number] : NULL;

	if (!r)
		return HOLD_E_UNKNOWN;
	if (take_fd >= 0 && !r->fd_plus_1 && hold_is_full(h, 1))
		return HOLD_E_FULL;
	h->n_fds -= !!r->fd_plus_1;
	fd_close(r->fd_plus_1 - 1);
	*r = (struct hold_ring){ take_fd + 1, size };
	h->n_fds += !!r->fd_plus_1;
	h->n_rings = MAX(h->n_rings, number + 1);
	return 0;
}

void hold_set_records(struct hold *h, const int *take_fds)
{
	for (uint32_t i = 0; i < LINK_RECORDS_FDS; i++) {
		fd_close(h->records_fds[i]);
		h->records_fds[i] = take_fds ? take_fds[i] : -1;
	}
}
