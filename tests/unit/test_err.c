#include "proto/base/err.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

TestSuite(err, .timeout = 10);

static int begin(void)
{
	return err_begin(-ENOENT);
}

static int middle(void)
{
	int r = begin();

	return r < 0 ? err_pass(r) : r;
}

Test(err, an_error_is_passed_up_unchanged_and_remembers_where_it_began)
{
	const char *text;
	int r = middle();

	cr_assert_eq(r, -ENOENT);
	text = err_string(r);
	cr_assert_not_null(strstr(text, "No such file or directory"), "%s", text);
	cr_assert_not_null(strstr(text, "test_err.c:"), "%s", text);
	cr_assert_not_null(strstr(text, " begin)"), "%s", text);
	cr_assert_null(strstr(text, "tests/"), "the file's name is enough: %s", text);
}

Test(err, errno_becomes_a_negative_error)
{
	errno = EMFILE;
	cr_assert_eq(err_errno(), -EMFILE);
}

Test(err, another_error_than_the_last_has_no_origin)
{
	begin();
	cr_assert_str_eq(err_string(-EPERM), "Operation not permitted");
}

Test(err, before_any_error_there_is_only_a_name)
{
	cr_assert_str_eq(err_string(-EIO), "Input/output error");
}

Test(err, names_take_either_sign_and_any_number)
{
	cr_assert_str_eq(err_name(ENOMEM), "Cannot allocate memory");
	cr_assert_str_eq(err_name(-ENOMEM), "Cannot allocate memory");
	cr_assert_str_eq(err_name(-99999), "Unknown error");
	cr_assert_not_null(err_name(0));
}
