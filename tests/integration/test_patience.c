/* P9: writes that are refused for want of room come again in their order, whoever else writes. */
#include <criterion/criterion.h>
#include <errno.h>
#include <signal.h>
#include <string.h>

#include "tests/lib/ask.h"
#include "tests/lib/outcome.h"
#include "tests/lib/places.h"
#include "tests/lib/scene.h"

TestSuite(patience, .init = scene_begin, .fini = scene_end, .timeout = 60);

#define BOUND (256 * 1024)

static struct redd_port *feed(const char *prog, struct redd_spawn_options o)
{
	static const struct redd_descriptor in = { .fd = 0, .kind = REDD_PIPE };
	const char *argv[] = { place_prog(prog), NULL };

	o.argv = argv;
	o.descriptors = &in;
	o.n_descriptors = 1;
	o.input_bound = BOUND;
	return scene_spawn(&o, &scene.c);
}

/* --- the broker's part ----------------------------------------------------------------------- */

static uint64_t send_write(struct peer *p, uint64_t port, size_t size, uint32_t batch)
{
	static uint8_t data[BOUND];
	Redd__V1__PortRef ref = REDD__V1__PORT_REF__INIT;
	Redd__V1__Write write = REDD__V1__WRITE__INIT;
	Redd__V1__Request request = REDD__V1__REQUEST__INIT;

	ref.by_case = REDD__V1__PORT_REF__BY_ID;
	ref.id = port;
	write.port = &ref;
	write.has_batch = batch;
	write.batch = batch;
	write.has_data = true;
	write.data = (ProtobufCBinaryData){ size, data };
	request.has_id = true;
	request.id = ++p->last_id;
	request.body_case = REDD__V1__REQUEST__BODY_WRITE;
	request.write = &write;
	cr_assert_eq(peer_request(p, &request), 0);
	return request.id;
}

static void is_refused(struct peer *p, uint64_t id)
{
	Redd__V1__Message *m = ask_answer(p, id);

	cr_assert(ask_is_error(m, REDD__V1__CODE__RESOURCE_EXHAUSTED), "%s", ask_text(m));
}

Test(patience, P9_a_batch_is_not_gone_on_with_behind_a_refused_write)
{
	struct redd_port *port = feed("hang", (struct redd_spawn_options){ 0 });
	uint64_t id = redd_port_id(port), refused[3];
	struct peer p, other;

	ask_greet(&p, scene.service.socket);
	ask_greet(&other, scene.service.socket);
	send_write(&p, id, BOUND, 1);		   /* fills the pipe, and waits */
	refused[0] = send_write(&p, id, BOUND, 1); /* no room for that */
	refused[1] = send_write(&p, id, 1, 1);	   /* but for this */
	send_write(&p, id, 1, 0);		   /* which is of no batch */
	refused[2] = send_write(&p, id, 1, 1);
	send_write(&p, id, 1, 2);
	send_write(&other, id, 1, 1); /* another connection's */
	for (int i = 0; i < 3; i++)
		is_refused(&p, refused[i]);
	cr_assert_eq(ask(&p, "ping {}")->body_case, REDD__V1__MESSAGE__BODY_PONG);
	cr_assert_eq(ask(&other, "ping {}")->body_case, REDD__V1__MESSAGE__BODY_PONG);
	cr_expect_eq(scene_stream(port, 0).waiting, 4);
	peer_close(&p);
	peer_close(&other);
	scene_kill(port);
}

/* --- both together --------------------------------------------------------------------------- */

#define WRITERS 3
#define EACH	30
#define PIECE	30000

struct writer {
	struct redd *r;
	struct outcome outcomes[EACH];
};

/* Far more than there is room for, at once; each piece is of one byte. */
static void writer_begin(struct writer *w, const struct redd_port *port, int number)
{
	const struct redd_write_options o = { .patient = true };
	struct redd_port *own;
	char piece[PIECE];

	w->r = service_connect(&scene.service);
	cr_assert_not_null(w->r);
	cr_assert_eq(redd_port_by_id(w->r, redd_port_id(port), &own), 0);
	for (int i = 0; i < EACH; i++) {
		memset(piece, number * EACH + i, sizeof(piece));
		cr_assert_eq(redd_write_start(own, piece, sizeof(piece), &o,
					      outcome_call(&w->outcomes[i])),
			     0);
	}
	cr_assert_eq(redd_ping(w->r), 0);
}

/* Of each writer all pieces, whole and in their order. */
static void pieces_check(void)
{
	const struct collect_stream *out = collect_stream(&scene.c, 1);
	int next[WRITERS] = { 0 };

	cr_assert_eq(out->size, WRITERS * EACH * PIECE);
	for (size_t at = 0; at < out->size; at += PIECE) {
		uint8_t byte = (uint8_t)out->data[at];

		cr_assert_lt(byte, WRITERS * EACH);
		cr_assert_eq(byte % EACH, next[byte / EACH]++, "%zu", at);
		for (size_t i = 0; i < PIECE; i++)
			cr_assert_eq((uint8_t)out->data[at + i], byte, "%zu", at + i);
	}
}

Test(patience, P9_patient_writers_keep_their_order_when_there_is_no_room)
{
	const struct redd_spawn_options roomy = { .log_size = 4 << 20 };
	struct redd_port *port = feed("cat", roomy);
	struct writer w[WRITERS];

	cr_assert_eq(redd_signal(port, SIGSTOP, REDD_LEADER, NULL), 0);
	for (int i = 0; i < WRITERS; i++)
		writer_begin(&w[i], port, i);
	cr_assert_eq(redd_signal(port, SIGCONT, REDD_LEADER, NULL), 0);
	for (int i = 0; i < WRITERS; i++) {
		cr_assert_eq(outcomes_wait(w[i].outcomes, EACH, w[i].r, 20000), 0);
		for (int j = 0; j < EACH; j++)
			cr_assert_eq(w[i].outcomes[j].result, 0);
		redd_free(w[i].r);
	}
	cr_assert_eq(redd_close(port, 0, NULL), 0);
	scene_finish(&scene.c);
	pieces_check();
	scene_forget(port);
}
