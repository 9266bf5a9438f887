/* Clients that do with the shared memory what libredd never would (P7, P14): what they can and
 * cannot do, and that it hurts nobody else.
 *
 * What a control page may say is in tests/unit/test_shared.c; that lies hurt nobody is here.
 */
#include <criterion/criterion.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

#include "proto/base/fd.h"
#include "proto/shared.h"
#include "tests/lib/ask.h"
#include "tests/lib/neighbour.h"
#include "tests/lib/places.h"
#include "tests/lib/random.h"
#include "tests/lib/scene.h"

#define LOG  65536u
#define MEBI 1048576u
#define WAIT 30000

TestSuite(sharing_hostile, .init = scene_begin_shared, .fini = scene_end, .timeout = 120);

struct liar {
	struct peer p;
	uint64_t port, subscription;
	int fds[2]; /* control page, log */
	struct shared_control *control;
};

/* Subscribes to stream 1 of a port that does not end by itself. */
static void liar_open(struct liar *l, uint64_t port, const char *overflow)
{
	Redd__V1__Message *m;

	cr_assert_eq(peer_open(&l->p, scene.service.socket), 0);
	m = ask(&l->p, "hello { version: 1 features: \"shared\" features: \"other\" }");
	cr_assert_eq(m->body_case, REDD__V1__MESSAGE__BODY_WELCOME);
	cr_assert_eq(m->welcome->n_features, 1);
	cr_assert_str_eq(m->welcome->features[0], "shared");
	m = ask(&l->p,
		"subscribe { port { id: %llu } streams: 1 shared: true overflow: OVERFLOW_%s }",
		(unsigned long long)port, overflow);
	cr_assert_eq(m->body_case, REDD__V1__MESSAGE__BODY_SUBSCRIBED, "%s", ask_text(m));
	cr_assert_not_null(m->subscribed->shared);
	cr_assert_eq(m->subscribed->shared->layout, SHARED_LAYOUT);
	l->subscription = m->subscribed->subscription;
	cr_assert(peer_take_fds(&l->p, l->fds, 2));
	l->control =
		mmap(NULL, SHARED_CONTROL_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, l->fds[0], 0);
	cr_assert_neq(l->control, MAP_FAILED);
}

static void liar_close(struct liar *l)
{
	munmap(l->control, SHARED_CONTROL_SIZE);
	fd_close_many(l->fds, 2);
	peer_close(&l->p);
}

/* Random words anywhere in the page, the honest broker's too, and now and then a call to look. */
static void liar_lie(struct liar *l, struct random *random)
{
	uint64_t *words = (uint64_t *)l->control;

	for (int i = 0; i < 20; i++)
		words[random_below(random, SHARED_CONTROL_SIZE / 8)] = random_number(random);
	l->control->readers[0].sleep = random_number(random);
	if (random_chance(random, 2)) /* else one that blocks would hold the child for ever */
		l->control->readers[0].position = UINT64_MAX;
	if (random_chance(random, 20))
		ask_send_as(&l->p, 0, "credit { subscription: 1 }");
}

Test(sharing_hostile, P14_the_memory_can_be_read_and_neither_written_nor_cut)
{
	struct redd_port *port = scene_steered("echo hi; " SCENE_WAIT, NULL);
	struct liar l;
	const struct shared_log *log;
	char path[64];
	int fd;

	liar_open(&l, redd_port_id(port), "DROP");
	cr_expect_eq(write(l.fds[1], "x", 1), -1);
	cr_expect_eq(pwrite(l.fds[1], "x", 1, 4096), -1);
	cr_expect_eq(ftruncate(l.fds[1], 0), -1);
	cr_expect_eq(ftruncate(l.fds[0], 0), -1);
	cr_expect_eq(ftruncate(l.fds[0], 1 << 20), -1);
	cr_expect_eq(fallocate(l.fds[1], FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4096), -1);
	cr_expect_eq(mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, l.fds[1], 0), MAP_FAILED);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", l.fds[1]);
	fd = open(path, O_RDWR | O_CLOEXEC);
	if (fd >= 0) {
		cr_expect_eq(write(fd, "x", 1), -1);
		cr_expect_eq(mmap(NULL, 4096, PROT_WRITE, MAP_SHARED, fd, 0), MAP_FAILED);
		close(fd);
	}
	log = mmap(NULL, 4096, PROT_READ, MAP_SHARED, l.fds[1], 0);
	cr_assert_neq(log, MAP_FAILED);
	cr_expect_eq(log->magic, SHARED_LOG_MAGIC);
	while (scene_stream(port, 1).total < 3)
		;
	cr_expect_eq(shared_load(&log->head), 3);
	munmap((void *)log, 4096);
	liar_close(&l);
	cr_assert_eq(redd_close(port, 3, NULL), 0);
	scene_forget(port);
}

Test(sharing_hostile, a_shared_subscription_is_raw)
{
	struct redd_port *port = scene_steered(SCENE_WAIT, NULL);
	struct peer p;

	ask_greet(&p, scene.service.socket);
	cr_expect(ask_is_error(ask(&p,
				   "subscribe { port { id: %llu } shared: true "
				   "framing { cut: LINES } }",
				   (unsigned long long)redd_port_id(port)),
			       REDD__V1__CODE__INVALID_ARGUMENT));
	peer_close(&p);
	cr_assert_eq(redd_close(port, 3, NULL), 0);
	scene_forget(port);
}

/* Whatever is written into control pages, and however often the broker is told to look: the honest
 * get every byte, the child is not held back longer than its own readers like, and round trips take
 * as long as ever. */
Test(sharing_hostile, P7_lying_control_pages_hurt_nobody_else)
{
	static const char *const overflows[] = { "BLOCK", "DROP", "CANCEL" };
	const char *const argv[] = { place_prog("pattern"), "1000000000000", NULL };
	const struct redd_spawn_options o = { .size = sizeof(o), .argv = argv, .log_size = LOG };
	const uint64_t seed = (uint64_t)getpid();
	struct random random = { seed };
	struct neighbour n;
	struct collect honest[2];
	struct redd_port *port;
	uint64_t id;
	struct liar liars[6];
	struct redd_subscription *s;

	scene.c.patterned = scene.c.drop_data = true;
	port = scene_spawn(&o, &scene.c); /* for ever, by shared memory */
	for (int i = 0; i < 2; i++) {
		collect_init(&honest[i]);
		honest[i].patterned = honest[i].drop_data = honest[i].starts_anywhere = true;
		honest[i].watch.shared = i;
		honest[i].watch.overflow = REDD_DROP;
		honest[i].watch.from = REDD_FROM_NOW;
		honest[i].watch.streams = (const uint32_t[]){ 1 };
		honest[i].watch.n_streams = 1;
		cr_assert_eq(redd_subscribe(port, &honest[i].watch, &s), 0);
	}
	cr_assert_eq(neighbour_start(&n, &scene.service), 0);
	for (size_t i = 0; i < ARRAY_SIZE(liars); i++)
		liar_open(&liars[i], redd_port_id(port), overflows[i % 3]);
	for (unsigned round = 0; round < place_rounds(100); round++) {
		for (int i = 0; i < 100; i++)
			liar_lie(&liars[random_below(&random, ARRAY_SIZE(liars))], &random);
		cr_assert_eq(redd_run_once(scene.r, 0), 0);
		neighbour_wait(&n, 1); /* the broker has had its turns */
	}
	for (size_t i = 0; i < ARRAY_SIZE(liars); i++)
		liar_close(&liars[i]); /* those that block let the child go now at the latest */
	neighbour_wait(&n, 3);
	cr_assert_eq(neighbour_stop(&n), 0, "%s (seed %lu)", n.wrong, seed);
	for (int i = 0; i < 2; i++) {
		uint64_t more = collect_stream(&honest[i], 1)->next + MEBI;

		cr_assert_eq(collect_wait_bytes(&honest[i], scene.r, 1, more, WAIT), 0);
		cr_expect_str_eq(honest[i].wrong, "", "seed %lu: %s", seed, honest[i].wrong);
		collect_deinit(&honest[i]);
	}
	cr_expect_str_eq(scene.c.wrong, "");
	id = redd_port_id(port);
	redd_free(scene.r); /* with all of it under way; its port is killed */
	scene.r = service_connect(&scene.service);
	cr_assert_eq(redd_port_by_id(scene.r, id, &port), 0);
	scene_forget(port);
}
