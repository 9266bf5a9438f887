/* Everything that can be asked of a port, asked by several clients at once while it ends: each
 * request gets exactly one answer, and that is one of those in the table; each subscription gets
 * its Closed, once and last; nothing else comes (S74 to S78). */
#include <criterion/criterion.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "proto/limits.h"
#include "tests/lib/ask.h"
#include "tests/lib/places.h"
#include "tests/lib/random.h"
#include "tests/lib/service.h"

#define SENDERS 3
#define WAIT_MS 20000

static struct service service;

static void set_up(void)
{
	cr_assert_eq(service_start(&service, NULL), 0);
}

static void tear_down(void)
{
	cr_assert_eq(service_finish(&service), 0);
}

TestSuite(race, .init = set_up, .fini = tear_down, .timeout = 240);

/* --- the table ------------------------------------------------------------------------------- */

#define CODE(name) (1u << REDD__V1__CODE__##name)
#define GONE	   CODE(NOT_FOUND)
#define OVER	   CODE(FAILED_PRECONDITION)

enum op {
	OP_SUBSCRIBE,
	OP_UNSUBSCRIBE,
	OP_CREDIT,
	OP_WAIT_EXITED,
	OP_WAIT_CLOSED,
	OP_CANCEL,
	OP_WRITE,
	OP_FORCE,
	OP_CLOSE,
	OP_SIGNAL,
	OP_GROUP,
	OP_INSPECT,
	OP_LIST,
	OP_FORGET,
	OP_RESIZE,
	OP_LEASE,
	OP_RELEASE,
	OP_EXPECT,
	OP_GRANT,
	OP_REVOKE,
	OPS,
};

/* PORT stands for the port, SUB for the sender's own subscription, WAIT for its OP_WAIT_EXITED. */
static const struct {
	const char *text;
	Redd__V1__Message__BodyCase good;
	unsigned codes; /* of errors that may come instead */
} ops[OPS] = {
	[OP_SUBSCRIBE] = { "subscribe { port { PORT } marks: true }",
			   REDD__V1__MESSAGE__BODY_SUBSCRIBED, GONE },
	[OP_UNSUBSCRIBE] = { "unsubscribe { subscription: SUB }", REDD__V1__MESSAGE__BODY_DONE,
			     GONE },
	[OP_CREDIT] = { "credit { subscription: SUB bytes: 100 }", REDD__V1__MESSAGE__BODY_DONE,
			GONE },
	[OP_WAIT_EXITED] = { "wait { port { PORT } until: EXITED }", REDD__V1__MESSAGE__BODY_WAITED,
			     GONE | CODE(CANCELLED) },
	[OP_WAIT_CLOSED] = { "wait { port { PORT } until: CLOSED }", REDD__V1__MESSAGE__BODY_WAITED,
			     GONE },
	[OP_CANCEL] = { "cancel { request: WAIT }", REDD__V1__MESSAGE__BODY_DONE, GONE },
	[OP_WRITE] = { "write { port { PORT } data: \"x\"*3000 }", REDD__V1__MESSAGE__BODY_WRITTEN,
		       GONE | OVER },
	[OP_FORCE] = { "write { port { PORT } no_wait: true force: true data: \"y\"*40000 }",
		       REDD__V1__MESSAGE__BODY_WRITTEN, GONE | OVER },
	/* One that waits for the keeper to let go, too, when a Forget of the ended port passes it.
	 */
	[OP_CLOSE] = { "close { port { PORT } }", REDD__V1__MESSAGE__BODY_CLOSE_DONE,
		       GONE | OVER | CODE(ABORTED) },
	[OP_SIGNAL] = { "signal { port { PORT } signal: 0 }", REDD__V1__MESSAGE__BODY_SIGNALLED,
			GONE | OVER },
	[OP_GROUP] = { "signal { port { PORT } signal: 0 target: TARGET_GROUP }",
		       REDD__V1__MESSAGE__BODY_SIGNALLED, GONE | OVER },
	[OP_INSPECT] = { "inspect { port { PORT } }", REDD__V1__MESSAGE__BODY_PORT_INFO, GONE },
	[OP_LIST] = { "list { details: true }", REDD__V1__MESSAGE__BODY_PORTS, 0 },
	[OP_FORGET] = { "forget { port { PORT } }", REDD__V1__MESSAGE__BODY_DONE, GONE | OVER },
	[OP_RESIZE] = { "resize { port { PORT } size { rows: 3 } }", REDD__V1__MESSAGE__BODY_DONE,
			GONE | OVER },
	[OP_LEASE] = { "lease { port { PORT } wait: true }", REDD__V1__MESSAGE__BODY_LEASED,
		       GONE | OVER | CODE(ABORTED) | CODE(CANCELLED) },
	[OP_RELEASE] = { "release { port { PORT } }", REDD__V1__MESSAGE__BODY_DONE, GONE | OVER },
	[OP_EXPECT] = { "expect { port { PORT } patterns { text: \"q\" } timeout_ms: 5000 }",
			REDD__V1__MESSAGE__BODY_MATCHED,
			GONE | OVER | CODE(ABORTED) | CODE(INVALID_ARGUMENT) }, /* no output */
	[OP_GRANT] = { "grant { port { PORT } to: GRANT_EVERYONE rights { read: true } }",
		       REDD__V1__MESSAGE__BODY_GRANTED, GONE | OVER },
	[OP_REVOKE] = { "revoke { port { PORT } }", REDD__V1__MESSAGE__BODY_DONE, GONE | OVER },
};

/* --- a sender -------------------------------------------------------------------------------- */

struct sender {
	struct peer peer;
	struct buf packet;
	uint64_t first_id;   /* of the round's requests */
	enum op order[OPS];  /* by request */
	bool answered[OPS];  /* by request */
	uint64_t own, other; /* subscriptions that are open; 0: none */
	unsigned n_open, n_answered;
	unsigned n_good, n_late; /* over all rounds */
};

/* Round and sender for what fails. */
static unsigned now_round, now_sender;
#define check(condition, format, ...) \
	cr_assert(condition, "round %u sender %u: " format, now_round, now_sender, ##__VA_ARGS__)

static void replace(char *text, size_t size, const char *word, const char *by)
{
	char *at = strstr(text, word), rest[512];

	if (!at)
		return;
	snprintf(rest, sizeof(rest), "%s", at + strlen(word));
	snprintf(at, size - (size_t)(at - text), "%s%s", by, rest);
}

static void shuffle(struct sender *s, struct random *r)
{
	for (unsigned i = 0; i < OPS; i++) {
		unsigned j = (unsigned)random_below(r, i + 1);

		s->order[i] = s->order[j];
		s->order[j] = (enum op)i;
	}
}

static void packet_make(struct sender *s, const char *port, struct random *r)
{
	char text[512], number[24];
	uint64_t wait = 0;

	shuffle(s, r);
	s->first_id = s->peer.last_id + 1;
	for (unsigned i = 0; i < OPS; i++)
		if (s->order[i] == OP_WAIT_EXITED)
			wait = s->first_id + i;
	buf_consume(&s->packet, buf_size(&s->packet));
	for (unsigned i = 0; i < OPS; i++) {
		snprintf(text, sizeof(text), "%s", ops[s->order[i]].text);
		replace(text, sizeof(text), "PORT", port);
		snprintf(number, sizeof(number), "%llu", (unsigned long long)s->own);
		replace(text, sizeof(text), "SUB", number);
		snprintf(number, sizeof(number), "%llu", (unsigned long long)wait);
		replace(text, sizeof(text), "WAIT", number);
		ask_pack(&s->packet, s->first_id + i, text);
		s->answered[i] = false;
	}
	s->peer.last_id += OPS;
	s->n_answered = 0;
}

static void on_answer(struct sender *s, const Redd__V1__Message *m)
{
	uint64_t i = m->reply_to - s->first_id;
	enum op op = i < OPS ? s->order[i] : OPS;

	check(i < OPS && !s->answered[i], "a stray answer: %s", ask_text(m));
	s->answered[i] = true;
	s->n_answered++;
	if (m->body_case == REDD__V1__MESSAGE__BODY_ERROR) {
		check(ops[op].codes & 1u << m->error->code && !ask_check_error(m->error),
		      "%s may not say: %s", ops[op].text, ask_text(m));
		s->n_late++;
		return;
	}
	check(m->body_case == ops[op].good, "%s: %s", ops[op].text, ask_text(m));
	s->n_good++;
	if (op == OP_SUBSCRIBE) {
		s->other = m->subscribed->subscription;
		s->n_open++;
	}
}

static uint64_t event_subscription(const Redd__V1__Message *m)
{
	switch (m->body_case) {
	case REDD__V1__MESSAGE__BODY_OUTPUT:
		return m->output->subscription;
	case REDD__V1__MESSAGE__BODY_GAP:
		return m->gap->subscription;
	case REDD__V1__MESSAGE__BODY_STREAM_END:
		return m->stream_end->subscription;
	case REDD__V1__MESSAGE__BODY_EXITED:
		return m->exited->subscription;
	case REDD__V1__MESSAGE__BODY_MARKS:
		return m->marks->subscription;
	case REDD__V1__MESSAGE__BODY_CLOSED:
		return m->closed->subscription;
	default:
		return 0;
	}
}

static void on_event(struct sender *s, const Redd__V1__Message *m)
{
	uint64_t id = event_subscription(m);

	check(id && (id == s->own || id == s->other), "a stray event: %s", ask_text(m));
	if (m->body_case != REDD__V1__MESSAGE__BODY_CLOSED)
		return;
	s->n_open--;
	if (id == s->own)
		s->own = 0;
	else
		s->other = 0;
}

static void take_all(struct sender *s)
{
	Redd__V1__Message *m;

	while (s->n_answered < OPS || s->n_open) {
		int r = peer_recv(&s->peer, WAIT_MS, &m);

		check(r == 0, "%u of %d answered, %u subscriptions open: %d", s->n_answered, OPS,
		      s->n_open, r);
		if (m->reply_to)
			on_answer(s, m);
		else
			on_event(s, m);
	}
}

/* What comes next is the answer to a Ping, and nothing before it. */
static void is_silent(struct peer *p)
{
	Redd__V1__Message *m;
	uint64_t id = ask_send(p, "ping { }");

	check(peer_recv(p, WAIT_MS, &m) == 0, "no answer");
	check(m->reply_to == id, "a stray message: %s", ask_text(m));
}

/* --- rounds ---------------------------------------------------------------------------------- */

/* What is raced, and the first of the requests by which its owner ends it. */
struct track {
	uint64_t (*make)(struct peer *owner, unsigned round);
	const char *(*end)(unsigned round);
	Redd__V1__Message__BodyCase ended;
};

/* One that stays, one that ends when its input does, one that has ended at once. */
static uint64_t make_process(struct peer *owner, unsigned round)
{
	static const char *const progs[] = { "hang", "cat", "exit" };

	return ask_spawn(owner, progs[round % 3],
			 "name: \"raced\" descriptors { fd: 0 kind: KIND_PIPE }");
}

/* A fifo that nobody reads from, one that goes round, a file, and a device without end. */
static uint64_t make_file(struct peer *owner, unsigned round)
{
	static const char *const files[] = {
		"path: \"%s/stuck\" write: true",
		"path: \"%s/round\" read: true write: true",
		"path: \"%s/file\" read: true append: true",
		"path: \"/dev/zero\" read: true write: true",
	};
	char file[512];
	Redd__V1__Message *m;

	snprintf(file, sizeof(file), files[round % 4], service.directory);
	m = ask(owner, "open { file { %s } name: \"raced\" hold_unread: true }", file);
	cr_assert_eq(m->body_case, REDD__V1__MESSAGE__BODY_STARTED, "%s", ask_text(m));
	return m->started->port;
}

static const char *end_process(unsigned round)
{
	(void)round;
	return "signal { port { PORT } signal: 9 }";
}

/* Nobody would ever read what waits in the first one. */
static const char *end_file(unsigned round)
{
	return round % 4 == 0 ? "close { port { PORT } whole: true discard: true }"
			      : "close { port { PORT } whole: true }";
}

static void port_make(const struct track *t, struct peer *owner, unsigned round, char *by,
		      size_t size)
{
	uint64_t port = t->make(owner, round);

	if (round % 2)
		snprintf(by, size, "name: \"raced\"");
	else
		snprintf(by, size, "id: %llu", (unsigned long long)port);
}

static void sender_begin(struct sender *s, const char *port)
{
	Redd__V1__Message *m = ask(
		&s->peer, "subscribe { port { %s } marks: true overflow: OVERFLOW_DROP }", port);

	check(m->body_case == REDD__V1__MESSAGE__BODY_SUBSCRIBED, "%s", ask_text(m));
	s->own = m->subscribed->subscription;
	s->other = 0;
	s->n_open = 1;
}

/* The three requests that end it. */
static void owner_ends(const struct track *t, struct peer *owner, const char *port)
{
	char text[256];

	snprintf(text, sizeof(text), "%s", t->end(now_round));
	replace(text, sizeof(text), "PORT", port);
	ask_send(owner, "%s", text);
	ask_send(owner, "wait { port { %s } until: CLOSED }", port);
	ask_send(owner, "forget { port { %s } }", port);
}

/* Whoever was faster: in the end it is gone. */
static void owner_waits(const struct track *t, struct peer *owner, const char *port)
{
	Redd__V1__Message *m = ask_answer(owner, owner->last_id - 2);

	check(m->body_case == t->ended || ask_is_error(m, REDD__V1__CODE__NOT_FOUND) ||
		      ask_is_error(m, REDD__V1__CODE__FAILED_PRECONDITION),
	      "%s", ask_text(m));
	do {
		m = ask(owner, "wait { port { %s } until: CLOSED }", port);
		check(m->body_case == REDD__V1__MESSAGE__BODY_WAITED ||
			      ask_is_error(m, REDD__V1__CODE__NOT_FOUND),
		      "%s", ask_text(m));
		m = ask(owner, "forget { port { %s } }", port);
	} while (!ask_is_error(m, REDD__V1__CODE__NOT_FOUND));
}

static void round_run(const struct track *t, struct peer *owner, struct sender *senders,
		      struct random *r)
{
	unsigned end_at = (unsigned)random_below(r, SENDERS + 1);
	char port[64];

	port_make(t, owner, now_round, port, sizeof(port));
	for (now_sender = 0; now_sender < SENDERS; now_sender++) {
		sender_begin(&senders[now_sender], port);
		packet_make(&senders[now_sender], port, r);
	}
	for (unsigned i = 0; i <= SENDERS; i++) {
		if (i == end_at)
			owner_ends(t, owner, port);
		if (i < SENDERS)
			cr_assert_eq(peer_send(&senders[i].peer, buf_head(&senders[i].packet),
					       buf_size(&senders[i].packet)),
				     0);
	}
	for (now_sender = 0; now_sender < SENDERS; now_sender++)
		take_all(&senders[now_sender]);
	owner_waits(t, owner, port);
	for (now_sender = 0; now_sender < SENDERS; now_sender++)
		is_silent(&senders[now_sender].peer);
}

static void race(const struct track *t)
{
	const unsigned rounds = place_rounds(1000);
	const uint64_t seed = 20260711;
	static struct sender senders[SENDERS];
	struct random r = { seed };
	struct peer owner;

	ask_greet(&owner, service.socket);
	for (int i = 0; i < SENDERS; i++) {
		ask_greet(&senders[i].peer, service.socket);
		buf_init(&senders[i].packet, KIB(256));
	}
	for (now_round = 0; now_round < rounds; now_round++)
		round_run(t, &owner, senders, &r);
	for (int i = 0; i < SENDERS; i++) {
		cr_expect_gt(senders[i].n_good, rounds, "hardly anything came in time");
		cr_expect_gt(senders[i].n_late, rounds / 2, "hardly anything came too late");
		peer_close(&senders[i].peer);
		buf_deinit(&senders[i].packet);
	}
	peer_close(&owner);
}

Test(race, S74_S76_S77_whatever_is_asked_while_a_port_ends_has_one_answer_of_the_table)
{
	race(&(struct track){ make_process, end_process, REDD__V1__MESSAGE__BODY_SIGNALLED });
}

Test(race, S76_whatever_is_asked_while_a_file_is_closed_has_one_answer_of_the_table)
{
	int reader;

	cr_assert_eq(mkfifo(place_in(service.directory, "round"), 0600), 0);
	cr_assert_eq(mkfifo(place_in(service.directory, "stuck"), 0600), 0);
	reader = open(place_in(service.directory, "stuck"), O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	cr_assert_geq(reader, 0);
	race(&(struct track){ make_file, end_file, REDD__V1__MESSAGE__BODY_CLOSE_DONE });
	close(reader);
}
