/* A descriptor whose last close(2) takes long: a connection over loopback that lingers (socket(7))
 * while nobody reads what is to be sent. */
#ifndef TESTS_LIB_LINGER_H
#define TESTS_LIB_LINGER_H

/* *ret_peer is the other end: closing that ends the wait, before `seconds` are over. 0 or -1, where
 * there is no loopback. */
int linger_make(int seconds, int *ret_fd, int *ret_peer);

#endif
