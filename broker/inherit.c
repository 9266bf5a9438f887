/* The configuration is one sealed memfd (struct link_config) that the start wrote and the keeper
 * hands to each broker; it is checked all the same, since what is wrong there would be wrong
 * everywhere.
 */
#include "broker/inherit.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "broker/broker.h"
#include "broker/record.h"
#include "proto/base/err.h"
#include "proto/base/fd.h"
#include "proto/base/log.h"

/* --- configuration --------------------------------------------------------------------------- */

static int config_read(struct broker *b, int fd, struct link_config *ret)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return err_errno();
	if (pread(fd, ret, sizeof(*ret), 0) != (ssize_t)sizeof(*ret) ||
	    ret->magic != LINK_CONFIG_MAGIC || ret->version != LINK_VERSION ||
	    (off_t)ret->size != st.st_size ||
	    (uint64_t)ret->strings_size + ret->text_size + sizeof(*ret) != ret->size ||
	    ret->text_size != sizeof(b->settings) || ret->n_listeners > LISTENERS_MAX ||
	    ret->n_public > ret->n_listeners)
		return err_begin(-EBADMSG);
	b->config_size = ret->strings_size;
	b->config = calloc(1, b->config_size + 1);
	if (!b->config)
		return err_begin(-ENOMEM);
	if (pread(fd, b->config, b->config_size, sizeof(*ret)) != (ssize_t)b->config_size ||
	    pread(fd, &b->settings, sizeof(b->settings), (off_t)(sizeof(*ret) + b->config_size)) !=
		    (ssize_t)sizeof(b->settings))
		return err_begin(-EBADMSG);
	return 0;
}

/* The string behind `at`, or NULL where the block ends. */
static const char *string_after(const struct broker *b, const char *at)
{
	const char *next = at + strlen(at) + 1;

	return next < b->config + b->config_size ? next : NULL;
}

static int config_find_strings(struct broker *b, const struct link_config *config)
{
	const char *at = b->config;

	b->helper_path = at = string_after(b, at);
	for (uint32_t i = 0; at && i < config->n_listeners * 2; i++)
		at = string_after(b, at);
	b->environment = at ? string_after(b, at) : NULL;
	b->environment_count = b->environment ? config->envc : 0;
	return at ? 0 : err_begin(-EBADMSG);
}

static int quota_start(struct broker *b)
{
	struct quota_limits limits[QUOTA_LEVELS];
	const struct settings *s = &b->settings;

	for (int i = 0; i < QUOTA_LEVELS; i++)
		limits[i] = quota_limits_default((enum quota_level)i);
	limits[QUOTA_SERVICE].most[QUOTA_CONNECTIONS] = s->connections;
	limits[QUOTA_UID].most[QUOTA_CONNECTIONS] = s->connections_per_uid;
	limits[QUOTA_UID].most[QUOTA_PORTS] = s->ports_per_uid;
	limits[QUOTA_UID].most[QUOTA_SUBSCRIPTIONS] = s->subscriptions_per_uid;
	limits[QUOTA_UID].most[QUOTA_RING_BYTES] = s->log_bytes_per_uid;
	limits[QUOTA_UID].most[QUOTA_DESCRIPTORS] = s->descriptors_per_uid;
	limits[QUOTA_UID].most[QUOTA_INPUT_BYTES] = s->input_bytes_per_uid;
	/* A pool of its own, so that who does not read takes no room from input. */
	limits[QUOTA_UID].most[QUOTA_BUFFER_BYTES] = s->input_bytes_per_uid;
	limits[QUOTA_SERVICE].most[QUOTA_MEMORY] = s->memory_max;
	limits[QUOTA_UID].most[QUOTA_MEMORY] = s->memory_per_uid;
	limits[QUOTA_CONNECTION].most[QUOTA_MEMORY] = s->memory_per_uid;
	limits[QUOTA_UID].spawns.per_second = s->spawns_per_second;
	limits[QUOTA_UID].spawns.burst = s->spawn_burst;
	return quota_new(limits, &b->quota);
}

/* The first is the service's own; the last n_public ones are everybody's. */
static int policy_start(struct broker *b, uint32_t n_listeners, uint32_t n_public)
{
	policy_init(&b->policy, geteuid());
	for (uint32_t i = 1; i < n_listeners; i++) {
		struct policy_listener l = { .admits_others = i + n_public >= n_listeners };

		if (policy_add_listener(&b->policy, &l) < 0)
			return err_begin(-ENOSPC);
	}
	return 0;
}

int inherit_setup(struct broker *b, const struct link_setup *m, const int *take_fds, size_t n_fds)
{
	struct link_config config;
	int r;

	if (b->config || n_fds != 1 + m->n_locks + m->n_listeners || m->version != LINK_VERSION ||
	    m->n_listeners > LISTENERS_MAX || m->n_locks > LISTENERS_MAX)
		return err_begin(-EBADMSG);
	b->config_fd = take_fds[0];
	memcpy(b->lock_fds, take_fds + 1, m->n_locks * sizeof(b->lock_fds[0]));
	b->n_locks = m->n_locks;
	memcpy(b->listener_fds, take_fds + 1 + m->n_locks, m->n_listeners * sizeof(int));
	b->n_listener_fds = m->n_listeners;
	b->incarnation = m->incarnation;
	b->deaths = m->deaths;
	r = config_read(b, b->config_fd, &config);
	if (!r)
		r = config_find_strings(b, &config);
	if (!r)
		r = quota_start(b);
	if (!r)
		r = policy_start(b, m->n_listeners, config.n_public);
	if (r < 0)
		return err_pass(r);
	memcpy(b->instance, config.instance, sizeof(b->instance));
	log_init("redd-broker", (enum log_level)b->settings.log_level);
	return 0;
}

/* --- what is given to be kept ---------------------------------------------------------------- */

_Static_assert(KEPT_DOOR(DELEGATIONS_MAX) <= LINK_RINGS_MAX, "the keeper has numbers for all");

int inherit_keep(struct broker *b, uint32_t number, uint32_t size, int fd)
{
	struct link_ring m = { .head = { LINK_RING, sizeof(m) }, .number = number, .size = size };

	return err_pass(helper_link_send(&b->helper, &m, sizeof(m), &fd, 1));
}

static void on_ring_made(void *userdata, uint32_t number, int memfd, uint32_t size)
{
	if (inherit_keep(userdata, number, size, memfd) < 0)
		log_warning("log %u is not kept", number);
}

void inherit_drop(struct broker *b, uint32_t number)
{
	struct link_ring m = { .head = { LINK_RING, sizeof(m) }, .number = number };

	if (b->helper.keeper_active)
		helper_link_send(&b->helper, &m, sizeof(m), NULL, 0);
}

static void on_ring_dropped(void *userdata, uint32_t number)
{
	inherit_drop(userdata, number);
}

int inherit_keep_records(struct broker *b)
{
	struct link_records m = { .head = { LINK_RECORDS, sizeof(m) } };
	const int fds[LINK_RECORDS_FDS] = { records_fd(b->records), b->transit.fds[0],
					    b->transit.fds[1] };

	return helper_link_send(&b->helper, &m, sizeof(m), fds, LINK_RECORDS_FDS);
}

void inherit_observe_rings(struct broker *b)
{
	struct ring_pool_observer observer = { .made = on_ring_made,
					       .dropped = on_ring_dropped,
					       .userdata = b };

	ring_pool_observe(b->rings, &observer);
}

void inherit_free(struct broker *b)
{
	b->config_fd = fd_close(b->config_fd);
	fd_close_many(b->lock_fds, b->n_locks);
	b->n_locks = 0;
	free(TAKE(b->config));
}
