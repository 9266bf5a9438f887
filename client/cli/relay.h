/* Connects a port to our own stdin, stdout and stderr until it has ended: the engine of `redd run`
 * and `redd attach`.
 */
#ifndef REDD_CLI_RELAY_H
#define REDD_CLI_RELAY_H

#include <signal.h>

#include "client/cli/inlet.h"
#include "client/cli/outlet.h"

#define RELAY_OUTLETS 2 /* to stdout, to stderr */

struct relay {
	struct redd *r;
	struct redd_port *port;
	struct inlet in;
	struct outlet out[RELAY_OUTLETS];
	struct redd_subscription *subscriptions[RELAY_OUTLETS]; /* the port's */
	int signals;						/* signalfd; -1: none are watched */
	bool terminal;	  /* the port's terminal is connected to ours, which is raw */
	bool is_file;	  /* the port is no process: it is closed, not signalled */
	bool forwards;	  /* signals go to the port; else they end us */
	bool is_starting; /* it is to be spawned, and has not been yet */
	sigset_t early;	  /* signals that came then */
	bool lost;	  /* the connection went before a subscription's end */
	bool has_exit;
	struct redd_exit exit;
	int left_by;	  /* the signal that ends us (!forwards); 0: none */
	int refused;	  /* the spawn failed: its errno, negative */
	bool trouble;	  /* something was said: leave with 125 */
	int torn_signals; /* sent since an output of ours lost its reader */
	int64_t torn_next_ms;
};

/* Blocks the signals that are to be watched, but for those that were ignored when we were started
 * (nohup), and fills *ret. Call it first of all, so that none is lost. */
void relay_block_signals(sigset_t *ret);

/* `signals` as relay_block_signals() gave it. 0 or CLI_TROUBLE, said. */
int relay_init(struct relay *l, struct redd *r, const sigset_t *signals);
void relay_deinit(struct relay *l);

/* Options for the subscription behind out[i], which shows as the given stream. The struct, and
 * `stream`, must stay until it is used. */
void relay_outlet(struct relay *l, int i, const uint32_t *stream,
		  struct redd_subscribe_options *ret);

/* For redd_spawn_start() and redd_open_start(): with user = the relay. */
void relay_on_spawned(struct redd *r, int result, const struct redd_reply *reply, void *user);

/* Runs until all is over, restores the terminal, and returns the exit status to leave with:
 * the program's, 124 when it timed out, 126 or 127 when it could not be executed, or CLI_TROUBLE,
 * said. */
int relay_run(struct relay *l);

#endif
