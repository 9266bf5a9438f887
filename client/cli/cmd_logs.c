/* redd logs: what a port has written, as far as its log still has it; with -f also what it writes
 * from now on. Stdout's bytes go to stdout, stderr's to stderr; of a port that still runs, without
 * -f, what was there when we asked. As JSON, records: those that are asked for, else the port's
 * packets, else lines.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "client/cli/json.h"
#include "client/cli/options.h"
#include "client/cli/say.h"

static const char usage[] = "logs [OPTION...] PORT";

struct logs {
	bool follow, json, shared, marks;
	struct redd_framing framing;
	struct given from, bytes, lines, stream, stall;
	enum redd_overflow overflow; /* default: who looks on holds nobody back */
};

static const char *option_overflow(void *member, const char *value)
{
	static const char *const names[] = {
		[REDD_BLOCK] = "block",
		[REDD_DROP] = "drop",
		[REDD_CANCEL] = "cancel",
	};

	for (int i = REDD_BLOCK; i <= REDD_CANCEL; i++) {
		if (!strcmp(value, names[i])) {
			*(enum redd_overflow *)member = (enum redd_overflow)i;
			return NULL;
		}
	}
	return "is not block, drop or cancel";
}

static const struct option_row rows[] = {
	OPTION('f', "follow", NULL, "go on until the port ends", option_flag, struct logs, follow),
	OPTION(0, "from", "OFFSET", "begin at this byte of the stream", option_number, struct logs,
	       from),
	OPTION(0, "tail-bytes", "N", "begin with the last N bytes", option_size, struct logs,
	       bytes),
	OPTION('n', "lines", "N", "begin with the last N lines", option_number, struct logs, lines),
	OPTION(0, "overflow", "block|drop|cancel",
	       "too slow: hold the program back, skip (default), or end", option_overflow,
	       struct logs, overflow),
	OPTION(0, "stall", "DURATION", "with block: skip after so long without progress",
	       option_duration, struct logs, stall),
	OPTION(0, "shared", NULL, "read the broker's memory where that can be had", option_flag,
	       struct logs, shared),
	OPTION(0, "stream", "N", "this output only, on stdout", option_stream, struct logs, stream),
	OPTION(0, "json", NULL, "print each line, or packet, as an object", option_flag,
	       struct logs, json),
	OPTION(0, "framing", "raw|lines[:MAX]|packets:1|2|4[:MAX]",
	       "with --json: cut it so, however the port does", option_framing, struct logs,
	       framing),
	OPTION(0, "marks", NULL, "with --json and -f: tell when an input is busy, and free again",
	       option_flag, struct logs, marks),
	OPTIONS_END,
};

/* A stream and where we end with it. */
struct part {
	uint32_t stream;
	uint64_t until;
	bool over;
};

struct reading {
	struct part parts[REDD_STREAMS_MAX];
	struct redd_stream_offset offsets[REDD_STREAMS_MAX];
	uint32_t streams[REDD_STREAMS_MAX];
	size_t n_parts;
	struct redd_framing framing;
	bool follow, to_stdout, over, json;
	int status;
};

static struct part *part_of(struct reading *g, uint32_t stream)
{
	for (size_t i = 0; i < g->n_parts; i++) {
		if (g->parts[i].stream == stream)
			return &g->parts[i];
	}
	return NULL;
}

/* All of it, to a descriptor that may be non-blocking because of others. */
static int write_all(int fd, const char *data, size_t size)
{
	while (size > 0) {
		ssize_t n = write(fd, data, size);

		if (n < 0 && errno != EINTR && errno != EAGAIN)
			return -errno;
		if (n > 0) {
			data += n;
			size -= (size_t)n;
		}
	}
	return 0;
}

/* Up to here this stream has come; without -f it ends where it was when we asked. */
static void reached(struct reading *g, struct part *p, uint64_t offset, bool ended)
{
	bool all = true;

	if (ended || (!g->follow && offset >= p->until))
		p->over = true;
	for (size_t i = 0; i < g->n_parts; i++)
		all = all && g->parts[i].over;
	g->over = g->over || all;
}

static void print_end(struct json *j)
{
	json_object_end(j);
	json_line(j);
	fflush(stdout);
}

static void print_record(const struct redd_output *o)
{
	static const char *const names[] = { NULL, "part", "end", "cut", "unterminated" };
	struct json j = { .file = stdout };

	json_object(&j, NULL);
	json_unsigned(&j, "stream", o->stream);
	json_unsigned(&j, "offset", o->offset);
	json_string(&j, "record", o->record <= REDD_RECORD_UNTERMINATED ? names[o->record] : NULL);
	json_bytes(&j, "data", o->data, o->size);
	print_end(&j);
}

static void print_gap(const struct redd_gap *g)
{
	static const char *const causes[] = { NULL, "before-log", "slow", "stalled", "abandoned" };
	struct json j = { .file = stdout };

	json_object(&j, NULL);
	json_unsigned(&j, "stream", g->stream);
	json_unsigned(&j, "offset", g->offset);
	if (g->end > g->offset)
		json_unsigned(&j, "missing", g->end - g->offset);
	else
		json_string(&j, "missing", NULL); /* nobody knows how much */
	json_string(&j, "cause", g->cause <= REDD_GAP_ABANDONED ? causes[g->cause] : NULL);
	json_bool(&j, "aborts_record", g->aborts_record);
	print_end(&j);
}

static void print_marks(const struct redd_marks *m)
{
	struct json j = { .file = stdout };

	json_object(&j, NULL);
	json_unsigned(&j, "stream", m->stream);
	json_bool(&j, "busy", m->busy);
	json_unsigned(&j, "queued", m->queued);
	print_end(&j);
}

/* Where output cannot be written nobody needs more of it. */
static int check_stdout(void)
{
	if (!ferror(stdout))
		return 0;
	return errno == EPIPE ? 128 + 13 : say("output: %s", strerror(errno));
}

static void on_output(struct redd_subscription *s, const struct redd_output *o, void *user)
{
	struct reading *g = user;
	struct part *p = part_of(g, o->stream);
	size_t size = o->size;
	int e;

	(void)s;
	if (!p || p->over || g->status)
		return;
	if (g->json) {
		print_record(o);
		g->status = check_stdout();
		reached(g, p, o->offset + o->consumed, false);
		return;
	}
	if (!g->follow && size > p->until - o->offset)
		size = (size_t)(p->until - o->offset);
	e = write_all(o->stream == 2 && !g->to_stdout ? STDERR_FILENO : STDOUT_FILENO, o->data,
		      size);
	if (e < 0)
		g->status = e == -EPIPE ? 128 + 13 : say("output: %s", strerror(-e));
	reached(g, p, o->offset + o->consumed, false);
}

static void on_gap(struct redd_subscription *s, const struct redd_gap *gap, void *user)
{
	struct reading *g = user;
	struct part *p = part_of(g, gap->stream);
	char name[32];

	(void)s;
	if (g->json)
		print_gap(gap);
	snprintf(name, sizeof(name), "stream %u", gap->stream);
	say_gap(name, gap);
	if (p)
		reached(g, p, gap->end, false);
}

static void on_end(struct redd_subscription *s, const struct redd_stream_end *end, void *user)
{
	struct reading *g = user;
	struct part *p = part_of(g, end->stream);

	if (end->result < 0)
		g->status = say_failure(redd_port_connection(redd_subscription_port(s)), NULL);
	if (p)
		reached(g, p, end->total, true);
}

static void on_marks(struct redd_subscription *s, const struct redd_marks *m, void *user)
{
	struct reading *g = user;

	(void)s;
	print_marks(m);
	if (!g->status)
		g->status = check_stdout();
}

/* What ends it before its time; 0: nothing did. */
static int say_cause(const struct redd_closed *c)
{
	switch (c->cause) {
	case REDD_BAD_RECORD:
		return say("stream %u: at offset %llu stands no packet; leave --json out",
			   c->bad_stream, (unsigned long long)c->bad_offset);
	case REDD_REVOKED:
		return say("the right to read this was taken back");
	case REDD_TOO_SLOW:
		return say("the rest is lost: the output was faster than it was read here");
	case REDD_FORGOTTEN:
		return say("the rest is lost: the port was forgotten, with its log");
	default:
		return 0;
	}
}

static void on_closed(struct redd_subscription *s, const struct redd_closed *c, void *user)
{
	struct reading *g = user;

	g->over = true;
	if (!g->status)
		g->status = say_cause(c);
	if (c->cause == REDD_CLOSED_LOST || c->cause == REDD_CLOSED_REFUSED)
		return; /* said by who waits for that */
	if (c->result < 0 && !g->status)
		g->status = say_failure(redd_port_connection(redd_subscription_port(s)), NULL);
}

/* The outputs that are to be read, and how long they are now. */
static void choose(struct reading *g, const struct logs *o, const struct redd_port_info *p)
{
	for (size_t i = 0; i < p->n_streams && g->n_parts < REDD_STREAMS_MAX; i++) {
		const struct redd_stream_info *s = &p->streams[i];

		if (s->direction == REDD_INPUT || (o->stream.is && s->stream != o->stream.value))
			continue;
		g->streams[g->n_parts] = s->stream;
		g->offsets[g->n_parts] = (struct redd_stream_offset){ s->stream, o->from.value };
		g->parts[g->n_parts++] = (struct part){
			.stream = s->stream,
			.until = s->total,
		};
	}
}

static void start_of(const struct logs *o, struct redd_subscribe_options *s)
{
	if (o->from.is)
		s->from = REDD_FROM_OFFSET;
	else if (o->bytes.is)
		s->from = REDD_FROM_LAST_BYTES;
	else if (o->lines.is)
		s->from = REDD_FROM_LAST_LINES;
	s->count = o->bytes.is ? o->bytes.value : o->lines.value;
}

/* Where the last bytes or lines begin at the end already, nothing would ever come. */
static void skip_what_is_read(struct reading *g, const struct redd_subscription *s)
{
	for (size_t i = 0; i < g->n_parts; i++)
		reached(g, &g->parts[i], redd_subscription_offset(s, g->parts[i].stream), false);
}

static int read_all(struct redd_port *port, struct reading *g, const struct logs *o)
{
	struct redd *r = redd_port_connection(port);
	struct redd_subscribe_options s = {
		.handler = { .user = g,
			     .on_output = on_output,
			     .on_gap = on_gap,
			     .on_end = on_end,
			     .on_closed = on_closed,
			     .on_marks = o->marks ? on_marks : NULL },
		.streams = g->streams,
		.n_streams = g->n_parts,
		.offsets = g->offsets,
		.n_offsets = o->from.is ? g->n_parts : 0,
		.overflow = o->overflow ? o->overflow : REDD_DROP,
		.stall_ms = (uint32_t)o->stall.value,
		.framing = g->framing,
		.shared = o->shared,
	};
	struct redd_subscription *subscription;

	start_of(o, &s);
	if (redd_subscribe(port, &s, &subscription) < 0)
		return say_failure(r, NULL);
	if (o->shared && !redd_subscription_is_shared(subscription))
		say("the broker shares no memory for this; reading on by the socket");
	skip_what_is_read(g, subscription);
	while (!g->over && !g->status) {
		if (redd_run_once(r, -1) < 0)
			return say_failure(r, NULL);
	}
	return g->status;
}

/* An offset is one stream's; others may be shorter. 0 or CLI_TROUBLE, said. */
static int check_from(const struct reading *g, const struct logs *o)
{
	for (size_t i = 0; o->from.is && i < g->n_parts; i++) {
		const struct part *p = &g->parts[i];

		if (o->from.value > p->until)
			return say("stream %u has %llu bytes so far; say with --stream which one "
				   "--from is about",
				   p->stream, (unsigned long long)p->until);
	}
	return 0;
}

/* Records that are begun end only with the port. */
static int choose_framing(struct reading *g, const struct logs *o, const struct redd_port_info *p)
{
	g->framing.cut = REDD_RAW;
	if (!g->json)
		return 0;
	if (!g->follow && p->state != REDD_ENDED)
		return say("the port still runs, and so may its last record; --json needs -f then");
	g->follow = true; /* to the end, which is known */
	g->framing.cut = p->framing.cut == REDD_RAW ? REDD_LINES : REDD_CUT_DEFAULT;
	if (o->framing.cut)
		g->framing = o->framing;
	return 0;
}

static int logs(const struct cli *cli, const struct logs *o, const char *word)
{
	struct reading g = { .follow = o->follow, .to_stdout = o->stream.is, .json = o->json };
	struct redd_port *port = cli_port(cli, word);
	struct redd_ports *ports;
	struct redd *r;
	int status;

	if (!port)
		return CLI_TROUBLE;
	r = redd_port_connection(port);
	if (redd_inspect(port, &ports) < 0) {
		status = say_failure(r, word);
	} else {
		choose(&g, o, ports->ports);
		status = choose_framing(&g, o, ports->ports);
		if (!status)
			status = check_from(&g, o);
		redd_ports_free(ports);
		if (!status)
			status = g.n_parts || (o->marks && !o->stream.is)
					 ? read_all(port, &g, o)
					 : say("%s has no such output; see 'redd inspect'", word);
	}
	redd_free(r);
	return status;
}

int cmd_logs(struct cli *cli, int argc, char **argv)
{
	struct logs o = { 0 };
	int first, e = options_words(cli, rows, usage, &o, argc, argv, 1, 1, &first);

	if (e)
		return e > 0 ? cli_flush(0) : e;
	if (o.from.is + o.bytes.is + o.lines.is > 1)
		return say_usage(cli, "--from, --tail-bytes and --lines exclude each other");
	if (o.framing.cut && !o.json)
		return say_usage(cli, "--framing goes with --json: bytes have no records");
	if (o.marks && !(o.json && o.follow))
		return say_usage(cli, "--marks goes with --json and -f");
	if (o.stall.is && o.overflow != REDD_BLOCK)
		return say_usage(cli, "--stall goes with --overflow block");
	return logs(cli, &o, argv[first]);
}
