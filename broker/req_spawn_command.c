#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "broker/broker.h"
#include "broker/candidates.h"
#include "broker/conn.h"
#include "broker/environment.h"
#include "broker/names.h"
#include "broker/req_spawn.h"
#include "proto/base/err.h"

#define SHOWN_MAX KIB(4) /* of the arguments, for List */

/* --- directory ------------------------------------------------------------------------------- */

static int read_directory(struct spawn_plan *plan)
{
	const Redd__V1__Spawn *m = plan->m;
	const ProtobufCBinaryData *base = &m->client_directory, *own = &m->directory;
	bool relative = m->has_directory && (!own->len || own->data[0] != '/');
	char path[PATH_MAX];
	size_t size = 0;

	if (m->has_client_directory && names_check_absolute(base->data, base->len))
		return plan_refuse(plan, REPLY_INVALID_ARGUMENT, EINVAL, "client_directory: %s",
				   names_check_absolute(base->data, base->len));
	if (m->has_directory && names_check_path(own->data, own->len))
		return plan_refuse(plan, REPLY_INVALID_ARGUMENT, EINVAL, "directory: %s",
				   names_check_path(own->data, own->len));
	if (relative && !m->has_client_directory)
		return plan_refuse(
			plan, REPLY_INVALID_ARGUMENT, EINVAL,
			"directory is relative, and no client_directory says to what; send one, "
			"or an absolute directory");
	if (base->len + own->len + 2 > sizeof(path))
		return plan_refuse(plan, REPLY_INVALID_ARGUMENT, ENAMETOOLONG,
				   "directory is longer than 4095 bytes");
	if (m->has_client_directory && (relative || !m->has_directory)) {
		memcpy(path, base->data, size = base->len);
		if (relative)
			path[size++] = '/';
	}
	if (m->has_directory) {
		memcpy(path + size, own->data, own->len);
		size += own->len;
	}
	if (!size)
		path[size++] = '/';
	path[size] = '\0';
	spawn_record_directory(&plan->record, path, size);
	plan->port->options.directory = strdup(path);
	return plan->port->options.directory ? 0 : err_begin(-ENOMEM);
}

/* --- environment ----------------------------------------------------------------------------- */

static int add_broker_environment(const struct broker *b, struct environment *e)
{
	const char *at = b->environment;
	int r = 0;

	for (uint32_t i = 0; r >= 0 && i < b->environment_count; i++) {
		/* What is no NAME=VALUE is left out: the service itself was started with it. */
		r = environment_add(e, at, strlen(at), NULL);
		at += strlen(at) + 1;
	}
	return MIN(r, 0);
}

static int add_all(struct environment *e, const ProtobufCBinaryData *texts, size_t n, bool lenient,
		   const char **ret_reason)
{
	int r = 0;

	for (size_t i = 0; i < n && r >= 0; i++) {
		r = environment_add(e, texts[i].data, texts[i].len, ret_reason);
		if (r > 0 && !lenient)
			return r;
	}
	return MIN(r, 0);
}

static int merge(const struct spawn_plan *plan, struct environment *e, const char **ret_reason)
{
	const Redd__V1__Environment *m = plan->m->environment;
	int r = 0;

	if (!m)
		return 0;
	if ((unsigned)m->from > REDD__V1__ENVIRONMENT__BASE__CLIENT) {
		*ret_reason = "from has a value that this broker does not know";
		return ENVIRONMENT_E_BAD;
	}
	if (m->from == REDD__V1__ENVIRONMENT__BASE__BROKER)
		r = add_broker_environment(plan->broker, e);
	else if (m->from == REDD__V1__ENVIRONMENT__BASE__CLIENT)
		r = add_all(e, m->client, m->n_client, true, ret_reason);
	for (size_t i = 0; !r && i < m->n_unset; i++)
		r = environment_unset(e, m->unset[i].data, m->unset[i].len, ret_reason);
	return r ? r : add_all(e, m->set, m->n_set, false, ret_reason);
}

/* --- program --------------------------------------------------------------------------------- */

static int add_candidates(struct spawn_plan *plan, const struct environment *e)
{
	const Redd__V1__Spawn *m = plan->m;
	struct string_block block = { 0 };
	const void *path = m->has_search_path ? m->search_path.data : NULL;
	size_t path_size = m->has_search_path ? m->search_path.len : 0;
	int r;

	if (m->has_search_path && !path)
		path = "";
	if (!path)
		path = environment_get(e, "PATH", &path_size);
	r = candidates_add(&block, m->program.data, m->program.len, path, path_size);
	if (r == 0)
		spawn_record_candidates(&plan->record, block.data, block.size, block.count);
	string_block_deinit(&block);
	if (r > 0)
		return plan_refuse(
			plan, REPLY_INVALID_ARGUMENT, ENAMETOOLONG,
			"search_path names too many directories, or none that is short enough");
	return err_pass(r);
}

static char *duplicate(const ProtobufCBinaryData *b)
{
	return strndup((const char *)b->data, b->len);
}

static int read_program(struct spawn_plan *plan, const struct environment *e)
{
	const Redd__V1__Spawn *m = plan->m;
	const ProtobufCBinaryData *argv0 = m->has_argv0 ? &m->argv0 : &m->program;
	const char *wrong = names_check_program(m->program.data, m->program.len);

	if (wrong)
		return plan_refuse(plan, REPLY_INVALID_ARGUMENT, ENOENT, "program: %s", wrong);
	spawn_record_argument(&plan->record, argv0->data, argv0->len);
	for (size_t i = 0; i < m->n_args; i++)
		spawn_record_argument(&plan->record, m->args[i].data, m->args[i].len);
	plan->port->options.program = duplicate(&m->program);
	return plan->port->options.program ? add_candidates(plan, e) : err_begin(-ENOMEM);
}

static int read_shell(struct spawn_plan *plan)
{
	const Redd__V1__Spawn *m = plan->m;

	if (m->n_args)
		return plan_refuse(
			plan, REPLY_INVALID_ARGUMENT, EINVAL,
			"args cannot go with a shell command; put them into the command");
	spawn_record_candidates(&plan->record, "/bin/sh", sizeof("/bin/sh"), 1);
	spawn_record_argument(&plan->record, m->has_argv0 ? (void *)m->argv0.data : "sh",
			      m->has_argv0 ? m->argv0.len : 2);
	spawn_record_argument(&plan->record, "-c", 2);
	spawn_record_argument(&plan->record, m->shell.data, m->shell.len);
	plan->port->options.program = strdup("/bin/sh");
	return plan->port->options.program ? 0 : err_begin(-ENOMEM);
}

/* For List and Inspect: the first 4 KiB. */
static int show_arguments(struct spawn_plan *plan)
{
	const Redd__V1__Spawn *m = plan->m;
	struct string_block *shown = &plan->port->options.arguments;
	size_t n = m->has_shell ? 1 : m->n_args;
	int r = 0;

	for (size_t i = 0; i < n && !r; i++) {
		const ProtobufCBinaryData *arg = m->has_shell ? &m->shell : &m->args[i];
		size_t size = MIN(arg->len, SHOWN_MAX - MIN(shown->size, SHOWN_MAX));

		if (m->has_shell)
			r = string_block_add(shown, "-c", 2);
		if (!r && (size || !arg->len))
			r = string_block_add(shown, arg->data, size);
		plan->port->options.arguments_are_cut |= size < arg->len;
	}
	return err_pass(r);
}

/* For List and Inspect, of a file: its path; of descriptors: nothing. The pump is our own affair.
 */
static int show_what_is_pumped(struct spawn_plan *plan)
{
	struct port_options *o = &plan->port->options;

	free(TAKE(o->program));
	o->program = plan->shown ? duplicate(plan->shown) : strdup("");
	return o->program ? 0 : err_begin(-ENOMEM);
}

static int write_environment(struct spawn_plan *plan, struct environment *e)
{
	struct string_block block = { 0 };
	char mark[64];
	int r;

	broker_mark(plan->broker, plan->port->id, mark);
	r = environment_add(e, mark, strlen(mark), NULL);
	if (!r)
		r = environment_write(e, &block);
	if (!r)
		spawn_record_environment(&plan->record, block.data, block.size, block.count);
	string_block_deinit(&block);
	return err_pass(r);
}

int plan_read_command(struct spawn_plan *plan)
{
	const Redd__V1__Spawn *m = plan->m;
	const char *reason = NULL;
	struct environment e;
	int r;

	if (m->has_program == m->has_shell)
		return plan_refuse(plan, REPLY_INVALID_ARGUMENT, EINVAL,
				   "exactly one of program and shell must be set");
	environment_init(&e);
	r = merge(plan, &e, &reason);
	if (r > 0)
		r = plan_refuse(plan, REPLY_INVALID_ARGUMENT, EINVAL, "environment: %s", reason);
	if (!r)
		r = read_directory(plan);
	if (!r)
		r = m->has_shell ? read_shell(plan) : read_program(plan, &e);
	if (!r)
		r = plan->kind == PORT_IS_PROCESS ? show_arguments(plan)
						  : show_what_is_pumped(plan);
	if (!r)
		r = write_environment(plan, &e);
	environment_deinit(&e);
	return err_pass(r);
}
