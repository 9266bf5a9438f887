/* The role `forker`: turns spawn records into processes, which are the keeper's children. */
#ifndef REDD_HELPER_FORKER_H
#define REDD_HELPER_FORKER_H

#include <stdbool.h>

/* Serves until the keeper's link ends. Takes keeper_fd. The exit status. */
int forker_main(int keeper_fd);

#endif
