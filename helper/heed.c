/* What the broker asks for. Every message is checked; a wrong one is dropped with a log line and
 * its descriptors, and nothing else changes.
 *
 * A request that needs an answer may leave it in `answer` when the link is full; nothing more is
 * read then until it is gone, so there is never more than one.
 */
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>

#include "helper/birth.h"
#include "helper/keeper.h"
#include "proto/base/err.h"
#include "proto/base/fd.h"
#include "proto/base/log.h"
#include "proto/fdpass.h"

#define MESSAGES_A_TURN 64
#define MESSAGES_MAX	4096  /* more than a socket buffer can hold */
#define ENDING_MS	10000 /* a broker that said it leaves may take so long to do it */

/* One message as it came. A handler takes descriptors by setting them to -1. */
struct heard {
	union {
		struct link_head head;
		struct link_deposit deposit;
		struct link_release release;
		struct link_forget forget;
		struct link_ring ring;
		struct link_group_signal group;
		struct link_bye bye;
		uint8_t room[256]; /* more than any of them, so that a longer one shows */
	};
	int fds[LINK_FDS_MAX];
	size_t n_fds;
	bool is_truncated; /* descriptors are missing: we have no room for more */
};

static void complain(const struct heard *m, const char *what)
{
	log_warning("keeper link: message %u %s", m->head.type, what);
}

/* --- deposits ----------------------------------------------------------------------------------
 */

static int find_birth(const struct heard *m)
{
	for (uint32_t i = 0; i < m->deposit.n_holds && i < m->n_fds; i++)
		if (m->deposit.holds[i] == LINK_HOLD(HOLD_BIRTH, 0))
			return (int)i;
	return -1;
}

static void adopt(struct keeper *k, struct heard *m, struct hold_slot *s)
{
	for (size_t i = 0; i < m->n_fds; i++)
		m->fds[i] = -1; /* they are the slot's */
	if (s->state == HOLD_STATE_AWAITING)
		judge_watch_birth(k, s);
}

/* No room: the spawn must not run. A child that was born already will end instead of its exec,
 * unless it has come to that: so its birth alone is held, and judged at its end like any other. */
static void deposit_without_room(struct keeper *k, struct heard *m)
{
	struct link_deposit *d = &m->deposit;
	struct birth_verdict v = { 0 };
	struct hold_slot *s;
	int at = find_birth(m), birth = at < 0 ? -1 : m->fds[at];

	log_error("no room for the descriptors of a spawn");
	if (birth >= 0)
		birth_cancel(birth, &v);
	if (v.kind != BIRTH_VERDICT_NOTHING) {
		d->holds[0] = LINK_HOLD(HOLD_BIRTH, 0);
		d->n_holds = 1;
		if (hold_deposit(k->hold, d, &birth, &s) == 0) {
			m->fds[at] = -1;
			s->is_cancelled = true;
			judge_watch_birth(k, s);
			return;
		}
	}
	tell_refused(k, &d->id, EMFILE);
}

static void heed_deposit(struct keeper *k, struct heard *m)
{
	struct hold_slot *s;

	if (m->deposit.n_holds > LINK_HOLDS_MAX ||
	    (m->n_fds != m->deposit.n_holds && !m->is_truncated)) {
		complain(m, "has the wrong number of descriptors");
		return;
	}
	if (m->is_truncated) {
		deposit_without_room(k, m);
		return;
	}
	switch (hold_deposit(k->hold, &m->deposit, m->fds, &s)) {
	case 0:
		adopt(k, m, s);
		break;
	case HOLD_E_FULL:
		deposit_without_room(k, m);
		break;
	case HOLD_E_CONFLICT:
		complain(m, "does not fit what is held");
		break;
	default:
		complain(m, "names no slot or stream");
		break;
	}
}

/* --- others ------------------------------------------------------------------------------------
 */

static void heed_release(struct keeper *k, struct heard *m)
{
	struct hold_slot *s = hold_find(k->hold, &m->release.id);
	uint32_t kind = LINK_HOLD_KIND(m->release.hold);

	if (kind != HOLD_INPUT && kind != HOLD_OUTPUT) {
		complain(m, "releases what is not its own");
		return;
	}
	if (s)
		hold_drop(k->hold, s, m->release.hold);
	m->release.head.type = LINK_RELEASED;
	tell_answer(k, &m->release, sizeof(m->release));
}

static void heed_forget(struct keeper *k, struct heard *m)
{
	struct hold_slot *s = hold_find(k->hold, &m->forget.id);

	if (!s) /* a spawn that was refused never had one */
		return;
	keeper_unwatch(k, s->pidfd);
	hold_forget(k->hold, s);
}

static void heed_ring(struct keeper *k, struct heard *m)
{
	int fd = m->n_fds ? m->fds[0] : -1;
	int r = hold_set_ring(k->hold, m->ring.number, m->ring.size, fd);

	if (r)
		complain(m, r == HOLD_E_FULL ? "has no room for its ring" : "names no ring");
	else if (m->n_fds)
		m->fds[0] = -1;
}

static void heed_records(struct keeper *k, struct heard *m)
{
	if (m->n_fds != LINK_RECORDS_FDS) {
		complain(m, "has no records");
		return;
	}
	hold_set_records(k->hold, m->fds);
	m->n_fds = 0; /* they are held now */
}

/* Neither the leader's number nor the group's can be somebody else's while it is not reaped. */
static int signal_leader(struct keeper *k, const struct link_group_signal *g)
{
	struct hold_slot *s = hold_find(k->hold, &g->id);

	if (g->signal < 0 || g->signal > SIGRTMAX)
		return EINVAL;
	if (!s || s->state != HOLD_STATE_RUNNING || s->pid <= 1)
		return ESRCH;
	return kill(g->head.type == LINK_SIGNAL ? s->pid : -s->pid, g->signal) < 0 ? errno : 0;
}

static void heed_signal(struct keeper *k, struct heard *m)
{
	m->group.error = signal_leader(k, &m->group);
	m->group.head.type = LINK_GROUP_SIGNALLED;
	tell_answer(k, &m->group, sizeof(m->group));
}

/* Best effort, as for anybody who notifies a service manager. */
static void notify(struct keeper *k, const char *text)
{
	int fd = k->config.head->notify_fd;

	if (fd >= 0)
		send(fd, text, strlen(text), MSG_DONTWAIT | MSG_NOSIGNAL);
}

static void heed_beat(struct keeper *k, struct heard *m)
{
	(void)m;
	k->beat_at_ms = keeper_now_ms();
	if (!k->has_beaten)
		k->watch_at_ms = k->beat_at_ms + WATCHDOG_MS; /* not the time to start any more */
	k->has_beaten = true;
	k->is_suspect = false;
	if (!k->is_notified)
		notify(k, "READY=1");
	k->is_notified = true;
}

static void heed_bye(struct keeper *k, struct heard *m)
{
	notify(k, "STOPPING=1");
	k->is_ending = true;
	k->status = m->bye.status & 0xff;
	k->end_at_ms = keeper_now_ms() + ENDING_MS;
	launch_kill(&k->forker);
}

static const struct {
	size_t size;
	size_t fds_max;
	void (*heed)(struct keeper *k, struct heard *m);
} table[] = {
	[LINK_DEPOSIT] = { sizeof(struct link_deposit), LINK_HOLDS_MAX, heed_deposit },
	[LINK_RELEASE] = { sizeof(struct link_release), 0, heed_release },
	[LINK_FORGET] = { sizeof(struct link_forget), 0, heed_forget },
	[LINK_RING] = { sizeof(struct link_ring), 1, heed_ring },
	[LINK_RECORDS] = { sizeof(struct link_records), LINK_RECORDS_FDS, heed_records },
	[LINK_SIGNAL_GROUP] = { sizeof(struct link_group_signal), 0, heed_signal },
	[LINK_SIGNAL] = { sizeof(struct link_group_signal), 0, heed_signal },
	[LINK_BEAT] = { sizeof(struct link_beat), 0, heed_beat },
	[LINK_BYE] = { sizeof(struct link_bye), 0, heed_bye },
};

/* --- receiving ---------------------------------------------------------------------------------
 */

static void heed(struct keeper *k, struct heard *m, size_t size)
{
	uint32_t type = size < sizeof(m->head) ? 0 : m->head.type;

	if (!type || type >= ARRAY_SIZE(table) || !table[type].heed || table[type].size != size ||
	    m->head.size != size)
		log_warning("keeper link: a message of %zu bytes and type %u is not known", size,
			    type);
	else if (m->n_fds > table[type].fds_max)
		complain(m, "has too many descriptors");
	else if (m->is_truncated && type != LINK_DEPOSIT)
		complain(m, "lost its descriptors: too many are open");
	else
		table[type].heed(k, m);
	fd_close_many(m->fds, m->n_fds);
}

/* Closed, or an empty message. A broker that said LINK_BYE closes its link first and ends when it
 * has cleaned up, for which it has ENDING_MS. */
static void link_ended(struct keeper *k)
{
	if (!k->is_ending) {
		launch_kill(&k->broker);
		return;
	}
	k->phase = KEEPER_PHASE_DOWN;
	k->broker.link_fd = fd_close(k->broker.link_fd);
}

/* True when there was a message. */
static bool receive(struct keeper *k)
{
	struct fdpass_info info;
	struct heard m;
	ssize_t n = fdpass_recv(k->broker.link_fd, m.room, sizeof(m.room), MSG_DONTWAIT, m.fds,
				LINK_FDS_MAX, &info);

	if (n <= 0 && !info.n_fds) {
		if (n == 0)
			link_ended(k);
		return false;
	}
	m.n_fds = info.n_fds;
	m.is_truncated = info.truncated;
	heed(k, &m, (size_t)n);
	return true;
}

bool heed_link(struct keeper *k, bool all)
{
	if (k->broker.link_fd < 0)
		return true;
	for (int i = 0; i < (all ? MESSAGES_MAX : MESSAGES_A_TURN); i++) {
		if (k->answer.size)
			return false;
		if (!receive(k))
			return true;
	}
	return false;
}
