/* Openers: short-lived processes under the caller's identity that do what needs the file system,
 * which the broker never touches, or what may block. One question, one answer.
 *
 * Each is a process and three descriptors (opener_process.h), so only few are out at once; the
 * others wait for their turn (errand_turns.h).
 */
#ifndef REDD_BROKER_ERRAND_H
#define REDD_BROKER_ERRAND_H

#include "broker/errand_turns.h"
#include "helper/link.h"

struct broker;
struct errand;
struct port;
struct quota_account;

/* What `errand_turns` of the broker calls. */
void errand_send_out(struct errand_ticket *ticket);

/* reply is NULL when there is none: the opener failed or took too long; one that was to kill a tree
 * may be sent again all the same, and without anybody who waits. */
typedef void (*errand_done)(void *context, const struct opener_reply *reply);

/* Asks, as whom the port's child is: in the name of that client's connection, or, with NULL,
 * because it is due. *ret is for errand_cancel() until done is called, which is never from within;
 * it stays right until then, as the next try is another errand. done may be NULL. The port may go
 * before its errand does. 0 or a negative errno. */
int errand_start(struct port *p, struct quota_account *asker, const struct opener_request *request,
		 errand_done done, void *context, struct errand **ret);

/* The same for one request of a client, of which it may have only so many. 0, ERRAND_E_QUOTA with
 * *ret_reason, or a negative errno. */
#define ERRAND_E_QUOTA 1
int errand_ask(struct port *p, struct quota_account *asker, const struct opener_request *request,
	       errand_done done, void *context, struct errand **ret, const char **ret_reason);

/* The answer is not wanted any more; the errand itself goes on. */
void errand_cancel(struct errand *o);

/* The port goes: its errands do without it. */
void errands_leave_port(struct port *p);

/* But for repeated tries, which are nothing to wait for at the end: the keeper kills who is left.
 */
bool errands_are_over(const struct broker *b);

/* Gives up all of them, without a word: the broker is about to go. */
void errands_free(struct broker *b);

/* Fills a request: signal the port's tree; find who holds streams (inodes are added by the caller).
 */
void errand_tree_request(const struct port *p, int signal, struct opener_request *ret);
void errand_holders_request(const struct port *p, struct opener_request *ret);

#endif
