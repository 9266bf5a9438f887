#include "helper/keeper_config.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "helper/fdclose.h"
#include "proto/base/err.h"
#include "proto/base/fd.h"
#include "proto/base/log.h"

#define ALL_SEALS (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE)

static const char *next_string(const char **at, const char *end)
{
	const char *string = *at, *nul = memchr(string, '\0', (size_t)(end - string));

	if (!nul)
		return NULL;
	*at = nul + 1;
	return string;
}

static int parse_strings(struct keeper_config *c)
{
	const char *at = (const char *)(c->head + 1), *end = at + c->head->strings_size;

	c->broker = next_string(&at, end);
	c->helper = c->broker ? next_string(&at, end) : NULL;
	if (!c->helper)
		return -EINVAL;
	for (uint32_t i = 0; i < c->head->n_listeners; i++) {
		c->listeners[i].path = next_string(&at, end);
		if (!c->listeners[i].path)
			return -EINVAL;
		c->listeners[i].lock = next_string(&at, end);
		if (!c->listeners[i].lock)
			return -EINVAL;
		c->n_locks += c->head->lock_fds[i] >= 0;
	}
	return 0;
}

int keeper_config_parse(struct keeper_config *c, const void *data, size_t size)
{
	const struct link_config *h = data;

	if (size < sizeof(*h) || h->magic != LINK_CONFIG_MAGIC || h->version != LINK_VERSION ||
	    h->size != size || h->n_listeners > LISTENERS_MAX)
		return -EINVAL;
	if (sizeof(*h) + (uint64_t)h->strings_size + h->text_size != size)
		return -EINVAL;
	c->head = h;
	c->n_locks = 0;
	return parse_strings(c);
}

int keeper_config_open(struct keeper_config *c, int take_fd)
{
	int seals = fcntl(take_fd, F_GET_SEALS), r;
	struct stat st;
	void *data;

	*c = (struct keeper_config){ .fd = take_fd };
	if (seals < 0 || fstat(take_fd, &st) < 0)
		return err_errno();
	if ((seals & ALL_SEALS) != ALL_SEALS || st.st_size < (off_t)sizeof(struct link_config))
		return err_begin(-EINVAL);
	data = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, take_fd, 0);
	if (data == MAP_FAILED)
		return err_errno();
	r = keeper_config_parse(c, data, (size_t)st.st_size);
	return r ? err_begin(r) : 0;
}

void keeper_config_isolate(const struct keeper_config *c)
{
	int keep[LISTENERS_MAX * 2 + 5] = { 0, 1, 2, c->fd };
	size_t n = 4;

	if (c->head->notify_fd >= 0)
		keep[n++] = c->head->notify_fd;
	for (uint32_t i = 0; i < c->head->n_listeners; i++) {
		if (c->head->listener_fds[i] >= 0)
			keep[n++] = c->head->listener_fds[i];
		if (c->head->lock_fds[i] >= 0)
			keep[n++] = c->head->lock_fds[i];
	}
	n = fdclose_order(keep, n);
	fdclose_others(keep, n);
	for (size_t i = 0; i < n; i++)
		if (keep[i] > 2 && fd_set_cloexec(keep[i]) < 0)
			log_error("descriptor %d of the configuration is not open", keep[i]);
}

static bool lock_is_ours(const struct keeper_config *c, uint32_t i)
{
	struct stat held, there;

	return c->head->lock_fds[i] >= 0 && fstat(c->head->lock_fds[i], &held) == 0 &&
	       stat(c->listeners[i].lock, &there) == 0 && held.st_dev == there.st_dev &&
	       held.st_ino == there.st_ino;
}

void keeper_config_unlink(const struct keeper_config *c)
{
	for (uint32_t i = 0; i < c->head->n_listeners; i++) {
		if (!*c->listeners[i].path || !lock_is_ours(c, i))
			continue;
		if (unlink(c->listeners[i].path) < 0 && errno != ENOENT)
			log_warning("cannot remove %s: %s", c->listeners[i].path, err_name(errno));
		unlink(c->listeners[i].lock);
	}
}
