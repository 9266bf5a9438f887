/* What the records in a birth socket say. */
#ifndef REDD_HELPER_BIRTH_H
#define REDD_HELPER_BIRTH_H

#include <stddef.h>

#include "helper/link.h"

enum birth_verdict_kind {
	BIRTH_VERDICT_NOTHING,	 /* no record: nothing ran (yet) */
	BIRTH_VERDICT_BORN,	 /* a process that has not come to its exec (yet) */
	BIRTH_VERDICT_EXECUTING, /* one that has, and told no failure (yet) */
	BIRTH_VERDICT_FAILED,
};

struct birth_verdict {
	enum birth_verdict_kind kind;
	int32_t pid;	  /* 0: there never was a process */
	int64_t start_ns; /* if born */
	uint32_t stage;	  /* if failed */
	int32_t error;
};

/* Pure: judges the bytes that stand in a birth socket. Anything but zero to three whole records
 * that follow the rules is FAILED {REQUEST, EPROTO}. "Yet" is for the caller to settle: at the end
 * of file, or when the process is dead, no record can follow. */
void birth_judge(const void *bytes, size_t size, struct birth_verdict *ret);

/* Peeks (the records stay) and judges. What is no socket is FAILED {REQUEST, EPROTO}. */
void birth_peek(int fd, struct birth_verdict *ret);

/* Makes sure that nothing can be written any more: a child that has not come to its exec ends
 * without having run anything, and one whose exec fails cannot say so. Then peeks. */
void birth_cancel(int fd, struct birth_verdict *ret);

#endif
