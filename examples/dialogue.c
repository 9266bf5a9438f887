/* dialogue: drives an interactive program as a person would: waits for its prompts, answers them,
 * and takes numbers out of what it says. Each line is sent and waited for in one step, so that no
 * answer can be missed, and nothing here sleeps.
 *
 *	cc dialogue.c $(pkg-config --cflags --libs redd) -o dialogue
 */
#include <redd.h>
#include <stdio.h>
#include <string.h>

/* What it talks to. It echoes nothing and is in no hurry. */
static const char program[] = "printf 'name: '; read name; printf 'hello %s\\n> ' \"$name\"\n"
			      "while read line; do\n"
			      "	echo \"$line = $(($line))\"; printf '> '\n"
			      "done; exit 3\n";

/* Sends a line (NULL: none) and waits for one of two patterns, from the program's first byte or
 * from where the last match ended. NULL after having said why; freed with redd_matched_free(). */
static struct redd_matched *say(struct redd_port *port, const char *line, const char *regex,
				uint64_t from)
{
	const struct redd_pattern patterns[] = { { .text = regex, .regex = true },
						 { .text = "syntax error" } };
	struct redd_expect_options o = { .size = sizeof(o),
					 .patterns = patterns,
					 .n_patterns = 2,
					 .has_from = true,
					 .from = from,
					 .data = line,
					 .data_size = line ? strlen(line) : 0 };
	struct redd_matched *m;

	if (redd_expect(port, &o, 10000, &m)) {
		fprintf(stderr, "dialogue: %s\n",
			redd_last_error(redd_port_connection(port))->message);
		return NULL;
	}
	if (m->what == REDD_MATCH && m->pattern == 0 && m->data)
		return m;
	fprintf(stderr, "dialogue: it never said '%s'\n", regex);
	redd_matched_free(m);
	return NULL;
}

/* The text of a group. */
static int group_of(const struct redd_matched *m, size_t i, const char **ret)
{
	const struct redd_range *g = &m->groups[i];

	*ret = m->data + (g->offset - m->offset);
	return (int)(g->end - g->offset);
}

static int talk(struct redd_port *port)
{
	static const char *const lines[] = { "6 * 7\n", "1 + 2 + 3\n", "2 * 50\n" };
	struct redd_matched *m = say(port, NULL, "name: ", 0);
	uint64_t next = m ? m->next : 0;

	redd_matched_free(m);
	m = m ? say(port, "ada\n", "hello (\\w+)\\n> ", next) : NULL;
	for (size_t i = 0; m && i < sizeof(lines) / sizeof(lines[0]); i++) {
		const char *text;
		int size;

		next = m->next;
		redd_matched_free(m);
		m = say(port, lines[i], "= (\\d+)\\n> ", next);
		if (!m)
			break;
		size = group_of(m, 0, &text);
		printf("%.*s = %.*s\n", (int)strlen(lines[i]) - 1, lines[i], size, text);
	}
	if (!m)
		return -1;
	redd_matched_free(m);
	return redd_close(port, REDD_STREAM_DEFAULT, NULL);
}

int main(void)
{
	const struct redd_descriptor in = { .fd = 0, .kind = REDD_PIPE };
	struct redd_spawn_options o = {
		.size = sizeof(o), .shell = program, .descriptors = &in, .n_descriptors = 1
	};
	struct redd *r = redd_new();
	struct redd_waited end;
	struct redd_port *port;

	if (!r || redd_connect(r, NULL) || redd_spawn(r, &o, &port)) {
		fprintf(stderr, "dialogue: %s\n", r ? redd_last_error(r)->message : "no memory");
		redd_free(r);
		return 125;
	}
	if (talk(port) || redd_wait(port, REDD_UNTIL_CLOSED, 10000, &end)) {
		redd_signal(port, 9, REDD_TREE, NULL);
		redd_free(r);
		return 1;
	}
	printf("it left with %d\n", redd_exit_status(&end.exit));
	redd_forget(port);
	redd_free(r);
	return 0;
}
