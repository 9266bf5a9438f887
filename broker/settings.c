/* One table serves the command line and the file: `--idle-exit 300` and `idle-exit = 300` are the
 * same setting. The command line wins, whatever the order.
 *
 * The file is INI (inih): lines `name = value`, comments with ';' or '#', an optional section
 * [broker]. An unknown name, a value out of range or a line that is no setting stops the start.
 * inih would take the rest of a line that is longer than its buffer for another line, and a file
 * that cannot be read for an empty one; the reader in between sees to both.
 */
#include "broker/settings.h"

#include <ctype.h>
#include <errno.h>
#include <ini.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/base/cleanup.h"
#include "proto/base/err.h"
#include "proto/base/log.h"

struct number {
	const char *name;
	size_t offset;
	bool wide; /* uint64_t */
	uint64_t lowest, highest;
	uint64_t factor; /* from the unit of the name to the field's */
};

#define NUMBER(n, field, lo, hi, f)                                                              \
	{                                                                                        \
		n, offsetof(struct settings, field), sizeof(((struct settings *)0)->field) == 8, \
			lo, hi, f                                                                \
	}

static const struct number numbers[] = {
	NUMBER("idle-exit", idle_exit_ms, 0, 86400, 1000),
	NUMBER("log-level", log_level, LOG_LEVEL_ERROR, LOG_LEVEL_DEBUG, 1),
	NUMBER("plain-clone", plain_clone, 0, 1, 1),
	NUMBER("connections", connections, 1, CONNS_MAX, 1),
	NUMBER("connections-per-uid", connections_per_uid, 1, CONNS_MAX, 1),
	NUMBER("ports-per-uid", ports_per_uid, 1, PORTS_MAX, 1),
	NUMBER("subscriptions-per-uid", subscriptions_per_uid, 1, 1u << 24, 1),
	NUMBER("spawns-per-second", spawns_per_second, 0, 1000000, 1),
	NUMBER("spawn-burst", spawn_burst, 1, 1000000, 1),
	NUMBER("descriptors-per-uid", descriptors_per_uid, DESCRIPTORS_MAX,
	       QUOTA_DESCRIPTORS_SERVICE, 1),
	NUMBER("log-bytes-per-uid", log_bytes_per_uid, RING_LOWEST, 1ull << 40, 1),
	NUMBER("input-bytes-per-uid", input_bytes_per_uid, INPUT_BOUND_DEFAULT, 1ull << 40, 1),
	NUMBER("memory-max", memory_max, QUOTA_MEMORY_LOWEST, 1ull << 40, 1),
	NUMBER("memory-per-uid", memory_per_uid, QUOTA_MEMORY_LOWEST, 1ull << 40, 1),
};

void settings_default(struct settings *s)
{
	*s = (struct settings){
		.log_level = LOG_LEVEL_WARNING,
		.connections = CONNS_MAX,
		.connections_per_uid = CONNS_PER_UID,
		.ports_per_uid = PORTS_PER_UID,
		.subscriptions_per_uid = 1u << 20,
		.spawn_burst = 1000,
		.descriptors_per_uid = QUOTA_DESCRIPTORS_UID,
		.log_bytes_per_uid = RINGS_BYTES_MAX,
		.input_bytes_per_uid = MIB(256),
		.memory_max = QUOTA_MEMORY_MAX,
		.memory_per_uid = QUOTA_MEMORY_MAX,
	};
}

static const struct number *number_find(const char *name)
{
	for (size_t i = 0; i < ARRAY_SIZE(numbers); i++)
		if (!strcmp(numbers[i].name, name))
			return &numbers[i];
	return NULL;
}

static bool number_set(const struct number *n, struct settings *s, const char *text,
		       char error[256])
{
	char *end, *field = (char *)s + n->offset;
	unsigned long long value;

	errno = 0;
	value = strtoull(text, &end, 10);
	if (errno || !isdigit((unsigned char)*text) || *end || value < n->lowest ||
	    value > n->highest) {
		snprintf(error, 256, "%s '%.60s' is not a whole number from %llu to %llu", n->name,
			 text, (unsigned long long)n->lowest, (unsigned long long)n->highest);
		return false;
	}
	value *= n->factor;
	if (n->wide)
		memcpy(field, &value, sizeof(value));
	else
		memcpy(field, &(uint32_t){ (uint32_t)value }, sizeof(uint32_t));
	return true;
}

struct file {
	struct settings *settings;
	FILE *stream;
	int line;
	char sentence[160]; /* what is wrong ... */
	int wrong_line;	    /* ... there; 0: nothing yet */
};

/* Notes what is wrong with this line. Returns 0, which tells inih so. */
static int file_wrong(struct file *f, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(f->sentence, sizeof(f->sentence), format, args);
	va_end(args);
	f->wrong_line = f->line;
	return 0;
}

static int on_setting(void *user, const char *section, const char *name, const char *value)
{
	struct file *f = user;
	const struct number *n = number_find(name);
	char error[256];

	if (f->wrong_line)
		return 0;
	if (*section && strcmp(section, "broker"))
		return file_wrong(f, "section [%.40s] is unknown; the only one is [broker]",
				  section);
	if (!n)
		return file_wrong(f, "setting '%.40s' is unknown; redd-broker(8) lists them", name);
	if (!number_set(n, f->settings, value, error))
		return file_wrong(f, "%.150s", error);
	return 1;
}

/* fgets(3) for inih, line by line: what does not fit is passed over, which is right for a comment
 * and wrong for anything else. */
static char *on_read(char *text, int size, void *stream)
{
	struct file *f = stream;
	char *line = fgets(text, size, f->stream);
	bool is_comment;
	int c;

	f->line++;
	if (!line || strlen(line) < (size_t)size - 1 || strchr(line, '\n'))
		return line;
	is_comment = strchr(";#", line[strspn(line, " \t")]);
	c = getc(f->stream);
	if (c != EOF && !is_comment && !f->wrong_line)
		file_wrong(f, "the line is longer than %d bytes", size - 1);
	while (c != EOF && c != '\n')
		c = getc(f->stream);
	return line;
}

static int settings_read(struct settings *s, const char *path, char error[256])
{
	struct file f = { .settings = s, .stream = fopen(path, "re") };
	bool is_read = f.stream;
	int line = 0, reason = errno;

	if (is_read) {
		line = ini_parse_stream(on_read, &f, on_setting, &f);
		is_read = line >= 0 && !ferror(f.stream);
		reason = line < 0 ? ENOMEM : errno;
		fclose(f.stream);
	}
	if (!is_read)
		snprintf(error, 256, "configuration %.150s cannot be read: %s", path,
			 err_name(reason));
	else if (f.wrong_line && (!line || f.wrong_line <= line))
		snprintf(error, 256, "%.80s, line %d: %s", path, f.wrong_line, f.sentence);
	else if (line)
		snprintf(error, 256, "%.80s, line %d is not 'name = value'", path, line);
	else
		return 0;
	return SETTINGS_E_INVALID;
}

static int start_socket(struct start *start, const char *path, bool is_public, char error[256])
{
	if (start->n_sockets + start->n_public_sockets == LISTENERS_MAX) {
		snprintf(error, 256, "more than %u sockets", LISTENERS_MAX);
		return SETTINGS_E_INVALID;
	}
	if (is_public)
		start->public_sockets[start->n_public_sockets++] = path;
	else
		start->sockets[start->n_sockets++] = path;
	return 0;
}

/* `--name value` and `--name=value`. The value is NULL where the line ends. */
static const char *option_value(char **argv, int *i, size_t name_size)
{
	const char *arg = argv[*i];

	if (arg[2 + name_size] == '=')
		return arg + 2 + name_size + 1;
	return argv[*i + 1] ? argv[++*i] : NULL;
}

static int option_apply(struct start *start, const char *name, const char *value, bool files,
			char error[256])
{
	const struct number *n = number_find(name);
	bool is_file = !strcmp(name, "config"), is_public = !strcmp(name, "public-socket");

	if (!value) {
		snprintf(error, 256, "--%.60s needs a value", name);
		return SETTINGS_E_INVALID;
	}
	if (is_file != files)
		return 0;
	if (is_file)
		return settings_read(&start->settings, value, error);
	if (is_public || !strcmp(name, "socket"))
		return start_socket(start, value, is_public, error);
	if (!strcmp(name, "keeper-fd")) {
		start->keeper_fd = atoi(value);
		return 0;
	}
	if (n)
		return number_set(n, &start->settings, value, error) ? 0 : SETTINGS_E_INVALID;
	snprintf(error, 256, "option --%.60s is unknown; try --help", name);
	return SETTINGS_E_INVALID;
}

/* Two passes, the file first, so that the command line wins. */
static int arguments_apply(struct start *start, int argc, char **argv, bool files, char error[256])
{
	for (int i = 1; i < argc; i++) {
		char name[64];
		size_t size;
		int r;

		if (!strcmp(argv[i], "--help") || !strcmp(argv[i], "-h")) {
			start->show_help = true;
			continue;
		}
		if (!strcmp(argv[i], "--version")) {
			start->show_version = true;
			continue;
		}
		if (!strcmp(argv[i], "--plain-clone")) {
			start->settings.plain_clone = 1;
			continue;
		}
		if (strncmp(argv[i], "--", 2)) {
			snprintf(error, 256, "'%.100s' is not an option; try --help", argv[i]);
			return SETTINGS_E_INVALID;
		}
		size = strcspn(argv[i] + 2, "=");
		snprintf(name, sizeof(name), "%.*s", (int)MIN(size, sizeof(name) - 1), argv[i] + 2);
		r = option_apply(start, name, option_value(argv, &i, size), files, error);
		if (r)
			return r;
	}
	return 0;
}

int settings_parse(struct start *start, int argc, char **argv, char error[256])
{
	int r;

	*start = (struct start){ .keeper_fd = -1 };
	settings_default(&start->settings);
	r = arguments_apply(start, argc, argv, true, error);
	if (!r)
		r = arguments_apply(start, argc, argv, false, error);
	return r;
}

bool settings_describe(unsigned i, struct setting *ret)
{
	struct settings preset;
	const struct number *n = &numbers[i];
	const char *field;

	if (i >= ARRAY_SIZE(numbers))
		return false;
	settings_default(&preset);
	field = (const char *)&preset + n->offset;
	*ret = (struct setting){ .name = n->name, .lowest = n->lowest, .highest = n->highest };
	if (n->wide)
		memcpy(&ret->preset, field, sizeof(uint64_t));
	else
		ret->preset = *(const uint32_t *)(const void *)field;
	ret->preset /= n->factor;
	return true;
}
