/* Owns the places. One place is one mapping:
 *
 *	| guard page | stack -> | struct spawn_place | datagram | pointers |
 *
 * A child with shared memory runs on the stack of its place and reads datagram, pointers and plan
 * there, while the forker serves the next request with the next place. The kernel clears `tid` when
 * the child has left this memory (exec or exit): only then is the place taken back. A child with
 * memory of its own (plain) has a copy of all that, so its place is idle again at once.
 *
 * What is too large for a place (a memfd with the blocks, many pointers) is mapped for this request
 * alone.
 *
 * The good path: receive, check, plan, clone, close all descriptors of the request. On any failure
 * the birth socket is told stage and errno, and the descriptors are closed as well; a child that
 * was not cloned leaves no trace. Without a birth socket there is nobody to tell: one log line.
 */
#include "helper/spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>
#if __has_include(<valgrind/valgrind.h>)
#include <valgrind/valgrind.h>
#else
#define RUNNING_ON_VALGRIND 0
#endif

#include "helper/child.h"
#include "helper/fdclose.h"
#include "helper/raw.h"
#include "proto/base/err.h"
#include "proto/base/fd.h"
#include "proto/base/log.h"
#include "proto/fdpass.h"

#define GUARD_SIZE KIB(64) /* a multiple of every page size there is */
#define STACK_SIZE KIB(32)
#define N_POINTERS 4096u
#define ALL_SEALS  (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE)

struct mapping {
	void *data;
	size_t size;
};

struct spawn_place {
	struct spawn_place *next; /* idle or busy */
	bool is_guarded;	  /* its guard page was made, when it was first used */
	pid_t tid;		  /* the kernel clears it */
	struct mapping blocks;	  /* of the memfd */
	struct mapping pointers;  /* more than N_POINTERS */
	int fds[LINK_FDS_MAX];	  /* as received */
	size_t n_fds;
	struct child_plan plan;
	_Alignas(8) uint8_t datagram[LINK_DATAGRAM_MAX];
	char *few_pointers[N_POINTERS];
};

#define PLACE_SIZE \
	(GUARD_SIZE + STACK_SIZE + (sizeof(struct spawn_place) + 65535u) / 65536u * 65536u)

bool spawn_needs_plain(void)
{
#if defined(__SANITIZE_ADDRESS__) || !RAW_IS_PURE
	return true;
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(memory_sanitizer)
	return true;
#endif
#endif
	return RUNNING_ON_VALGRIND;
}

/* --- places ------------------------------------------------------------------------------------
 */

static void place_push(struct spawn_place **head, struct spawn_place *p)
{
	p->next = *head;
	*head = p;
}

static void mapping_free(struct mapping *m)
{
	if (m->data)
		munmap(m->data, m->size);
	*m = (struct mapping){ 0 };
}

static int mapping_new(struct mapping *m, size_t size, int fd)
{
	int flags = fd < 0 ? MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE : MAP_PRIVATE;
	void *data = mmap(NULL, size, fd < 0 ? PROT_READ | PROT_WRITE : PROT_READ, flags, fd, 0);

	if (data == MAP_FAILED)
		return err_errno();
	*m = (struct mapping){ data, size };
	return 0;
}

static void place_give_back(struct spawner *s, struct spawn_place *p)
{
	mapping_free(&p->blocks);
	mapping_free(&p->pointers);
	place_push(&s->idle, p);
}

bool spawner_collect(struct spawner *s)
{
	struct spawn_place **at = &s->busy;

	while (*at) {
		struct spawn_place *p = *at;

		if (__atomic_load_n(&p->tid, __ATOMIC_ACQUIRE)) {
			at = &p->next;
			continue;
		}
		*at = p->next;
		place_give_back(s, p);
	}
	return s->idle || s->n_used < SPAWN_PLACES;
}

static char *stack_of(struct spawn_place *p)
{
	return (char *)p - STACK_SIZE;
}

/* There is one (see spawner_collect()). */
static struct spawn_place *place_take(struct spawner *s)
{
	struct spawn_place *p = s->idle;

	if (p)
		s->idle = p->next;
	else
		p = (struct spawn_place *)((char *)s->places + s->n_used++ * PLACE_SIZE +
					   GUARD_SIZE + STACK_SIZE);
	return p;
}

/* Only when it is needed: each guard makes a forker without shared memory slower to copy. */
static int place_guard(struct spawn_place *p)
{
	if (p->is_guarded)
		return 0;
	if (mprotect(stack_of(p) - GUARD_SIZE, GUARD_SIZE, PROT_NONE) < 0)
		return err_errno();
	p->is_guarded = true;
	return 0;
}

int spawner_init(struct spawner *s, bool is_plain)
{
	size_t size = SPAWN_PLACES * PLACE_SIZE;
	char *base = mmap(NULL, size, PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	*s = (struct spawner){ .is_plain = is_plain, .null_fd = -1 };
	if (base == MAP_FAILED)
		return err_errno();
	s->places = (struct spawn_place *)base;
	s->null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
	if (s->null_fd < 0)
		return err_errno();
	return 0;
}

void spawner_deinit(struct spawner *s)
{
	spawner_collect(s);
	s->null_fd = fd_close(s->null_fd);
	if (s->places && !s->busy)
		munmap(s->places, SPAWN_PLACES * PLACE_SIZE);
	s->places = NULL;
}

/* --- one request -------------------------------------------------------------------------------
 */

struct failure {
	uint32_t stage;
	int error;
};

static bool fails(struct failure *f, uint32_t stage, int error)
{
	*f = (struct failure){ stage, error };
	return false;
}

/* Maps the blocks that came in a memfd, after making sure that nobody can change them. */
static bool map_blocks(struct spawn_place *p, struct failure *f)
{
	int fd = p->fds[p->n_fds - 1], seals = fcntl(fd, F_GET_SEALS);
	uint32_t size = p->plan.view.head.blocks_size;
	struct stat st;

	if (seals < 0 || (seals & ALL_SEALS) != ALL_SEALS || fstat(fd, &st) < 0 ||
	    (uint64_t)st.st_size != size)
		return fails(f, LINK_STAGE_REQUEST, EINVAL);
	if (mapping_new(&p->blocks, size, fd) < 0)
		return fails(f, LINK_STAGE_CLONE, ENOMEM);
	return true;
}

static bool check_strings(struct spawn_place *p, struct failure *f)
{
	size_t n = spawn_check_n_pointers(&p->plan.view);
	char **pointers = p->few_pointers;

	if (n > N_POINTERS) {
		if (mapping_new(&p->pointers, n * sizeof(*pointers), -1) < 0)
			return fails(f, LINK_STAGE_CLONE, ENOMEM);
		pointers = p->pointers.data;
	}
	if (spawn_check_strings(&p->plan.view, pointers))
		return fails(f, LINK_STAGE_REQUEST, EINVAL);
	return true;
}

static bool check(struct spawn_place *p, size_t size, struct failure *f)
{
	struct spawn_view *v = &p->plan.view;
	const void *blocks = p->datagram + sizeof(struct link_spawn);

	switch (spawn_check_head(p->datagram, size, p->n_fds, v)) {
	case 0:
		break;
	case SPAWN_CHECK_E_TOO_BIG:
		return fails(f, LINK_STAGE_EXEC, E2BIG);
	default:
		return fails(f, LINK_STAGE_REQUEST, EINVAL);
	}
	if (v->head.flags & LINK_SPAWN_MEMFD) {
		if (!map_blocks(p, f))
			return false;
		blocks = p->blocks.data;
	}
	if (spawn_check_blocks(v, blocks, v->head.blocks_size))
		return fails(f, LINK_STAGE_REQUEST, EINVAL);
	return check_strings(p, f);
}

/* fds: the birth socket, then what was passed. */
static void plan_descriptors(const struct spawner *s, struct spawn_place *place)
{
	struct child_plan *p = &place->plan;
	const struct spawn_view *v = &p->view;
	struct fdmap_pair pairs[FDMAP_PAIRS_MAX];
	int reserved[PORT_FDS_MAX];

	for (uint32_t i = 0; i < v->head.n_descriptors; i++) {
		uint32_t source = v->descriptors[i].source;

		pairs[i].target = (int)v->descriptors[i].target;
		pairs[i].source = source == LINK_SOURCE_NULL ? s->null_fd : place->fds[1 + source];
	}
	for (uint32_t i = 0; i < v->head.n_files; i++)
		reserved[i] = (int)v->files[i].target;
	memcpy(p->keep, place->fds, place->n_fds * sizeof(int));
	p->keep[place->n_fds] = s->null_fd;
	p->n_keep = fdclose_order(p->keep, place->n_fds + 1);
	p->birth = place->fds[0];
	if (v->head.flags & LINK_SPAWN_TERMINAL)
		p->terminal = place->fds[1 + v->head.terminal_source];
	p->n_steps = fdmap_plan(pairs, v->head.n_descriptors, reserved, v->head.n_files, &p->birth,
				p->steps);
	p->birth = place->fds[0]; /* it moves when the child takes the steps */
}

/* The child's pid, or a negative errno. */
static long clone_plain(struct child_plan *plan)
{
	long pid = raw(SYS_clone, CLONE_PARENT | SIGCHLD, 0, 0, 0, 0);

	if (pid == 0)
		child_run(plan);
	return pid;
}

static long clone_shared(struct spawn_place *p)
{
	int flags = CLONE_VM | CLONE_PARENT | CLONE_CHILD_CLEARTID | SIGCHLD, pid;

	if (place_guard(p) < 0)
		return -ENOMEM;
	__atomic_store_n(&p->tid, -1, __ATOMIC_RELAXED);
	pid = clone(child_run, stack_of(p) + STACK_SIZE, flags, &p->plan, NULL, NULL, &p->tid);
	if (pid < 0) {
		__atomic_store_n(&p->tid, 0, __ATOMIC_RELAXED);
		return -errno;
	}
	return pid;
}

static long clone_child(struct spawner *s, struct spawn_place *p)
{
	long pid = s->is_plain ? clone_plain(&p->plan) : clone_shared(p);

	if (s->is_plain || (pid != -EPERM && pid != -ENOSYS && pid != -EINVAL))
		return pid;
	log_warning("clone with shared memory is refused (%s): children get memory of their own",
		    err_name((int)pid));
	s->is_plain = true;
	return clone_plain(&p->plan);
}

static bool run(struct spawner *s, struct spawn_place *p, size_t size, struct failure *f)
{
	long pid;

	if (!check(p, size, f))
		return false;
	p->plan.nofile_soft = s->nofile_soft;
	p->plan.nofile_hard = s->nofile_hard;
	plan_descriptors(s, p);
	pid = clone_child(s, p);
	return pid < 0 ? fails(f, LINK_STAGE_CLONE, (int)-pid) : true;
}

static void refuse(const struct spawn_place *p, const struct failure *f)
{
	if (f->stage == LINK_STAGE_REQUEST || !p->n_fds)
		log_warning("spawn refused: %s", err_name(f->error));
	if (p->n_fds)
		child_report(p->fds[0], f->stage, f->error);
}

int spawner_receive(struct spawner *s, int sock)
{
	struct spawn_place *p = place_take(s);
	struct fdpass_info info;
	struct failure f;
	bool ok;
	ssize_t n = fdpass_recv(sock, p->datagram, sizeof(p->datagram), MSG_DONTWAIT, p->fds,
				LINK_FDS_MAX, &info);

	if (n <= 0 && !info.n_fds) {
		place_push(&s->idle, p);
		return n < 0 ? (int)n : -EPIPE;
	}
	p->n_fds = info.n_fds;
	if (info.truncated)
		ok = fails(&f, LINK_STAGE_CLONE, EMFILE);
	else if (info.message_truncated || info.surplus)
		ok = fails(&f, LINK_STAGE_REQUEST, EINVAL);
	else
		ok = run(s, p, (size_t)n, &f);
	if (!ok)
		refuse(p, &f);
	fd_close_many(p->fds, p->n_fds);
	place_push(&s->busy, p); /* until its tid is seen to be 0 */
	return 0;
}
