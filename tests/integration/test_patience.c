/* P9: writes that are refused for want of room come again in their order, whoever else writes. */
#include <criterion/criterion.h>
#include <errno.h>
#include <signal.h>
#include <string.h>

#include "tests/lib/ask.h"
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
