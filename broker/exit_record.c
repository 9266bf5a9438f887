/* Conversions of how a leader ended. */
#include "broker/exit_record.h"

#include <sys/wait.h>

void exit_record_set_status(struct exit_record *e, int wait_status)
{
	e->state = EXIT_STATE_UNKNOWN;
	e->code = e->signal = 0;
	e->core = false;
	if (wait_status < 0)
		return;
	if (WIFEXITED(wait_status)) {
		e->state = EXIT_STATE_CODE;
		e->code = (uint32_t)WEXITSTATUS(wait_status);
	} else if (WIFSIGNALED(wait_status)) {
		e->state = EXIT_STATE_SIGNAL;
		e->signal = (uint32_t)WTERMSIG(wait_status);
		e->core = WCOREDUMP(wait_status);
	}
}

void exit_record_set_link(struct exit_record *e, const struct link_exited *exited)
{
	exit_record_set_status(e, exited->status);
	e->start_ns = exited->start_ns;
	e->end_ns = exited->end_ns;
	e->user_us = exited->user_us;
	e->system_us = exited->system_us;
	e->max_rss = exited->max_rss;
	e->minor_faults = exited->minor_faults;
	e->major_faults = exited->major_faults;
	e->voluntary_switches = exited->voluntary_switches;
	e->involuntary_switches = exited->involuntary_switches;
	e->blocks_in = exited->blocks_in;
	e->blocks_out = exited->blocks_out;
}

int exit_record_shell_status(const struct exit_record *e)
{
	switch (e->state) {
	case EXIT_STATE_CODE:
		return (int)e->code;
	case EXIT_STATE_SIGNAL:
		return 128 + (int)e->signal;
	case EXIT_STATE_UNKNOWN:
		break;
	}
	return -1;
}
