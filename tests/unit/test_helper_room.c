/* Keeper and forker with the test in the broker's place: when forker or keeper have no room for one
 * more. What waits is not lost, what is refused does not run, and what ran all the same is kept. */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "helper/link.h"
#include "helper/spawn.h"
#include "tests/lib/act.h"
#include "tests/lib/places.h"
#include "tests/lib/play.h"

#define HUNG (SPAWN_PLACES + 5)

/* More births hang than the forker has places: those beyond wait, and none is lost. */
Test(helper_room, births_beyond_the_forkers_places_wait_for_one, .timeout = 60)
{
	const char *const argv[] = { "/bin/true", NULL };
	unsigned n_started = 0, n_exited = 0;
	struct play_message m = { 0 };
	static struct play p;
	struct play_spawn s;
	char fifo[PATH_MAX + 8];
	int fd;

	if (place_plain_clone())
		return; /* then a place is free at once */
	cr_assert_eq(play_start(&p, 0), 0);
	act_make_fifo(&p, fifo, sizeof(fifo));
	for (uint32_t i = 0; i < HUNG; i++) {
		play_spawn_init(&p, &s, i, argv);
		spawn_bytes_file(&s.bytes, 0, O_RDONLY, fifo);
		cr_assert_eq(play_spawn(&p, &s), 0);
	}
	cr_assert_eq(play_receive(&p, &m, 50), PLAY_E_TIMEOUT);
	fd = open(fifo, O_RDWR | O_CLOEXEC); /* stays open for the late ones */
	while (n_exited < HUNG) {
		cr_assert_eq(play_receive(&p, &m, 10000), 0, "%u started", n_started);
		n_started += m.head.type == LINK_STARTED;
		n_exited += m.head.type == LINK_EXITED;
		cr_assert(m.head.type == LINK_STARTED || m.head.type == LINK_EXITED);
	}
	cr_assert_eq(n_started, HUNG);
	close(fd);
	unlink(fifo);
	cr_assert_eq(play_stop(&p, 0), 0);
}

#define FEW_DESCRIPTORS 400

static void deposit_many(struct play *p, uint64_t port, uint32_t slot, int fd)
{
	struct link_deposit m = { .head = { LINK_DEPOSIT, sizeof(m) }, .id = { port, slot, 1 } };
	int fds[LINK_HOLDS_MAX];

	for (; m.n_holds < LINK_HOLDS_MAX - 1; m.n_holds++) {
		m.holds[m.n_holds] = LINK_HOLD(HOLD_OUTPUT, m.n_holds);
		fds[m.n_holds] = fd;
	}
	cr_assert_eq(play_send(p->link_fd, &m, sizeof(m), fds, m.n_holds), 0);
}

#define MANY_SLOTS (FEW_DESCRIPTORS / LINK_HOLDS_MAX)

/* A keeper that holds as much as it may, and a spawn with more holds than the rest of that. */
static void fill_keeper(struct play *p, struct play_spawn *s, const char *const *argv, int fd)
{
	const struct rlimit few = { FEW_DESCRIPTORS, FEW_DESCRIPTORS };

	cr_assert_eq(setrlimit(RLIMIT_NOFILE, &few), 0);
	cr_assert_eq(play_start(p, 0), 0);
	for (uint32_t i = 1; i < MANY_SLOTS; i++)
		deposit_many(p, 1000 + i, i, fd);
	play_spawn_init(p, s, 100, argv);
	while (s->n_holds < LINK_HOLDS_MAX - 1) {
		s->holds[s->n_holds] = LINK_HOLD(HOLD_OUTPUT, s->n_holds);
		s->hold_fds[s->n_holds++] = fd;
	}
}

static void empty_keeper(struct play *p)
{
	for (uint32_t i = 1; i < MANY_SLOTS; i++)
		cr_assert_eq(play_forget(p, &(struct link_spawn_id){ 1000 + i, i, 1 }), 0);
}

static void run_again(struct play *p, struct play_spawn *s)
{
	struct play_message m = { 0 };

	s->id.port++;
	s->id.attempt = 0;
	cr_assert_eq(play_spawn_wait(p, s, &m), 0);
	cr_assert_eq(m.head.type, LINK_STARTED);
	cr_assert_eq(play_wait_exit(p, &s->id, &m), 0);
	cr_assert_eq(m.exited.status, 0);
}

Test(helper_room, what_a_keeper_has_no_room_for_is_refused_and_does_not_run, .timeout = 60)
{
	char file[] = "/tmp/redd-mark-XXXXXX";
	const char *const argv[] = { place_prog("mark"), file, "x", NULL };
	int fd = open("/dev/null", O_RDWR | O_CLOEXEC);
	struct play_message m = { 0 };
	static struct play p;
	struct play_spawn s;
	struct stat st;

	if (place_valgrind())
		return; /* it plays another limit */
	close(mkostemp(file, O_CLOEXEC));
	fill_keeper(&p, &s, argv, fd);
	cr_assert_eq(kill(p.forker, SIGSTOP), 0); /* no birth before the refusal */
	cr_assert_eq(play_spawn_wait(&p, &s, &m), 0);
	cr_assert_eq(m.head.type, LINK_FAILED);
	cr_assert_eq(m.failed.stage, LINK_STAGE_REQUEST);
	cr_assert_eq(m.failed.error, EMFILE);
	cr_assert_eq(kill(p.forker, SIGCONT), 0);
	cr_assert_eq(play_forget(&p, &s.id), 0);
	empty_keeper(&p);
	run_again(&p, &s);
	cr_assert_eq(stat(file, &st), 0);
	cr_assert_eq(st.st_size, 2, "one line, not two");
	unlink(file);
	close(fd);
	cr_assert_eq(play_stop(&p, 0), 0);
}

Test(helper_room, what_was_born_but_not_executed_is_refused_all_the_same, .timeout = 60)
{
	int fd = open("/dev/null", O_RDWR | O_CLOEXEC);
	const char *const argv[] = { "/bin/true", NULL };
	struct play_message m = { 0 };
	static struct play p;
	struct play_spawn s;
	char fifo[PATH_MAX + 8];
	int writer;

	if (place_valgrind())
		return; /* it plays another limit */
	fill_keeper(&p, &s, argv, fd);
	act_settle(&p);
	act_make_fifo(&p, fifo, sizeof(fifo));
	spawn_bytes_file(&s.bytes, 0, O_RDONLY, fifo);
	s.keep_birth = true;
	cr_assert_eq(kill(p.keeper, SIGSTOP), 0); /* no refusal before the birth */
	cr_assert_eq(play_spawn(&p, &s), 0);
	act_wait_for_birth(&s);
	cr_assert_eq(kill(p.keeper, SIGCONT), 0);
	act_settle(&p);
	writer = open(fifo, O_WRONLY | O_CLOEXEC);
	do
		cr_assert_eq(play_receive(&p, &m, 5000), 0);
	while (m.head.type != LINK_FORKER && m.failed.id.port != s.id.port);
	cr_assert_eq(m.head.type, LINK_FAILED);
	cr_assert_eq(m.failed.stage, LINK_STAGE_REQUEST);
	cr_assert_eq(m.failed.error, EMFILE);
	close(writer);
	unlink(fifo);
	close(s.birth_fd);
	close(fd);
	cr_assert_eq(play_stop(&p, 0), 0);
}

Test(helper_room, what_runs_before_it_could_be_refused_is_kept, .timeout = 60)
{
	const char *const argv[] = { "/bin/sh", "-c", "echo x; exit 9", NULL };
	int fd = open("/dev/null", O_RDWR | O_CLOEXEC), out;
	struct play_message m = { 0 };
	static struct play p;
	struct play_spawn s;
	char c;

	if (place_valgrind())
		return; /* it plays another limit */
	fill_keeper(&p, &s, argv, fd);
	act_settle(&p);
	cr_assert_eq(kill(p.keeper, SIGSTOP), 0);
	out = act_spawn_with_output(&p, &s);
	cr_assert_eq(read(out, &c, 1), 1);
	cr_assert_eq(kill(p.keeper, SIGCONT), 0);
	cr_assert_eq(play_wait_exit(&p, &s.id, &m), 0);
	cr_assert_eq(WEXITSTATUS(m.exited.status), 9);
	cr_assert_eq(play_forget(&p, &s.id), 0);
	close(out);
	close(fd);
	cr_assert_eq(play_stop(&p, 0), 0);
}
