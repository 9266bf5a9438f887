/* Owns what such a suite begins with. What "changes nothing" means is said by Stats and List: they
 * are asked before and after, and all that tells of ports, spawns, subscriptions and bytes must be
 * the same. */
#include "tests/lib/refusals.h"

#include <criterion/criterion.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "tests/lib/ask.h"
#include "tests/lib/measure.h"
#include "tests/lib/places.h"

#define AT_ONCE_MS 1000
#define STATE_SIZE 4096

struct refusals refusals;

static unsigned n_subscriptions; /* of the peer that makes the ports */

static void port_make(struct peer *p, const char *name, const char *prog, const char *more)
{
	char text[1024];

	snprintf(text, sizeof(text), "name: \"%s\" labels { key: \"refusals\" } %s", name, more);
	ask_spawn(p, prog, text);
}

/* Returns when it has said that it is ready, so that nothing of it moves any more. */
static void hang_make(struct peer *p, const char *name, const char *more)
{
	char text[512];

	snprintf(text, sizeof(text), "subscribe { } %s", more);
	port_make(p, name, "hang", text);
	cr_assert_not_null(ask_event(p, REDD__V1__MESSAGE__BODY_OUTPUT));
	ask_send(p, "unsubscribe { subscription: %u }", ++n_subscriptions);
	cr_assert_not_null(ask_event(p, REDD__V1__MESSAGE__BODY_CLOSED));
}

static void ports_begin(struct peer *p)
{
	Redd__V1__Message *m;

	n_subscriptions = 0;
	hang_make(p, "runs", "descriptors { fd: 0 kind: KIND_PIPE }");
	hang_make(p, "shut", "descriptors { fd: 0 kind: KIND_PIPE }");
	m = ask(p, "close { port { name: \"shut\" } }");
	cr_assert_eq(m->body_case, REDD__V1__MESSAGE__BODY_CLOSE_DONE, "%s", ask_text(m));
	port_make(p, "ended", "exit", "descriptors { fd: 0 kind: KIND_PIPE }");
	m = ask(p, "wait { port { name: \"ended\" } until: CLOSED }");
	cr_assert_eq(m->body_case, REDD__V1__MESSAGE__BODY_WAITED, "%s", ask_text(m));
	hang_make(p, "tty", "terminal { }");
}

static void ports_end(struct peer *p)
{
	static const char *const names[] = { "runs", "shut", "ended", "tty" };
	uint64_t ids[4];

	for (int i = 0; i < 4; i++) {
		Redd__V1__Message *m = ask(p, "inspect { port { name: \"%s\" } }", names[i]);

		cr_assert_eq(m->body_case, REDD__V1__MESSAGE__BODY_PORT_INFO, "%s", ask_text(m));
		ids[i] = m->port_info->port;
	}
	for (int i = 0; i < 4; i++)
		ask_end(p, ids[i]);
}

void refusals_begin(void)
{
	cr_assert_eq(service_start(&refusals.service, NULL), 0);
	ask_greet(&refusals.peer, refusals.service.socket);
	ports_begin(&refusals.peer);
	cr_assert_eq(neighbour_start(&refusals.neighbour, &refusals.service), 0);
}

void refusals_end(void)
{
	cr_assert_eq(neighbour_stop(&refusals.neighbour), 0, "%s", refusals.neighbour.wrong);
	ports_end(&refusals.peer);
	peer_close(&refusals.peer);
	cr_assert_eq(service_finish(&refusals.service), 0);
}

/* --- what must not change -------------------------------------------------------------------- */

/* By how their names begin. */
static bool metric_matters(const char *name)
{
	static const char *const others[] = {
		"redd_requests_total", "redd_memory_max_bytes",	 "redd_loop_",
		"redd_descriptors",    "redd_input_bytes_total", "redd_output_bytes_total"
	};

	for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++)
		if (!strncmp(name, others[i], strlen(others[i])))
			return false;
	return true;
}

static size_t port_text(char *out, size_t size, const Redd__V1__PortInfo *info)
{
	size_t used = (size_t)snprintf(out, size, "port %llu state %d subscriptions %zu, ",
				       (unsigned long long)info->port, (int)info->state,
				       info->n_subscriptions);

	for (size_t i = 0; i < info->n_streams; i++)
		used += (size_t)snprintf(out + used, size - used, "%llu queued %llu, ",
					 (unsigned long long)info->streams[i]->total,
					 (unsigned long long)info->streams[i]->queued);
	return used;
}

static void state_take(struct peer *p, char text[STATE_SIZE])
{
	Redd__V1__Message *m = ask(p, "stats { }");
	size_t used = 0;
	uint64_t after = 0;

	cr_assert_eq(m->body_case, REDD__V1__MESSAGE__BODY_STATISTICS, "%s", ask_text(m));
	for (size_t i = 0; i < m->statistics->n_metrics; i++)
		if (metric_matters(m->statistics->metrics[i]->name))
			used += (size_t)snprintf(
				text + used, STATE_SIZE - used, "%s %llu, ",
				m->statistics->metrics[i]->name,
				(unsigned long long)m->statistics->metrics[i]->value);
	do { /* a page is what there is time for */
		m = ask(p, "list { details: true labels { key: \"refusals\" } after: %" PRIu64 " }",
			after);
		cr_assert_eq(m->body_case, REDD__V1__MESSAGE__BODY_PORTS, "%s", ask_text(m));
		for (size_t i = 0; i < m->ports->n_ports; i++) {
			used += port_text(text + used, STATE_SIZE - used, m->ports->ports[i]);
			after = m->ports->ports[i]->port;
		}
	} while (m->ports->more);
}

/* --- rows ------------------------------------------------------------------------------------ */

static void row_check(struct peer *p, const struct refusal *row)
{
	double begin = measure_now();
	uint64_t id = ++p->last_id;
	Redd__V1__Message *m;

	cr_assert_eq(ask_send_as(p, id, row->request), 0);
	m = ask_answer(p, id);
	cr_expect_lt((measure_now() - begin) * 1000, place_patience_ms(AT_ONCE_MS), "%s: late",
		     row->request);
	cr_expect_eq(m->body_case, REDD__V1__MESSAGE__BODY_ERROR, "%.200s: %s", row->request,
		     ask_text(m));
	if (m->body_case != REDD__V1__MESSAGE__BODY_ERROR)
		return;
	cr_expect_null(ask_check_error(m->error), "%.200s: %s", row->request, ask_text(m));
	cr_expect_eq(m->error->code, row->code, "%.200s: %s", row->request, ask_text(m));
	cr_expect(!row->sys_errno || m->error->sys_errno == row->sys_errno, "%.200s: %s",
		  row->request, ask_text(m));
	cr_expect(strstr(m->error->message, row->word), "%.200s: no '%s' in: %s", row->request,
		  row->word, ask_text(m));
}

/* One answer each: the next message after a row's is the Pong that was asked for behind it. */
static void alone_check(struct peer *p, const struct refusal *row)
{
	uint64_t id = ++p->last_id;
	Redd__V1__Message *m = NULL;

	cr_assert_eq(ask_send_as(p, id, "ping { }"), 0);
	cr_assert_eq(peer_recv(p, 10000, &m), 0);
	cr_expect(m->body_case == REDD__V1__MESSAGE__BODY_PONG && m->reply_to == id,
		  "%.200s: something else follows: %s", row->request, ask_text(m));
}

/* Shows the first figure that is another one. */
static void expect_same(const char *before, const char *after)
{
	size_t item = 0;

	for (size_t i = 0; before[i] && before[i] == after[i]; i++)
		if (before[i] == ' ' && i && before[i - 1] == ',')
			item = i + 1;
	cr_expect(!strcmp(before, after), "%.80s -> %.80s", before + item, after + item);
}

void refusals_check(struct peer *p, const struct refusal *rows, size_t n)
{
	static char before[STATE_SIZE], after[STATE_SIZE];

	state_take(p, before);
	for (size_t i = 0; i < n; i++) {
		row_check(p, &rows[i]);
		alone_check(p, &rows[i]);
	}
	state_take(p, after);
	expect_same(before, after);
}
