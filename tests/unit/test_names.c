#include "broker/names.h"

#include <criterion/criterion.h>
#include <ctype.h>
#include <limits.h>
#include <string.h>

#include "proto/limits.h"

#define OK(check, text)	 cr_assert_null(check(text, sizeof(text) - 1))
#define BAD(check, text) cr_assert_not_null(check(text, sizeof(text) - 1))

static char xs[PATH_MAX + 1];

static void init(void)
{
	memset(xs, 'x', sizeof(xs));
}

TestSuite(names, .timeout = 10, .init = init);

Test(names, of_ports_hold_what_they_may_and_do_not_look_like_ids)
{
	OK(names_check_port, "a");
	OK(names_check_port, "build:web@host/1.2-x_y");
	OK(names_check_port, "-");
	BAD(names_check_port, "");
	BAD(names_check_port, "1a");
	BAD(names_check_port, "a b");
	BAD(names_check_port, "a\0b");
	BAD(names_check_port, "\xc3\xa9");
	BAD(names_check_port, "a\n");
	cr_assert_null(names_check_port(xs, NAME_MAX_SIZE));
	cr_assert_not_null(names_check_port(xs, NAME_MAX_SIZE + 1));
}

Test(names, of_ports_and_labels_allow_exactly_their_characters)
{
	for (int c = 0; c < 256; c++) {
		char text[2] = { 'a', (char)c };
		bool alnum = c < 128 && isalnum(c);

		cr_assert_eq(names_check_port(text, 2) == NULL, alnum || (c && strchr("._:@/-", c)),
			     "%d", c);
		cr_assert_eq(names_check_label_key(text, 2) == NULL,
			     alnum || (c && strchr("._/-", c)), "%d", c);
	}
}

Test(names, tokens_and_clients_have_their_sizes)
{
	BAD(names_check_token, "");
	OK(names_check_token, "\0\xff");
	cr_assert_null(names_check_token(xs, TOKEN_MAX));
	cr_assert_not_null(names_check_token(xs, TOKEN_MAX + 1));
	OK(names_check_client, "");
	OK(names_check_client, "caf\xe9\n");
	BAD(names_check_client, "a\0b");
	cr_assert_null(names_check_client(xs, CLIENT_NAME_MAX));
	cr_assert_not_null(names_check_client(xs, CLIENT_NAME_MAX + 1));
}

Test(names, paths_have_the_system_s_size_and_no_nul)
{
	OK(names_check_program, "ls");
	BAD(names_check_program, "");
	BAD(names_check_program, "l\0s");
	OK(names_check_path, "a b\n");
	BAD(names_check_path, "");
	BAD(names_check_path, "a\0");
	OK(names_check_absolute, "/");
	BAD(names_check_absolute, "a");
	BAD(names_check_absolute, "");
	cr_assert_null(names_check_path(xs, PATH_MAX - 1));
	cr_assert_not_null(names_check_path(xs, PATH_MAX));
	cr_assert_null(names_check_program(xs, PATH_MAX - 1));
	cr_assert_not_null(names_check_program(xs, PATH_MAX));
	OK(names_check_argument, "");
	cr_assert_null(names_check_argument(NULL, 0));
	BAD(names_check_argument, "a\0");
}

Test(names, variables_have_a_name)
{
	OK(names_check_variable, "A=");
	OK(names_check_variable, "A==b=");
	BAD(names_check_variable, "A");
	BAD(names_check_variable, "=A");
	BAD(names_check_variable, "A=\0");
	cr_assert_not_null(names_check_variable(NULL, 0));
	OK(names_check_variable_name, "A");
	BAD(names_check_variable_name, "A=");
	BAD(names_check_variable_name, "");
	BAD(names_check_variable_name, "A\0");
}

static bool utf8(const char *text)
{
	return names_is_utf8(text, strlen(text));
}

Test(names, utf8_is_told_from_what_only_looks_like_it)
{
	cr_assert(utf8(""));
	cr_assert(utf8("plain\n"));
	cr_assert(utf8(
		"\xc2\x80 \xdf\xbf \xe0\xa0\x80 \xef\xbf\xbf \xf0\x90\x80\x80 \xf4\x8f\xbf\xbf"));
	cr_assert(utf8("\xed\x9f\xbf\xee\x80\x80"), "around the surrogates");
	cr_assert_not(utf8("\x80"));
	cr_assert_not(utf8("\xc0\x80"));
	cr_assert_not(utf8("\xc1\xbf"));
	cr_assert_not(utf8("\xe0\x9f\xbf"));
	cr_assert_not(utf8("\xf0\x8f\xbf\xbf"));
	cr_assert_not(utf8("\xed\xa0\x80"));
	cr_assert_not(utf8("\xed\xbf\xbf"));
	cr_assert_not(utf8("\xf4\x90\x80\x80"));
	cr_assert_not(utf8("\xf5\x80\x80\x80"));
	cr_assert_not(utf8("\xff"));
	cr_assert_not(utf8("\xe2\x82"));
	cr_assert_not(utf8("\xe2\x82x"));
	cr_assert_not(names_is_utf8("\xe2\x82\xac", 2), "the rest is not ours to read");
}

Test(names, control_characters_are_no_label_values)
{
	OK(names_check_label_value, "");
	OK(names_check_label_value, "caf\xc3\xa9 \xc2\xa0 ~");
	BAD(names_check_label_value, "\x1f");
	BAD(names_check_label_value, "\x7f");
	BAD(names_check_label_value, "\xc2\x85");
	BAD(names_check_label_value, "a\0");
}
