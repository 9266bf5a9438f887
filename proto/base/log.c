#include "proto/base/log.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>

#include "proto/base/cleanup.h"

static struct {
	const char *program;
	enum log_level level;
	uint64_t lost;
} logger = { .program = "redd", .level = LOG_LEVEL_WARNING };

void log_init(const char *program, enum log_level level)
{
	logger.program = program;
	logger.level = level;
}

uint64_t log_lost(void)
{
	return logger.lost;
}

char *log_escape(char *out, size_t size, const void *text, size_t length)
{
	static const char hex[] = "0123456789abcdef";
	const unsigned char *in = text;
	size_t o = 0;

	for (size_t i = 0; i < length && o + 5 <= size; i++) {
		if (in[i] >= 0x20 && in[i] < 0x7f && in[i] != '\\') {
			out[o++] = (char)in[i];
			continue;
		}
		out[o++] = '\\';
		out[o++] = 'x';
		out[o++] = hex[in[i] >> 4];
		out[o++] = hex[in[i] & 15];
	}
	out[o] = '\0';
	return out;
}

void log_write(enum log_level level, const char *format, ...)
{
	static const char *const names[] = { "error", "warning", "info", "debug" };
	char text[768], shown[1024], line[1152];
	int saved = errno, n;
	va_list args;

	if (level > logger.level)
		return;
	va_start(args, format);
	n = vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	if (n < 0)
		n = 0;
	log_escape(shown, sizeof(shown), text, MIN((size_t)n, sizeof(text) - 1));
	n = snprintf(line, sizeof(line), "%s[%d]: %s: %s\n", logger.program, (int)getpid(),
		     names[level], shown);
	if (write(STDERR_FILENO, line, (size_t)n) != n)
		logger.lost++;
	errno = saved;
}
