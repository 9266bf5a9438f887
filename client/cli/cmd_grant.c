/* redd grant, redd revoke: rights on ports for others than their owner.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "client/cli/options.h"
#include "client/cli/rights_options.h"
#include "client/cli/say.h"
#include "client/cli/units.h"

static const char grant_usage[] =
	"grant (--user UID | --group GID | --everyone) RIGHT... [OPTION...] PORT...";

struct grant {
	struct given user, group;
	bool everyone;
	struct rights_options rights;
};

static const struct option_row grant_rows[] = {
	OPTION('u', "user", "UID", "for this user, by number", option_number, struct grant, user),
	OPTION('g', "group", "GID", "for members of this group, by number", option_number,
	       struct grant, group),
	OPTION(0, "everyone", NULL, "for whoever can connect", option_flag, struct grant, everyone),
	RIGHTS_ROWS(struct grant, rights),
	OPTIONS_END,
};

static int grantee(const struct cli *cli, const struct grant *g, struct redd_grant_options *o)
{
	uint64_t number = g->user.is ? g->user.value : g->group.value;

	if (g->user.is + g->group.is + g->everyone != 1)
		return say_usage(cli, "one of --user, --group and --everyone is wanted");
	if (number >= UINT32_MAX)
		return say_usage(cli, "there are no such users and groups");
	o->to = g->user.is ? REDD_GRANT_UID : g->group.is ? REDD_GRANT_GID : REDD_GRANT_EVERYONE;
	o->number = (uint32_t)number;
	return 0;
}

static int grant_one(struct redd *r, const struct redd_grant_options *o, const char *word)
{
	struct redd_port *port;
	uint64_t id;

	if (redd_port_find(r, word, &port) < 0 || redd_grant(port, o, &id) < 0)
		return say_failure(r, word);
	printf("%" PRIu64 "\n", id);
	return 0;
}

static int grant_all(const struct cli *cli, const struct redd_grant_options *o, int n, char **words)
{
	struct redd *r = cli_connect(cli, false);
	int status = r ? 0 : CLI_TROUBLE;

	for (int i = 0; r && i < n; i++)
		if (grant_one(r, o, words[i]) < 0)
			status = CLI_TROUBLE;
	redd_free(r);
	return cli_flush(status);
}

int cmd_grant(struct cli *cli, int argc, char **argv)
{
	struct grant g = { 0 };
	struct redd_grant_options o = { 0 };
	uint32_t streams[RIGHTS_STREAMS_MAX];
	int first, e = options_words(cli, grant_rows, grant_usage, &g, argc, argv, 1, -1, &first);

	if (e)
		return e > 0 ? cli_flush(0) : e;
	e = grantee(cli, &g, &o);
	if (!e)
		e = rights_take(cli, &g.rights, streams, &o.rights);
	o.duration_ms = g.rights.duration.value;
	if (!e)
		e = grant_all(cli, &o, argc - first, argv + first);
	free(g.rights.streams.list);
	return e;
}

/* --- revoke ---------------------------------------------------------------------------------- */

static const char revoke_usage[] = "revoke (GRANT... | --all PORT... | --delegation ID...)";

struct revoke {
	bool all, delegation;
};

static const struct option_row revoke_rows[] = {
	OPTION('a', "all", NULL, "all grants of these ports", option_flag, struct revoke, all),
	OPTION('d', "delegation", NULL, "doors, by their numbers", option_flag, struct revoke,
	       delegation),
	OPTIONS_END,
};

static int revoke_one(struct redd *r, const struct revoke *o, const char *word)
{
	struct redd_port *port;
	uint64_t id;
	int e;

	if (o->all)
		e = redd_port_find(r, word, &port) < 0 ? -1 : redd_revoke_all(port);
	else if (!units_number(word, &id))
		return say("'%s' is no number of a %s", word, o->delegation ? "door" : "grant");
	else
		e = o->delegation ? redd_revoke_delegation(r, id) : redd_revoke_grant(r, id);
	return e < 0 ? say_failure(r, word) : 0;
}

int cmd_revoke(struct cli *cli, int argc, char **argv)
{
	struct revoke o = { 0 };
	int first, status = 0;
	int e = options_words(cli, revoke_rows, revoke_usage, &o, argc, argv, 1, -1, &first);
	struct redd *r;

	if (e)
		return e > 0 ? cli_flush(0) : e;
	if (o.all && o.delegation)
		return say_usage(cli, "--all and --delegation exclude each other");
	r = cli_connect(cli, false);
	if (!r)
		return CLI_TROUBLE;
	for (int i = first; i < argc; i++)
		if (revoke_one(r, &o, argv[i]) < 0)
			status = CLI_TROUBLE;
	redd_free(r);
	return status;
}
