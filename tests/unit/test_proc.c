#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "helper/proc.h"
#include "tests/lib/hog.h"

static bool parse(const char *text, struct proc_stat *ret)
{
	return proc_stat_parse(text, strlen(text), ret);
}

Test(proc, a_name_with_brackets_and_spaces_confuses_nobody, .timeout = 5)
{
	struct proc_stat s;

	cr_assert(parse("77 (a) S 1 (b) R 5 6 7 8 9 64 1 2 3 4 5 6 7 8 20 0 1 0 4242 9 9\n", &s));
	cr_assert_eq(s.pid, 77);
	cr_assert_eq(s.state, 'R');
	cr_assert_eq(s.parent, 5);
	cr_assert_eq(s.group, 6);
	cr_assert_eq(s.session, 7);
	cr_assert_eq(s.flags, 64);
	cr_assert_eq(s.cpu_ticks, 11);
	cr_assert_eq(s.start_ticks, 4242);
}

Test(proc, what_is_cut_short_is_refused, .timeout = 5)
{
	const char *text = "77 (a) R 5 6 7 8 9 64 1 2 3 4 5 6 7 8 20 0 1 0 4242 9";
	struct proc_stat s;

	for (size_t size = 0; size < strlen(text) - 6; size++)
		cr_assert_not(proc_stat_parse(text, size, &s), "%zu", size);
	cr_assert_not(parse("", &s));
	cr_assert_not(parse("(a) R 1 2 3", &s));
	cr_assert_not(parse("1 (a)", &s));
}

Test(proc, we_find_ourselves, .timeout = 5)
{
	struct proc_stat s;

	cr_assert_eq(proc_stat_read(getpid(), &s), 0);
	cr_assert_eq(s.pid, getpid());
	cr_assert_eq(s.parent, getppid());
	cr_assert_eq(s.session, getsid(0));
	cr_assert_gt(s.start_ticks, 0);
	cr_assert_lt(proc_stat_read(0x7ffffff0, &s), 0);
}

Test(proc, what_a_process_has_run_is_counted, .timeout = 20)
{
	pid_t hog = hog_start(hog_processor());
	struct proc_stat s = { 0 };

	cr_assert_gt(hog, 0);
	while (s.cpu_ticks < 3)
		cr_assert_eq(proc_stat_read(hog, &s), 0);
	cr_expect_eq(s.state, 'R');
	hog_stop(hog);
}

static bool is_us(pid_t pid, void *context)
{
	*(bool *)context |= pid == getpid();
	return true;
}

static bool is_pipe(pid_t pid, int fd, const char *link, void *context)
{
	(void)pid;
	*(bool *)context |= fd == 300 && strncmp(link, "pipe:[", 6) == 0;
	return true;
}

Test(proc, processes_and_descriptors_are_listed, .timeout = 10)
{
	bool found = false;
	int fds[2];

	cr_assert_eq(proc_each(is_us, &found), 0);
	cr_assert(found);
	found = false;
	cr_assert_eq(pipe(fds), 0);
	cr_assert_eq(dup2(fds[0], 300), 300);
	cr_assert_eq(proc_each_fd(getpid(), is_pipe, &found), 0);
	cr_assert(found);
}

static bool is_entry(const char *entry, void *context)
{
	return strcmp(entry, context) == 0;
}

static bool has_entry(pid_t pid, const char *entry)
{
	return proc_find_environment(pid, is_entry, (void *)entry) == 1;
}

/* A cat that has begun to be one; it ends with its input, which is the caller's. */
static pid_t start_cat(char *const envp[], int *ret_in)
{
	char *const argv[] = { (char *)"cat", NULL };
	int in[2], ready[2];
	pid_t pid;
	char c;

	cr_assert(pipe(in) == 0 && pipe2(ready, O_CLOEXEC) == 0);
	pid = fork();
	if (pid == 0) {
		dup2(in[0], 0);
		close(in[1]);
		execve("/bin/cat", argv, envp);
		_exit(1);
	}
	close(in[0]);
	close(ready[1]);
	cr_assert_eq(read(ready[0], &c, 1), 0, "exec closed it");
	close(ready[0]);
	*ret_in = in[1];
	return pid;
}

Test(proc, a_whole_variable_is_found_and_no_part_of_one, .timeout = 10)
{
	/* The longest that is told, and one byte more. */
	char longest[] = "L="
			 "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
	char longer[] = "M="
			"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
	char *const envp[] = { (char *)"AA=REDD_PORT=5", (char *)"REDD_PORT=55", longest, longer,
			       (char *)"REDD_PORT=7",	 (char *)"Z=1",		 NULL };
	int in;
	pid_t pid = start_cat(envp, &in);

	cr_assert(has_entry(pid, "REDD_PORT=7"));
	cr_assert(has_entry(pid, "Z=1"));
	cr_assert_not(has_entry(pid, "REDD_PORT=5"));
	cr_assert_not(has_entry(pid, "PORT=7"));
	cr_assert_not(has_entry(pid, "REDD_PORT="));
	cr_assert_not(has_entry(pid, ""));
	cr_assert_eq(strlen(longest), PROC_ENTRY_SIZE - 1);
	cr_assert(has_entry(pid, longest));
	cr_assert_not(has_entry(pid, longer));
	close(in);
	cr_assert_eq(waitpid(pid, NULL, 0), pid);
}

/* Who has an empty one is told apart from who has none yet. */
Test(proc, a_process_without_a_program_has_no_environment, .timeout = 10)
{
	char *const envp[] = { NULL };
	char entry[] = "A=1";
	int in;
	pid_t pid = start_cat(envp, &in);

	/* Closed at the point of no return, a moment before the program has its arguments. */
	while (proc_find_environment(pid, is_entry, entry) == -EAGAIN)
		;
	cr_expect_eq(proc_find_environment(pid, is_entry, entry), 0);
	close(in);
	cr_assert_eq(waitid(P_PID, (id_t)pid, &(siginfo_t){ 0 }, WEXITED | WNOWAIT), 0);
	cr_expect_lt(proc_find_environment(pid, is_entry, entry), 0, "a zombie");
	cr_assert_eq(waitpid(pid, NULL, 0), pid);
	cr_expect_eq(proc_find_environment(pid, is_entry, entry), -ENOENT);
}
