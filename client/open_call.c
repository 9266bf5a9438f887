/* Open: files and descriptors. What they have in common with a Spawn is built as one, and moved
 * over.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "client/spawn_call.h"
#include "proto/base/err.h"

/* The message, kept in the request's builder. */
static Redd__V1__Open *open_new(struct spawn_build *b)
{
	Redd__V1__Open *m = &b->open;

	*m = (Redd__V1__Open)REDD__V1__OPEN__INIT;
	return m;
}

#define MOVE(field) (to->has_##field = from->has_##field, to->field = from->field)

static void common_move(Redd__V1__Open *to, const Redd__V1__Spawn *from)
{
	MOVE(umask);
	MOVE(orphan);
	MOVE(orphan_ms);
	MOVE(name);
	MOVE(log_size);
	MOVE(retention_ms);
	MOVE(token);
	MOVE(checksum);
	MOVE(input_high);
	MOVE(input_low);
	MOVE(input_bound);
	MOVE(hold_unread);
	to->labels = from->labels;
	to->n_labels = from->n_labels;
	to->subscribe = from->subscribe;
	to->framing = from->framing;
}

static int common_build(struct redd *r, struct spawn_build *b, const struct redd_port_options *p,
			const struct redd_subscribe_options *subscribe, Redd__V1__Request *request)
{
	const struct redd_spawn_options o = {
		.set = p->set & (REDD_SET_UMASK | REDD_SET_RETENTION),
		.umask = p->umask,
		.orphan = p->orphan,
		.orphan_ms = p->orphan_ms,
		.name = p->name,
		.labels = p->labels,
		.n_labels = p->n_labels,
		.log_size = p->log_size,
		.retention_ms = p->retention_ms,
		.token = p->token,
		.token_size = p->token_size,
		.checksum = p->checksum,
		.hold_unread = p->hold_unread,
		.input_high = p->input_high,
		.input_low = p->input_low,
		.input_bound = p->input_bound,
		.framing = p->framing,
	};
	int e = spawn_build_common(r, b, &o, subscribe);

	request->body_case = REDD__V1__REQUEST__BODY_OPEN;
	request->open = open_new(b);
	common_move(request->open, &b->message);
	return err_pass(e);
}

static ProtobufCBinaryData bytes_of(const char *s)
{
	return (ProtobufCBinaryData){ .len = strlen(s), .data = (uint8_t *)s };
}

/* --- a file ---------------------------------------------------------------------------------- */

static int file_build(struct redd *r, struct spawn_build *b, const void *options,
		      const struct redd_subscribe_options *subscribe, Redd__V1__Request *request)
{
	const struct redd_open_options *o = options;
	Redd__V1__File *f = &b->file;
	Redd__V1__Open *m;
	int e = common_build(r, b, &o->port, subscribe, request);

	if (!e && !o->path)
		e = client_fail(r, -EINVAL, "there is no path to open");
	if (e)
		return err_pass(e);
	*f = (Redd__V1__File)REDD__V1__FILE__INIT;
	f->has_path = true;
	f->path = bytes_of(o->path);
	f->has_read = f->read = o->read;
	f->has_write = f->write = o->write;
	f->has_append = f->append = o->append;
	f->has_exclusive = f->exclusive = o->exclusive;
	f->has_create = o->no_create;
	f->has_mode = o->mode != 0;
	f->mode = o->mode;
	m = request->open;
	m->what_case = REDD__V1__OPEN__WHAT_FILE;
	m->file = f;
	m->has_client_directory = o->path[0] != '/';
	if (!m->has_client_directory)
		return 0;
	if (!o->client_directory)
		return directory_build(r, b, &m->client_directory);
	m->client_directory = bytes_of(o->client_directory);
	return 0;
}

static int file_begin(struct redd *r, const struct redd_open_options *options,
		      struct redd_port **ret_port, struct how how)
{
	struct redd_open_options o;

	OPTIONS_COPY(o, options);
	return spawn_begin(r, file_build, &o, o.port.subscribe, ret_port, how);
}

int redd_open(struct redd *r, const struct redd_open_options *options, struct redd_port **ret_port)
{
	struct waiter w = { 0 };
	struct redd_port *port = NULL;
	int e = file_begin(r, options, &port, WAITER(&w));

	return spawn_wait(r, e, port, &w, ret_port);
}

int redd_open_start(struct redd *r, const struct redd_open_options *options,
		    struct redd_port **ret_port, struct redd_call *call)
{
	return file_begin(r, options, ret_port, STARTED(call));
}

/* --- descriptors ----------------------------------------------------------------------------- */

static int adopt_add(struct redd *r, struct spawn_build *b, int fd)
{
	if (fcntl(fd, F_GETFD) < 0)
		return client_fail(r, -errno, "descriptor %d is not open, so it cannot be adopted",
				   fd);
	b->fds[b->n_fds++] = fd;
	return 0;
}

static int adopt_build(struct redd *r, struct spawn_build *b, const void *options,
		       const struct redd_subscribe_options *subscribe, Redd__V1__Request *request)
{
	const struct redd_adopt_options *o = options;
	Redd__V1__Adopt *a = &b->adopt;
	int e = common_build(r, b, &o->port, subscribe, request);

	if (e)
		return err_pass(e);
	*a = (Redd__V1__Adopt)REDD__V1__ADOPT__INIT;
	if (o->reads) {
		a->has_read = true;
		e = adopt_add(r, b, o->read_fd);
	}
	if (o->writes && !e) {
		bool is_same = o->reads && o->read_fd == o->write_fd;

		a->has_write = true;
		a->write = is_same ? 0 : (uint32_t)b->n_fds;
		e = is_same ? 0 : adopt_add(r, b, o->write_fd);
	}
	request->open->what_case = REDD__V1__OPEN__WHAT_ADOPT;
	request->open->adopt = a;
	return e;
}

static int adopt_begin(struct redd *r, const struct redd_adopt_options *options,
		       struct redd_port **ret_port, struct how how)
{
	struct redd_adopt_options o;

	OPTIONS_COPY(o, options);
	return spawn_begin(r, adopt_build, &o, o.port.subscribe, ret_port, how);
}

int redd_adopt(struct redd *r, const struct redd_adopt_options *options,
	       struct redd_port **ret_port)
{
	struct waiter w = { 0 };
	struct redd_port *port = NULL;
	int e = adopt_begin(r, options, &port, WAITER(&w));

	return spawn_wait(r, e, port, &w, ret_port);
}

int redd_adopt_start(struct redd *r, const struct redd_adopt_options *options,
		     struct redd_port **ret_port, struct redd_call *call)
{
	return adopt_begin(r, options, ret_port, STARTED(call));
}
