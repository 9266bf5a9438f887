/* die SIGNAL [core]: kills itself with that signal's default action; it leaves no core file unless
 * it may by "core" and its limits. */
#include <signal.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	const struct rlimit none = { 0, 0 };
	int sig = argc > 1 ? atoi(argv[1]) : SIGKILL;
	sigset_t set;

	if (argc < 3)
		setrlimit(RLIMIT_CORE, &none);
	signal(sig, SIG_DFL);
	sigemptyset(&set);
	sigaddset(&set, sig);
	sigprocmask(SIG_UNBLOCK, &set, NULL);
	raise(sig);
	return 99;
}
