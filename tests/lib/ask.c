/* Owns nothing: the peer holds socket, bytes and arena. Whatever a test could not go on with
 * (no answer, a closed socket) is an assertion here, so that suites read as what they test. */
#include "tests/lib/ask.h"

#include <criterion/criterion.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "proto/frame.h"
#include "tests/lib/census.h"
#include "tests/lib/places.h"
#include "tests/lib/text.h"

#define ANSWER_MS    20000
#define TEXT_SIZE    8192
#define SENTENCE_LOW 15 /* fewer characters tell nobody what to do */

void ask_greet(struct peer *p, const char *socket)
{
	cr_assert_eq(peer_open(p, socket), 0);
	cr_assert_eq(peer_hello(p), 0);
}

void ask_pack(struct buf *out, uint64_t id, const char *text)
{
	text_pack_request(out, id, text);
}

int ask_send_as(struct peer *p, uint64_t id, const char *text)
{
	struct buf out;
	int r;

	buf_init(&out, 64u << 20);
	ask_pack(&out, id, text);
	r = peer_send(p, buf_head(&out), buf_size(&out));
	buf_deinit(&out);
	return r;
}

static uint64_t send_next(struct peer *p, const char *format, va_list args)
{
	char text[TEXT_SIZE];
	uint64_t id = ++p->last_id;
	int n = vsnprintf(text, sizeof(text), format, args), r;

	cr_assert_lt(n, TEXT_SIZE);
	r = ask_send_as(p, id, text);
	cr_assert_eq(r, 0, "%s: %s", text, strerror(-r));
	return id;
}

uint64_t ask_send(struct peer *p, const char *format, ...)
{
	va_list args;
	uint64_t id;

	va_start(args, format);
	id = send_next(p, format, args);
	va_end(args);
	return id;
}

Redd__V1__Message *ask_answer(struct peer *p, uint64_t id)
{
	Redd__V1__Message *m = NULL;
	int r = peer_answer(p, id, ANSWER_MS, &m);

	cr_assert_eq(r, 0, "request %d: no answer but %d", (int)id, r);
	return m;
}

Redd__V1__Message *ask(struct peer *p, const char *format, ...)
{
	va_list args;
	uint64_t id;

	va_start(args, format);
	id = send_next(p, format, args);
	va_end(args);
	return ask_answer(p, id);
}

Redd__V1__Message *ask_event(struct peer *p, Redd__V1__Message__BodyCase what)
{
	Redd__V1__Message *m;

	while (peer_recv(p, ANSWER_MS, &m) == 0)
		if (m->body_case == what)
			return m;
	return NULL;
}

/* --- errors ---------------------------------------------------------------------------------- */

const char *ask_check_error(const Redd__V1__Error *e)
{
	const char *text = e->message ? e->message : "";

	if (!e->has_code || e->code == REDD__V1__CODE__OK)
		return "it has no code";
	if (strlen(text) < SENTENCE_LOW)
		return "it has no sentence";
	for (const char *c = text; *c; c++)
		if ((unsigned char)*c < 0x20 || *c == 0x7f)
			return "its sentence has control characters";
	if (e->has_sys_errno && (e->sys_errno <= 0 || e->sys_errno > 133))
		return "its errno is none";
	return NULL;
}

bool ask_is_error(const Redd__V1__Message *m, Redd__V1__Code code)
{
	return m && m->body_case == REDD__V1__MESSAGE__BODY_ERROR && m->error->code == code &&
	       !ask_check_error(m->error);
}

const char *ask_text(const Redd__V1__Message *m)
{
	static char text[1024];
	const Redd__V1__Error *e = NULL;

	if (!m)
		return "nothing";
	if (m->body_case == REDD__V1__MESSAGE__BODY_ERROR)
		e = m->error;
	if (m->body_case == REDD__V1__MESSAGE__BODY_BYE)
		e = m->bye->error;
	if (e)
		snprintf(text, sizeof(text), "%s %d (errno %d): %s%s%s",
			 m->error == e ? "Error" : "Bye", (int)e->code, e->sys_errno,
			 e->message ? e->message : "no sentence",
			 ask_check_error(e) ? "; but " : "",
			 ask_check_error(e) ? ask_check_error(e) : "");
	else
		snprintf(text, sizeof(text), "message %d to %llu", (int)m->body_case,
			 (unsigned long long)m->reply_to);
	return text;
}

/* --- ports ----------------------------------------------------------------------------------- */

uint64_t ask_spawn(struct peer *p, const char *prog, const char *more)
{
	Redd__V1__Message *m =
		ask(p, "spawn { program: \"%s\" %s }", place_prog(prog), more ? more : "");

	cr_assert_eq(m->body_case, REDD__V1__MESSAGE__BODY_STARTED, "%s", ask_text(m));
	return m->started->port;
}

void ask_stop(struct peer *p, uint64_t port)
{
	Redd__V1__Message *m = ask(p, "signal { port { id: %llu } signal: %d }",
				   (unsigned long long)port, SIGSTOP);
	char state = 0;

	cr_assert_eq(m->body_case, REDD__V1__MESSAGE__BODY_SIGNALLED, "%s", ask_text(m));
	while (state != 'T') {
		m = ask(p, "inspect { port { id: %llu } }", (unsigned long long)port);
		cr_assert_eq(m->body_case, REDD__V1__MESSAGE__BODY_PORT_INFO, "%s", ask_text(m));
		cr_assert_neq(census_parent(m->port_info->pid, &state), 0, "it has ended");
	}
}

void ask_end(struct peer *p, uint64_t port)
{
	Redd__V1__Message *m;

	do /* a slow machine cannot always look through all processes in time */
		m = ask(p, "signal { port { id: %llu } signal: 9 target: TARGET_TREE }",
			(unsigned long long)port);
	while (ask_is_error(m, REDD__V1__CODE__UNAVAILABLE));
	m = ask(p, "wait { port { id: %llu } until: CLOSED }", (unsigned long long)port);
	cr_assert_eq(m->body_case, REDD__V1__MESSAGE__BODY_WAITED, "%s", ask_text(m));
	m = ask(p, "forget { port { id: %llu } }", (unsigned long long)port);
	cr_assert_eq(m->body_case, REDD__V1__MESSAGE__BODY_DONE, "%s", ask_text(m));
}
