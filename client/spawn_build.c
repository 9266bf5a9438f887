/* Builds Spawn messages. Strings are the caller's and only pointed to; lists of them are blocks
 * that the build owns. Only what this side alone can know is checked here (what cannot be put into
 * a message); the rest is the broker's to judge, so that there is one place for its rules.
 */
#include "client/spawn_build.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "proto/base/err.h"

static void *block_new(struct spawn_build *b, size_t n, size_t size)
{
	void *block = calloc(n ? n : 1, size);

	if (block)
		b->blocks[b->n_blocks++] = block;
	return block;
}

void spawn_build_deinit(struct spawn_build *b)
{
	while (b->n_blocks)
		free(b->blocks[--b->n_blocks]);
}

static ProtobufCBinaryData bytes_of(const char *s)
{
	return (ProtobufCBinaryData){ .len = strlen(s), .data = (uint8_t *)s };
}

#define SET_BYTES(m, field, s)                    \
	do {                                      \
		if (s) {                          \
			(m)->has_##field = true;  \
			(m)->field = bytes_of(s); \
		}                                 \
	} while (0)

#define SET_IF(m, field, given, value)              \
	do {                                        \
		(m)->has_##field = (given);         \
		(m)->field = (given) ? (value) : 0; \
	} while (0)

/* A NULL-terminated list of strings. */
static int strings_build(struct spawn_build *b, const char *const *list, size_t *ret_n,
			 ProtobufCBinaryData **ret)
{
	size_t n = 0;

	while (list && list[n])
		n++;
	*ret = block_new(b, n, sizeof(**ret));
	if (!*ret)
		return err_begin(-ENOMEM);
	for (size_t i = 0; i < n; i++)
		(*ret)[i] = bytes_of(list[i]);
	*ret_n = n;
	return 0;
}

/* --- what to run ----------------------------------------------------------------------------- */

static int program_build(struct redd *r, struct spawn_build *b, const struct redd_spawn_options *o)
{
	Redd__V1__Spawn *m = &b->message;
	bool argv = o->argv && o->argv[0];

	if (o->shell && (argv || o->program))
		return client_fail(r, -EINVAL,
				   "a spawn has a program or a shell command; give one");
	if (!o->shell && !argv && !o->program)
		return client_fail(r, -EINVAL, "a spawn needs a program; set argv or shell");
	SET_BYTES(m, shell, o->shell);
	if (o->shell)
		return 0;
	SET_BYTES(m, program, o->program ? o->program : o->argv[0]);
	if (o->program && argv)
		SET_BYTES(m, argv0, o->argv[0]);
	return strings_build(b, argv ? o->argv + 1 : NULL, &m->n_args, &m->args);
}

static int environment_build(struct redd *r, struct spawn_build *b,
			     const struct redd_spawn_options *o)
{
	static const Redd__V1__Environment__Base bases[] = {
		[REDD_ENV_CLIENT] = REDD__V1__ENVIRONMENT__BASE__CLIENT,
		[REDD_ENV_BROKER] = REDD__V1__ENVIRONMENT__BASE__BROKER,
		[REDD_ENV_EMPTY] = REDD__V1__ENVIRONMENT__BASE__EMPTY,
	};
	const char *const *own = o->environment ? o->environment : (const char *const *)environ;
	Redd__V1__Environment *m = &b->environment;
	int e;

	if ((size_t)o->environment_base >= ARRAY_SIZE(bases))
		return client_fail(r, -EINVAL, "the environment's base is not one of redd.h");
	*m = (Redd__V1__Environment)REDD__V1__ENVIRONMENT__INIT;
	m->has_from = true;
	m->from = bases[o->environment_base];
	e = strings_build(b, o->environment_base == REDD_ENV_CLIENT ? own : NULL, &m->n_client,
			  &m->client);
	if (!e)
		e = strings_build(b, o->unset, &m->n_unset, &m->unset);
	if (!e)
		e = strings_build(b, o->set_env, &m->n_set, &m->set);
	b->message.environment = m;
	return e;
}

int directory_build(struct redd *r, struct spawn_build *b, ProtobufCBinaryData *ret)
{
	if (!getcwd(b->directory, sizeof(b->directory)))
		return client_fail(r, -errno,
				   "our own directory has no name (%s); give one for the child",
				   err_name(errno));
	*ret = bytes_of(b->directory);
	return 0;
}

/* The client's view: its directory, and its PATH where the child's is another one. */
static int place_build(struct redd *r, struct spawn_build *b, const struct redd_spawn_options *o)
{
	Redd__V1__Spawn *m = &b->message;
	const char *path = o->search_path;

	if (!path && o->environment_base != REDD_ENV_CLIENT)
		path = getenv("PATH");
	SET_BYTES(m, search_path, path);
	SET_BYTES(m, directory, o->directory);
	SET_BYTES(m, client_directory, o->client_directory);
	if (o->client_directory || (o->directory && o->directory[0] == '/'))
		return 0;
	m->has_client_directory = true;
	return directory_build(r, b, &m->client_directory);
}

/* --- descriptors ----------------------------------------------------------------------------- */

static int file_build(struct redd *r, Redd__V1__Descriptor *m, const struct redd_descriptor *d)
{
	const int known = O_ACCMODE | O_APPEND | O_CREAT | O_EXCL | O_TRUNC;
	int access_mode = d->open_flags & O_ACCMODE;

	if (!d->path || (d->open_flags & ~known) || access_mode == O_ACCMODE)
		return client_fail(r, -EINVAL,
				   "descriptor %u: a file needs a path, and of open(2)'s flags "
				   "O_APPEND, O_CREAT, O_EXCL and O_TRUNC can be used",
				   d->fd);
	SET_BYTES(m, path, d->path);
	SET_IF(m, read, access_mode != O_WRONLY, true);
	SET_IF(m, write, access_mode != O_RDONLY, true);
	SET_IF(m, append, (d->open_flags & O_APPEND) != 0, true);
	SET_IF(m, create, (d->open_flags & O_CREAT) != 0, true);
	SET_IF(m, exclusive, (d->open_flags & O_EXCL) != 0, true);
	SET_IF(m, truncate, (d->open_flags & O_TRUNC) != 0, true);
	SET_IF(m, mode, d->mode != 0, d->mode);
	return 0;
}

static int descriptor_build(struct redd *r, struct spawn_build *b, Redd__V1__Descriptor *m,
			    const struct redd_descriptor *d)
{
	*m = (Redd__V1__Descriptor)REDD__V1__DESCRIPTOR__INIT;
	if ((unsigned)d->kind > REDD_CLOSED_FD || (unsigned)d->direction > REDD_OUTPUT)
		return client_fail(r, -EINVAL,
				   "descriptor %u: its kind or direction is not one "
				   "of redd.h",
				   d->fd);
	m->has_fd = true;
	m->fd = d->fd;
	m->has_kind = true;
	m->kind = (Redd__V1__Kind)d->kind;
	SET_IF(m, direction, d->direction != REDD_DIRECTION_DEFAULT,
	       (Redd__V1__Direction)d->direction);
	SET_IF(m, same_as, d->kind == REDD_SAME, d->same_as);
	if (d->kind == REDD_FILE)
		return file_build(r, m, d);
	if (d->kind != REDD_PASSED)
		return 0;
	if (b->n_fds == DESCRIPTORS_MAX)
		return client_fail(r, -EINVAL, "at most %u descriptors can be passed with a spawn",
				   DESCRIPTORS_MAX);
	SET_IF(m, passed, true, (uint32_t)b->n_fds);
	b->fds[b->n_fds++] = d->passed;
	return 0;
}

static int descriptors_build(struct redd *r, struct spawn_build *b,
			     const struct redd_spawn_options *o)
{
	Redd__V1__Descriptor *items = block_new(b, o->n_descriptors, sizeof(*items));
	Redd__V1__Descriptor **list = block_new(b, o->n_descriptors, sizeof(*list));
	int e = 0;

	if (!items || !list)
		return err_begin(-ENOMEM);
	for (size_t i = 0; i < o->n_descriptors && !e; i++) {
		list[i] = &items[i];
		e = descriptor_build(r, b, &items[i], &o->descriptors[i]);
	}
	b->message.n_descriptors = o->n_descriptors;
	b->message.descriptors = list;
	return e;
}

Redd__V1__Terminal terminal_build(const struct redd_terminal *t)
{
	Redd__V1__Terminal m = REDD__V1__TERMINAL__INIT;

	SET_IF(&m, rows, t->rows || t->columns, t->rows);
	SET_IF(&m, columns, t->rows || t->columns, t->columns);
	SET_IF(&m, x_pixels, t->x_pixels != 0, t->x_pixels);
	SET_IF(&m, y_pixels, t->y_pixels != 0, t->y_pixels);
	return m;
}

/* --- the rest -------------------------------------------------------------------------------- */

static int limits_build(struct spawn_build *b, const struct redd_spawn_options *o)
{
	Redd__V1__Limit *items = block_new(b, o->n_limits, sizeof(*items));
	Redd__V1__Limit **list = block_new(b, o->n_limits, sizeof(*list));

	if (!items || !list)
		return err_begin(-ENOMEM);
	for (size_t i = 0; i < o->n_limits; i++) {
		items[i] = (Redd__V1__Limit)REDD__V1__LIMIT__INIT;
		items[i].name = (char *)o->limits[i].name;
		SET_IF(&items[i], soft, o->limits[i].has_soft, o->limits[i].soft);
		SET_IF(&items[i], hard, o->limits[i].has_hard, o->limits[i].hard);
		list[i] = &items[i];
	}
	b->message.n_limits = o->n_limits;
	b->message.limits = list;
	return 0;
}

static int labels_build(struct spawn_build *b, const struct redd_spawn_options *o)
{
	Redd__V1__Label *items = block_new(b, o->n_labels, sizeof(*items));
	Redd__V1__Label **list = block_new(b, o->n_labels, sizeof(*list));

	if (!items || !list)
		return err_begin(-ENOMEM);
	for (size_t i = 0; i < o->n_labels; i++) {
		items[i] = (Redd__V1__Label)REDD__V1__LABEL__INIT;
		items[i].key = (char *)o->labels[i].key;
		items[i].value = (char *)o->labels[i].value;
		list[i] = &items[i];
	}
	b->message.n_labels = o->n_labels;
	b->message.labels = list;
	return 0;
}

static void identity_build(Redd__V1__Spawn *m, const struct redd_spawn_options *o)
{
	SET_IF(m, umask, (o->set & REDD_SET_UMASK) != 0, o->umask);
	SET_IF(m, nice, (o->set & REDD_SET_NICE) != 0, o->nice);
	SET_IF(m, uid, (o->set & REDD_SET_UID) != 0, o->uid);
	SET_IF(m, gid, (o->set & REDD_SET_GID) != 0, o->gid);
	SET_IF(m, group, o->new_group, REDD__V1__GROUP__GROUP_NEW);
	SET_IF(m, no_new_privileges, o->no_new_privileges, true);
	if (o->set & REDD_SET_GROUPS) {
		m->n_groups = o->n_groups;
		m->groups = (uint32_t *)o->groups;
	}
}

static void times_build(Redd__V1__Spawn *m, const struct redd_spawn_options *o)
{
	SET_IF(m, timeout_ms, o->timeout_ms != 0, o->timeout_ms);
	SET_IF(m, timeout_signal, o->timeout_signal != 0, (uint32_t)o->timeout_signal);
	SET_IF(m, timeout_grace_ms, (o->set & REDD_SET_TIMEOUT_GRACE) != 0, o->timeout_grace_ms);
	SET_IF(m, orphan, o->orphan != REDD_ORPHAN_KILL, (Redd__V1__Orphan)o->orphan);
	SET_IF(m, orphan_ms, o->orphan_ms != 0, o->orphan_ms);
	SET_IF(m, drain_ms, (o->set & REDD_SET_DRAIN) != 0, o->drain_ms);
	SET_IF(m, drain_limit_ms, (o->set & REDD_SET_DRAIN_LIMIT) != 0, o->drain_limit_ms);
	SET_IF(m, retention_ms, (o->set & REDD_SET_RETENTION) != 0, o->retention_ms);
}

static void streams_build(Redd__V1__Spawn *m, const struct redd_spawn_options *o)
{
	SET_BYTES(m, name, o->name);
	SET_IF(m, log_size, o->log_size != 0, o->log_size);
	SET_IF(m, checksum, o->checksum, true);
	SET_IF(m, hold_unread, o->hold_unread, true);
	SET_IF(m, input_high, o->input_high != 0, o->input_high);
	SET_IF(m, input_low, o->input_low != 0, o->input_low);
	SET_IF(m, input_bound, o->input_bound != 0, o->input_bound);
	if (o->token) {
		m->has_token = true;
		m->token.data = (uint8_t *)o->token;
		m->token.len = o->token_size;
	}
}

static int lists_build(struct redd *r, struct spawn_build *b, const struct redd_spawn_options *o)
{
	int e = program_build(r, b, o);

	if (!e)
		e = environment_build(r, b, o);
	if (!e)
		e = place_build(r, b, o);
	if (!e)
		e = descriptors_build(r, b, o);
	if (!e)
		e = limits_build(b, o);
	return e == -ENOMEM ? client_fail(r, e, "no memory for a spawn request") : e;
}

int spawn_build_common(struct redd *r, struct spawn_build *b, const struct redd_spawn_options *o,
		       const struct redd_subscribe_options *subscribe)
{
	Redd__V1__Spawn *m = &b->message;
	int e;

	*m = (Redd__V1__Spawn)REDD__V1__SPAWN__INIT;
	b->n_blocks = b->n_fds = 0;
	if (labels_build(b, o) < 0)
		return client_fail(r, -ENOMEM, "no memory for a request");
	identity_build(m, o);
	times_build(m, o);
	streams_build(m, o);
	e = framing_build(r, &b->framing, &o->framing, &m->framing);
	if (e < 0 || !subscribe)
		return err_pass(e);
	m->subscribe = &b->subscribe.message;
	return subscribe_build(r, &b->subscribe, subscribe);
}

int spawn_build(struct redd *r, struct spawn_build *b, const struct redd_spawn_options *o,
		const struct redd_subscribe_options *subscribe)
{
	int e = spawn_build_common(r, b, o, subscribe);

	if (!e)
		e = lists_build(r, b, o);
	if (!e && o->terminal) {
		b->terminal = terminal_build(o->terminal);
		b->message.terminal = &b->terminal;
	}
	return err_pass(e);
}
