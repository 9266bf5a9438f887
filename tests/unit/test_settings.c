#include "broker/settings.h"

#include <criterion/criterion.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "proto/base/log.h"
#include "tests/lib/places.h"

TestSuite(settings, .timeout = 10);

#define WORDS_MAX 40

static struct start start;
static char error[256];

/* Parses a command line given as words, up to NULL. */
static int parse(const char *first, ...)
{
	char *argv[WORDS_MAX + 1] = { (char *)"redd-broker", (char *)first };
	va_list args;
	int argc = 1;

	va_start(args, first);
	while (argv[argc] && argc < WORDS_MAX)
		argv[++argc] = va_arg(args, char *);
	va_end(args);
	memset(&start, 0xee, sizeof(start));
	*error = '\0';
	return settings_parse(&start, argc, argv, error);
}

/* A file with this text, until the next one is made. */
static const char *file(const char *text)
{
	static char path[] = "/proc/self/fd/99";
	int fd = memfd_create("settings", 0);

	cr_assert_eq(write(fd, text, strlen(text)), (ssize_t)strlen(text));
	cr_assert_eq(dup2(fd, 99), 99);
	close(fd);
	return path;
}

static void refuses(const char *words)
{
	cr_assert_neq(*error, '\0', "refused without a word");
	cr_assert(strstr(error, words), "'%s' does not say '%s'", error, words);
	for (const char *c = error; *c; c++)
		cr_assert(*c >= ' ', "a control character in '%s'", error);
}

/* --- command line ---------------------------------------------------------------------------- */

Test(settings, an_empty_command_line_gives_the_defaults)
{
	struct settings preset;

	settings_default(&preset);
	cr_assert_eq(parse(NULL), 0);
	cr_assert_arr_eq(&start.settings, &preset, sizeof(preset));
	cr_assert_eq(start.n_sockets, 0);
	cr_assert_eq(start.keeper_fd, -1);
	cr_assert(!start.show_help && !start.show_version);
	cr_assert_eq(preset.log_level, LOG_LEVEL_WARNING);
	cr_assert_eq(preset.idle_exit_ms, 0, "stays until it is told to go");
	cr_assert_eq(preset.connections, CONNS_MAX);
}

Test(settings, values_follow_their_names_or_an_equals_sign)
{
	cr_assert_eq(parse("--idle-exit", "300", "--connections=17", "--log-bytes-per-uid",
			   "1099511627776", NULL),
		     0);
	cr_assert_eq(start.settings.idle_exit_ms, 300 * 1000, "seconds");
	cr_assert_eq(start.settings.connections, 17);
	cr_assert_eq(start.settings.log_bytes_per_uid, 1ull << 40);
	cr_assert_eq(parse("--idle-exit=1", "--idle-exit=2", NULL), 0);
	cr_assert_eq(start.settings.idle_exit_ms, 2000, "the last one counts");
	cr_assert_eq(parse("--connections=0007", NULL), 0);
	cr_assert_eq(start.settings.connections, 7, "decimal");
}

Test(settings, plain_clone_is_a_switch_and_a_number)
{
	cr_assert_eq(parse("--plain-clone", NULL), 0);
	cr_assert_eq(start.settings.plain_clone, 1);
	cr_assert_eq(parse("--plain-clone=0", NULL), 0);
	cr_assert_eq(start.settings.plain_clone, 0);
	cr_assert_eq(parse("--plain-clone", "--config", file("plain-clone = 0\n"), NULL), 0);
	cr_assert_eq(start.settings.plain_clone, 1);
}

Test(settings, sockets_are_counted_and_bounded)
{
	char *argv[2 + 2 * LISTENERS_MAX + 3] = { (char *)"redd-broker" };
	int n = 1;

	for (unsigned i = 0; i < LISTENERS_MAX; i++) {
		argv[n++] = (char *)"--socket";
		argv[n++] = (char *)"/run/x/a b";
	}
	cr_assert_eq(settings_parse(&start, n, argv, error), 0);
	cr_assert_eq(start.n_sockets, LISTENERS_MAX);
	cr_assert_str_eq(start.sockets[LISTENERS_MAX - 1], "/run/x/a b");
	argv[n] = (char *)"--socket=one/more";
	cr_assert_eq(settings_parse(&start, n + 1, argv, error), SETTINGS_E_INVALID);
	refuses("more than 16 sockets");
	argv[n] = (char *)"--public-socket=one/more";
	cr_assert_eq(settings_parse(&start, n + 1, argv, error), SETTINGS_E_INVALID);
	refuses("more than 16 sockets");
}

Test(settings, public_sockets_are_told_from_the_others)
{
	cr_assert_eq(parse("--public-socket", "/run/a", "--socket=/run/b", NULL), 0);
	cr_assert_eq(start.n_sockets, 1);
	cr_assert_str_eq(start.sockets[0], "/run/b");
	cr_assert_eq(start.n_public_sockets, 1);
	cr_assert_str_eq(start.public_sockets[0], "/run/a");
}

Test(settings, help_and_version_are_seen_beside_others)
{
	cr_assert_eq(parse("--idle-exit=5", "-h", NULL), 0);
	cr_assert(start.show_help);
	cr_assert_eq(parse("--help", NULL), 0);
	cr_assert(start.show_help);
	cr_assert_eq(parse("--version", NULL), 0);
	cr_assert(start.show_version && !start.show_help);
}

Test(settings, the_keepers_descriptor_is_taken)
{
	cr_assert_eq(parse("--keeper-fd", "7", NULL), 0);
	cr_assert_eq(start.keeper_fd, 7);
}

Test(settings, what_is_no_option_is_refused_with_what_to_do)
{
	cr_assert_eq(parse("serve", NULL), SETTINGS_E_INVALID);
	refuses("'serve' is not an option; try --help");
	cr_assert_eq(parse("-x", NULL), SETTINGS_E_INVALID);
	refuses("'-x' is not an option");
	cr_assert_eq(parse("--frobnicate", "5", NULL), SETTINGS_E_INVALID);
	refuses("option --frobnicate is unknown; try --help");
	cr_assert_eq(parse("--idle", "5", NULL), SETTINGS_E_INVALID);
	refuses("option --idle is unknown");
	cr_assert_eq(parse("--idle-exit", NULL), SETTINGS_E_INVALID);
	refuses("--idle-exit needs a value");
	cr_assert_eq(parse("--config", NULL), SETTINGS_E_INVALID);
	refuses("--config needs a value");
	cr_assert_eq(parse("--", "5", NULL), SETTINGS_E_INVALID);
	refuses("option -- is unknown");
	cr_assert_eq(
		parse("--"
		      "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
		      "5", NULL),
		SETTINGS_E_INVALID);
	refuses("is unknown");
}

static void refuse_value(const struct setting *s, const char *value)
{
	char argument[128], sentence[128];

	snprintf(argument, sizeof(argument), "--%s=%s", s->name, value);
	snprintf(sentence, sizeof(sentence), "%s '%s' is not a whole number from %llu to %llu",
		 s->name, value, (unsigned long long)s->lowest, (unsigned long long)s->highest);
	cr_assert_eq(parse(argument, NULL), SETTINGS_E_INVALID, "%s", argument);
	cr_assert_str_eq(error, sentence);
}

static void take_value(const struct setting *s, uint64_t value)
{
	char argument[128];

	snprintf(argument, sizeof(argument), "--%s=%llu", s->name, (unsigned long long)value);
	cr_assert_eq(parse(argument, NULL), 0, "%s: %s", argument, error);
}

Test(settings, every_number_is_held_to_its_range_and_to_digits)
{
	static const char *const wrong[] = { "",
					     "x",
					     "5x",
					     "-1",
					     "+5",
					     " 5",
					     "5 ",
					     "0x5",
					     "1e3",
					     "18446744073709551616",
					     "1.5",
					     "--",
					     "٣",
					     "-18446744073709551615",
					     " -18446744073709551615" };
	struct setting s;
	char number[24];
	unsigned n = 0;

	for (; settings_describe(n, &s); n++) {
		take_value(&s, s.lowest);
		take_value(&s, s.highest);
		take_value(&s, s.preset);
		for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
			refuse_value(&s, wrong[i]);
		snprintf(number, sizeof(number), "%llu", (unsigned long long)s.highest + 1);
		refuse_value(&s, number);
		snprintf(number, sizeof(number), "%llu", (unsigned long long)s.lowest - 1);
		refuse_value(&s, number);
	}
	cr_assert_geq(n, 11);
}

/* --- the file -------------------------------------------------------------------------------- */

Test(settings, the_command_line_wins_wherever_it_stands)
{
	const char *config = file("idle-exit = 60\nconnections = 5\n");

	cr_assert_eq(parse("--idle-exit=1", "--config", config, NULL), 0);
	cr_assert_eq(start.settings.idle_exit_ms, 1000);
	cr_assert_eq(start.settings.connections, 5);
	cr_assert_eq(parse("--config", config, "--idle-exit=2", NULL), 0);
	cr_assert_eq(start.settings.idle_exit_ms, 2000);
}

Test(settings, a_file_has_comments_a_section_and_room)
{
	const char *config = file("# a comment\n; another\n\n[broker]\n  idle-exit=1\n"
				  "connections   =   9   ; behind it\nspawn-burst : 3");

	cr_assert_eq(parse("--config", config, NULL), 0, "%s", error);
	cr_assert_eq(start.settings.idle_exit_ms, 1000);
	cr_assert_eq(start.settings.connections, 9);
	cr_assert_eq(start.settings.spawn_burst, 3, "the last line needs no end");
	cr_assert_eq(parse("--config", file(""), NULL), 0);
}

static void refuse_file(const char *text, const char *words)
{
	cr_assert_eq(parse("--config", file(text), NULL), SETTINGS_E_INVALID, "%s", text);
	refuses(words);
	refuses("/proc/self/fd/99");
}

Test(settings, a_wrong_line_is_named)
{
	refuse_file("idle-exit = 5\nfrob = 1\n", "line 2: setting 'frob' is unknown");
	refuse_file("idle-exit = x\nconnections\n", "line 1: idle-exit 'x' is not a whole number");
	refuse_file("\n\nconnections\nidle-exit = x\n", "line 3 is not 'name = value'");
	refuse_file("[client]\nidle-exit = 5\n", "line 2: section [client] is unknown");
	refuse_file("= 5\n", "line 1: setting '' is unknown");
	refuse_file("idle-exit = 5\nidle-exit = \n", "line 2: idle-exit '' is not");
	refuse_file("socket = /tmp/x\n", "setting 'socket' is unknown");
}

Test(settings, a_long_comment_is_one_comment_and_a_long_line_is_refused)
{
	char text[1024];

	snprintf(text, sizeof(text), "# %0250d idle-exit = 5\n  ; %0400d\nconnections = 3\n", 0, 0);
	cr_assert_eq(parse("--config", file(text), NULL), 0, "%s", error);
	cr_assert_eq(start.settings.idle_exit_ms, 0);
	cr_assert_eq(start.settings.connections, 3);
	snprintf(text, sizeof(text), "spawn-burst = 1\nconnections = %0300d\n", 3);
	refuse_file(text, "line 2: the line is longer than");
}

Test(settings, a_file_that_cannot_be_read_is_no_empty_file)
{
	char path[PATH_MAX];

	cr_assert_eq(parse("--config", "/nonexistent/redd.conf", NULL), SETTINGS_E_INVALID);
	refuses("configuration /nonexistent/redd.conf cannot be read: No such file");
	cr_assert_eq(place_make_dir(path), 0);
	cr_assert_eq(parse("--config", path, NULL), SETTINGS_E_INVALID);
	refuses("cannot be read: Is a directory");
	cr_assert_eq(place_remove_dir(path), 0);
}

Test(settings, sentences_fit_and_are_cut_where_they_would_not)
{
	char name[900], text[1000];

	memset(name, 'n', sizeof(name) - 1);
	name[sizeof(name) - 1] = '\0';
	snprintf(text, sizeof(text), "--%s", name);
	cr_assert_eq(parse(text, "1", NULL), SETTINGS_E_INVALID);
	refuses("is unknown");
	cr_assert_eq(parse(name, NULL), SETTINGS_E_INVALID);
	refuses("try --help");
	cr_assert_eq(parse("--config", name, NULL), SETTINGS_E_INVALID);
	refuses("cannot be read");
	snprintf(text, sizeof(text), "--idle-exit=%s", name);
	cr_assert_eq(parse(text, NULL), SETTINGS_E_INVALID);
	refuses("to 86400");
}

/* --- the manual ------------------------------------------------------------------------------ */

static char manual[65536];

static void manual_read(void)
{
	int fd = open("broker/redd-broker.8.scd", O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, manual, sizeof(manual) - 1);

	cr_assert_gt(n, 0, "suites run in the root of the source tree");
	close(fd);
}

/* In the manual a setting begins with its range and its default. */
Test(settings, the_manual_tells_every_setting_with_its_range_and_default)
{
	struct setting s;
	char line[128];

	manual_read();
	for (unsigned i = 0; settings_describe(i, &s); i++) {
		snprintf(line, sizeof(line), "\n*%s* (%llu to %llu, default %llu)", s.name,
			 (unsigned long long)s.lowest, (unsigned long long)s.highest,
			 (unsigned long long)s.preset);
		cr_assert(strstr(manual, line), "the manual does not have: %s", line + 1);
	}
}

Test(settings, the_manual_tells_of_no_setting_that_is_none)
{
	const char *at = manual;
	struct setting s;
	unsigned n = 0, told = 0;

	manual_read();
	while (settings_describe(n, &s))
		n++;
	while ((at = strstr(at, ", default "))) {
		at += strlen(", default ");
		told += *at >= '0' && *at <= '9';
	}
	cr_assert_eq(told, n);
}
