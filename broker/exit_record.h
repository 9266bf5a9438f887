/* How a leader ended, in plain numbers. "Unknown" is a state of its own: nothing is ever made up.
 */
#ifndef REDD_EXIT_RECORD_H
#define REDD_EXIT_RECORD_H

#include <stdbool.h>
#include <stdint.h>

#include "helper/link.h"

enum exit_state {
	EXIT_STATE_UNKNOWN = 0, /* it has ended, and nobody could learn how */
	EXIT_STATE_CODE,	/* by exit(3), with `code` */
	EXIT_STATE_SIGNAL,	/* killed by `signal` */
};

struct exit_record {
	enum exit_state state;
	uint32_t code;		  /* CODE: 0 to 255 */
	uint32_t signal;	  /* SIGNAL: 1 to 64 */
	bool core;		  /* SIGNAL: a core was dumped */
	bool timed_out;		  /* the timeout's signal had been sent before */
	int64_t start_ns, end_ns; /* CLOCK_REALTIME */
	/* getrusage(2) of the leader and the children it waited for */
	uint64_t user_us, system_us;
	uint64_t max_rss; /* bytes */
	uint64_t minor_faults, major_faults;
	uint64_t voluntary_switches, involuntary_switches;
	uint64_t blocks_in, blocks_out;
};

/* State, code, signal and core from a status as wait(2) gives it; one that says neither exited nor
 * signalled (stopped, continued, nonsense) is unknown. Other members are not touched. */
void exit_record_set_status(struct exit_record *e, int wait_status);

/* All that the keeper told of an exit; timed_out is not touched. */
void exit_record_set_link(struct exit_record *e, const struct link_exited *exited);

/* The status a shell would give: code, 128 + signal; -1 when unknown. */
int exit_record_shell_status(const struct exit_record *e);

#endif
