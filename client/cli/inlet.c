#include "client/cli/inlet.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "client/cli/say.h"
#include "client/cli/tty.h"

#define READ_SIZE  (128u << 10)
#define WRITES_MAX 256u /* in flight: what is queued stays far below libredd's bounds */

#define QUEUED_MAX (1u << 20)
#define LOOK_MS	   200 /* a shell tells nobody who runs that it has come to the front */

/* One at a time, page-aligned: a copy to an odd place in a page is several times slower. There is
 * one stdin. */
static uint8_t buffer[READ_SIZE] __attribute__((aligned(4096)));

void inlet_init(struct inlet *i, int fd, struct redd_port *port)
{
	*i = (struct inlet){ .state = INLET_OPEN, .port = port };
	endpoint_open(&i->from, fd, O_RDONLY);
}

bool inlet_wants(const struct inlet *i)
{
	uint32_t window;

	if (i->state != INLET_OPEN)
		return false;
	/* Before the answer to the spawn nothing is known, and the program may not even start. */
	window = redd_port_input_window(i->port);
	return window > 0 && i->writes < WRITES_MAX &&
	       redd_queued(redd_port_connection(i->port)) < QUEUED_MAX &&
	       (i->in_flight == 0 || i->in_flight + READ_SIZE <= window);
}

void inlet_stop(struct inlet *i)
{
	if (i->state == INLET_IDLE || i->state == INLET_REFUSED)
		return;
	i->state = INLET_REFUSED;
	if (!i->from.terminal)
		endpoint_close(&i->from);
}

/* Behind the last write: one that waits for room would come too late. */
static int inlet_close(const struct inlet *i)
{
	if (i->state != INLET_ENDED || i->keep_open || i->writes)
		return 0;
	return redd_close_start(i->port, i->stream ? i->stream : REDD_STREAM_DEFAULT, NULL);
}

/* It has ended, or closed its input: as for any pipe without reader. Else the program has not got
 * what it was to get, and nobody may take what it got for the whole. */
static bool has_lost_its_reader(const struct redd_error *e)
{
	if (e->code == REDD_FAILED_PRECONDITION)
		return e->sys_errno != EBUSY; /* leased to another */
	return e->code == REDD_NOT_FOUND || e->code == REDD_ABORTED;
}

static void on_written(struct redd *r, int result, const struct redd_reply *reply, void *user)
{
	struct inlet *i = user;

	i->writes--;
	if (result == 0) {
		i->in_flight -= reply->written.size;
		(void)inlet_close(i); /* that the connection is lost is told in any case */
		return;
	}
	i->in_doubt |= result == -ENOTCONN || result == -EBADMSG;
	if (!has_lost_its_reader(redd_last_error(r))) {
		if (!i->failed)
			say_failure(r, "stdin");
		i->failed = true;
	}
	inlet_stop(i);
}

static int inlet_send(struct inlet *i, size_t size)
{
	const struct redd_write_options plain = { .header = REDD_HEADER_NONE,
						  .patient = true,
						  .other_stream = i->stream != 0,
						  .stream = i->stream };
	struct redd_call call = { .done = on_written, .user = i };
	int e = redd_write_start(i->port, buffer, size, &plain, &call);

	if (e < 0)
		return e;
	i->in_flight += size;
	i->writes++;
	return 0;
}

static int inlet_end(struct inlet *i)
{
	i->state = INLET_ENDED;
	return inlet_close(i);
}

/* Told at once: the program may be through before anybody else looks. */
static int inlet_broken(struct inlet *i, int error)
{
	say("stdin: %s; %s", strerror(-error),
	    i->keep_open ? "no more is read from it" : "the program sees its end there");
	return inlet_end(i);
}

/* What may be read so that it can be sent whole. */
static size_t inlet_room(const struct inlet *i)
{
	const struct redd_welcome *w = redd_welcome(redd_port_connection(i->port));
	uint32_t window = redd_port_input_window(i->port);
	size_t frame = w ? w->frame_max - 1024 : 0;
	size_t size = READ_SIZE < frame ? READ_SIZE : frame;

	return size < window ? size : window;
}

int inlet_read(struct inlet *i)
{
	ssize_t n;

	if (i->from.terminal && !tty_is_ours(i->from.fd)) {
		i->state = INLET_PAUSED; /* to read would stop us (SIGTTIN) */
		return 0;
	}
	n = endpoint_read(&i->from, buffer, inlet_room(i));
	if (n == -EAGAIN)
		return 0;
	/* A terminal that was hung up reads as EIO: its end. */
	if (n == 0 || (n == -EIO && i->from.terminal))
		return inlet_end(i);
	if (n < 0)
		return inlet_broken(i, (int)n);
	return inlet_send(i, (size_t)n);
}

void inlet_resume(struct inlet *i)
{
	if (i->state == INLET_PAUSED && tty_is_ours(i->from.fd))
		i->state = INLET_OPEN;
}

int inlet_timeout(const struct inlet *i)
{
	return i->state == INLET_PAUSED ? LOOK_MS : -1;
}
