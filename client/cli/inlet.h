/* Our stdin on its way to a port's input: never more in flight than the input's window.
 */
#ifndef REDD_CLI_INLET_H
#define REDD_CLI_INLET_H

#include "client/cli/endpoint.h"
#include "client/redd.h"

enum inlet_state {
	INLET_IDLE, /* nothing is to be read */
	INLET_OPEN,
	INLET_PAUSED,  /* a terminal of which we are in the background */
	INLET_ENDED,   /* end of file was passed on */
	INLET_REFUSED, /* the port takes no more */
};

struct inlet {
	enum inlet_state state;
	struct endpoint from;
	struct redd_port *port;
	uint32_t stream;  /* 0: stdin, or the terminal */
	bool keep_open;	  /* the end of our input does not close the port's */
	size_t in_flight; /* bytes, and writes, that are not answered */
	unsigned writes;
	bool failed;   /* the port did not get all of it; it was said */
	bool in_doubt; /* and nobody knows what it got of the last writes */
};

void inlet_init(struct inlet *i, int fd, struct redd_port *port);

/* True when more may be read just now. */
bool inlet_wants(const struct inlet *i);

/* Reads once and sends it on; an error of our stdin is said, and ends it as an end of file does. 0,
 * or the connection's negative errno. */
int inlet_read(struct inlet *i);

/* Reads no more; whoever feeds our stdin learns it. */
void inlet_stop(struct inlet *i);

/* Goes on when a terminal that was paused is ours by now. */
void inlet_resume(struct inlet *i);

/* Milliseconds until inlet_resume() should be tried again; -1: no need. */
int inlet_timeout(const struct inlet *i);

#endif
