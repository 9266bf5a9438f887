/* redd: the command. It finds the verb in a table and lets it run; what a verb does is in the file
 * that is named after it.
 */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "client/cli/cli.h"
#include "client/cli/say.h"

static const struct command commands[] = {
	{ "run", "run a program, connected to this terminal or pipe", 125, cmd_run },
	{ "open", "open a file, device or fifo as a port", 1, cmd_open },
	{ "adopt", "make a port of our own descriptors", 1, cmd_adopt },
	{ "attach", "connect to a running port", 125, cmd_attach },
	{ "logs", "print what a port has written", 1, cmd_logs },
	{ "write", "write to a port's input", 1, cmd_write },
	{ "close", "close a port's input, or a file as a whole", 1, cmd_close },
	{ "kill", "send a signal", 1, cmd_kill },
	{ "grant", "give others rights on a port", 1, cmd_grant },
	{ "revoke", "take them back", 1, cmd_revoke },
	{ "delegate", "run a command that has these rights only", 125, cmd_delegate },
	{ "resize", "set the size of a port's terminal", 1, cmd_resize },
	{ "wait", "wait for a port's end, and leave with its status", 125, cmd_wait },
	{ "expect", "wait until a port has written something", 2, cmd_expect },
	{ "ps", "list ports", 1, cmd_ps },
	{ "inspect", "tell all about a port", 1, cmd_inspect },
	{ "forget", "drop an ended port with its log", 1, cmd_forget },
	{ "events", "print life events as they happen", 1, cmd_events },
	{ "stats", "print the broker's counters", 1, cmd_stats },
	{ "ping", "see whether the broker answers", 1, cmd_ping },
	{ "version", "print versions of command and broker", 1, cmd_version },
	{ "shutdown", "end the broker and all its ports", 1, cmd_shutdown },
};

#define N_COMMANDS (sizeof(commands) / sizeof(commands[0]))

static int help(void)
{
	printf("usage: redd [--socket PATH] VERB [OPTION...] [WORD...]\n\n");
	for (size_t i = 0; i < N_COMMANDS; i++)
		printf("  %-9s %s\n", commands[i].name, commands[i].summary);
	printf("\n'redd VERB --help' tells more; redd(1) tells all.\n");
	return cli_flush(0);
}

static const struct command *find(const char *verb)
{
	for (size_t i = 0; i < N_COMMANDS; i++) {
		if (!strcmp(commands[i].name, verb))
			return &commands[i];
	}
	return NULL;
}

/* The index of the verb, behind --socket; argc when there is none. */
static int own_options(struct cli *cli, int argc, char **argv)
{
	static const char name[] = "--socket";
	const size_t size = sizeof(name) - 1;
	int i = 1;

	while (i < argc && !strncmp(argv[i], name, size)) {
		if (argv[i][size] == '=')
			cli->socket = argv[i] + size + 1;
		else if (!argv[i][size] && i + 1 < argc)
			cli->socket = argv[++i];
		else
			break;
		i++;
	}
	return i;
}

/* Verbs that look like options. */
static const char *verb_of(const char *word)
{
	if (!strcmp(word, "--version"))
		return "version";
	return !strcmp(word, "--help") || !strcmp(word, "-h") ? "help" : word;
}

/* `redd help` and `redd help VERB`. */
static int asked_for_help(struct cli *cli, int argc, char **argv)
{
	static char option[] = "--help";
	char *words[] = { argc > 1 ? argv[1] : NULL, option, NULL };
	const struct command *c = argc > 1 ? find(argv[1]) : NULL;

	if (!c)
		return help();
	cli->verb = c->name;
	return c->run(cli, 2, words);
}

static int status_of(const struct command *c, int result)
{
	if (result == CLI_USAGE)
		return c->trouble == 125 ? 125 : 2;
	return result < 0 ? c->trouble : result;
}

static int unknown(const char *verb)
{
	if (!strcmp(verb, "--socket"))
		say("--socket needs the path of a broker's socket behind it; see 'redd --help'");
	else
		say("'%s' is no verb; see 'redd --help'", verb);
	return 2;
}

/* A descriptor below 3 that is not open would be given to the next thing that is opened, and get
 * what was meant for stdout. */
static int fill_standard(void)
{
	int fd;

	do {
		fd = open("/dev/null", O_RDWR);
	} while (fd >= 0 && fd < 3);
	return fd < 0 ? -1 : close(fd);
}

int main(int argc, char **argv)
{
	struct cli cli = { 0 };
	const struct command *c;
	int first = own_options(&cli, argc, argv);
	const char *verb = first < argc ? verb_of(argv[first]) : NULL;

	/* A pipe without reader is told by write(2), and handled where it is written to. */
	signal(SIGPIPE, SIG_IGN);
	if (fcntl(0, F_GETFD) < 0 || fcntl(1, F_GETFD) < 0 || fcntl(2, F_GETFD) < 0)
		fill_standard();
	if (!verb)
		return help() < 0 ? 1 : 2;
	if (!strcmp(verb, "help"))
		return asked_for_help(&cli, argc - first, argv + first) < 0;
	c = find(verb);
	if (!c)
		return unknown(verb);
	cli.verb = c->name;
	return status_of(c, c->run(&cli, argc - first, argv + first));
}
