#include "client/cli/say.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define LINE_SIZE 1024

/* One write a line, so that lines of several programs do not mix; control characters are shown as
 * '?', since a message may quote what came from elsewhere. In raw mode a terminal needs the
 * carriage return too, and elsewhere one before the end harms nobody only there. */
static void put_line(char *line, size_t size)
{
	for (size_t i = 0; i < size; i++) {
		if ((unsigned char)line[i] < 0x20 || line[i] == 0x7f)
			line[i] = '?';
	}
	line[size] = '\n';
	if (write(STDERR_FILENO, line, size + 1) < 0)
		return; /* nobody listens */
}

__attribute__((format(printf, 1, 0))) static void say_args(const char *format, va_list args,
							   const char *tail)
{
	char line[LINE_SIZE] = "redd: ";
	size_t used = strlen(line);
	int n = vsnprintf(line + used, sizeof(line) - used - 1, format, args);

	if (n > 0)
		used += (size_t)n < sizeof(line) - used - 1 ? (size_t)n : sizeof(line) - used - 2;
	n = snprintf(line + used, sizeof(line) - used - 1, "%s", tail);
	if (n > 0)
		used += (size_t)n < sizeof(line) - used - 1 ? (size_t)n : sizeof(line) - used - 2;
	put_line(line, used);
}

int say(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	say_args(format, args, "");
	va_end(args);
	return CLI_TROUBLE;
}

int say_usage(const struct cli *cli, const char *format, ...)
{
	char tail[64];
	va_list args;

	snprintf(tail, sizeof(tail), "; see 'redd %s --help'", cli->verb);
	va_start(args, format);
	say_args(format, args, tail);
	va_end(args);
	return CLI_USAGE;
}

int say_failure(const struct redd *r, const char *about)
{
	const struct redd_error *e = redd_last_error(r);

	if (e->retry_after_ms)
		return say("%s%s%s; try again in %u ms", about ? about : "", about ? ": " : "",
			   e->message, e->retry_after_ms);
	return say("%s%s%s", about ? about : "", about ? ": " : "", e->message);
}

void say_gap(const char *output, const struct redd_gap *gap)
{
	static const char *const causes[] = {
		[REDD_GAP_UNKNOWN] = "the broker does not say why",
		[REDD_GAP_BEFORE_LOG] = "older than the log; use a larger --log-size",
		[REDD_GAP_SLOW] = "we were too slow; use a larger --log-size",
		[REDD_GAP_STALLED] = "we were too slow; use a larger --log-size",
		[REDD_GAP_ABANDONED] =
			"left in the pipe when the drain was over; raise it or its limit",
	};
	const char *cause = causes[gap->cause <= REDD_GAP_ABANDONED ? gap->cause : 0];

	if (gap->end > gap->offset)
		say("%llu bytes of %s are missing at offset %llu: %s",
		    (unsigned long long)(gap->end - gap->offset), output,
		    (unsigned long long)gap->offset, cause);
	else
		say("%s: what comes at offset %llu is missing, nobody knows how much: %s", output,
		    (unsigned long long)gap->offset, cause);
}
