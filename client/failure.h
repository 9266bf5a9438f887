/* What went wrong, in the form that redd_last_error() shows. A failure holds its own text, so that
 * it can be copied and kept.
 */
#ifndef REDD_CLIENT_FAILURE_H
#define REDD_CLIENT_FAILURE_H

#include "client/redd.h"
#include "proto/codec.h"

#define FAILURE_TEXT_SIZE 512u

typedef struct Redd__V1__Error Redd__V1__Error;

struct failure {
	struct redd_error error; /* error.message points at text */
	char text[FAILURE_TEXT_SIZE];
};

void failure_init(struct failure *f);
void failure_copy(struct failure *to, const struct failure *from);

/* Found on this side. Control characters in the text are replaced. Returns result, a negative
 * errno. */
int failure_set(struct failure *f, int result, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

/* Told by the broker; error may be NULL (it said nothing). Returns the negative errno that stands
 * for it, never 0. */
int failure_refused(struct failure *f, const Redd__V1__Error *error);

#endif
