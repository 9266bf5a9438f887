#include "client/cli/units.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

struct unit {
	const char *name;
	uint64_t factor;
};

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

bool units_number(const char *text, uint64_t *ret)
{
	unsigned long long n;
	char *end;

	if (!is_digit(text[0]))
		return false;
	errno = 0;
	n = strtoull(text, &end, 10);
	if (errno || *end)
		return false;
	*ret = n;
	return true;
}

static bool unit_of(const struct unit *units, const char *name, uint64_t *ret)
{
	for (; units->name; units++) {
		if (!strcasecmp(units->name, name)) {
			*ret = units->factor;
			return true;
		}
	}
	return false;
}

/* Digits, perhaps a point and more digits, and a unit. Exact: no binary fractions. */
static bool scaled(const char *text, const struct unit *units, uint64_t *ret)
{
	uint64_t whole, factor, part = 0, scale = 1;
	char *end;

	if (!is_digit(text[0]))
		return false;
	errno = 0;
	whole = strtoull(text, &end, 10);
	if (errno)
		return false;
	if (*end == '.') {
		for (end++; is_digit(*end) && scale < 1000000; end++, scale *= 10)
			part = part * 10 + (uint64_t)(*end - '0');
	}
	if (!unit_of(units, end, &factor) || whole > (UINT64_MAX - factor) / factor)
		return false;
	*ret = whole * factor + part * factor / scale;
	return true;
}

bool units_size(const char *text, uint64_t *ret)
{
	static const struct unit units[] = {
		{ "", 1 },	    { "b", 1 },		 { "k", 1u << 10 },   { "kib", 1u << 10 },
		{ "kb", 1u << 10 }, { "m", 1u << 20 },	 { "mib", 1u << 20 }, { "mb", 1u << 20 },
		{ "g", 1u << 30 },  { "gib", 1u << 30 }, { "gb", 1u << 30 },  { NULL, 0 },
	};

	return scaled(text, units, ret);
}

bool units_duration(const char *text, uint64_t *ret_ms)
{
	static const struct unit units[] = {
		{ "", 1000 },	  { "s", 1000 },    { "ms", 1 },       { "m", 60000 },
		{ "min", 60000 }, { "h", 3600000 }, { "d", 86400000 }, { NULL, 0 },
	};

	return scaled(text, units, ret_ms);
}

/* RTMIN, RTMIN+n, RTMAX, RTMAX-n. */
static bool real_time_signal(const char *name, int *ret)
{
	bool low = !strncasecmp(name, "RTMIN", 5), high = !strncasecmp(name, "RTMAX", 5);
	uint64_t n = 0;

	if (!low && !high)
		return false;
	if (name[5] && (name[5] != (low ? '+' : '-') || !units_number(name + 6, &n)))
		return false;
	if (n > (uint64_t)(SIGRTMAX - SIGRTMIN))
		return false;
	*ret = low ? SIGRTMIN + (int)n : SIGRTMAX - (int)n;
	return true;
}

bool units_signal(const char *text, int *ret)
{
	const char *name = strncasecmp(text, "SIG", 3) ? text : text + 3;
	uint64_t n;

	if (units_number(text, &n)) {
		*ret = (int)n;
		return n <= (uint64_t)SIGRTMAX;
	}
	for (int s = 1; s < SIGRTMIN; s++) {
		const char *known = sigabbrev_np(s);

		if (known && !strcasecmp(known, name)) {
			*ret = s;
			return true;
		}
	}
	return real_time_signal(name, ret);
}

const char *units_signal_name(int signal, char out[UNITS_TEXT_SIZE])
{
	const char *known = sigabbrev_np(signal);

	if (known)
		snprintf(out, UNITS_TEXT_SIZE, "%s", known);
	else if (signal >= SIGRTMIN && signal <= SIGRTMAX)
		snprintf(out, UNITS_TEXT_SIZE, "RTMIN+%d", signal - SIGRTMIN);
	else
		snprintf(out, UNITS_TEXT_SIZE, "%d", signal);
	return out;
}

const char *units_age(int64_t then_ns, int64_t now_ns, char out[UNITS_TEXT_SIZE])
{
	static const struct unit units[] = {
		{ "d", 86400 }, { "h", 3600 }, { "m", 60 }, { "s", 1 }
	};
	uint64_t seconds = now_ns > then_ns ? (uint64_t)(now_ns - then_ns) / 1000000000 : 0;
	size_t i = 0;

	if (!then_ns)
		return strcpy(out, "-");
	while (units[i].factor > 1 && seconds < units[i].factor)
		i++;
	snprintf(out, UNITS_TEXT_SIZE, "%llu%s", (unsigned long long)(seconds / units[i].factor),
		 units[i].name);
	return out;
}

const char *units_time(int64_t ns, char out[UNITS_TEXT_SIZE])
{
	time_t seconds = (time_t)(ns / 1000000000);
	struct tm tm;
	size_t n;

	gmtime_r(&seconds, &tm);
	n = strftime(out, UNITS_TEXT_SIZE, "%FT%T", &tm);
	snprintf(out + n, UNITS_TEXT_SIZE - n, ".%03dZ", (int)(ns / 1000000 % 1000));
	return out;
}
