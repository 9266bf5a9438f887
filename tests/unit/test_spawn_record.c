/* What the broker builds is what the forker reads: everything here goes through helper/spawn_check,
 * as it does there. */
#include "broker/spawn_record.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "helper/spawn_check.h"
#include "proto/base/fd.h"
#include "tests/lib/countdown.h"
#include "tests/lib/places.h"
#include "tests/lib/random.h"

static int fds_before;

static void init(void)
{
	fds_before = fd_count();
}

static void fini(void)
{
	cr_assert_eq(fd_count(), fds_before);
}

TestSuite(spawn_record, .timeout = 30, .init = init, .fini = fini);

/* A sealed record as the forker has it. */
struct sealed {
	uint8_t *record;
	size_t size;
	int memfd;
	void *map; /* of the memfd */
	size_t map_size;
	struct spawn_view view;
	char **pointers;
};

static void seal(struct spawn_record *s, uint32_t n_passed, struct sealed *ret)
{
	const void *blocks;
	size_t size;

	*ret = (struct sealed){ .memfd = -1 };
	cr_assert_eq(spawn_record_seal(s, n_passed, &ret->record, &ret->size, &ret->memfd), 0);
	cr_assert_leq(ret->size, LINK_DATAGRAM_MAX);
	cr_assert_eq(spawn_check_head(ret->record, ret->size, 1 + n_passed + (ret->memfd >= 0),
				      &ret->view),
		     0);
	blocks = ret->record + sizeof(struct link_spawn);
	size = ret->size - sizeof(struct link_spawn);
	if (ret->memfd >= 0) {
		size = ret->map_size = ret->view.head.blocks_size;
		blocks = ret->map = mmap(NULL, size, PROT_READ, MAP_SHARED, ret->memfd, 0);
		cr_assert_neq(blocks, MAP_FAILED);
	}
	cr_assert_eq(spawn_check_blocks(&ret->view, blocks, size), 0);
	ret->pointers = calloc(spawn_check_n_pointers(&ret->view), sizeof(char *));
	cr_assert_eq(spawn_check_strings(&ret->view, ret->pointers), 0);
}

static void sealed_free(struct sealed *s)
{
	if (s->map)
		munmap(s->map, s->map_size);
	fd_close(s->memfd);
	free(s->record);
	free(s->pointers);
}

#define ARGUMENT(s, text) spawn_record_argument((s), (text), strlen(text))

Test(spawn_record, what_was_put_in_comes_out)
{
	struct spawn_record s;
	struct sealed out;

	spawn_record_init(&s);
	s.head.flags = LINK_SPAWN_SETSID | LINK_SPAWN_IDS | LINK_SPAWN_UMASK | LINK_SPAWN_NICE;
	s.head.id = (struct link_spawn_id){ 7, 8, 9 };
	s.head.uid = 1000;
	s.head.gid = 1001;
	s.head.umask = 027;
	s.head.nice = -5;
	/* In another order than they lie in the record. */
	spawn_record_file(&s, 3, O_RDONLY, 0600, "in", 2);
	ARGUMENT(&s, "echo");
	spawn_record_environment(&s, "A=1\0B=\0", 7, 2);
	spawn_record_limit(&s, &(struct link_limit){ RLIMIT_CORE, 3, 0, 1 });
	spawn_record_same(&s, 4, 3);
	spawn_record_group(&s, 55);
	ARGUMENT(&s, "");
	spawn_record_file(&s, 5, O_WRONLY | O_CREAT, 0644, "out", 3);
	spawn_record_descriptor(&s, 0, LINK_SOURCE_NULL);
	spawn_record_directory(&s, "/tmp", 4);
	spawn_record_candidates(&s, "/bin/echo\0/usr/bin/echo\0", 24, 2);
	spawn_record_descriptor(&s, 1, 0);
	ARGUMENT(&s, "a b");
	seal(&s, 1, &out);
	cr_assert_eq(out.memfd, -1);
	cr_assert_eq(out.view.head.id.port, 7);
	cr_assert_eq(out.view.head.id.slot, 8);
	cr_assert_eq(out.view.head.uid, 1000);
	cr_assert_eq(out.view.head.nice, -5);
	cr_assert_str_eq(out.view.directory, "/tmp");
	cr_assert_str_eq(out.view.candidates[1], "/usr/bin/echo");
	cr_assert_str_eq(out.view.argv[0], "echo");
	cr_assert_str_eq(out.view.argv[1], "");
	cr_assert_str_eq(out.view.argv[2], "a b");
	cr_assert_null(out.view.argv[3]);
	cr_assert_str_eq(out.view.envp[0], "A=1");
	cr_assert_str_eq(out.view.envp[1], "B=");
	cr_assert_null(out.view.envp[2]);
	cr_assert_eq(out.view.limits[0].resource, RLIMIT_CORE);
	cr_assert_eq(out.view.limits[0].hard, 1);
	cr_assert_eq(out.view.groups[0], 55);
	cr_assert_eq(out.view.descriptors[0].source, LINK_SOURCE_NULL);
	cr_assert_eq(out.view.descriptors[1].target, 1);
	cr_assert_str_eq(out.view.paths[out.view.files[0].path], "in");
	cr_assert_eq(out.view.files[1].flags, LINK_FILE_SAME);
	cr_assert_eq(out.view.files[1].path, 3);
	cr_assert_str_eq(out.view.paths[out.view.files[2].path], "out");
	cr_assert_eq(out.view.files[2].mode, 0644);
	sealed_free(&out);
	spawn_record_deinit(&s);
}

Test(spawn_record, no_directory_is_an_empty_one)
{
	struct spawn_record s;
	struct sealed out;

	spawn_record_init(&s);
	ARGUMENT(&s, "x");
	spawn_record_candidates(&s, "/x\0", 3, 1);
	seal(&s, 0, &out);
	cr_assert_str_eq(out.view.directory, "");
	cr_assert_null(out.view.envp[0]);
	sealed_free(&out);
	spawn_record_deinit(&s);
}

/* --- large ones ------------------------------------------------------------------------------ */

static void add_large(struct spawn_record *s, size_t size)
{
	char *text = malloc(size);

	memset(text, 'x', size);
	ARGUMENT(s, "prog");
	spawn_record_argument(s, text, size);
	spawn_record_candidates(s, "/prog\0", 6, 1);
	free(text);
}

/* The largest datagram, and one string byte or an alignment more. */
Test(spawn_record, what_is_too_long_for_a_datagram_goes_by_a_memfd)
{
	for (size_t size = LINK_DATAGRAM_MAX - 160; size < LINK_DATAGRAM_MAX; size++) {
		struct spawn_record s;
		struct sealed out;

		spawn_record_init(&s);
		add_large(&s, size);
		seal(&s, 0, &out);
		cr_assert_eq(strlen(out.view.argv[1]), size);
		if (out.memfd < 0)
			cr_assert_eq(out.size,
				     sizeof(struct link_spawn) + out.view.head.blocks_size);
		else
			cr_assert_gt(sizeof(struct link_spawn) + out.view.head.blocks_size,
				     LINK_DATAGRAM_MAX);
		sealed_free(&out);
		spawn_record_deinit(&s);
	}
}

Test(spawn_record, the_memfd_is_sealed_and_as_long_as_it_says)
{
	const int seals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL;
	struct spawn_record s;
	struct sealed out;
	struct stat st;

	spawn_record_init(&s);
	add_large(&s, MIB(2));
	seal(&s, 0, &out);
	cr_assert_geq(out.memfd, 0);
	cr_assert_eq(fcntl(out.memfd, F_GET_SEALS), seals);
	cr_assert(fcntl(out.memfd, F_GETFD) & FD_CLOEXEC);
	cr_assert_eq(fstat(out.memfd, &st), 0);
	cr_assert_eq(st.st_size, out.view.head.blocks_size);
	cr_assert_eq(out.size, sizeof(struct link_spawn));
	sealed_free(&out);
	spawn_record_deinit(&s);
}

Test(spawn_record, what_no_program_could_be_given_is_refused)
{
	struct spawn_record s;
	uint8_t *record = NULL;
	size_t size = 0;
	int memfd = -1;

	spawn_record_init(&s);
	for (int i = 0; i < 3; i++)
		add_large(&s, MIB(6));
	cr_assert_eq(spawn_record_seal(&s, 0, &record, &size, &memfd), -E2BIG);
	spawn_record_deinit(&s);
	spawn_record_init(&s);
	add_large(&s, MIB(6)); /* each block below the bound, all together above */
	for (size_t i = 0; i < 11; i++) {
		static char variables[MIB(1)];

		memset(variables, 'E', sizeof(variables) - 1);
		spawn_record_environment(&s, variables, sizeof(variables), 1);
	}
	cr_assert_eq(spawn_record_seal(&s, 0, &record, &size, &memfd), -E2BIG);
	cr_assert_null(record);
	cr_assert_eq(memfd, -1);
	spawn_record_deinit(&s);
}

/* --- failures -------------------------------------------------------------------------------- */

static int build_and_seal(size_t size)
{
	struct spawn_record s;
	uint8_t *record = NULL;
	size_t n;
	int memfd = -1, r;

	spawn_record_init(&s);
	add_large(&s, size);
	spawn_record_environment(&s, "A=1\0", 4, 1);
	spawn_record_descriptor(&s, 0, LINK_SOURCE_NULL);
	r = spawn_record_seal(&s, 0, &record, &n, &memfd);
	cr_assert_eq(r == 0, record != NULL);
	free(record);
	fd_close(memfd);
	spawn_record_deinit(&s);
	return r;
}

static unsigned fail_each(enum countdown call, int error, size_t size)
{
	for (unsigned n = 1;; n++) {
		int r;

		countdown_arm(call, n, error);
		r = build_and_seal(size);
		if (!countdown_off()) {
			cr_assert_eq(r, 0);
			return n - 1;
		}
		/* The test's own allocation is one of them. */
		cr_assert(r == -error || (call == COUNTDOWN_MALLOC && r == 0), "call %u: %d", n, r);
	}
}

Test(spawn_record, without_memory_or_descriptors_it_says_so_and_leaves_nothing)
{
	cr_assert_gt(fail_each(COUNTDOWN_WRITE, ENOSPC, MIB(1)), 0);
	cr_assert_gt(fail_each(COUNTDOWN_MEMFD, EMFILE, MIB(1)), 0);
}

/* --- random ones ----------------------------------------------------------------------------- */

/* What was put in: strings one behind another. */
struct list_model {
	char *strings[64];
	uint32_t n;
};

struct model {
	struct list_model candidates, argv, envp, paths;
	char directory[64];
	struct link_limit limits[4];
	uint32_t n_limits, groups[8], n_groups;
	struct link_descriptor descriptors[PORT_FDS_MAX];
	uint32_t n_descriptors;
	struct link_file files[8];
	uint32_t n_files;
};

static char *random_string(struct random *r)
{
	size_t size = random_chance(r, 40) ? random_below(r, 20000) : random_below(r, 20);
	char *text = calloc(1, size + 1);

	for (size_t i = 0; i < size; i++)
		text[i] = (char)(1 + random_below(r, 255));
	return text;
}

static const char *note(struct list_model *m, struct random *r)
{
	return m->strings[m->n++] = random_string(r);
}

static void free_model(struct model *m)
{
	struct list_model *lists[] = { &m->candidates, &m->argv, &m->envp, &m->paths };

	for (int i = 0; i < 4; i++)
		while (lists[i]->n)
			free(lists[i]->strings[--lists[i]->n]);
	free(m);
}

static void add_strings(struct spawn_record *s, struct model *m, struct random *r)
{
	const char *text;

	for (uint64_t n = 1 + random_below(r, 5); n; n--) {
		text = note(&m->candidates, r);
		spawn_record_candidates(s, text, strlen(text) + 1, 1);
	}
	for (uint64_t n = 1 + random_below(r, 40); n; n--) {
		text = note(&m->argv, r);
		spawn_record_argument(s, text, strlen(text));
	}
	for (uint64_t n = random_below(r, 40); n; n--) {
		text = note(&m->envp, r);
		spawn_record_environment(s, text, strlen(text) + 1, 1);
	}
	if (random_chance(r, 2)) {
		snprintf(m->directory, sizeof(m->directory), "/d%u", (unsigned)random_next(r));
		spawn_record_directory(s, m->directory, strlen(m->directory));
	}
}

static void add_fixed(struct spawn_record *s, struct model *m, struct random *r)
{
	while (m->n_limits < 4 && random_chance(r, 2)) {
		m->limits[m->n_limits] =
			(struct link_limit){ (uint32_t)random_below(r, RLIM_NLIMITS),
					     (uint32_t)(1 + random_below(r, 3)), random_next(r),
					     random_next(r) };
		spawn_record_limit(s, &m->limits[m->n_limits++]);
	}
	while (m->n_groups < 8 && random_chance(r, 2)) {
		m->groups[m->n_groups] = (uint32_t)random_next(r);
		spawn_record_group(s, m->groups[m->n_groups++]);
	}
	for (uint64_t n = random_below(r, PORT_FDS_MAX); m->n_descriptors < n;) {
		struct link_descriptor d = { 8 + m->n_descriptors, (uint32_t)random_below(r, 9) };

		d.source = d.source == 8 ? LINK_SOURCE_NULL : d.source;
		m->descriptors[m->n_descriptors++] = d;
		spawn_record_descriptor(s, d.target, d.source);
	}
}

static void add_files(struct spawn_record *s, struct model *m, struct random *r)
{
	while (m->n_files < 8 && !random_chance(r, 4)) {
		struct link_file f = { m->n_files, (uint32_t)random_below(r, 4), 0600, m->paths.n };
		const char *path;

		if (random_chance(r, 3)) {
			f = (struct link_file){ m->n_files, LINK_FILE_SAME, 0, 900 };
			spawn_record_same(s, f.target, f.path);
		} else {
			path = note(&m->paths, r);
			spawn_record_file(s, f.target, f.flags, f.mode, path, strlen(path));
		}
		m->files[m->n_files++] = f;
	}
}

static void check_strings(const struct list_model *m, char *const *strings, uint32_t n)
{
	cr_assert_eq(n, m->n);
	for (uint32_t i = 0; i < n; i++)
		cr_assert_str_eq(strings[i], m->strings[i]);
}

static void check_model(const struct model *m, const struct spawn_view *v)
{
	const struct link_spawn *h = &v->head;

	check_strings(&m->candidates, v->candidates, h->n_candidates);
	check_strings(&m->argv, v->argv, h->argc);
	check_strings(&m->envp, v->envp, h->envc);
	check_strings(&m->paths, v->paths, h->n_paths);
	cr_assert_str_eq(v->directory, m->directory);
	cr_assert_eq(h->n_limits, m->n_limits);
	cr_assert_eq(h->n_groups, m->n_groups);
	cr_assert_eq(h->n_descriptors, m->n_descriptors);
	cr_assert_eq(h->n_files, m->n_files);
	cr_assert_arr_eq(v->limits, m->limits, m->n_limits * sizeof(m->limits[0]));
	cr_assert_arr_eq(v->groups, m->groups, m->n_groups * sizeof(m->groups[0]));
	cr_assert_arr_eq(v->descriptors, m->descriptors,
			 m->n_descriptors * sizeof(m->descriptors[0]));
	cr_assert_arr_eq(v->files, m->files, m->n_files * sizeof(m->files[0]));
}

Test(spawn_record, random_records_come_out_as_they_went_in)
{
	struct random r = { 99 };

	for (unsigned i = 0; i < place_rounds(2000); i++) {
		struct model *m = calloc(1, sizeof(*m));
		struct spawn_record s;
		struct sealed out;

		spawn_record_init(&s);
		add_fixed(&s, m, &r);
		add_strings(&s, m, &r);
		add_files(&s, m, &r);
		seal(&s, 8, &out);
		check_model(m, &out.view);
		sealed_free(&out);
		spawn_record_deinit(&s);
		free_model(m);
	}
}
