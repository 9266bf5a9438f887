#include "broker/exit_record.h"

#include <criterion/criterion.h>
#include <signal.h>
#include <sys/wait.h>

TestSuite(exit_record, .timeout = 10);

static struct exit_record of(int status)
{
	struct exit_record e = { .code = 99, .signal = 99, .core = true, .timed_out = true };

	exit_record_set_status(&e, status);
	cr_assert(e.timed_out, "not touched");
	return e;
}

Test(exit_record, tells_every_code)
{
	for (unsigned int code = 0; code < 256; code++) {
		struct exit_record e = of(W_EXITCODE((int)code, 0));

		cr_assert_eq(e.state, EXIT_STATE_CODE);
		cr_assert_eq(e.code, code);
		cr_assert(e.signal == 0 && !e.core);
		cr_assert_eq(exit_record_shell_status(&e), (int)code);
	}
}

Test(exit_record, tells_every_signal_with_and_without_a_core)
{
	for (int signal = 1; signal <= 64; signal++) {
		struct exit_record e = of(signal), core = of(signal | WCOREFLAG);

		cr_assert_eq(e.state, EXIT_STATE_SIGNAL);
		cr_assert_eq(e.signal, (uint32_t)signal);
		cr_assert(e.code == 0 && !e.core);
		cr_assert(core.core && core.signal == (uint32_t)signal);
		cr_assert_eq(exit_record_shell_status(&core), 128 + signal);
	}
}

Test(exit_record, P6_what_nobody_knows_is_unknown_and_never_made_up)
{
	static const int statuses[] = { -1, W_STOPCODE(SIGSTOP), 0xffff };

	for (size_t i = 0; i < sizeof(statuses) / sizeof(statuses[0]); i++) {
		struct exit_record e = of(statuses[i]);

		cr_assert_eq(e.state, EXIT_STATE_UNKNOWN, "%x", statuses[i]);
		cr_assert(e.code == 0 && e.signal == 0 && !e.core);
		cr_assert_eq(exit_record_shell_status(&e), -1);
	}
}

Test(exit_record, takes_over_what_the_keeper_told)
{
	const struct link_exited exited = {
		.status = W_EXITCODE(3, 0),
		.start_ns = 1,
		.end_ns = 2,
		.user_us = 3,
		.system_us = 4,
		.max_rss = 5,
		.minor_faults = 6,
		.major_faults = 7,
		.voluntary_switches = 8,
		.involuntary_switches = 9,
		.blocks_in = 10,
		.blocks_out = 11,
	};
	struct exit_record e = { .timed_out = true };

	exit_record_set_link(&e, &exited);
	cr_assert(e.state == EXIT_STATE_CODE && e.code == 3 && e.timed_out);
	cr_assert(e.start_ns == 1 && e.end_ns == 2 && e.user_us == 3 && e.system_us == 4);
	cr_assert(e.max_rss == 5 && e.minor_faults == 6 && e.major_faults == 7);
	cr_assert(e.voluntary_switches == 8 && e.involuntary_switches == 9);
	cr_assert(e.blocks_in == 10 && e.blocks_out == 11);
}
