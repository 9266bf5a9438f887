/* Clock, order statistics and the printed line. No state. */
#include "tests/lib/measure.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define REPEATS_MAX 64

double measure_now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

double measure_cpu_ms(pid_t pid)
{
	unsigned long long ns;
	char path[64];
	FILE *file;
	int n;

	snprintf(path, sizeof(path), "/proc/%d/task/%d/schedstat", (int)pid, (int)pid);
	file = fopen(path, "re");
	if (!file)
		return -1;
	n = fscanf(file, "%llu", &ns);
	fclose(file);
	return n == 1 ? (double)ns / 1e6 : -1;
}

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

double measure_part(double *values, size_t n, double p)
{
	qsort(values, n, sizeof(*values), compare);
	return n ? values[(size_t)((double)(n - 1) * p + 0.5)] : 0;
}

void measure_print(const char *name, const char *unit, unsigned repeats, const double *redd,
		   const double *raw)
{
	double a[REPEATS_MAX], b[REPEATS_MAX], ratio[REPEATS_MAX];
	int digits;

	for (unsigned i = 0; i < repeats; i++) {
		a[i] = redd[i];
		b[i] = raw[i];
		ratio[i] = redd[i] / raw[i];
	}
	digits = measure_part(a, repeats, 0.5) < 100 ? 2 : 0;
	printf("%s: redd=%.*f raw=%.*f ratio=%.2f (%.2f-%.2f) %s\n", name, digits,
	       measure_part(a, repeats, 0.5), digits, measure_part(b, repeats, 0.5),
	       measure_part(ratio, repeats, 0.5), measure_part(ratio, repeats, 0),
	       measure_part(ratio, repeats, 1), unit);
	fflush(stdout);
}

int measure(const char *name, const char *unit, unsigned repeats, measure_fn *redd, measure_fn *raw,
	    void *user)
{
	double a[REPEATS_MAX], b[REPEATS_MAX];

	for (unsigned i = 0; i < repeats && i < REPEATS_MAX; i++) {
		a[i] = redd(user);
		b[i] = raw(user);
		if (a[i] <= 0 || b[i] <= 0) {
			fprintf(stderr, "%s: the %s run failed\n", name,
				a[i] <= 0 ? "redd" : "raw");
			return -1;
		}
	}
	measure_print(name, unit, repeats, a, b);
	return 0;
}

unsigned long long measure_size(const char *name, unsigned long long otherwise)
{
	const char *value = getenv(name);

	return value ? strtoull(value, NULL, 0) : otherwise;
}
