/* Signals to whole trees by the thousand, each of which sends an opener out (P7, P15): past so many
 * they are refused, the broker's descriptors do not go, and others' get through. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "proto/limits.h"
#include "tests/lib/ask.h"
#include "tests/lib/places.h"
#include "tests/lib/service.h"

#define CLIENTS	  4
#define EACH	  200
#define SLACK	  20
#define SIGNALLED REDD__V1__MESSAGE__BODY_SIGNALLED
#define EXHAUSTED REDD__V1__CODE__RESOURCE_EXHAUSTED

static struct service service;
static struct peer clients[CLIENTS], polite;
static uint64_t hang;

static void greet(struct peer *p)
{
	cr_assert_eq(peer_open(p, service.socket), 0);
	cr_assert_eq(peer_hello(p), 0);
}

static void set_up(void)
{
	cr_assert_eq(service_start(&service, NULL), 0);
	greet(&polite);
	for (int i = 0; i < CLIENTS; i++)
		greet(&clients[i]);
	hang = ask_spawn(&polite, "hang", "");
}

static void tear_down(void)
{
	ask_end(&polite, hang);
	for (int i = 0; i < CLIENTS; i++)
		peer_close(&clients[i]);
	peer_close(&polite);
	cr_assert_eq(service_finish(&service), 0);
}

TestSuite(hostile_signals, .init = set_up, .fini = tear_down, .timeout = 120);

static uint64_t metric(const char *name)
{
	Redd__V1__Message *m = ask(&polite, "stats { }");

	for (size_t i = 0; i < m->statistics->n_metrics; i++)
		if (!strcmp(m->statistics->metrics[i]->name, name))
			return m->statistics->metrics[i]->value;
	cr_assert_fail("no metric %s", name);
	return 0;
}

static void flood(struct peer *p)
{
	struct buf all;
	char text[96];

	snprintf(text, sizeof(text), "signal { port { id: %llu } target: TARGET_TREE }",
		 (unsigned long long)hang);
	buf_init(&all, 1u << 20);
	for (uint64_t i = 0; i < EACH; i++)
		ask_pack(&all, 1000 + i, text);
	cr_assert_eq(peer_send(p, buf_head(&all), buf_size(&all)), 0);
	buf_deinit(&all);
}

/* Returns how many were refused. An opener may take too long where everything is slow. */
static int count_refused(struct peer *p)
{
	Redd__V1__Message *m;
	int refused = 0;

	for (int i = 0; i < EACH; i++) {
		cr_assert_eq(peer_recv(p, 20000, &m), 0);
		if (!ask_is_error(m, EXHAUSTED))
			continue;
		cr_expect(m->error->has_retry_after_ms && strstr(m->error->message, "trees"), "%s",
			  ask_text(m));
		refused++;
	}
	return refused;
}

Test(hostile_signals, P7_P15_those_to_trees_are_refused_past_so_many_and_others_get_through)
{
	uint64_t before = metric("redd_descriptors");
	Redd__V1__Message *m;

	for (int i = 0; i < CLIENTS; i++)
		flood(&clients[i]);
	cr_expect_leq(metric("redd_errands_out"), ERRANDS_ASKED_OUT);
	cr_expect_leq(metric("redd_errands"), CLIENTS * QUOTA_ERRANDS_CONN);
	cr_expect_leq(metric("redd_descriptors"), before + 4 * ERRANDS_ASKED_OUT + SLACK);
	m = ask(&polite, "signal { port { id: %llu } target: TARGET_TREE }",
		(unsigned long long)hang);
	cr_expect(m->body_case == SIGNALLED || place_patience_ms(1) > 1, "%s", ask_text(m));
	for (int i = 0; i < CLIENTS; i++)
		cr_expect_gt(count_refused(&clients[i]), 0);
	while (metric("redd_errands"))
		;
}
