/* tiny: the smallest program there is: leaves with 0 and needs no libc, so that what a spawn costs
 * is not hidden behind what a program's own start costs. */
__attribute__((noreturn)) void _start(void);

void _start(void)
{
#if defined(__x86_64__)
	__asm__ volatile("syscall" ::"a"(231L), "D"(0L) : "rcx", "r11", "memory");
#elif defined(__aarch64__)
	register long number __asm__("x8") = 94;
	register long status __asm__("x0") = 0;

	__asm__ volatile("svc 0" ::"r"(number), "r"(status) : "memory");
#else
#error "exit_group of this machine is not known here"
#endif
	__builtin_unreachable();
}
