#include "helper/signals.h"

#include <signal.h>
#include <stdint.h>

#include "helper/raw.h"

#define N_SIGNALS 64

/* As rt_sigaction(2) takes it on every architecture that has this size of it at most. */
struct kernel_action {
	uintptr_t handler; /* 0: SIG_DFL */
	unsigned long flags;
	uintptr_t restorer;
	uint64_t mask;
};

void signals_reset(void)
{
	const struct kernel_action action = { 0 };
	uint64_t all = UINT64_MAX;

	raw(SYS_rt_sigprocmask, SIG_SETMASK, &all, NULL, sizeof(all));
	for (int n = 1; n <= N_SIGNALS; n++)
		if (n != SIGKILL && n != SIGSTOP)
			raw(SYS_rt_sigaction, n, &action, NULL, sizeof(all));
}
