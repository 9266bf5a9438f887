/* Openers: short-lived processes under the caller's identity that do what needs the file system,
 * which the broker never touches, or what may block. One question, one answer.
 */
#ifndef REDD_BROKER_ERRAND_H
#define REDD_BROKER_ERRAND_H

#include "helper/link.h"

struct broker;
struct errand;
struct port;

/* reply is NULL when there is none: the opener failed or took too long. */
typedef void (*errand_done)(void *context, const struct opener_reply *reply);

/* Asks, as whom the port's child is. *ret is for errand_cancel() until done is called; done may be
 * NULL. 0 or a negative errno; done is not called from within. */
int errand_start(const struct port *p, const struct opener_request *request, errand_done done,
		 void *context, struct errand **ret);

/* The answer is not wanted any more; the opener itself goes on. */
void errand_cancel(struct errand *o);

/* Gives up all of them, without a word: the broker is about to go. */
void errands_free(struct broker *b);

/* Fills a request: signal the port's tree; find who holds streams (inodes are added by the caller).
 */
void errand_tree_request(const struct port *p, int signal, struct opener_request *ret);
void errand_holders_request(const struct port *p, struct opener_request *ret);

#endif
