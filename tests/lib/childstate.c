#include "tests/lib/childstate.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/lib/collect.h"
#include "tests/lib/places.h"

#define VALUES	   8
#define VALUE_SIZE 4096
#define RUN_MS	   30000

int childstate_run(struct redd *r, const struct redd_spawn_options *options, const char *what,
		   char **ret)
{
	const char *const argv[] = { place_prog("state"), what, NULL };
	struct redd_spawn_options o = *options;
	struct collect c;
	int result;

	collect_init(&c);
	o.argv = argv;
	result = collect_run(&c, r, &o, RUN_MS);
	if (!result && (redd_exit_status(&c.exit) != 0 || c.wrong[0])) {
		fprintf(stderr, "state: status %d %s\n", redd_exit_status(&c.exit), c.wrong);
		result = -EPROTO;
	}
	if (!result)
		*ret = strdup(collect_text(&c, 1));
	collect_deinit(&c);
	return result;
}

/* The next line that begins so, from `text` on. */
static const char *find_line(const char *text, const char *prefix)
{
	size_t size = strlen(prefix);

	while (text && *text && strncmp(text, prefix, size)) {
		text = strchr(text, '\n');
		text = text ? text + 1 : NULL;
	}
	return text && *text ? text : NULL;
}

const char *childstate_value(const char *text, const char *name)
{
	static char values[VALUES][VALUE_SIZE];
	static unsigned next;
	char *value = values[next++ % VALUES];
	char prefix[256];
	const char *line;

	snprintf(prefix, sizeof(prefix), "%s=", name);
	line = find_line(text, prefix);
	if (!line)
		return NULL;
	line += strlen(prefix);
	snprintf(value, VALUE_SIZE, "%.*s", (int)strcspn(line, "\n"), line);
	return value;
}

size_t childstate_count(const char *text, const char *prefix)
{
	size_t n = 0;

	for (; (text = find_line(text, prefix)); n++) {
		text = strchr(text, '\n');
		if (!text)
			return n + 1;
		text++;
	}
	return n;
}
