/* The role `pump`: the process of a port that is a file or adopted descriptors. It copies between
 * those and the port's ordinary pipes, so that a slow disk, a fifo without its other side or a peer
 * that is dead block nobody but itself.
 *
 *	redd-helper pump r|w|rw                      descriptors 3 (read) and 4 (written)
 *	redd-helper pump r|w|rw FLAGS MODE PATH      opens the file; both numbers octal
 *
 * 0 is the pipe that the broker writes, 1 the one that it reads, 2 a SOCK_SEQPACKET: reports
 * (struct pump_report) go out, and its end of file means that reading is to stop.
 */
#ifndef REDD_HELPER_PUMP_ROLE_H
#define REDD_HELPER_PUMP_ROLE_H

/* argv[0] is "pump". The exit status: 0, the errno with which writing failed, or PUMP_READ_FAILED
 * with the errno with which reading did (helper/link.h). */
int pump_main(int argc, char **argv);

#endif
