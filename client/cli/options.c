#include "client/cli/options.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/cli/say.h"
#include "client/cli/units.h"

#define FRAMING_MAXIMUM (1u << 30)

/* --- values ---------------------------------------------------------------------------------- */

const char *option_flag(void *member, const char *value)
{
	(void)value;
	*(bool *)member = true;
	return NULL;
}

const char *option_string(void *member, const char *value)
{
	*(const char **)member = value;
	return NULL;
}

const char *option_words(void *member, const char *value)
{
	struct words *w = member;
	const char **list = realloc(w->list, (w->n + 2) * sizeof(*list));

	if (!list)
		return "cannot be kept: no memory";
	w->list = list;
	w->list[w->n++] = value;
	w->list[w->n] = NULL;
	return NULL;
}

const char *option_number(void *member, const char *value)
{
	struct given *g = member;

	g->is = true;
	return units_number(value, &g->value) ? NULL : "is no number";
}

const char *option_stream(void *member, const char *value)
{
	struct given *g = member;

	g->is = true;
	return units_number(value, &g->value) && g->value <= REDD_TERMINAL
		       ? NULL
		       : "is no stream's number; 'redd inspect' tells them";
}

const char *option_size(void *member, const char *value)
{
	struct given *g = member;

	g->is = true;
	return units_size(value, &g->value) ? NULL : "is no size, such as 4096, 64K or 1M";
}

/* To the library 0 is "as usual", which is not what was said. */
const char *option_room(void *member, const char *value)
{
	struct given *g = member;
	const char *wrong = option_size(g, value);

	return wrong || g->value ? wrong : "is no size to keep anything in; leave it out";
}

const char *option_duration(void *member, const char *value)
{
	struct given *g = member;

	g->is = true;
	return units_duration(value, &g->value) && g->value < UINT32_MAX
		       ? NULL
		       : "is no duration, such as 10s, 200ms, 5m or 1h";
}

const char *option_signal(void *member, const char *value)
{
	return units_signal(value, member) ? NULL : "is no signal, such as TERM or 15";
}

const char *option_header(void *member, const char *value)
{
	uint32_t n = value[0] && !value[1] ? (uint32_t)(value[0] - '0') : 0;

	*(uint32_t *)member = n;
	return n == 1 || n == 2 || n == 4 ? NULL : "is no size of a packet's length: 1, 2 or 4";
}

const char *option_packet(void *member, const char *value)
{
	struct redd_framing *f = member;

	*f = (struct redd_framing){ .cut = REDD_PACKETS };
	return option_header(&f->header, value);
}

/* What is left of it behind "packets:", the header, is cut off. NULL, or what is wrong. */
static const char *take_header(struct redd_framing *f, const char **rest)
{
	char text[] = { (*rest)[0] == ':' ? (*rest)[1] : '\0', '\0' };

	f->cut = REDD_PACKETS;
	*rest += text[0] ? 2 : 0;
	return option_header(&f->header, text);
}

const char *option_framing(void *member, const char *value)
{
	static const char wrong[] = "is not raw, lines[:MAX] or packets:1|2|4[:MAX], with a MAX "
				    "from 1 to 1G";
	struct redd_framing *f = member;
	const char *rest = strchrnul(value, ':');
	size_t n = (size_t)(rest - value);
	uint64_t maximum = 0;

	*f = (struct redd_framing){ .cut = REDD_RAW };
	if (n == 5 && !strncmp(value, "lines", n))
		f->cut = REDD_LINES;
	else if (n == 7 && !strncmp(value, "packets", n) ? take_header(f, &rest) != NULL
							 : strcmp(value, "raw") != 0)
		return wrong;
	if (*rest && (rest[0] != ':' || !units_size(rest + 1, &maximum) || maximum < 1 ||
		      maximum > FRAMING_MAXIMUM))
		return wrong;
	f->maximum = (uint32_t)maximum;
	return NULL;
}

/* --- help ------------------------------------------------------------------------------------ */

static void print_row(const struct option_row *row)
{
	char left[80];

	snprintf(left, sizeof(left), "%c%c%s--%s%s%s", row->letter ? '-' : ' ',
		 row->letter ? row->letter : ' ', row->letter ? ", " : "  ", row->name,
		 row->value ? " " : "", row->value ? row->value : "");
	printf("  %-30s %s\n", left, row->help);
}

static void print_help(const struct option_row *rows, const char *usage)
{
	printf("usage: redd %s\n", usage);
	if (rows->name)
		printf("\n");
	for (; rows->name; rows++)
		print_row(rows);
}

/* --- parsing --------------------------------------------------------------------------------- */

struct parser {
	const struct cli *cli;
	const struct option_row *rows;
	void *into;
	int argc;
	char **argv;
	int next; /* index of the next word */
	int end;  /* one past the last that was not looked at; words that were moved lie behind */
};

static const struct option_row *row_of(const struct option_row *rows, const char *name, size_t size,
				       char letter)
{
	for (; rows->name; rows++) {
		if (letter && rows->letter == letter)
			return rows;
		if (!letter && strlen(rows->name) == size && !memcmp(rows->name, name, size))
			return rows;
	}
	return NULL;
}

/* value: what stood in the same word, or NULL. */
static int take(struct parser *p, const struct option_row *row, const char *value)
{
	const char *wrong;

	if (!row->value && value)
		return say_usage(p->cli, "--%s takes no value", row->name);
	if (row->value && !value) {
		if (p->next == p->end)
			return say_usage(p->cli, "--%s needs a value (%s)", row->name, row->value);
		value = p->argv[p->next++];
	}
	wrong = row->take((char *)p->into + row->offset, value);
	return wrong ? say_usage(p->cli, "--%s: '%s' %s", row->name, value, wrong) : 0;
}

static int take_long(struct parser *p, const char *word)
{
	const char *equals = strchr(word, '=');
	size_t size = equals ? (size_t)(equals - word) : strlen(word);
	const struct option_row *row = row_of(p->rows, word, size, 0);

	if (!row)
		return say_usage(p->cli, "--%.*s is no option of 'redd %s'", (int)size, word,
				 p->cli->verb);
	return take(p, row, equals ? equals + 1 : NULL);
}

static int take_short(struct parser *p, const char *letters)
{
	int e = 0;

	for (; *letters && !e; letters++) {
		const struct option_row *row = row_of(p->rows, NULL, 0, *letters);

		if (!row)
			return say_usage(p->cli, "-%c is no option of 'redd %s'", *letters,
					 p->cli->verb);
		if (row->value)
			return take(p, row, letters[1] ? letters + 1 : NULL);
		e = take(p, row, NULL);
	}
	return e;
}

/* Words go behind the options, in their order. */
static void move_to_end(struct parser *p)
{
	char *word = p->argv[p->next];

	memmove(p->argv + p->next, p->argv + p->next + 1,
		(size_t)(p->argc - p->next - 1) * sizeof(*p->argv));
	p->argv[p->argc - 1] = word;
	p->end--;
}

/* Behind "--" all are words: those that were moved come first again. */
static void move_back(struct parser *p)
{
	for (; p->end < p->argc; p->end++) {
		char *word = p->argv[p->argc - 1];

		memmove(p->argv + p->next + 1, p->argv + p->next,
			(size_t)(p->argc - p->next - 1) * sizeof(*p->argv));
		p->argv[p->next] = word;
	}
}

/* Takes options up to the first word, or all of them. */
static int parse(struct parser *p, const char *usage, bool anywhere, int *ret_first)
{
	int e = 0;

	while (!e && p->next < p->end) {
		char *word = p->argv[p->next];

		if (word[0] != '-' || !word[1]) {
			if (!anywhere)
				break;
			move_to_end(p);
			continue;
		}
		p->next++;
		if (!strcmp(word, "--")) {
			move_back(p);
			break;
		}
		if (!strcmp(word, "--help") || !strcmp(word, "-h")) {
			print_help(p->rows, usage);
			return 1;
		}
		e = word[1] == '-' ? take_long(p, word + 2) : take_short(p, word + 1);
	}
	*ret_first = p->next;
	return e;
}

int options_parse(const struct cli *cli, const struct option_row *rows, const char *usage,
		  void *into, int argc, char **argv, int *ret_first)
{
	struct parser p = { cli, rows, into, argc, argv, 1, argc };

	return parse(&p, usage, false, ret_first);
}

int options_count(const struct cli *cli, const char *usage, int n, char **words, int least,
		  int most)
{
	if (n < least)
		return say_usage(cli, "something is missing: redd %s", usage);
	if (most >= 0 && n > most)
		return say_usage(cli, "'%s' is one word too many", words[most]);
	return 0;
}

int options_words(const struct cli *cli, const struct option_row *rows, const char *usage,
		  void *into, int argc, char **argv, int least, int most, int *ret_first)
{
	struct parser p = { cli, rows, into, argc, argv, 1, argc };
	int e = parse(&p, usage, true, ret_first);

	return e ? e : options_count(cli, usage, argc - *ret_first, argv + *ret_first, least, most);
}
