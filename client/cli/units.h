/* Numbers with units, and names, as people write them. Pure.
 */
#ifndef REDD_CLI_UNITS_H
#define REDD_CLI_UNITS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Each true when the whole text is one, and *ret is set then. */
bool units_number(const char *text, uint64_t *ret);
bool units_size(const char *text, uint64_t *ret);	 /* 4096, 64K, 1M, 2G: powers of 1024 */
bool units_duration(const char *text, uint64_t *ret_ms); /* 5, 1.5s, 200ms, 2m, 1h, 1d */
bool units_signal(const char *text, int *ret);		 /* 15, TERM, SIGTERM, RTMIN+1 */

#define UNITS_TEXT_SIZE 32

/* "TERM", "RTMIN+2"; a number where there is no name. */
const char *units_signal_name(int signal, char out[UNITS_TEXT_SIZE]);

/* "3s", "12m", "5h", "2d": how long ago that was; "-" for 0, which is no time. */
const char *units_age(int64_t then_ns, int64_t now_ns, char out[UNITS_TEXT_SIZE]);

/* "2024-05-01T12:00:00.123Z". */
const char *units_time(int64_t ns, char out[UNITS_TEXT_SIZE]);

#endif
