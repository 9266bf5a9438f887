#include "client/cli/port_options.h"

#include <stdio.h>
#include <string.h>

#include "client/cli/json.h"
#include "client/cli/say.h"

int port_options_take(const struct cli *cli, struct run_options *o, struct redd_port_options *ret)
{
	const struct redd_spawn_options *s = &o->spawn;
	int e;

	if (o->json && !o->detach)
		return say_usage(cli, "--json goes with -d: else stdout is what is read");
	e = run_options_take_common(cli, o);
	*ret = (struct redd_port_options){ .set = s->set,
					   .umask = s->umask,
					   .orphan = s->orphan,
					   .orphan_ms = s->orphan_ms,
					   .name = s->name,
					   .labels = s->labels,
					   .n_labels = s->n_labels,
					   .log_size = s->log_size,
					   .retention_ms = s->retention_ms,
					   .token = s->token,
					   .token_size = s->token_size,
					   .checksum = s->checksum,
					   .input_high = s->input_high,
					   .input_low = s->input_low,
					   .input_bound = s->input_bound,
					   .framing = s->framing };
	return e;
}

int port_print(const struct run_options *o, const struct redd_port *port, FILE *f)
{
	struct json j = { .file = f };

	if (!o->json) {
		fprintf(f, "%llu\n", (unsigned long long)redd_port_id(port));
		return cli_flush(0);
	}
	json_object(&j, NULL);
	json_unsigned(&j, "port", redd_port_id(port));
	json_string(&j, "name", o->spawn.name);
	if (redd_port_pid(port))
		json_number(&j, "pid", redd_port_pid(port));
	json_object_end(&j);
	json_line(&j);
	return cli_flush(0);
}

int port_status(const char *what, const struct redd_exit *exit)
{
	if (exit->state == REDD_EXIT_CODE && exit->code)
		return say("%s: %s", what, strerror(exit->code));
	if (exit->state == REDD_EXIT_CODE)
		return 0;
	if (exit->state == REDD_EXIT_SIGNAL)
		return say("%s: it was ended before all was copied", what);
	return say("%s: nobody knows how it ended: %s", what,
		   exit->reason ? exit->reason : "it was not told");
}
