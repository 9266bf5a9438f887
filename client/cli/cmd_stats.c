/* redd stats: the broker's counters.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "client/cli/json.h"
#include "client/cli/options.h"
#include "client/cli/say.h"

static const char usage[] = "stats [--openmetrics|--json]";

struct stats {
	bool openmetrics, json;
};

static const struct option_row rows[] = {
	OPTION(0, "openmetrics", NULL, "as OpenMetrics text", option_flag, struct stats,
	       openmetrics),
	OPTION(0, "json", NULL, "as a JSON object", option_flag, struct stats, json),
	OPTIONS_END,
};

/* A counter's family is named without its suffix. */
static void print_openmetrics(const struct redd_metric *m)
{
	static const char suffix[] = "_total";
	size_t size = strlen(m->name), cut = sizeof(suffix) - 1;
	bool has = size > cut && !strcmp(m->name + size - cut, suffix);
	int family = (int)(m->counter && has ? size - cut : size);

	printf("# TYPE %.*s %s\n", family, m->name, m->counter ? "counter" : "gauge");
	if (m->help[0])
		printf("# HELP %.*s %s\n", family, m->name, m->help);
	printf("%.*s%s %" PRIu64 "\n", family, m->name, m->counter ? suffix : "", m->value);
}

static void print_all(const struct stats *o, const struct redd_metrics *all)
{
	struct json j = { .file = stdout };

	if (o->json)
		json_object(&j, NULL);
	for (size_t i = 0; i < all->n_metrics; i++) {
		const struct redd_metric *m = &all->metrics[i];

		if (o->json)
			json_unsigned(&j, m->name, m->value);
		else if (o->openmetrics)
			print_openmetrics(m);
		else
			printf("%-40s %" PRIu64 "\n", m->name, m->value);
	}
	if (o->json) {
		json_object_end(&j);
		json_line(&j);
	} else if (o->openmetrics) {
		printf("# EOF\n");
	}
}

int cmd_stats(struct cli *cli, int argc, char **argv)
{
	struct stats o = { 0 };
	int first, status, e = options_words(cli, rows, usage, &o, argc, argv, 0, 0, &first);
	struct redd_metrics *all;
	struct redd *r;

	if (e)
		return e > 0 ? cli_flush(0) : e;
	r = cli_connect(cli, false);
	if (!r)
		return CLI_TROUBLE;
	if (redd_stats(r, &all) < 0) {
		status = say_failure(r, NULL);
	} else {
		print_all(&o, all);
		redd_metrics_free(all);
		status = cli_flush(0);
	}
	redd_free(r);
	return status;
}
