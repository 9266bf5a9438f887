/* Spawns with one thing wrong in them: a row for each field that can be. None of them gets as far
 * as the forker; what fails there has suites of its own. */
#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "tests/lib/ask.h"
#include "tests/lib/refusals.h"

#define INVALID REDD__V1__CODE__INVALID_ARGUMENT
#define EXISTS	REDD__V1__CODE__ALREADY_EXISTS
#define RANGE	REDD__V1__CODE__OUT_OF_RANGE
#define TRUE	"spawn { program: \"/bin/true\" "

TestSuite(bad_spawn, .init = refusals_begin, .fini = refusals_end, .timeout = 60);

static const struct refusal commands[] = {
	{ "spawn { }", INVALID, EINVAL, "program" },
	{ "spawn { program: \"x\" shell: \"y\" }", INVALID, EINVAL, "program" },
	{ "spawn { program: \"\" }", INVALID, 0, "program" },
	{ "spawn { program: \"x\"*4096 }", INVALID, 0, "program" },
	{ "spawn { program: \"/\" args*3: \"x\" shell: \"\" }", INVALID, EINVAL, "program" },
	{ "spawn { shell: \"true\" args: \"x\" }", INVALID, EINVAL, "args" },
	{ "spawn { program: \"x\" search_path: \"/d:\"*20000 }", INVALID, 0, "search_path" },
	{ TRUE "directory: \"\" }", INVALID, EINVAL, "directory" },
	{ TRUE "directory: \"relative\" }", INVALID, EINVAL, "directory" },
	{ TRUE "directory: \"/x\"*2048 }", INVALID, 0, "directory" },
	{ TRUE "client_directory: \"\" }", INVALID, EINVAL, "client_directory" },
	{ TRUE "client_directory: \"here\" }", INVALID, EINVAL, "client_directory" },
	{ TRUE "client_directory: \"/x\"*2048 }", INVALID, 0, "directory" },
	{ TRUE "client_directory: \"/x\"*1500 directory: \"x/\"*1500 }", INVALID, 0, "directory" },
	{ TRUE "environment { from: 3 } }", INVALID, EINVAL, "from" },
	{ TRUE "environment { from: -1 } }", INVALID, EINVAL, "from" },
	{ TRUE "environment { set: \"NOEQUALS\" } }", INVALID, EINVAL, "environment" },
	{ TRUE "environment { set: \"=x\" } }", INVALID, EINVAL, "environment" },
	{ TRUE "environment { set: \"\" } }", INVALID, EINVAL, "environment" },
	{ TRUE "environment { unset: \"\" } }", INVALID, EINVAL, "environment" },
	{ TRUE "environment { unset: \"A=B\" } }", INVALID, EINVAL, "environment" },
};

Test(bad_spawn, P15_S07_S08_S15_program_directory_and_environment)
{
	refusals_check(&refusals.peer, REFUSALS(commands));
}

#define FD(text) TRUE "descriptors { " text " } }"

static const struct refusal descriptors[] = {
	{ FD(""), INVALID, EINVAL, "fd" },
	{ FD("fd: 1024"), INVALID, EINVAL, "1023" },
	{ FD("fd: 4294967295"), INVALID, EINVAL, "1023" },
	{ FD("fd: 5 kind: 8"), INVALID, EINVAL, "kind" },
	{ FD("fd: 5 kind: -1"), INVALID, EINVAL, "kind" },
	{ FD("fd: 5 direction: 3"), INVALID, EINVAL, "direction" },
	{ FD("fd: 5 direction: -1"), INVALID, EINVAL, "direction" },
	{ TRUE "descriptors*2 { fd: 5 } }", INVALID, EINVAL, "twice" },
	{ TRUE "descriptors*65 { fd: 5 kind: KIND_NULL } }", INVALID, EINVAL, "twice" },
	{ TRUE "descriptors*17 { kind: KIND_PIPE } }", INVALID, EINVAL, "fd" },
	{ FD("fd: 5 kind: KIND_SAME"), INVALID, EINVAL, "same_as" },
	{ FD("fd: 5 kind: KIND_SAME same_as: 5"), INVALID, EINVAL, "same_as" },
	{ FD("fd: 5 kind: KIND_SAME same_as: 6"), INVALID, EINVAL, "same_as" },
	{ FD("fd: 5 kind: KIND_SAME same_as: 4294967295"), INVALID, EINVAL, "same_as" },
	{ TRUE "descriptors { fd: 5 kind: KIND_SAME same_as: 6 } "
	       "descriptors { fd: 6 kind: KIND_SAME same_as: 1 } }",
	  INVALID, EINVAL, "same_as" },
	{ TRUE "descriptors { fd: 5 kind: KIND_SAME same_as: 6 } "
	       "descriptors { fd: 6 kind: KIND_CLOSED } }",
	  INVALID, EINVAL, "same_as" },
	{ FD("fd: 0 kind: KIND_FILE"), INVALID, EINVAL, "path" },
	{ FD("fd: 0 kind: KIND_FILE path: \"\" read: true"), INVALID, EINVAL, "path" },
	{ FD("fd: 0 kind: KIND_FILE path: \"x\"*4096 read: true"), INVALID, 0, "path" },
	{ FD("fd: 0 kind: KIND_FILE path: \"f\""), INVALID, EINVAL, "read" },
	{ FD("fd: 0 kind: KIND_FILE path: \"f\" create: true"), INVALID, EINVAL, "read" },
	{ FD("fd: 0 kind: KIND_FILE path: \"f\" write: true mode: 384"), INVALID, EINVAL, "mode" },
	{ FD("fd: 0 kind: KIND_FILE path: \"f\" write: true create: true mode: 4096"), INVALID,
	  EINVAL, "mode" },
	{ FD("fd: 0 kind: KIND_FILE path: \"f\" read: true truncate: true"), INVALID, EINVAL,
	  "truncate" },
	{ FD("fd: 0 kind: KIND_FILE path: \"f\" write: true exclusive: true"), INVALID, EINVAL,
	  "exclusive" },
	{ FD("fd: 0 kind: KIND_PASSED passed: 0"), INVALID, EBADF, "descriptors" },
	{ FD("fd: 0 kind: KIND_PASSED passed: 4294967295"), INVALID, EBADF, "descriptors" },
	{ TRUE "descriptors*1000 { fd: 1 kind: KIND_PASSED } }", INVALID, 0, "descriptor" },
	{ TRUE "terminal { rows: 65536 } }", INVALID, EINVAL, "65535" },
	{ TRUE "terminal { columns: 4294967295 } }", INVALID, EINVAL, "65535" },
	{ TRUE "terminal { x_pixels: 65536 } }", INVALID, EINVAL, "65535" },
	{ TRUE "terminal { y_pixels: 65536 } }", INVALID, EINVAL, "65535" },
	{ TRUE "terminal { } group: GROUP_NEW }", INVALID, EINVAL, "GROUP_SESSION" },
	{ FD("fd: 7 kind: KIND_TERMINAL } group: GROUP_NEW name: \"x\" labels { key: \"k\""),
	  INVALID, EINVAL, "GROUP_SESSION" },
};

Test(bad_spawn, P15_descriptors_and_terminal)
{
	refusals_check(&refusals.peer, REFUSALS(descriptors));
}

/* Numbers of their own for a list of descriptors: too many of them, too many streams. */
Test(bad_spawn, P15_more_descriptors_or_streams_than_a_port_can_have)
{
	static char text[16384];
	struct refusal row = { text, INVALID, EINVAL, "more than" };
	static const struct {
		int first, last;
		const char *kind;
	} cases[] = { { 3, 67, "KIND_NULL" }, { 3, 17, "KIND_PIPE" }, { 0, 16, "KIND_SOCKET" } };

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		size_t n = (size_t)sprintf(text, TRUE);

		for (int fd = cases[i].first; fd <= cases[i].last; fd++)
			n += (size_t)sprintf(text + n, "descriptors { fd: %d kind: %s } ", fd,
					     cases[i].kind);
		strcpy(text + n, "}");
		refusals_check(&refusals.peer, &row, 1);
	}
}

static const struct refusal attributes[] = {
	{ TRUE "group: 2 }", INVALID, EINVAL, "group" },
	{ TRUE "group: -1 }", INVALID, EINVAL, "group" },
	{ TRUE "umask: 512 }", INVALID, EINVAL, "umask" },
	{ TRUE "umask: 4294967295 }", INVALID, EINVAL, "umask" },
	{ TRUE "nice: 20 }", INVALID, EINVAL, "nice" },
	{ TRUE "nice: -21 }", INVALID, EINVAL, "nice" },
	{ TRUE "nice: -2147483648 }", INVALID, EINVAL, "nice" },
	{ TRUE "limits { } }", INVALID, EINVAL, "limit" },
	{ TRUE "limits { soft: 1 } }", INVALID, EINVAL, "limit" },
	{ TRUE "limits { name: \"files\" soft: 1 } }", INVALID, EINVAL, "limit" },
	{ TRUE "limits { name: \"x\"*100000 soft: 1 } }", INVALID, EINVAL, "limit" },
	{ TRUE "limits { name: \"bad\\nname\\x1b[31m\" soft: 1 } }", INVALID, EINVAL, "limit" },
	{ TRUE "limits { name: \"nofile\" soft: 2 hard: 1 } }", INVALID, EINVAL, "soft" },
	{ TRUE "limits*2 { name: \"nofile\" soft: 2 } }", INVALID, EINVAL, "twice" },
	{ TRUE "limits { name: \"nofile\" } }", INVALID, EINVAL, "soft" },
	{ TRUE "uid: 4294967295 }", INVALID, EINVAL, "4294967295" },
	{ TRUE "gid: 4294967295 }", INVALID, EINVAL, "4294967295" },
	{ TRUE "groups: 4294967295 }", INVALID, EINVAL, "4294967295" },
	{ TRUE "groups*65: 5 }", INVALID, EINVAL, "64" },
	{ TRUE "groups*100000: 5 }", INVALID, EINVAL, "64" },
};

Test(bad_spawn, P15_attributes)
{
	if (geteuid())
		cr_skip_test("only root may ask for another uid: these rows are refused before");
	refusals_check(&refusals.peer, REFUSALS(attributes));
}

static const struct refusal lives[] = {
	{ TRUE "timeout_signal: 0 }", INVALID, EINVAL, "timeout_signal" },
	{ TRUE "timeout_signal: 65 }", INVALID, EINVAL, "timeout_signal" },
	{ TRUE "timeout_ms: 1 timeout_signal: 4294967295 }", INVALID, EINVAL, "timeout_signal" },
	{ TRUE "orphan: 4 }", INVALID, EINVAL, "orphan" },
	{ TRUE "orphan: -1 }", INVALID, EINVAL, "orphan" },
	{ TRUE "retention_ms: 86400001 }", INVALID, EINVAL, "retention_ms" },
	{ TRUE "retention_ms: 4294967295 }", INVALID, EINVAL, "retention_ms" },
	{ TRUE "log_size: 0 }", INVALID, EINVAL, "log_size" },
	{ TRUE "log_size: 65535 }", INVALID, EINVAL, "log_size" },
	{ TRUE "log_size: 67108865 }", INVALID, EINVAL, "log_size" },
	{ TRUE "input_bound: 0 }", INVALID, EINVAL, "input_bound" },
	{ TRUE "input_bound: 67108865 }", INVALID, EINVAL, "input_bound" },
	{ TRUE "input_high: 0 }", INVALID, EINVAL, "input_high" },
	{ TRUE "input_high: 1048577 }", INVALID, EINVAL, "input_high" },
	{ TRUE "input_high: 4294967294 }", INVALID, EINVAL, "input_high" },
	{ TRUE "input_low: 0 }", INVALID, EINVAL, "input_low" },
	{ TRUE "input_low: 1048577 }", INVALID, EINVAL, "input_low" },
	{ TRUE "input_low: 4294967295 }", INVALID, EINVAL, "input_low" },
	{ TRUE "input_high: 4294967295 input_low: 0 }", INVALID, EINVAL, "input_low" },
	{ TRUE "input_bound: 10 input_low: 11 }", INVALID, EINVAL, "input_low" },
	{ TRUE "input_bound: 10 input_high: 11 }", INVALID, EINVAL, "input_high" },
	{ TRUE "token: \"\" }", INVALID, EINVAL, "token" },
	{ TRUE "token: \"t\"*65 }", INVALID, EINVAL, "token" },
	{ TRUE "name: \"\" }", INVALID, EINVAL, "name" },
	{ TRUE "name: \"n\"*129 }", INVALID, EINVAL, "name" },
	{ TRUE "name: \"7up\" }", INVALID, EINVAL, "digit" },
	{ TRUE "name: \"two words\" }", INVALID, EINVAL, "name" },
	{ TRUE "name: \"caf\\xc3\\xa9\" }", INVALID, EINVAL, "name" },
	{ TRUE "name: \"runs\" }", EXISTS, EEXIST, "runs" },
	{ TRUE "name: \"ended\" }", EXISTS, EEXIST, "ended" },
	{ TRUE "labels { } }", INVALID, EINVAL, "key" },
	{ TRUE "labels { key: \"\" value: \"v\" } }", INVALID, EINVAL, "key" },
	{ TRUE "labels { key: \"k\"*64 } }", INVALID, EINVAL, "63" },
	{ TRUE "labels { key: \"a=b\" } }", INVALID, EINVAL, "key" },
	{ TRUE "labels { key: \"k\" value: \"v\"*256 } }", INVALID, EINVAL, "255" },
	{ TRUE "labels { key: \"k\" value: \"\\x7f\" } }", INVALID, EINVAL, "control" },
	{ TRUE "labels*2 { key: \"k\" } }", INVALID, EINVAL, "same key" },
	{ TRUE "labels*33 { key: \"k#\" } }", INVALID, EINVAL, "32" },
};

Test(bad_spawn, P15_S43_times_sizes_name_token_and_labels)
{
	refusals_check(&refusals.peer, REFUSALS(lives));
}

#define SUBSCRIBE(text) TRUE "subscribe { " text " } }"

static const struct refusal subscriptions[] = {
	{ SUBSCRIBE("streams: 0"), INVALID, 0, "output" },
	{ SUBSCRIBE("streams: 9"), INVALID, 0, "output" },
	{ SUBSCRIBE("streams: 1 streams: 2 streams: 1"), INVALID, 0, "twice" },
	{ SUBSCRIBE("streams*17: 1"), INVALID, EINVAL, "streams" },
	{ SUBSCRIBE("overflow: 4"), INVALID, EINVAL, "overflow" },
	{ SUBSCRIBE("framing { cut: 3 }"), INVALID, EINVAL, "cut" },
	{ SUBSCRIBE("framing { cut: LINES header: 2 }"), INVALID, EINVAL, "header" },
	{ SUBSCRIBE("start { from: 5 }"), INVALID, EINVAL, "from" },
	{ SUBSCRIBE("start { from: OFFSET offsets { stream: 1 offset: 1 } }"), RANGE, 0, "offset" },
	{ SUBSCRIBE("start { from: OFFSET offsets { stream: 8 } }"), INVALID, 0, "offsets" },
};

#define FRAMING(text) TRUE "framing { " text " } }"

static const struct refusal framings[] = {
	{ FRAMING("cut: 3"), INVALID, EINVAL, "cut" },
	{ FRAMING("cut: -1"), INVALID, EINVAL, "cut" },
	{ FRAMING("header: 4"), INVALID, EINVAL, "header" },
	{ FRAMING("maximum: 10"), INVALID, EINVAL, "maximum" },
	{ FRAMING("cut: PACKETS"), INVALID, EINVAL, "header" },
	{ FRAMING("cut: PACKETS header: 0"), INVALID, EINVAL, "header" },
	{ FRAMING("cut: PACKETS header: 3"), INVALID, EINVAL, "header" },
	{ FRAMING("cut: PACKETS header: 8"), INVALID, EINVAL, "header" },
	{ FRAMING("cut: PACKETS header: 4294967295"), INVALID, EINVAL, "header" },
	{ FRAMING("cut: PACKETS header: 4 maximum: 0"), INVALID, EINVAL, "maximum" },
	{ FRAMING("cut: PACKETS header: 4 maximum: 1073741825"), INVALID, EINVAL, "maximum" },
	{ FRAMING("cut: LINES maximum: 0"), INVALID, EINVAL, "maximum" },
	{ FRAMING("cut: LINES maximum: 4294967295"), INVALID, EINVAL, "maximum" },
	{ FRAMING("cut: LINES header: 4"), INVALID, EINVAL, "header" },
	{ FRAMING("cut: LINES header: 0"), INVALID, EINVAL, "header" },
};

Test(bad_spawn, S09_framing_that_is_none_or_of_two_kinds)
{
	refusals_check(&refusals.peer, REFUSALS(framings));
}

Test(bad_spawn, P15_the_subscription_inside)
{
	refusals_check(&refusals.peer, REFUSALS(subscriptions));
}

Test(bad_spawn, P15_a_token_is_for_one_request_only)
{
	static const struct refusal other = { TRUE "args: \"x\" token: \"once\" }", EXISTS, EEXIST,
					      "token" };
	Redd__V1__Message *m = ask(&refusals.peer, TRUE "token: \"once\" }");
	uint64_t port;

	cr_assert_eq(m->body_case, REDD__V1__MESSAGE__BODY_STARTED, "%s", ask_text(m));
	port = m->started->port;
	m = ask(&refusals.peer, "wait { port { id: %llu } until: CLOSED }",
		(unsigned long long)port);
	cr_assert_eq(m->body_case, REDD__V1__MESSAGE__BODY_WAITED, "%s", ask_text(m));
	refusals_check(&refusals.peer, &other, 1);
	ask_end(&refusals.peer, port);
}
