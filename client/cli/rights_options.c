#include "client/cli/rights_options.h"

#include <inttypes.h>

#include "client/cli/say.h"
#include "client/cli/units.h"

int rights_take(const struct cli *cli, const struct rights_options *o,
		uint32_t streams[RIGHTS_STREAMS_MAX], struct redd_rights *ret)
{
	const struct redd_rights *r = &o->rights;
	uint64_t number;

	if (!(r->see || r->read || r->write || r->signal || r->resize || r->manage || r->block))
		return say_usage(cli, "no right is named, such as --read");
	if (o->streams.n > RIGHTS_STREAMS_MAX)
		return say_usage(cli, "a port has %d streams at most", RIGHTS_STREAMS_MAX);
	for (size_t i = 0; i < o->streams.n; i++) {
		if (!units_number(o->streams.list[i], &number) || number > UINT32_MAX)
			return say_usage(cli, "--stream: '%s' is no number", o->streams.list[i]);
		streams[i] = (uint32_t)number;
	}
	*ret = *r;
	ret->streams = streams;
	ret->n_streams = o->streams.n;
	return 0;
}

/* Each right by its name, in turn. */
static const char *right_name(const struct redd_rights *r, unsigned i)
{
	const struct {
		bool is;
		const char *name;
	} all[] = { { r->see, "see" },	     { r->read, "read" },     { r->write, "write" },
		    { r->signal, "signal" }, { r->resize, "resize" }, { r->manage, "manage" },
		    { r->block, "block" } };

	if (i >= sizeof(all) / sizeof(all[0]))
		return NULL;
	return all[i].is ? all[i].name : "";
}

void rights_show(FILE *f, const struct redd_rights *r)
{
	const char *name, *comma = "";

	for (unsigned i = 0; (name = right_name(r, i)); i++)
		if (*name) {
			fprintf(f, "%s%s", comma, name);
			comma = ",";
		}
	for (size_t i = 0; i < r->n_streams; i++)
		fprintf(f, "%s%" PRIu32, i ? "," : " streams=", r->streams[i]);
}

void rights_json(struct json *j, const struct redd_rights *r)
{
	const char *name;

	json_array(j, "rights");
	for (unsigned i = 0; (name = right_name(r, i)); i++)
		if (*name)
			json_string(j, NULL, name);
	json_array_end(j);
	json_array(j, "streams");
	for (size_t i = 0; i < r->n_streams; i++)
		json_unsigned(j, NULL, r->streams[i]);
	json_array_end(j);
}
