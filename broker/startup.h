/* The start of a service by a user or a service manager: sockets first, then the keeper. */
#ifndef REDD_BROKER_STARTUP_H
#define REDD_BROKER_STARTUP_H

#include "broker/settings.h"

/* Opens the sockets (those named, those that a service manager passed by sd_listen_fds(3), else the
 * user's default one), writes the configuration memfd and replaces this process by the keeper.
 * Returns only on failure: the exit status, after one line on stderr. Descriptors other than 0 to 2
 * and the passed sockets are closed. */
int startup(const struct start *start);

/* Default path: $XDG_RUNTIME_DIR/redd/redd.sock, else /tmp/redd-UID/redd.sock. */
void startup_default_path(char path[4096]);

#endif
