/* Where things are for a test, and what kind of run this is. */
#ifndef TESTS_LIB_PLACES_H
#define TESTS_LIB_PLACES_H

#include <limits.h>
#include <stdbool.h>

/* The build directory under test, absolute: $REDD_BUILD, else the one this program was built for.
 */
const char *place_build(void);

/* Absolute path of a program there ("redd-broker"), of a child in tests/progs ("exit"), or of an
 * example. One of 16 buffers that are used in turn. */
const char *place_program(const char *name);
const char *place_prog(const char *name);
const char *place_example(const char *name);

/* The path of a name in a directory. One of 64 buffers that are used in turn. */
const char *place_in(const char *directory, const char *name);

/* Makes a directory of its own (0700) under $TMPDIR or /tmp. 0 or -1 with a line on stderr. */
int place_make_dir(char ret_path[PATH_MAX]);

/* Removes it with all it holds. 0 or -1. */
int place_remove_dir(const char *path);

/* Entries below a directory, itself not counted, except those whose name starts with `but` (may be
 * NULL); or -1. */
int place_count_files(const char *path, const char *but);

/* REDD_VALGRIND=1: programs of redd run under valgrind. REDD_PLAIN_CLONE=1: the forker clones
 * without shared memory (always so under valgrind). */
bool place_valgrind(void);
bool place_plain_clone(void);

/* n in a plain run, fewer where each round costs many times as much; at least 1. */
unsigned place_rounds(unsigned n);

/* A generous limit for something that should take `ms`: larger where everything is slow. */
int place_patience_ms(int ms);

/* A time that a test has to wait out, long enough for what must be done in it: longer where
 * everything is slow, but no more than SPAN_FACTOR_MAX times. */
#define SPAN_FACTOR_MAX 5
int place_span_ms(int ms);

#endif
