#include "tests/lib/prompt.h"

struct prompt prompt;

void prompt_begin(void)
{
	cr_assert_eq(service_start(&prompt.service, NULL), 0);
}

void prompt_end(void)
{
	command_free(&prompt.c);
	cr_assert_eq(service_forget_all(&prompt.service), 0);
	cr_assert_eq(service_settle(&prompt.service), 0);
	cr_assert_eq(service_stop(&prompt.service), 0);
}

void prompt_complained(const char *part)
{
	command_expect_complaint(&prompt.c, part);
}
