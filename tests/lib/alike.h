/* As many labels as a port may have, of which only the last one's value differs: the most that
 * there is to be compared before it is known that they do not fit. */
#ifndef TESTS_LIB_ALIKE_H
#define TESTS_LIB_ALIKE_H

#include "broker/labels.h"
#include "proto/limits.h"
#include "proto/redd.pb-c.h"

/* Of a port; the caller's. What fails fails the test. */
struct labels *alike_labels(const char *last);

/* The same for a request. */
struct alike_selector {
	Redd__V1__Label pairs[LABELS_MAX], *pointers[LABELS_MAX];
};
void alike_selector(struct alike_selector *ret, const char *last);

#endif
