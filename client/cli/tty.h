/* Our own terminal: raw while a port's terminal is connected to it, as it was in every other
 * moment.
 */
#ifndef REDD_CLI_TTY_H
#define REDD_CLI_TTY_H

#include <stdbool.h>

#include "client/redd.h"

/* Makes the terminal behind fd raw, and remembers how it was; it is put back by tty_restore() and,
 * whatever way the program ends, at its exit, and by a guardian when it is killed. 0, or a negative
 * errno. */
int tty_raw(int fd);

/* As it was before tty_raw(). May be called at any time, any number of times. */
void tty_restore(void);

/* False when fd is no terminal that tells its size. */
bool tty_size(int fd, struct redd_terminal *ret);

/* True when we may read from the terminal: our process group is its foreground. */
bool tty_is_ours(int fd);

#endif
