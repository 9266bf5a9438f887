/* Measurements that can be trusted on a busy machine: redd and its raw limit are measured in turns
 * (A B A B ...) in one run, and the ratio is the median of the ratios of neighbours. */
#ifndef TESTS_LIB_MEASURE_H
#define TESTS_LIB_MEASURE_H

#include <stddef.h>
#include <sys/types.h>

#define MEASURE_REPEATS 5

/* Seconds of the monotonic clock. */
double measure_now(void);

/* Milliseconds that a process's first thread has been running on a processor: what its event loop
 * has cost, however busy the machine is. Negative when nobody can say. */
double measure_cpu_ms(pid_t pid);

/* The p-th part (0 to 1) of n values, which are sorted by it. */
double measure_part(double *values, size_t n, double p);

/* One run: returns a figure (a rate, a latency, ...), negative when it failed. */
typedef double measure_fn(void *user);

/* Runs both `repeats` times in turns and prints one line:
 *	NAME: redd=12345 raw=23456 ratio=0.53 (0.50-0.56) UNIT
 * 0, or -1 when a run failed (told on stderr). */
int measure(const char *name, const char *unit, unsigned repeats, measure_fn *redd, measure_fn *raw,
	    void *user);

/* The same line from values of `repeats` runs each. */
void measure_print(const char *name, const char *unit, unsigned repeats, const double *redd,
		   const double *raw);

/* $NAME as a number, else `otherwise`. */
unsigned long long measure_size(const char *name, unsigned long long otherwise);

#endif
