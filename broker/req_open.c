/* Open, and Close of what it made as a whole.
 *
 * A file or descriptors are served by a pump, which is spawned like any program. So an Open is
 * written down as the Spawn of its pump, and goes the way of every Spawn from there: options,
 * tokens, identity, quotas, descriptors, answers. What is different afterwards is in pumped.c.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "broker/broker.h"
#include "broker/conn.h"
#include "broker/names.h"
#include "broker/req.h"
#include "broker/req_spawn.h"
#include "proto/base/err.h"

#define MODE_DEFAULT 0666u

/* A Spawn with all that it points at. */
struct pump_spawn {
	Redd__V1__Spawn m;
	Redd__V1__Descriptor descriptors[5];
	Redd__V1__Descriptor *pointers[5];
	ProtobufCBinaryData args[5];
	char flags[16], mode[16];
};

static ProtobufCBinaryData text(const char *s)
{
	return (ProtobufCBinaryData){ strlen(s), (uint8_t *)s };
}

static Redd__V1__Descriptor *descriptor(struct pump_spawn *s, uint32_t fd, Redd__V1__Kind kind)
{
	Redd__V1__Descriptor *d = &s->descriptors[s->m.n_descriptors];

	redd__v1__descriptor__init(d);
	SET(*d, fd, fd);
	SET(*d, kind, kind);
	s->pointers[s->m.n_descriptors++] = d;
	return d;
}

/* The pipes of the directions that there are; 2 is for the reports. */
static void pump_init(struct pump_spawn *s, const struct broker *b, bool reads, bool writes)
{
	redd__v1__spawn__init(&s->m);
	s->m.descriptors = s->pointers;
	descriptor(s, 0, writes ? REDD__V1__KIND__KIND_PIPE : REDD__V1__KIND__KIND_NULL);
	descriptor(s, 1, reads ? REDD__V1__KIND__KIND_PIPE : REDD__V1__KIND__KIND_NULL);
	descriptor(s, 2, REDD__V1__KIND__KIND_CLOSED);
	SET(s->m, program, text(b->helper_path));
	SET(s->m, argv0, text("redd-helper"));
	SET(s->m, no_new_privileges, true);
	s->args[0] = text("pump");
	s->args[1] = text(reads && writes ? "rw" : reads ? "r" : "w");
	s->m.args = s->args;
	s->m.n_args = 2;
}

#define COPY(field) (to->has_##field = from->has_##field, to->field = from->field)

static void copy_options(Redd__V1__Spawn *to, const Redd__V1__Open *from)
{
	COPY(umask);
	COPY(orphan);
	COPY(orphan_ms);
	COPY(name);
	COPY(log_size);
	COPY(retention_ms);
	COPY(token);
	COPY(checksum);
	COPY(input_high);
	COPY(input_low);
	COPY(input_bound);
	COPY(hold_unread);
	to->labels = from->labels;
	to->n_labels = from->n_labels;
	to->subscribe = from->subscribe;
	to->framing = from->framing;
}

/* --- a file ---------------------------------------------------------------------------------- */

/* Names for what the process that opens them has itself: that would be the pump. */
static bool is_of_opener(const ProtobufCBinaryData *path)
{
	static const char *const names[] = { "/dev/stdin", "/dev/stdout", "/dev/stderr",
					     "/dev/tty" };
	static const char *const folders[] = { "/dev/fd/", "/proc/self/fd/",
					       "/proc/thread-self/fd/" };

	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		if (path->len == strlen(names[i]) && !memcmp(path->data, names[i], path->len))
			return true;
	for (size_t i = 0; i < ARRAY_SIZE(folders); i++)
		if (path->len > strlen(folders[i]) &&
		    !memcmp(path->data, folders[i], strlen(folders[i])))
			return true;
	return false;
}

static const char *check_file(const Redd__V1__Open *m)
{
	const Redd__V1__File *f = m->file;
	bool writes = f->write || f->append;

	if (!f->has_path)
		return "the path is missing";
	if (!f->read && !writes)
		return "it is opened to read, write or append: set one of them";
	if (!writes && (f->exclusive || f->create || f->truncate))
		return "exclusive, create and truncate go with write or append";
	if (f->exclusive && f->has_create && !f->create)
		return "exclusive goes with create";
	if (f->append && f->truncate)
		return "append and truncate exclude each other";
	if (f->has_mode && f->mode > 07777)
		return "mode is more than 07777";
	if (f->path.len && f->path.data[0] != '/' && !m->has_client_directory)
		return "the path is relative, and no client_directory says to what";
	if (is_of_opener(&f->path))
		return "the path means something else to each process, here to one of the "
		       "service's; adopt the descriptor that is meant";
	return names_check_path(f->path.data, f->path.len);
}

/* As Erlang's drivers have it: what is written alone is truncated. */
static int file_flags(const Redd__V1__File *f)
{
	bool writes = f->write || f->append;
	bool create = f->has_create ? f->create : writes;
	bool truncate = f->has_truncate ? f->truncate : writes && !f->append && !f->read;
	int flags = f->read && writes ? O_RDWR : writes ? O_WRONLY : O_RDONLY;

	return flags | (f->append ? O_APPEND : 0) | (create ? O_CREAT : 0) |
	       (f->exclusive ? O_EXCL : 0) | (truncate ? O_TRUNC : 0);
}

static void pump_file(struct pump_spawn *s, const struct broker *b, const Redd__V1__Open *m)
{
	const Redd__V1__File *f = m->file;

	pump_init(s, b, f->read, f->write || f->append);
	snprintf(s->flags, sizeof(s->flags), "%o", (unsigned)file_flags(f));
	snprintf(s->mode, sizeof(s->mode), "%o", f->has_mode ? f->mode : MODE_DEFAULT);
	s->args[2] = text(s->flags);
	s->args[3] = text(s->mode);
	s->args[4] = f->path;
	s->m.n_args = 5;
	if (f->path.data[0] != '/')
		SET(s->m, client_directory, m->client_directory);
}

/* --- descriptors ----------------------------------------------------------------------------- */

static const char *check_adopt(const Redd__V1__Adopt *a)
{
	if (!a->has_read && !a->has_write)
		return "set read, write or both: which of the descriptors that came is for what";
	return NULL;
}

static void pump_adopted(struct pump_spawn *s, const struct broker *b, const Redd__V1__Adopt *a)
{
	Redd__V1__Descriptor *d;

	pump_init(s, b, a->has_read, a->has_write);
	if (a->has_read) {
		d = descriptor(s, 3, REDD__V1__KIND__KIND_PASSED);
		SET(*d, passed, a->read);
	}
	if (a->has_read && a->has_write && a->read == a->write) {
		d = descriptor(s, 4, REDD__V1__KIND__KIND_SAME);
		SET(*d, same_as, 3);
	} else if (a->has_write) {
		d = descriptor(s, 4, REDD__V1__KIND__KIND_PASSED);
		SET(*d, passed, a->write);
	}
}

static bool socket_has(int fd, int option, int *ret)
{
	socklen_t size = sizeof(*ret);

	return getsockopt(fd, SOL_SOCKET, option, ret, &size) == 0;
}

/* A pipe keeps no messages apart, and where it has little room the rest of one would be lost. */
static const char *check_socket(int fd)
{
	int type, listens = 0;

	if (!socket_has(fd, SO_TYPE, &type))
		return NULL; /* it is none */
	if (type != SOCK_STREAM)
		return "neither read nor written: it is a socket of messages, which a stream does "
		       "not keep apart; pass one of SOCK_STREAM";
	if (socket_has(fd, SO_ACCEPTCONN, &listens) && listens)
		return "neither read nor written: it is a socket that listens; pass its "
		       "connections";
	return NULL;
}

/* What is asked of fcntl(2) and getsockopt(2) is answered at once, whatever is behind it. */
static const char *check_one(int fd, int access_mode)
{
	int flags = fcntl(fd, F_GETFL);
	const char *wrong = check_socket(fd);

	if (wrong)
		return wrong;
	if (flags < 0 || (flags & O_PATH))
		return "neither read nor written: it was opened with O_PATH";
	if ((flags & O_ACCMODE) == O_RDWR || (flags & O_ACCMODE) == access_mode)
		return NULL;
	return access_mode == O_RDONLY ? "written only, and was to be read"
				       : "read only, and was to be written";
}

int plan_check_adopted(struct spawn_plan *plan)
{
	const Redd__V1__Spawn *m = plan->m;
	const char *wrong = NULL;

	for (size_t i = 3; i < m->n_descriptors && !wrong; i++) {
		const Redd__V1__Descriptor *d = m->descriptors[i];
		uint32_t passed = d->kind == REDD__V1__KIND__KIND_SAME ? m->descriptors[3]->passed
								       : d->passed;

		wrong = check_one(plan->fds[passed], d->fd == 3 ? O_RDONLY : O_WRONLY);
	}
	return wrong ? plan_refuse(plan, REPLY_INVALID_ARGUMENT, EBADF,
				   "a descriptor to adopt can be %s", wrong)
		     : 0;
}

/* --- Open ------------------------------------------------------------------------------------ */

int req_open(struct conn *c, const Redd__V1__Request *request)
{
	const Redd__V1__Open *m = request->open;
	struct spawn_plan plan = { .conn = c, .broker = c->broker, .request = request->id };
	struct pump_spawn s = { 0 };
	const char *wrong;

	switch (m->what_case) {
	case REDD__V1__OPEN__WHAT_FILE:
		wrong = check_file(m);
		break;
	case REDD__V1__OPEN__WHAT_ADOPT:
		wrong = check_adopt(m->adopt);
		break;
	default:
		wrong = "neither file nor adopt is set";
		break;
	}
	if (wrong) {
		reply_spawn_failed(c, request->id, REPLY_INVALID_ARGUMENT, LINK_STAGE_REQUEST,
				   EINVAL, 0, wrong);
		return 0;
	}
	if (m->what_case == REDD__V1__OPEN__WHAT_FILE) {
		pump_file(&s, c->broker, m);
		plan.shown = &m->file->path;
		plan.kind = PORT_IS_FILE;
	} else {
		pump_adopted(&s, c->broker, m->adopt);
		plan.kind = PORT_IS_DESCRIPTORS;
	}
	copy_options(&s.m, m);
	plan.m = &s.m;
	return plan_serve(&plan);
}

/* One of several that wait for the same port (by its token) only gives itself up. */
bool req_open_cancel(struct pending *pending)
{
	struct port *p = pending->port;
	struct pending *other;
	struct subscription *s;
	unsigned n = 0;

	if (pending->kind != PENDING_SPAWN || !port_is_pumped(p) || p->state != PORT_STARTING)
		return false;
	list_for_each (other, &p->pendings, port_link)
		n += other->kind == PENDING_SPAWN;
	reply_spawn_failed(pending->conn, pending->request, REPLY_CANCELLED, LINK_STAGE_REQUEST,
			   ECANCELED, 0, "cancelled by its client");
	s = conn_subscription(pending->conn, pending->subscription);
	if (s)
		subscription_free(s); /* never told of */
	pending_free(pending);
	if (n == 1)
		pumped_give_up(p, ECANCELED);
	return true;
}

/* --- Close of the whole ---------------------------------------------------------------------- */

static void answer_whole(struct conn *c, uint64_t request, const struct port *p)
{
	Redd__V1__Message m = REDD__V1__MESSAGE__INIT;
	Redd__V1__CloseDone done = REDD__V1__CLOSE_DONE__INIT;
	const struct stream *s = port_stream(p, 0);
	int error = p->pumped.write_error;

	if (error && error != ECANCELED) {
		reply_error(c, request, REPLY_FAILED_PRECONDITION, error,
			    "the port is closed, but not all that was accepted could be written: "
			    "%s",
			    err_name(error));
		return;
	}
	SET(done, offset, s && s->in.is_there ? input_offset(&s->in.queue) : 0);
	m.body_case = REDD__V1__MESSAGE__BODY_CLOSE_DONE;
	m.close_done = &done;
	reply_message(c, request, &m);
}

int req_close_whole(struct conn *c, const Redd__V1__Request *request, struct port *p)
{
	const Redd__V1__Close *m = request->close;

	if (!m->whole || m->has_stream) {
		reply_error(c, request->id, REPLY_INVALID_ARGUMENT, EINVAL,
			    "discard goes with whole, and whole without a stream");
	} else if (!port_is_pumped(p)) {
		reply_error(c, request->id, REPLY_FAILED_PRECONDITION, 0,
			    "the port is a process; close its input, or end it with Signal");
	} else if (p->has_exited) {
		answer_whole(c, request->id, p);
	} else if (p->state == PORT_STARTING) {
		answer_whole(c, request->id, p);
		pumped_give_up(p, ECANCELED);
	} else if (req_pending(c, p, PENDING_CLOSE_WHOLE, request->id)) {
		if (m->discard)
			pumped_discard(p);
		else
			pumped_shut(p);
	}
	return 0;
}

void req_close_whole_look(struct port *p)
{
	struct pending *pending, *next;

	list_for_each_safe (pending, next, &p->pendings, port_link) {
		if (pending->kind != PENDING_CLOSE_WHOLE)
			continue;
		answer_whole(pending->conn, pending->request, p);
		pending_free(pending);
	}
}
