/* A Spawn on its way to become a port: read and checked completely before anything is made, then
 * put together. What is wrong ends the plan with a code and a sentence, and nothing is left of it.
 *
 *	req_spawn_options.c        options, identity, limits of the request
 *	req_spawn_command.c    directory, environment, program, arguments
 *	req_spawn_descriptors.cthe child's descriptors, and the streams at our ends of them
 *	req_spawn.c          the order of all that, and the answers
 *	req_open.c           a file or descriptors: the Spawn of its pump
 */
#ifndef REDD_BROKER_REQ_SPAWN_H
#define REDD_BROKER_REQ_SPAWN_H

#include "broker/port.h"
#include "broker/req.h"
#include "broker/spawn_record.h"

struct conn;

#define PLAN_E_REFUSED 1 /* plan->code, sys_errno and sentence say why */

struct spawn_plan {
	struct conn *conn;
	struct broker *broker;
	const Redd__V1__Spawn *m;
	enum port_kind kind;
	const ProtobufCBinaryData *shown; /* of one that is no process: the file's path, or NULL */
	uint64_t request;
	struct port_options options;
	struct spawn_record record;
	struct subscription_options subscription;
	uint64_t digest; /* of a request with a token */
	uint32_t log_size, input_high, input_low, input_bound;
	struct port *port;	  /* NULL until it is made */
	int fds[DESCRIPTORS_MAX]; /* passed with the request; -1 when used */
	size_t n_fds;
	/* the refusal */
	enum reply_code code;
	int sys_errno;
	uint32_t retry_after_ms;
	char sentence[256];
};

/* Notes why the plan ends, and returns PLAN_E_REFUSED. */
int plan_refuse(struct spawn_plan *plan, enum reply_code code, int sys_errno, const char *format,
		...) __attribute__((format(printf, 4, 5)));

/* The same for a system error: out of descriptors or memory, as the system said it. */
int plan_refuse_errno(struct spawn_plan *plan, int error, const char *what);

/* Each: 0, PLAN_E_REFUSED, or a negative errno. */
int plan_read_options(struct spawn_plan *plan);
int plan_read_identity(struct spawn_plan *plan);
int plan_read_limits(struct spawn_plan *plan);
int plan_read_command(struct spawn_plan *plan); /* needs the port's id for REDD_PORT */
int plan_check_descriptors(struct spawn_plan *plan);
int plan_make_descriptors(struct spawn_plan *plan);

/* Descriptors that are to be adopted can be read and written as the request says. */
int plan_check_adopted(struct spawn_plan *plan);

/* Serves a request whose plan has its first members: answers it, now or when the port runs. Always
 * 0.
 */
int plan_serve(struct spawn_plan *plan);

#endif
