/* Processes that take a processor from whoever is on it. */
#ifndef TESTS_LIB_HOG_H
#define TESTS_LIB_HOG_H

#include <sys/types.h>

/* One that we may run on. */
int hog_processor(void);

/* The process, another one's too, runs on that processor alone from now on. 0 or -1. */
int hog_pin(pid_t pid, int processor);

/* Starts one there, in a session of its own (sessions share a processor evenly, sched(7)). It goes
 * with the test. Returns its pid or -1. */
pid_t hog_start(int processor);
void hog_stop(pid_t pid);

#endif
