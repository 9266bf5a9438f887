#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "helper/birth.h"

static const struct birth born = { .kind = BIRTH_BORN, .pid = 1234, .time_ns = 77 };
static const struct birth failed = { .kind = BIRTH_FAILED,
				     .stage = LINK_STAGE_EXEC,
				     .error = ENOENT };

static const struct birth executing = { .kind = BIRTH_EXECUTING };

static struct birth_verdict judge(const struct birth *a, const struct birth *b)
{
	struct birth_verdict v;
	struct birth records[2] = { 0 };
	size_t n = 0;

	if (a)
		records[n++] = *a;
	if (b)
		records[n++] = *b;
	birth_judge(records, n * sizeof(records[0]), &v);
	return v;
}

static bool is_wrong(struct birth_verdict v)
{
	return v.kind == BIRTH_VERDICT_FAILED && v.stage == LINK_STAGE_REQUEST && v.error == EPROTO;
}

Test(birth, no_record_means_that_nothing_ran, .timeout = 5)
{
	cr_assert_eq(judge(NULL, NULL).kind, BIRTH_VERDICT_NOTHING);
}

Test(birth, one_record_of_a_birth_names_the_process, .timeout = 5)
{
	struct birth_verdict v = judge(&born, NULL);

	cr_assert_eq(v.kind, BIRTH_VERDICT_BORN);
	cr_assert_eq(v.pid, 1234);
	cr_assert_eq(v.start_ns, 77);
}

Test(birth, a_process_that_comes_to_its_exec_says_so, .timeout = 5)
{
	struct birth_verdict v = judge(&born, &executing);

	cr_assert_eq(v.kind, BIRTH_VERDICT_EXECUTING);
	cr_assert_eq(v.pid, 1234);
}

Test(birth, a_failed_exec_is_a_failure, .timeout = 5)
{
	const struct birth records[] = { born, executing, failed };
	struct birth_verdict v;

	birth_judge(records, sizeof(records), &v);
	cr_assert_eq(v.kind, BIRTH_VERDICT_FAILED);
	cr_assert_eq(v.error, ENOENT);
	cr_assert_eq(v.pid, 1234);
}

Test(birth, a_failure_after_birth_keeps_the_pid_for_reaping, .timeout = 5)
{
	struct birth_verdict v = judge(&born, &failed);

	cr_assert_eq(v.kind, BIRTH_VERDICT_FAILED);
	cr_assert_eq(v.stage, LINK_STAGE_EXEC);
	cr_assert_eq(v.error, ENOENT);
	cr_assert_eq(v.pid, 1234);
}

Test(birth, a_failure_alone_never_had_a_process, .timeout = 5)
{
	struct birth_verdict v = judge(&failed, NULL);

	cr_assert_eq(v.kind, BIRTH_VERDICT_FAILED);
	cr_assert_eq(v.pid, 0);
}

Test(birth, records_that_break_the_rules_are_a_failure_of_the_request, .timeout = 5)
{
	struct birth odd_stage = failed, no_error = failed, odd_kind = born, odd_pid = born;

	odd_stage.stage = LINK_STAGE_EXEC + 1;
	no_error.error = 0;
	odd_kind.kind = 1;
	odd_pid.pid = 1;
	cr_assert(is_wrong(judge(&odd_stage, NULL)));
	cr_assert(is_wrong(judge(&no_error, NULL)));
	cr_assert(is_wrong(judge(&odd_kind, NULL)));
	cr_assert(is_wrong(judge(&odd_pid, NULL)));
	cr_assert(is_wrong(judge(&born, &born)));
	cr_assert(is_wrong(judge(&failed, &born)));
	cr_assert(is_wrong(judge(&failed, &failed)));
	cr_assert(is_wrong(judge(&executing, NULL)));
	cr_assert(is_wrong(judge(&failed, &executing)));
}

Test(birth, half_a_record_and_too_many_are_a_failure_of_the_request, .timeout = 5)
{
	char bytes[sizeof(struct birth) * 5] = { 0 };
	struct birth_verdict v;

	for (size_t n = 1; n <= sizeof(bytes); n++) {
		memcpy(bytes, &born, sizeof(born));
		memcpy(bytes + sizeof(born), &executing, sizeof(executing));
		memcpy(bytes + 2 * sizeof(born), &failed, sizeof(failed));
		if (n % sizeof(born) == 0 && n <= 3 * sizeof(born))
			continue;
		birth_judge(bytes, n, &v);
		cr_assert(is_wrong(v), "%zu bytes", n);
	}
}

Test(birth, peeking_leaves_the_records_for_whoever_comes_later, .timeout = 5)
{
	struct birth_verdict v;
	int fds[2];

	cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
	birth_peek(fds[0], &v);
	cr_assert_eq(v.kind, BIRTH_VERDICT_NOTHING);
	cr_assert_eq(send(fds[1], &born, sizeof(born), 0), (ssize_t)sizeof(born));
	for (int i = 0; i < 3; i++) {
		birth_peek(fds[0], &v);
		cr_assert_eq(v.kind, BIRTH_VERDICT_BORN);
	}
	cr_assert_eq(send(fds[1], &failed, sizeof(failed), 0), (ssize_t)sizeof(failed));
	close(fds[1]);
	for (int i = 0; i < 3; i++) {
		birth_peek(fds[0], &v);
		cr_assert_eq(v.kind, BIRTH_VERDICT_FAILED);
		cr_assert_eq(v.pid, 1234);
	}
	close(fds[0]);
}

Test(birth, what_is_no_socket_is_a_failure_of_the_request, .timeout = 5)
{
	struct birth_verdict v;
	int fds[2];

	cr_assert_eq(pipe(fds), 0);
	birth_peek(fds[0], &v);
	cr_assert(is_wrong(v));
	close(fds[0]);
	close(fds[1]);
}

Test(birth, after_a_cancel_no_child_can_announce_itself, .timeout = 5)
{
	struct birth_verdict v;
	int fds[2];

	cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
	birth_cancel(fds[0], &v);
	cr_assert_eq(v.kind, BIRTH_VERDICT_NOTHING);
	cr_assert_lt(send(fds[1], &born, sizeof(born), MSG_NOSIGNAL), 0);
	cr_assert_eq(errno, EPIPE);
	close(fds[0]);
	close(fds[1]);
}

Test(birth, a_cancel_that_comes_too_late_says_so, .timeout = 5)
{
	struct birth_verdict v;
	int fds[2];

	cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
	cr_assert_eq(send(fds[1], &born, sizeof(born), 0), (ssize_t)sizeof(born));
	birth_cancel(fds[0], &v);
	cr_assert_eq(v.kind, BIRTH_VERDICT_BORN);
	close(fds[0]);
	close(fds[1]);
}
