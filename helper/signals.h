/* Signal state of keeper and forker. */
#ifndef REDD_HELPER_SIGNALS_H
#define REDD_HELPER_SIGNALS_H

/* Blocks all signals and sets every disposition to the default, ignored ones that were inherited
 * over exec and real-time ones that libc keeps for itself included. */
void signals_reset(void);

#endif
