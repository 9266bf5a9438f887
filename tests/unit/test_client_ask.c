/* Lists, inspection, waits, watches, statistics: what the broker tells, copied out of its frame. */
#include "client/client.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "tests/lib/fake.h"

TestSuite(client_ask, .timeout = 20);

static ProtobufCBinaryData bytes(const char *text)
{
	return (ProtobufCBinaryData){ strlen(text), (uint8_t *)text };
}

/* A port with one of everything. */
static void port_info(Redd__V1__PortInfo *p, uint64_t id)
{
	static Redd__V1__Label label = REDD__V1__LABEL__INIT, *labels[] = { &label };
	static Redd__V1__Exit exit = REDD__V1__EXIT__INIT;
	static Redd__V1__StreamInfo stream = REDD__V1__STREAM_INFO__INIT, *streams[] = { &stream };
	static Redd__V1__StreamOffset offset = REDD__V1__STREAM_OFFSET__INIT,
				      *offsets[] = { &offset };
	static Redd__V1__SubscriptionInfo sub = REDD__V1__SUBSCRIPTION_INFO__INIT,
					  *subs[] = { &sub };
	static ProtobufCBinaryData args[2];
	static int32_t holders[] = { 7, 8 };

	*p = (Redd__V1__PortInfo)REDD__V1__PORT_INFO__INIT;
	p->has_port = p->has_name = p->has_state = p->has_program = true;
	p->port = id;
	p->name = bytes("n\xff");
	p->state = REDD__V1__PORT_STATE__DRAINING;
	p->program = bytes("/bin/x");
	args[0] = bytes("one");
	args[1] = bytes("");
	p->n_args = 2;
	p->args = args;
	label.key = (char *)"k";
	label.value = (char *)"v";
	p->n_labels = 1;
	p->labels = labels;
	exit.has_state = exit.has_signal = exit.has_core = true;
	exit.state = REDD__V1__EXIT__STATE__SIGNAL;
	exit.signal = 11;
	exit.core = true;
	p->exit = &exit;
	stream.has_stream = stream.has_total = stream.has_xxh3 = true;
	stream.stream = 1;
	stream.total = 1000;
	stream.xxh3 = 42;
	p->n_streams = 1;
	p->streams = streams;
	offset.has_stream = offset.has_offset = true;
	offset.stream = 1;
	offset.offset = 900;
	sub.client = (char *)"c";
	sub.n_offsets = 1;
	sub.offsets = offsets;
	p->n_subscriptions = 1;
	p->subscriptions = subs;
	p->n_holders = 2;
	p->holders = holders;
}

static void check_port(const struct redd_port_info *p, uint64_t id)
{
	cr_assert(p->port == id && p->state == REDD_DRAINING && !strcmp(p->name, "n\xff"));
	cr_assert(p->n_args == 2 && !strcmp(p->args[0], "one") && !*p->args[1] && !p->args[2]);
	cr_assert_str_eq(p->directory, "", "what was not told is empty, not NULL");
	cr_assert(!strcmp(p->labels[0].key, "k") && !strcmp(p->labels[0].value, "v"));
	cr_assert(p->has_exit && p->exit.signal == 11 && p->exit.core);
	cr_assert_eq(redd_exit_status(&p->exit), 139);
	cr_assert(p->streams[0].total == 1000 && p->streams[0].xxh3 == 42);
	cr_assert_str_eq(p->subscriptions[0].client, "c");
	cr_assert_eq(p->subscriptions[0].offsets[0].offset, 900);
	cr_assert(p->n_holders == 2 && p->holders[1] == 8);
}

static void say_ports(struct fake *f, uint64_t id)
{
	Redd__V1__Message m = fake_reply(id, REDD__V1__MESSAGE__BODY_PORTS);
	Redd__V1__Ports all = REDD__V1__PORTS__INIT;
	Redd__V1__PortInfo a, b, *list[] = { &a, &b };

	port_info(&a, 5);
	port_info(&b, 6);
	all.n_ports = 2;
	all.ports = list;
	all.has_more = all.has_sequence = true;
	all.more = true;
	all.sequence = 99;
	m.ports = &all;
	fake_say(f, &m);
}

Test(client_ask, a_list_is_one_block_that_outlives_its_frame)
{
	const struct redd_label label = { "k", NULL };
	const enum redd_port_state state = REDD_DRAINING;
	struct redd_list_options o = { .labels = &label,
				       .n_labels = 1,
				       .states = &state,
				       .n_states = 1,
				       .after = 4,
				       .limit = 2,
				       .details = true };
	struct redd_ports *ports;
	Redd__V1__List *asked;
	struct fake f;

	fake_open(&f);
	say_ports(&f, 2);
	cr_assert_eq(redd_list(f.r, &o, &ports), 0);
	asked = fake_heard(&f)->list;
	cr_assert(asked->after == 4 && asked->limit == 2 && asked->details);
	cr_assert(asked->states[0] == REDD__V1__PORT_STATE__DRAINING);
	cr_assert(!strcmp(asked->labels[0]->key, "k") && !asked->labels[0]->value);
	fake_error(&f, 3, REDD__V1__CODE__UNKNOWN, 0, "overwrites what the arena held");
	cr_assert_eq(redd_ping(f.r), -EIO);
	cr_assert(ports->n_ports == 2 && ports->more && ports->sequence == 99);
	check_port(&ports->ports[0], 5);
	check_port(&ports->ports[1], 6);
	redd_ports_free(ports);
	fake_close(&f);
}

static void on_list(struct redd *r, int result, const struct redd_reply *reply, void *user)
{
	(void)r;
	cr_assert_eq(result, 0);
	check_port(&reply->ports->ports[1], 6);
	*(int *)user += 1;
}

Test(client_ask, a_started_list_is_lent_to_its_callback)
{
	int n = 0;
	struct redd_call call = { .done = on_list, .user = &n };
	struct fake f;

	fake_open(&f);
	cr_assert_eq(redd_list_start(f.r, NULL, &call), 0);
	say_ports(&f, 2);
	cr_assert_eq(fake_settle(&f), 0);
	cr_assert_eq(n, 1);
	/* And to nobody at all. */
	cr_assert_eq(redd_list_start(f.r, NULL, NULL), 0);
	say_ports(&f, 3);
	cr_assert_eq(fake_settle(&f), 0);
	fake_close(&f);
}

Test(client_ask, inspecting_by_name_learns_the_id)
{
	Redd__V1__Message m = fake_reply(2, REDD__V1__MESSAGE__BODY_PORT_INFO);
	Redd__V1__PortInfo p;
	struct redd_ports *ports;
	struct redd_port *port;
	struct fake f;

	fake_open(&f);
	port_info(&p, 12);
	m.port_info = &p;
	fake_say(&f, &m);
	cr_assert_eq(redd_port_by_name(f.r, "n", &port), 0);
	cr_assert_eq(redd_inspect(port, &ports), 0);
	cr_assert_eq(ports->n_ports, 1);
	check_port(ports->ports, 12);
	cr_assert_eq(redd_port_id(port), 12);
	redd_ports_free(ports);
	fake_close(&f);
}

Test(client_ask, a_wait_tells_exit_holders_and_totals)
{
	Redd__V1__Message m = fake_reply(2, REDD__V1__MESSAGE__BODY_WAITED);
	Redd__V1__Waited w = REDD__V1__WAITED__INIT;
	Redd__V1__PortInfo p;
	struct redd_port *port;
	struct redd_waited waited;
	Redd__V1__Wait *asked;
	int32_t many[100];
	struct fake f;

	fake_open(&f);
	port_info(&p, 1);
	for (int i = 0; i < 100; i++)
		many[i] = i;
	w.has_port = true;
	w.port = 3;
	w.exit = p.exit;
	w.n_holders = 100;
	w.holders = many;
	w.n_streams = 1;
	w.streams = p.streams;
	m.waited = &w;
	fake_say(&f, &m);
	cr_assert_eq(redd_port_by_id(f.r, 3, &port), 0);
	cr_assert_eq(redd_wait(port, REDD_UNTIL_CLOSED, 1500, &waited), 0);
	asked = fake_heard(&f)->wait;
	cr_assert(asked->until == REDD__V1__WAIT__UNTIL__CLOSED && asked->timeout_ms == 1500);
	cr_assert(waited.port == 3 && waited.exit.signal == 11);
	cr_assert_eq(waited.n_holders, REDD_HOLDERS_MAX, "more than there is room for");
	cr_assert(waited.n_streams == 1 && waited.streams[0].total == 1000);
	cr_assert_eq(redd_wait_start(port, REDD_UNTIL_EXITED, (int64_t)1 << 40, NULL), -EINVAL);
	fake_close(&f);
}

Test(client_ask, a_wait_for_more_streams_than_there_can_be_is_a_lie)
{
	Redd__V1__Message m = fake_reply(2, REDD__V1__MESSAGE__BODY_WAITED);
	Redd__V1__Waited w = REDD__V1__WAITED__INIT;
	Redd__V1__PortInfo p;
	Redd__V1__StreamInfo *many[REDD_STREAMS_MAX + 1];
	struct redd_port *port;
	struct redd_waited waited;
	struct fake f;

	fake_open(&f);
	port_info(&p, 1);
	for (size_t i = 0; i <= REDD_STREAMS_MAX; i++)
		many[i] = p.streams[0];
	w.n_streams = REDD_STREAMS_MAX + 1;
	w.streams = many;
	m.waited = &w;
	fake_say(&f, &m);
	cr_assert_eq(redd_port_by_id(f.r, 3, &port), 0);
	cr_assert_eq(redd_wait(port, REDD_UNTIL_CLOSED, -1, &waited), -EPROTO);
	cr_assert_eq(waited.exit.state, REDD_EXIT_UNKNOWN);
	fake_close(&f);
}

static void say_matched(struct fake *f, uint64_t id, uint64_t offset, uint64_t end)
{
	Redd__V1__Message m = fake_reply(id, REDD__V1__MESSAGE__BODY_MATCHED);
	Redd__V1__Matched matched = REDD__V1__MATCHED__INIT;
	Redd__V1__Range set = REDD__V1__RANGE__INIT, unset = REDD__V1__RANGE__INIT;
	Redd__V1__Range *groups[] = { &set, &unset };

	set.has_offset = set.has_end = true;
	set.offset = offset;
	set.end = offset + 1;
	matched.has_port = matched.has_what = matched.has_offset = matched.has_end = true;
	matched.port = 9;
	matched.what = REDD__V1__MATCHED__WHAT__MATCH;
	matched.offset = offset;
	matched.end = end;
	matched.n_groups = 2;
	matched.groups = groups;
	matched.has_data = true;
	matched.data = (ProtobufCBinaryData){ 3, (uint8_t *)"a\0b" };
	m.matched = &matched;
	fake_say(f, &m);
}

Test(client_ask, an_expect_says_what_it_waits_for_and_tells_what_came)
{
	const struct redd_pattern patterns[] = {
		{ .text = "a\0b", .size = 3 }, { .text = "x+", .regex = true, .ignore_case = true }
	};
	const struct redd_write_options how = { .at_offset = true, .offset = 7, .close = true };
	const struct redd_expect_options o = { .patterns = patterns,
					       .n_patterns = 2,
					       .has_from = true,
					       .idle_ms = 5,
					       .exit = true,
					       .data = "hi",
					       .data_size = 2,
					       .write = &how };
	const struct redd_expect_options many = { .patterns = patterns, .n_patterns = 33 };
	struct redd_matched *matched;
	Redd__V1__Expect *asked;
	struct redd_port *port;
	struct fake f;

	fake_open(&f);
	cr_assert_eq(redd_port_by_name(f.r, "n", &port), 0);
	say_matched(&f, 2, 100, 103);
	cr_assert_eq(redd_expect(port, &o, 0, &matched), 0);
	asked = fake_heard(&f)->expect;
	cr_assert(asked->has_from && asked->from == 0 && asked->idle_ms == 5 && asked->exit);
	cr_assert(asked->has_timeout_ms && asked->timeout_ms == 0 && !asked->has_block);
	cr_assert(asked->n_patterns == 2 && asked->patterns[0]->text.len == 3);
	cr_assert_eq(asked->patterns[1]->is_case, REDD__V1__PATTERN__IS_REGEX);
	cr_assert(asked->patterns[1]->ignore_case && !asked->patterns[0]->ignore_case);
	cr_assert(asked->write->offset == 7 && asked->write->close && asked->write->data.len == 2);
	fake_error(&f, 3, REDD__V1__CODE__UNKNOWN, 0, "overwrites what the arena held");
	cr_assert_eq(redd_ping(f.r), -EIO);
	cr_assert(matched->what == REDD_MATCH && matched->offset == 100 && matched->end == 103);
	cr_assert(matched->size == 3 && !memcmp(matched->data, "a\0b", 4));
	cr_assert(matched->n_groups == 2 && matched->groups[0].end == 101);
	cr_assert(!matched->groups[1].is_set && !matched->has_written && !matched->has_exit);
	redd_matched_free(matched);
	cr_assert_eq(redd_port_id(port), 9, "learned from the answer");
	say_matched(&f, 4, 100, 99);
	cr_assert_eq(redd_expect(port, &o, -1, &matched), -EPROTO,
		     "a match that ends before it begins");
	cr_assert_eq(redd_expect(port, &many, -1, &matched), -EINVAL);
	fake_close(&f);
}

Test(client_ask, statistics_are_one_block)
{
	Redd__V1__Message m = fake_reply(2, REDD__V1__MESSAGE__BODY_STATISTICS);
	Redd__V1__Statistics s = REDD__V1__STATISTICS__INIT;
	Redd__V1__Metric a = REDD__V1__METRIC__INIT, b = REDD__V1__METRIC__INIT,
			 *list[] = { &a, &b };
	struct redd_metrics *metrics;
	struct fake f;

	fake_open(&f);
	a.name = (char *)"redd_ports";
	a.has_value = true;
	a.value = 3;
	b.name = (char *)"redd_spawns_total";
	b.has_type = true;
	b.type = REDD__V1__METRIC__TYPE__COUNTER;
	s.n_metrics = 2;
	s.metrics = list;
	m.statistics = &s;
	fake_say(&f, &m);
	cr_assert_eq(redd_stats(f.r, &metrics), 0);
	cr_assert(metrics->n_metrics == 2 && metrics->metrics[0].value == 3);
	cr_assert(metrics->metrics[1].counter && !metrics->metrics[0].counter);
	cr_assert_str_eq(metrics->metrics[1].name, "redd_spawns_total");
	cr_assert_str_eq(metrics->metrics[1].help, "");
	redd_metrics_free(metrics);
	fake_close(&f);
}

/* --- watches --------------------------------------------------------------------------------- */

static char lives[256];

static void on_life(struct redd_watch *w, const struct redd_life *l, void *user)
{
	size_t used = strlen(lives);

	(void)w;
	(void)user;
	snprintf(lives + used, sizeof(lives) - used, "%d:%llu%s%s ", l->what,
		 (unsigned long long)l->sequence, l->name ? "=" : "", l->name ? l->name : "");
}

Test(client_ask, a_watch_hears_its_events_until_it_is_freed)
{
	struct redd_watch_options o = { .on_life = on_life, .has_after = true, .after = 0 };
	Redd__V1__Request *request;
	struct redd_watch *w;
	struct fake f;

	fake_open(&f);
	fake_watching(&f, 2, 9, 50);
	cr_assert_eq(redd_watch(f.r, &o, &w), 0);
	request = fake_heard(&f);
	cr_assert(request->watch->has_after && request->watch->after == 0);
	cr_assert_eq(redd_watch_sequence(w), 50);
	fake_life(&f, 9, REDD__V1__LIFE__WHAT__STARTED, 51);
	fake_life(&f, 8, REDD__V1__LIFE__WHAT__STARTED, 52);
	fake_life(&f, 9, REDD__V1__LIFE__WHAT__CLOSED, 53);
	cr_assert_eq(fake_settle(&f), 0);
	cr_assert_str_eq(lives, "1:51=p 3:53=p ");
	redd_watch_free(w);
	fake_life(&f, 9, REDD__V1__LIFE__WHAT__CLOSED, 54);
	cr_assert_eq(fake_settle(&f), 0);
	cr_assert_str_eq(lives, "1:51=p 3:53=p ");
	request = fake_heard(&f);
	cr_assert(request && request->body_case == REDD__V1__REQUEST__BODY_UNWATCH &&
		  request->unwatch->watch == 9);
	fake_close(&f);
}

Test(client_ask, a_watch_hears_of_the_loss_last)
{
	struct redd_watch_options o = { .on_life = on_life };
	struct redd_watch *w;
	struct fake f;

	fake_open(&f);
	fake_watching(&f, 2, 9, 50);
	cr_assert_eq(redd_watch(f.r, &o, &w), 0);
	fake_life(&f, 9, REDD__V1__LIFE__WHAT__STARTED, 51);
	fake_die(&f);
	cr_assert_eq(fake_settle(&f), -ENOTCONN);
	cr_assert_str_eq(lives, "1:51=p 100:0 ");
	fake_close(&f);
}

Test(client_ask, a_watch_freed_before_its_answer_is_taken_back_with_it)
{
	struct redd_watch_options o = { .on_life = on_life };
	Redd__V1__Request *request;
	struct redd_watch *w;
	struct fake f;

	fake_open(&f);
	cr_assert_eq(redd_watch_start(f.r, &o, &w, NULL), 0);
	redd_watch_free(w);
	fake_watching(&f, 2, 9, 50);
	fake_life(&f, 9, REDD__V1__LIFE__WHAT__STARTED, 51);
	cr_assert_eq(fake_settle(&f), 0);
	fake_heard(&f);
	request = fake_heard(&f);
	cr_assert(request && request->body_case == REDD__V1__REQUEST__BODY_UNWATCH);
	cr_assert_str_eq(lives, "");
	fake_close(&f);
}

Test(client_ask, a_refused_watch_says_why)
{
	struct redd_watch_options o = { .on_life = on_life, .has_after = true, .after = 1 };
	struct redd_watch *w = NULL;
	struct fake f;

	fake_open(&f);
	fake_error(&f, 2, REDD__V1__CODE__OUT_OF_RANGE, 0, "too old");
	cr_assert_eq(redd_watch(f.r, &o, &w), -ERANGE);
	cr_assert_null(w);
	cr_assert_str_eq(lives, "");
	fake_close(&f);
}

Test(client_ask, a_selector_has_a_bound)
{
	struct redd_label labels[33];
	struct redd_list_options o = { .labels = labels, .n_labels = 33 };
	struct redd_ports *ports;
	struct fake f;

	for (size_t i = 0; i < 33; i++)
		labels[i] = (struct redd_label){ "k", "v" };
	fake_open(&f);
	cr_assert_eq(redd_list(f.r, &o, &ports), -EINVAL);
	fake_close(&f);
}

Test(client_ask, shutdown_and_cancel_say_what_they_mean)
{
	Redd__V1__Request *request;
	struct redd_call call = { 0 };
	struct fake f;

	fake_open(&f);
	cr_assert_eq(redd_shutdown(f.r, 60001), -EINVAL);
	cr_assert_eq(redd_shutdown_start(f.r, -1, &call), 0);
	cr_assert_eq(redd_cancel_start(f.r, call.request, NULL), 0);
	cr_assert_eq(redd_shutdown_start(f.r, 0, NULL), 0);
	cr_assert_eq(fake_settle(&f), 0);
	request = fake_heard(&f);
	cr_assert(request->body_case == REDD__V1__REQUEST__BODY_SHUTDOWN &&
		  !request->shutdown->has_drain_ms);
	cr_assert_eq(fake_heard(&f)->cancel->request, call.request);
	request = fake_heard(&f);
	cr_assert(request->shutdown->has_drain_ms && request->shutdown->drain_ms == 0);
	fake_close(&f);
}

Test(client_ask, a_shorter_options_struct_of_an_older_program_is_understood)
{
	struct redd_list_options o = { .size = offsetof(struct redd_list_options, limit),
				       .after = 3,
				       .limit = 77 };
	Redd__V1__List *asked;
	struct fake f;

	fake_open(&f);
	cr_assert_eq(redd_list_start(f.r, &o, NULL), 0);
	cr_assert_eq(fake_settle(&f), 0);
	asked = fake_heard(&f)->list;
	cr_assert(asked->after == 3 && !asked->has_limit);
	fake_close(&f);
}
