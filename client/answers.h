/* Parts of answers that more than one message has, from the generated types to those of redd.h.
 */
#ifndef REDD_CLIENT_ANSWERS_H
#define REDD_CLIENT_ANSWERS_H

#include "client/redd.h"

typedef struct Redd__V1__Exit Redd__V1__Exit;
typedef struct Redd__V1__StreamInfo Redd__V1__StreamInfo;
typedef struct Redd__V1__Written Redd__V1__Written;

/* Nobody knows how it ended, for this reason (static). */
struct redd_exit exit_unknown(const char *reason);

/* wire may be NULL: unknown. */
struct redd_exit exit_of(const Redd__V1__Exit *wire);

struct redd_stream_info stream_info_of(const Redd__V1__StreamInfo *wire);

/* Copies pids, REDD_HOLDERS_MAX at most; returns how many. */
int pids_of(pid_t out[REDD_HOLDERS_MAX], const int32_t *wire, size_t n);

struct redd_written written_of(const Redd__V1__Written *wire);

#endif
