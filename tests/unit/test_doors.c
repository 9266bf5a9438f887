/* Descriptors that go out with answers: with the first byte of theirs, whatever else is on its way
 * and however little the client takes at once; and what a shared subscription does where there are
 * none.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "broker/reply.h"
#include "broker/sharing.h"
#include "broker/subscription.h"
#include "proto/base/fd.h"
#include "proto/codec.h"
#include "proto/fdpass.h"
#include "proto/frame.h"
#include "proto/redd.pb-c.h"
#include "tests/lib/core.h"
#include "tests/lib/countdown.h"
#include "tests/lib/random.h"

#define ANSWERS 400

static struct core *core;
static struct conn *conn;
static int client;

static void init(void)
{
	core = core_open();
	conn = core_connect(core, &client);
}

static void fini(void)
{
	fd_close(client);
	core_close(core);
}

TestSuite(doors, .timeout = 60, .init = init, .fini = fini);

/* A descriptor that can be told from others. */
static int marked_fd(unsigned mark)
{
	int fd = memfd_create("marked", MFD_CLOEXEC);

	cr_assert_geq(fd, 0);
	cr_assert_eq(ftruncate(fd, mark), 0);
	return fd;
}

static unsigned mark_of(int fd)
{
	struct stat st;

	cr_assert_eq(fstat(fd, &st), 0);
	return (unsigned)st.st_size;
}

/* How many go with an answer, and which. */
static unsigned count_for(unsigned id)
{
	return id % 3 ? 0 : id % 5;
}

static void answer(unsigned id)
{
	for (unsigned i = 0; i < count_for(id); i++)
		cr_assert(conn_attach(conn, marked_fd(id * 8 + i)));
	reply_done(conn, id);
}

/* What came with one recvmsg. */
struct piece {
	size_t from, to;
	unsigned marks[8];
	size_t n_marks;
};

struct taken {
	struct buf bytes;
	struct piece pieces[4 * ANSWERS];
	size_t n_pieces;
};

static bool take(struct taken *t, size_t size)
{
	struct piece *p = &t->pieces[t->n_pieces];
	struct fdpass_info info;
	uint8_t *space;
	int fds[8];
	ssize_t n;

	cr_assert_lt(t->n_pieces, ARRAY_SIZE(t->pieces));
	cr_assert_eq(buf_reserve(&t->bytes, size, &space), 0);
	n = fdpass_recv(client, space, size, MSG_DONTWAIT, fds, ARRAY_SIZE(fds), &info);
	if (n <= 0)
		return false;
	cr_assert_not(info.truncated);
	cr_assert_eq(info.surplus, 0);
	*p = (struct piece){ .from = buf_size(&t->bytes), .n_marks = info.n_fds };
	for (size_t i = 0; i < info.n_fds; i++)
		p->marks[i] = mark_of(fds[i]);
	fd_close_many(fds, info.n_fds);
	buf_commit(&t->bytes, (size_t)n);
	p->to = buf_size(&t->bytes);
	t->n_pieces++;
	return true;
}

static void check_frame(const struct taken *t, size_t at, unsigned id)
{
	const struct piece *p = t->pieces;

	while (p->to <= at)
		p++;
	if (count_for(id))
		cr_assert_eq(p->n_marks, count_for(id), "answer %u", id);
	for (unsigned i = 0; i < count_for(id); i++)
		cr_assert_eq(p->marks[i], id * 8 + i, "answer %u", id);
}

/* Every answer is there, each with its own. */
static void check(const struct taken *t)
{
	size_t at = 0, prefix, length;
	unsigned next = 1;
	struct arena arena;

	arena_init(&arena);
	while (at < buf_size(&t->bytes)) {
		const uint8_t *frame = buf_head(&t->bytes) + at;
		Redd__V1__Message *m;
		const char *reason;

		cr_assert_eq(frame_parse(frame, buf_size(&t->bytes) - at, FRAME_MAX_DEFAULT,
					 &prefix, &length),
			     0);
		cr_assert_eq(codec_unpack_message(&arena, frame + prefix, length, &m, &reason), 0);
		if (m->reply_to) {
			cr_assert_eq(m->reply_to, next);
			check_frame(t, at, next++);
		}
		at += prefix + length;
	}
	cr_assert_eq(next, ANSWERS + 1);
	arena_deinit(&arena);
}

Test(doors, each_goes_with_the_first_byte_of_its_own_answer)
{
	static struct taken t;
	struct subscription_options o = { .overflow = CURSOR_MAY_DROP };
	const uint64_t seed = (uint64_t)getpid();
	struct random random = { seed };
	struct subscription *s;
	const char *reason = NULL;
	struct port *port;
	int child, small = 4096, before;
	unsigned id = 1;

	/* Output of another kind in between, and a socket that is full again and again. */
	port = core_port(core, conn, &(struct core_port){ .n_outputs = 1 }, &child);
	cr_assert_eq(subscription_new(&s, conn, port, &o, &reason), 0);
	setsockopt(conn->fd, SOL_SOCKET, SO_SNDBUF, &small, sizeof(small));
	buf_init(&t.bytes, MIB(4));
	cr_assert_eq(write(child, "out", 3), 3);
	core_turns(core, 3); /* its log is made */
	before = fd_count();
	while (id <= ANSWERS || conn->n_doors || buf_size(&conn->control)) {
		if (id <= ANSWERS && conn_doors_left(conn) >= 8)
			answer(id++);
		if (random_chance(&random, 8))
			cr_assert_geq(write(child, "out", 3), 0);
		if (random_chance(&random, 3))
			core_turn(core);
		if (random_chance(&random, 2))
			take(&t, 1 + random_below(&random, 3000));
	}
	while (take(&t, KIB(64)))
		core_turn(core);
	check(&t);
	cr_expect_eq(fd_count(), before, "all are closed here (seed %lu)", seed);
	buf_deinit(&t.bytes);
	fd_close(child);
}

Test(doors, there_is_an_end_to_how_many_wait_and_they_go_with_the_connection)
{
	int before = fd_count();

	while (conn_doors_left(conn))
		cr_assert(conn_attach(conn, marked_fd(1)));
	cr_expect_not(conn_attach(conn, marked_fd(1)));
	cr_expect_eq(fd_count(), before + (int)CONN_DOORS);
	conn_leave(conn, 0, NULL);
	cr_expect_not(conn_attach(conn, marked_fd(1)));
	conn_close(conn);
	core_turns(core, 3);
	cr_expect_leq(fd_count(), before);
}

Test(doors, what_the_system_does_not_let_go_is_closed_and_the_answer_goes_without)
{
	struct fdpass_info info;
	uint8_t bytes[64];
	int fds[8], before = fd_count();

	cr_assert(conn_attach(conn, marked_fd(1)));
	cr_assert(conn_attach(conn, marked_fd(2)));
	reply_done(conn, 7);
	countdown_arm(COUNTDOWN_WRITE, 1, ETOOMANYREFS);
	core_turns(core, 3);
	cr_assert(countdown_off());
	cr_expect_gt(fdpass_recv(client, bytes, sizeof(bytes), MSG_DONTWAIT, fds, 8, &info), 0);
	cr_expect_eq(info.n_fds, 0);
	cr_expect_eq(fd_count(), before);
	cr_expect_neq(conn->state, CONN_CLOSED);
}

/* --- shared subscriptions without ------------------------------------------------------------- */

static struct subscription *share(struct port *port)
{
	struct subscription_options o = { .overflow = CURSOR_MAY_BLOCK, .shared = true };
	const char *reason = NULL;
	struct subscription *s;

	cr_assert_eq(subscription_new(&s, conn, port, &o, &reason), 0);
	return s;
}

Test(doors, a_subscription_that_cannot_be_shared_goes_by_the_socket)
{
	static const struct {
		enum countdown call;
		int error;
	} cases[] = { { COUNTDOWN_MEMFD, EMFILE },
		      { COUNTDOWN_FTRUNCATE, ENOMEM },
		      { COUNTDOWN_MMAP, ENOMEM } };
	int child, before;
	struct port *port = core_port(core, conn, &(struct core_port){ .n_outputs = 1 }, &child);

	subscription_free(share(port)); /* its log is there from now on */
	before = fd_count();
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct subscription *s;

		countdown_arm(cases[i].call, 1, cases[i].error);
		s = share(port);
		cr_expect(countdown_off());
		cr_expect_null(s->sharing, "case %zu", i);
		cr_expect_not(sharing_hand_over(s));
		subscription_free(s);
	}
	cr_expect_eq(fd_count(), before);
	cr_expect_eq(conn->n_shared, 0);
	fd_close(child);
}

Test(doors, one_whose_descriptors_have_no_room_goes_by_the_socket)
{
	int child;
	struct port *port = core_port(core, conn, &(struct core_port){ .n_outputs = 1 }, &child);
	struct subscription *s = share(port);

	cr_assert_not_null(s->sharing);
	while (conn_doors_left(conn) > 1)
		cr_assert(conn_attach(conn, marked_fd(1)));
	cr_expect_not(sharing_hand_over(s), "two are needed");
	cr_expect_null(s->sharing);
	cr_expect_eq(conn_doors_left(conn), 1);
	fd_close(child);
}

Test(doors, when_an_output_has_ended_without_a_byte_there_is_no_log_to_share)
{
	int child;
	struct port *port = core_port(core, conn, &(struct core_port){ .n_outputs = 1 }, &child);

	fd_close(child);
	core_turns(core, 3);
	cr_assert(port_stream(port, 1)->out.is_ended);
	cr_expect_null(share(port)->sharing);
}
