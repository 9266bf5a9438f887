/* Holds no state that anybody would miss: a forker that dies is replaced, its unread requests are
 * closed and so known not to have run, its children are the keeper's and do not notice.
 *
 * Single-threaded; the only thing it waits for is poll(2). When every place is taken by a child
 * that hangs before its exec, the link is left unread (nothing is dropped) and looked at again
 * shortly.
 *
 * All signals stay blocked and all dispositions default for life: children inherit both, and empty
 * the mask right before exec.
 */
#include "helper/forker.h"

#include <errno.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/socket.h>

#include "helper/link.h"
#include "helper/signals.h"
#include "helper/spawn.h"
#include "proto/base/err.h"
#include "proto/base/fd.h"
#include "proto/base/log.h"
#include "proto/fdpass.h"

#define NAP_MS	      2
#define SPAWNS_A_TURN 32

struct forker {
	int keeper_fd;
	int link_fd; /* from the broker, -1: none now */
	struct spawner spawner;
	bool is_done;
};

static void setup_take(struct forker *f, const struct link_forker_setup *m, int take_fd)
{
	f->link_fd = fd_close(f->link_fd);
	f->link_fd = take_fd;
	f->spawner.nofile_soft = m->nofile_soft;
	f->spawner.nofile_hard = m->nofile_hard;
	if (m->flags & LINK_CONFIG_PLAIN_CLONE)
		f->spawner.is_plain = true;
}

static bool setup_is_right(const struct link_forker_setup *m, ssize_t n, size_t n_fds)
{
	return n == (ssize_t)sizeof(*m) && m->head.type == LINK_FORKER_SETUP &&
	       m->head.size == sizeof(*m) && m->version == LINK_VERSION && n_fds == 1;
}

static void keeper_ready(struct forker *f)
{
	struct link_forker_setup m;
	struct fdpass_info info;
	int fds[1];
	ssize_t n = fdpass_recv(f->keeper_fd, &m, sizeof(m), MSG_DONTWAIT, fds, 1, &info);

	if (n == -EAGAIN)
		return;
	if (n <= 0) {
		f->is_done = true; /* the keeper is gone or wants us to go */
		return;
	}
	if (!info.truncated && !info.surplus && setup_is_right(&m, n, info.n_fds)) {
		setup_take(f, &m, fds[0]);
		return;
	}
	log_error("wrong message from the keeper");
	fd_close_many(fds, info.n_fds);
}

static void link_ready(struct forker *f)
{
	int r = 0;

	for (int i = 0; i < SPAWNS_A_TURN && !r && spawner_collect(&f->spawner); i++)
		r = spawner_receive(&f->spawner, f->link_fd);
	if (!r || r == -EAGAIN)
		return;
	if (r != -EPIPE && r != -ECONNRESET)
		log_error("forker link: %s", err_string(r));
	f->link_fd = fd_close(f->link_fd); /* the next broker comes with a link of its own */
}

static void turn(struct forker *f)
{
	bool has_place = spawner_collect(&f->spawner);
	struct pollfd p[] = { { .fd = f->keeper_fd, .events = POLLIN },
			      { .fd = has_place ? f->link_fd : -1, .events = POLLIN } };

	if (poll(p, 2, has_place ? -1 : NAP_MS) < 0) {
		if (errno != EINTR)
			log_error("poll: %s", err_name(errno));
		return;
	}
	if (p[0].revents)
		keeper_ready(f);
	else if (p[1].revents)
		link_ready(f);
}

int forker_main(int keeper_fd)
{
	struct forker f = { .keeper_fd = keeper_fd, .link_fd = -1 };
	int r = spawner_init(&f.spawner, spawn_needs_plain());

	if (r < 0) {
		log_error("cannot start: %s", err_string(r));
		return 1;
	}
	while (!f.is_done)
		turn(&f);
	fd_close(f.link_fd);
	fd_close(f.keeper_fd);
	spawner_deinit(&f.spawner);
	return 0;
}
