/* A port that is no process of the client's, but a file or descriptors: served by a pump (a role of
 * redd-helper, helper/pump_role.h), which is to the rest of the broker a process like any other.
 *
 * What differs is here. The pump reports on a socket of its own (stream STREAM_REPORTS, of which
 * clients know nothing): that it is open, and how reading and writing ended, each before it closes
 * the pipe that it is about. So
 *	- the port runs when it is open, not when the pump does; waiting for that can be given up;
 *	- the end of the output's pipe is the end of the file, or a read error, as the report says;
 *	- the input is closed when all of it was written, not when the pump's pipe is;
 *	- the port can be closed as a whole, as no signal is to reach it.
 * Where a report is missing (the pump was killed) the pump's exit tells instead.
 */
#ifndef REDD_BROKER_PUMPED_H
#define REDD_BROKER_PUMPED_H

#include <stdbool.h>
#include <stdint.h>

struct port;
struct stream;

struct pumped {
	bool is_open;	  /* the pump has what it copies */
	bool is_unwanted; /* given up, but its pump is not there to be ended yet */
	bool is_shut;	  /* it is being closed as a whole ... */
	bool was_shut;	  /* ... or was by an earlier broker, which may not be done with it */
	bool has_read, has_written;  /* is over, as far as is known ... */
	int read_error, write_error; /* ... with this errno, positive; 0: well */
};

bool port_is_pumped(const struct port *p);

/* The pump runs: waits for its report. May free the port. */
void pumped_started(struct port *p);

/* Before the exit is acted on. False: it never was open, and the port is gone. */
bool pumped_was_open(struct port *p);

/* The exit is in the port's record: turns it into what clients are told, and finishes what waited
 * for it. */
void pumped_exited(struct port *p);

/* There is something to be read on the stream of reports. May free the port. */
void pumped_ready(struct stream *reports);

/* Takes the reports that are there. */
void pumped_look(struct port *p);

/* The output's pipe has come to its end: ends the output, now or when it is known how. */
void pumped_output_ended(struct stream *s);

/* False: how the input's last bytes fared is not known yet; when it is, stream_input_released()
 * follows. Else *ret_error is 0 or a negative errno. */
bool pumped_input_is_over(const struct stream *s, int *ret_error);

/* Closes the port as a whole, while it is running or draining: inputs behind what was accepted, and
 * nothing more is read. Its exit follows. */
void pumped_shut(struct port *p);

/* Goes on where an earlier broker was. What that one had begun to close as a whole: nothing more is
 * read from now on. The inputs wait until a client asks for the close again, behind the writes that
 * it repeats, or until pumped_shut_again(): the time for that is up. */
void pumped_resume(struct port *p);
void pumped_shut_again(struct port *p);

/* The same at once: what is not written is lost. */
void pumped_discard(struct port *p);

/* Gives up a port that is STARTING: its Open fails with `error`. The port is gone, or goes as soon
 * as its pump can be ended. */
void pumped_give_up(struct port *p, int error);

/* The time of one without an owner is up: is shut, and the next time discarded. */
void pumped_expire(struct port *p);

#endif
