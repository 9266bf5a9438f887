/* Paths and the kind of run. State: a few static buffers for returned strings; nothing else. */
#include "tests/lib/places.h"

#include <dirent.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#ifndef REDD_TEST_BUILD
#define REDD_TEST_BUILD "build"
#endif

#define PATHS 16
#define NAMES 64

static char *path_buffer(void)
{
	static char paths[PATHS][PATH_MAX];
	static unsigned next;

	return paths[next++ % PATHS];
}

const char *place_build(void)
{
	const char *build = getenv("REDD_BUILD");
	static char path[PATH_MAX];

	if (!path[0] && !realpath(build ? build : REDD_TEST_BUILD, path))
		snprintf(path, sizeof(path), "%s", build ? build : REDD_TEST_BUILD);
	return path;
}

static const char *path_below(const char *directory, const char *name)
{
	char *path = path_buffer();

	snprintf(path, PATH_MAX, "%s/%s%s", place_build(), directory, name);
	return path;
}

const char *place_program(const char *name)
{
	return path_below("", name);
}

const char *place_prog(const char *name)
{
	return path_below("tests/progs/", name);
}

const char *place_example(const char *name)
{
	return path_below("examples/", name);
}

const char *place_in(const char *directory, const char *name)
{
	static char paths[NAMES][PATH_MAX + NAME_MAX + 2];
	static unsigned next;
	char *path = paths[next++ % NAMES];

	snprintf(path, sizeof(paths[0]), "%s/%s", directory, name);
	return path;
}

int place_make_dir(char ret_path[PATH_MAX])
{
	const char *tmp = getenv("TMPDIR");

	snprintf(ret_path, PATH_MAX, "%s/redd-test-XXXXXX", tmp && *tmp == '/' ? tmp : "/tmp");
	if (mkdtemp(ret_path))
		return 0;
	perror(ret_path);
	return -1;
}

static int entry_remove(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st;
	(void)type;
	(void)ftw;
	return remove(path);
}

int place_remove_dir(const char *path)
{
	return nftw(path, entry_remove, 16, FTW_DEPTH | FTW_PHYS) ? -1 : 0;
}

int place_count_files(const char *path, const char *but)
{
	DIR *directory = opendir(path);
	struct dirent *entry;
	int count = 0;

	if (!directory)
		return -1;
	while ((entry = readdir(directory))) {
		if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, ".."))
			continue;
		if (!but || strncmp(entry->d_name, but, strlen(but)))
			count++;
	}
	closedir(directory);
	return count;
}

static bool environment_says(const char *name)
{
	const char *value = getenv(name);

	return value && *value && strcmp(value, "0");
}

bool place_valgrind(void)
{
	return environment_says("REDD_VALGRIND");
}

bool place_plain_clone(void)
{
	return place_valgrind() || environment_says("REDD_PLAIN_CLONE");
}

static unsigned slowness(void)
{
	const char *slow = getenv("REDD_TEST_SLOW");
	int factor = slow ? atoi(slow) : 1;

	return factor > 1 ? (unsigned)factor : 1;
}

unsigned place_rounds(unsigned n)
{
	return n / slowness() ? n / slowness() : 1;
}

int place_patience_ms(int ms)
{
	return ms * (int)slowness();
}

int place_span_ms(int ms)
{
	unsigned factor = slowness();

	return ms * (int)(factor < SPAN_FACTOR_MAX ? factor : SPAN_FACTOR_MAX);
}
