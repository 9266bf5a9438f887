/* System calls without libc: they return -errno and touch no memory of ours but what they are
 * given. Between a clone with shared memory and exec nothing else may be used, as errno is the
 * parent's.
 *
 * On an architecture that is not written down here RAW_IS_PURE is 0: calls go through libc then,
 * and children must not share memory with their parent.
 */
#ifndef REDD_HELPER_RAW_H
#define REDD_HELPER_RAW_H

#include <errno.h>
#include <sys/syscall.h>
#include <unistd.h>

#if defined(__x86_64__)
#define RAW_IS_PURE 1
static inline long raw_call(long number, long a, long b, long c, long d, long e, long f)
{
	register long r10 __asm__("r10") = d;
	register long r8 __asm__("r8") = e;
	register long r9 __asm__("r9") = f;
	long result;

	__asm__ volatile("syscall"
			 : "=a"(result)
			 : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
			 : "rcx", "r11", "memory");
	return result;
}
#elif defined(__aarch64__)
#define RAW_IS_PURE 1
static inline long raw_call(long number, long a, long b, long c, long d, long e, long f)
{
	register long x8 __asm__("x8") = number;
	register long x0 __asm__("x0") = a;
	register long x1 __asm__("x1") = b;
	register long x2 __asm__("x2") = c;
	register long x3 __asm__("x3") = d;
	register long x4 __asm__("x4") = e;
	register long x5 __asm__("x5") = f;

	__asm__ volatile("svc 0"
			 : "+r"(x0)
			 : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5)
			 : "memory");
	return x0;
}
#else
#define RAW_IS_PURE 0
static inline long raw_call(long number, long a, long b, long c, long d, long e, long f)
{
	long result = syscall(number, a, b, c, d, e, f);

	return result < 0 ? -errno : result;
}
#endif

/* Pads to six arguments; pointers and integers alike become long. */
#define RAW_ARGS(number, a, b, c, d, e, f, ...) \
	raw_call((number), (long)(a), (long)(b), (long)(c), (long)(d), (long)(e), (long)(f))
#define raw(number, ...) RAW_ARGS(number, ##__VA_ARGS__, 0, 0, 0, 0, 0, 0, 0)

#endif
