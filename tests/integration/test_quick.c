/* A hundred thousand quick commands, many at a time: the output of none is ever empty, cut, doubled
 * or another one's (P1, P2), each is told to have ended once and right (P3, P4), and nothing is
 * left (P11).
 *
 * A command that has said something and is gone before anybody could look is what brokers lose
 * output of. So the subscription goes with the spawn, and the commands are of the shortest kind;
 * every so often comes one that says a lot, that uses both streams, or that a shell runs.
 */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "tests/lib/pattern.h"
#include "tests/lib/places.h"
#include "tests/lib/scene.h"

#define COMMANDS  100000
#define IN_FLIGHT 48
#define TEXT_MAX  64
#define LONG	  70001u /* more than a pipe holds */
#define STUCK_MS  30000

enum kind { QUICK, BOTH_STREAMS, LONG_OUTPUT, BY_SHELL };

/* One command that runs. */
struct slot {
	enum kind kind;
	unsigned number;
	struct redd_port *port;
	char expected[TEXT_MAX];
	char text[3][TEXT_MAX]; /* by stream; what does not fit is a failure anyway */
	uint64_t next[3];
	bool ended[3];
	unsigned n_exited;
	const char *wrong;
};

static struct slot slots[IN_FLIGHT];
static unsigned n_begun, n_done, n_all;

TestSuite(quick, .init = scene_begin, .fini = scene_end, .timeout = 200);

static enum kind kind_of(unsigned number)
{
	if (number % 512 == 11)
		return BY_SHELL;
	if (number % 128 == 9)
		return LONG_OUTPUT;
	return number % 16 == 5 ? BOTH_STREAMS : QUICK;
}

static void on_output(struct redd_subscription *s, const struct redd_output *o, void *user)
{
	struct slot *slot = user;
	uint64_t at = slot->next[o->stream];

	(void)s;
	if (o->offset != at)
		slot->wrong = "an offset that is not the next one";
	slot->next[o->stream] += o->size;
	if (slot->kind == LONG_OUTPUT) {
		if (pattern_match(o->data, o->size, o->offset) != o->size)
			slot->wrong = "other bytes than were written";
	} else if (at + o->size < TEXT_MAX) {
		memcpy(slot->text[o->stream] + at, o->data, o->size);
	}
}

static void on_gap(struct redd_subscription *s, const struct redd_gap *g, void *user)
{
	struct slot *slot = user;

	(void)s, (void)g;
	slot->wrong = "a gap";
}

static void on_end(struct redd_subscription *s, const struct redd_stream_end *e, void *user)
{
	struct slot *slot = user;

	(void)s;
	if (e->result || e->total != slot->next[e->stream] || slot->ended[e->stream])
		slot->wrong = "an end that does not add up";
	if (e->cause != REDD_END_OF_FILE)
		slot->wrong = "an end that is not the end of file";
	slot->ended[e->stream] = true;
}

static void on_exited(struct redd_subscription *s, const struct redd_exit *e, void *user)
{
	struct slot *slot = user;

	(void)s;
	slot->n_exited++;
	if (redd_exit_status(e) != 0)
		slot->wrong = "another status than 0";
}

static const char *slot_verdict(const struct slot *slot)
{
	if (slot->wrong)
		return slot->wrong;
	if (!slot->ended[1] || !slot->ended[2])
		return "closed without the end of a stream";
	if (slot->n_exited != 1)
		return "not exited exactly once";
	if (slot->kind == LONG_OUTPUT)
		return slot->next[1] == LONG && !slot->next[2] ? NULL : "cut";
	if (strcmp(slot->text[1], slot->expected))
		return slot->next[1] ? "another output" : "an empty output";
	return strcmp(slot->text[2], slot->kind == BOTH_STREAMS ? slot->expected : "")
		       ? "another error output"
		       : NULL;
}

static void slot_begin(struct slot *slot);

static void on_closed(struct redd_subscription *s, const struct redd_closed *c, void *user)
{
	struct slot *slot = user;
	const char *wrong = c->cause == REDD_PORT_CLOSED ? slot_verdict(slot) : "never closed";

	(void)s;
	cr_assert_null(wrong, "command %u: %s (\"%s\")", slot->number, wrong, slot->text[1]);
	redd_port_free(slot->port);
	slot->port = NULL;
	n_done++;
	if (n_begun < n_all)
		slot_begin(slot);
}

/* Without retention: the port goes as soon as its last reader has all. */
static void slot_spawn(struct slot *slot, const char *const *argv, const char *shell)
{
	const struct redd_subscribe_options watch = { .handler = { .user = slot,
								   .on_output = on_output,
								   .on_gap = on_gap,
								   .on_end = on_end,
								   .on_exited = on_exited,
								   .on_closed = on_closed } };
	struct redd_spawn_options o = { .argv = argv,
					.shell = shell,
					.environment_base = REDD_ENV_EMPTY,
					.subscribe = &watch,
					.set = REDD_SET_RETENTION };
	struct redd_call call = { 0 };

	cr_assert_eq(redd_spawn_start(scene.r, &o, &slot->port, &call), 0, "%s",
		     redd_last_error(scene.r)->message);
}

static void slot_begin(struct slot *slot)
{
	unsigned number = n_begun++;
	char text[TEXT_MAX], command[TEXT_MAX + 8];
	const char *const say[] = { place_prog("say"), text, NULL };
	const char *const both[] = { place_prog("say"), text, "1", "2", NULL };
	const char *const pattern[] = { place_prog("pattern"), "70001", NULL };

	*slot = (struct slot){ .kind = kind_of(number), .number = number };
	snprintf(text, sizeof(text), "this is command %u", number);
	snprintf(command, sizeof(command), "echo %s", text);
	snprintf(slot->expected, sizeof(slot->expected), "%.*s\n", TEXT_MAX - 2, text);
	switch (slot->kind) {
	case QUICK:
		slot_spawn(slot, say, NULL);
		break;
	case BOTH_STREAMS:
		slot_spawn(slot, both, NULL);
		break;
	case LONG_OUTPUT:
		slot_spawn(slot, pattern, NULL);
		break;
	case BY_SHELL:
		slot_spawn(slot, NULL, command);
		break;
	}
}

Test(quick, P2_S27_S37_S59_the_output_of_a_hundred_thousand_commands_is_never_empty_or_cut)
{
	int64_t begin = scene_now_ms();
	unsigned seen = 0;

	n_all = place_rounds(COMMANDS);
	for (unsigned i = 0; i < IN_FLIGHT && n_begun < n_all; i++)
		slot_begin(&slots[i]);
	for (int64_t last = begin; n_done < n_all;) {
		cr_assert_eq(redd_run_once(scene.r, 1000), 0, "%s",
			     redd_last_error(scene.r)->message);
		if (n_done != seen)
			last = scene_now_ms();
		seen = n_done;
		cr_assert_lt(scene_now_ms() - last, place_patience_ms(STUCK_MS),
			     "nothing ends any more; %u of %u have", n_done, n_all);
	}
	fprintf(stderr, "quick: %u commands in %lld ms\n", n_all,
		(long long)(scene_now_ms() - begin));
}
