/* The keeper has a duplicate of each door's socket, and the memfd that says whose it is and what
 * for (door_record.h), under numbers of one place (inherit.h).
 */
#include <errno.h>
#include <string.h>

#include "broker/broker.h"
#include "broker/delegation.h"
#include "broker/door_record.h"
#include "broker/inherit.h"
#include "broker/session.h"
#include "proto/base/err.h"
#include "proto/base/fd.h"
#include "proto/base/log.h"

static uint32_t place_take(struct broker *b)
{
	for (uint32_t i = 0; i < DELEGATIONS_MAX; i++) {
		uint64_t bit = 1ull << i % 64;

		if (b->door_places[i / 64] & bit)
			continue;
		b->door_places[i / 64] |= bit;
		return i;
	}
	return DELEGATIONS_MAX;
}

static void fill_record(struct door_record *ret, const struct delegation *d)
{
	const struct delegation_options *o = &d->options;

	*ret = (struct door_record){ .delegation = d->who.delegation,
				     .listener = d->who.listener,
				     .uid = d->who.uid,
				     .gid = d->who.gid,
				     .rights = o->rights,
				     .may_spawn = o->may_spawn,
				     .n_groups = d->n_groups,
				     .n_ports = o->n_ports,
				     .n_streams = o->n_streams,
				     .until_ms = o->until_ms };
	if (d->session)
		memcpy(ret->session, d->session->id, sizeof(ret->session));
	memcpy(ret->ports, o->ports, sizeof(ret->ports));
	memcpy(ret->streams, o->streams, sizeof(ret->streams));
	memcpy(ret->groups, d->groups, sizeof(ret->groups));
}

void delegation_unkeep(struct delegation *d)
{
	struct broker *b = d->broker;
	uint32_t place = d->place;

	if (place == DELEGATIONS_MAX)
		return;
	d->place = DELEGATIONS_MAX;
	b->door_places[place / 64] &= ~(1ull << place % 64);
	inherit_drop(b, KEPT_DOOR(place));
	inherit_drop(b, KEPT_DOOR_RECORD(place));
}

/* The record goes first: a door without one is given up. */
void delegation_keep(struct delegation *d)
{
	_cleanup_(fd_closep) int fd = -1;
	struct broker *b = d->broker;
	struct door_record record;
	int r;

	fill_record(&record, d);
	r = door_record_write(&record, d->options.selector, &fd);
	if (r == 0) {
		d->place = place_take(b);
		r = inherit_keep(b, KEPT_DOOR_RECORD(d->place), 0, fd);
	}
	if (r == 0)
		r = inherit_keep(b, KEPT_DOOR(d->place), 0, d->fd);
	if (r == 0)
		return;
	log_warning("a door will not outlive the broker: %s", err_string(r));
	delegation_unkeep(d);
}

/* --- after an earlier broker's death --------------------------------------------------------- */

static void restore_options(struct delegation *d, const struct door_record *record)
{
	struct delegation_options *o = &d->options;

	d->who = (struct principal){ .listener = record->listener,
				     .uid = record->uid,
				     .gid = record->gid,
				     .delegation = record->delegation };
	o->rights = (uint8_t)record->rights;
	o->may_spawn = record->may_spawn != 0;
	o->n_ports = record->n_ports;
	o->n_streams = record->n_streams;
	o->until_ms = record->until_ms;
	memcpy(o->ports, record->ports, sizeof(o->ports));
	memcpy(o->streams, record->streams, sizeof(o->streams));
	d->n_groups = record->n_groups;
	memcpy(d->groups, record->groups, sizeof(d->groups));
}

/* The maker's, for those that are to end with it. -ENOMEM. */
static int restore_session(struct delegation *d, const struct door_record *record)
{
	static const uint8_t none[SESSION_ID_SIZE];
	struct principal maker = d->who;

	if (memcmp(record->session, none, sizeof(none)) == 0)
		return 0;
	maker.delegation = 0;
	maker.may_not_spawn = false;
	d->session = session_restore(d->broker, record->session, &maker);
	d->options.with_session = true;
	return d->session ? 0 : err_begin(-ENOMEM);
}

/* Both descriptors are consumed in every case. Failed, it is over. */
static int delegation_resume(struct broker *b, uint32_t place, int take_fd, int take_record_fd)
{
	_cleanup_(fd_closep) int record_fd = take_record_fd;
	struct delegation *d = delegation_blank(b, take_fd);
	struct door_record record;
	const char *reason;
	int r;

	if (!d)
		return err_begin(-ENOMEM);
	r = door_record_read(record_fd, &record, &d->options.selector);
	if (!r) {
		restore_options(d, &record);
		r = quota_account_of_uid(b->quota, record.uid, &d->account);
	}
	if (!r)
		r = restore_session(d, &record);
	if (!r)
		r = delegation_open(d, &reason);
	if (r) {
		struct session *s = d->session;

		labels_unref(d->options.selector);
		delegation_drop(d);
		session_check_awaited(s);
		return r;
	}
	d->place = place;
	b->door_places[place / 64] |= 1ull << place % 64;
	return 0;
}

bool kept_doors_take(struct kept_doors *k, uint32_t number, int take_fd)
{
	uint32_t i = number - KEPT_DOOR(0);

	if (number < KEPT_DOOR(0) || i >= ARRAY_SIZE(k->fds))
		return false;
	fd_close(k->fds[i] - 1);
	k->fds[i] = take_fd + 1;
	return true;
}

void kept_doors_close(struct kept_doors *k)
{
	for (size_t i = 0; i < ARRAY_SIZE(k->fds); i++)
		fd_close(k->fds[i] - 1);
	*k = (struct kept_doors){ 0 };
}

/* One of which half is there is over. */
static void resume_place(struct broker *b, uint32_t place, int *fds)
{
	int r = 0;

	if (fds[0] && fds[1]) {
		r = delegation_resume(b, place, fds[0] - 1, fds[1] - 1);
		fds[0] = fds[1] = 0;
		if (!r)
			return;
		log_error("a door of an earlier broker cannot be taken up: %s",
			  r < 0 ? err_string(r) : "its record is broken, or a quota is full");
	}
	inherit_drop(b, KEPT_DOOR(place));
	inherit_drop(b, KEPT_DOOR_RECORD(place));
}

void delegations_resume(struct broker *b, struct kept_doors *k)
{
	for (uint32_t place = 0; place < DELEGATIONS_MAX; place++) {
		int *fds = &k->fds[2 * place];

		if (fds[0] || fds[1])
			resume_place(b, place, fds);
	}
}
