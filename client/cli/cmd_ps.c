/* redd ps: lists ports, in pages, by id.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "client/cli/options.h"
#include "client/cli/say.h"
#include "client/cli/show.h"
#include "client/cli/units.h"

static const char usage[] = "ps [OPTION...]";

#define LABELS_MAX 32

struct ps {
	bool all, blocked, json;
	struct words labels;
};

static const struct option_row rows[] = {
	OPTION('a', "all", NULL, "ended ports as well", option_flag, struct ps, all),
	OPTION('l', "label", "KEY[=VALUE]", "only those with this label", option_words, struct ps,
	       labels),
	OPTION('b', "blocked", NULL, "only those that are held back, and by whom", option_flag,
	       struct ps, blocked),
	OPTION(0, "json", NULL, "an object a line", option_flag, struct ps, json),
	OPTIONS_END,
};

static int64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static void print_port(const struct redd_port_info *p)
{
	char age[UNITS_TEXT_SIZE], status[SHOW_SIZE] = "", pid[16] = "-";

	if (p->has_exit)
		show_exit(&p->exit, status);
	if (p->pid)
		snprintf(pid, sizeof(pid), "%d", (int)p->pid);
	printf("%-6llu %-9s %-8s %-5s %-12s ", (unsigned long long)p->port, show_state(p->state),
	       pid, units_age(p->start_ns, now_ns(), age), status[0] ? status : "-");
	if (p->name) {
		show_text(stdout, p->name);
		printf(": ");
	}
	show_command(stdout, p);
	printf("\n");
}

static bool is_held(const struct redd_port_info *p)
{
	for (size_t i = 0; i < p->n_streams; i++)
		if (p->streams[i].held)
			return true;
	return false;
}

static void print_held(const struct redd_port_info *p)
{
	for (size_t i = 0; i < p->n_streams; i++) {
		const struct redd_stream_info *s = &p->streams[i];

		if (s->held && !s->n_held_by)
			printf("       stream %u, for %llu ms, %s\n", s->stream,
			       (unsigned long long)s->held_ms,
			       s->expects ? "by an expect that may block"
					  : "until somebody reads it");
		for (size_t k = 0; k < s->n_held_by; k++) {
			printf("       stream %u, for %llu ms, by ", s->stream,
			       (unsigned long long)s->held_ms);
			show_holder(stdout, &s->held_by[k]);
			printf("\n");
		}
	}
}

static void print_one(const struct ps *ps, const struct redd_port_info *p)
{
	struct json j = { .file = stdout };

	if (ps->blocked && !is_held(p))
		return;
	if (ps->json) {
		json_port(&j, p, ps->blocked);
		json_line(&j);
		return;
	}
	print_port(p);
	if (ps->blocked)
		print_held(p);
}

static int print_pages(struct redd *r, const struct ps *ps, struct redd_list_options *o)
{
	struct redd_ports *ports;
	bool more = true;

	if (!ps->json)
		printf("%-6s %-9s %-8s %-5s %-12s %s\n", "PORT", "STATE", "PID", "AGE", "STATUS",
		       "COMMAND");
	while (more) {
		if (redd_list(r, o, &ports) < 0)
			return say_failure(r, NULL);
		for (size_t i = 0; i < ports->n_ports; i++) {
			print_one(ps, &ports->ports[i]);
			o->after = ports->ports[i].port;
		}
		more = ports->more && ports->n_ports;
		redd_ports_free(ports);
	}
	return cli_flush(0);
}

static int list(const struct cli *cli, const struct ps *ps)
{
	static const enum redd_port_state living[] = { REDD_STARTING, REDD_RUNNING, REDD_DRAINING };
	struct redd_label labels[LABELS_MAX];
	struct redd_list_options o = { .labels = labels,
				       .n_labels = ps->labels.n,
				       .details = ps->blocked };
	struct redd *r;
	int status;

	if (ps->labels.n > LABELS_MAX)
		return say_usage(cli, "at most %d labels", LABELS_MAX);
	for (size_t i = 0; i < ps->labels.n; i++)
		labels[i] = label_of((char *)ps->labels.list[i]);
	if (!ps->all) {
		o.states = living;
		o.n_states = 3;
	}
	r = cli_connect(cli, true);
	if (!r)
		return CLI_TROUBLE;
	status = print_pages(r, ps, &o);
	redd_free(r);
	return status;
}

int cmd_ps(struct cli *cli, int argc, char **argv)
{
	struct ps ps = { 0 };
	int first, e = options_words(cli, rows, usage, &ps, argc, argv, 0, 0, &first);

	e = e ? e : list(cli, &ps);
	free(ps.labels.list);
	return e > 0 ? cli_flush(0) : e;
}
