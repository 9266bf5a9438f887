/* Pseudo-terminals: the master stays here, the other end becomes the child's. */
#ifndef REDD_BROKER_PTY_H
#define REDD_BROKER_PTY_H

#include <stdbool.h>
#include <stdint.h>

struct pty_size {
	uint16_t rows, columns, x_pixels, y_pixels;
};

/* A new pair of the given size, both closed on exec. The child's end belongs to uid (the kernel
 * gives it mode 0620 or 0600, mount(8) of devpts). 0 or a negative errno. */
int pty_open(const struct pty_size *size, int ret_fds[2]);

/* Sets the size; the kernel sends SIGWINCH to the foreground group when it changed. 0 or a negative
 * errno. */
int pty_resize(int master, const struct pty_size *size);

/* The size now, whoever set it. 0 or a negative errno. */
int pty_size(int master, struct pty_size *ret);

/* In canonical mode the terminal takes lines (4096 bytes at most, termios(3)) and has an
 * end-of-file character, which goes to *ret_eof. */
bool pty_is_canonical(int master, char *ret_eof);

#endif
