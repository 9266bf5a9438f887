/* Ownership in scopes: a local that owns something gives it back when it goes out of scope.
 *
 *	_cleanup_(fd_closep) int fd = -1;
 *	...
 *	*ret_fd = TAKE_FD(fd);        // moved out: fd is -1 now, nothing is closed
 */
#ifndef REDD_BASE_CLEANUP_H
#define REDD_BASE_CLEANUP_H

#include <stdlib.h>
#include <sys/param.h> /* MIN, MAX */

#define _cleanup_(f) __attribute__((cleanup(f)))

/* Moves a pointer out of its variable, which becomes NULL. The variable is evaluated once. */
#define TAKE(p)                                 \
	({                                      \
		__typeof__(p) *_from_ = &(p);   \
		__typeof__(p) _take_ = *_from_; \
		*_from_ = NULL;                 \
		_take_;                         \
	})

/* Moves a descriptor out of its variable, which becomes -1. */
#define TAKE_FD(fd)                   \
	({                            \
		int *_from_ = &(fd);  \
		int _take_ = *_from_; \
		*_from_ = -1;         \
		_take_;               \
	})

/* DEFINE_CLEANUP(struct x, x_free) makes x_freep(struct x **), which takes NULL. */
#define DEFINE_CLEANUP(type, func)                                   \
	static inline __attribute__((unused)) void func##p(type **p) \
	{                                                            \
		if (*p)                                              \
			func(*p);                                    \
	}

static inline void freep(void *p)
{
	free(*(void **)p);
}

#define ARRAY_SIZE(a)			(sizeof(a) / sizeof((a)[0]))
#define container_of(ptr, type, member) ((type *)((char *)(ptr)-offsetof(type, member)))

#endif
