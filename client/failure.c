/* Failures: one struct, filled from a sentence of ours or from an Error of the broker.
 *
 * What the broker says is not trusted: its text is cut and cleaned, an errno that is out of range
 * is ignored, and a code that is not known becomes UNKNOWN, but the result is never 0.
 */
#include "client/failure.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "proto/base/cleanup.h"
#include "proto/redd.pb-c.h"

#define ERRNO_HIGHEST 4095 /* MAX_ERRNO of the kernel */

/* Indexed by enum redd_code; documented there. */
static const struct {
	const char *name;
	int error;
} codes[] = {
	[REDD_OK] = { "OK", EPROTO },
	[REDD_CANCELLED] = { "CANCELLED", ECANCELED },
	[REDD_UNKNOWN] = { "UNKNOWN", EIO },
	[REDD_INVALID_ARGUMENT] = { "INVALID_ARGUMENT", EINVAL },
	[REDD_DEADLINE_EXCEEDED] = { "DEADLINE_EXCEEDED", ETIMEDOUT },
	[REDD_NOT_FOUND] = { "NOT_FOUND", ENOENT },
	[REDD_ALREADY_EXISTS] = { "ALREADY_EXISTS", EEXIST },
	[REDD_PERMISSION_DENIED] = { "PERMISSION_DENIED", EACCES },
	[REDD_RESOURCE_EXHAUSTED] = { "RESOURCE_EXHAUSTED", EDQUOT },
	[REDD_FAILED_PRECONDITION] = { "FAILED_PRECONDITION", EBADFD },
	[REDD_ABORTED] = { "ABORTED", EPIPE },
	[REDD_OUT_OF_RANGE] = { "OUT_OF_RANGE", ERANGE },
	[REDD_UNIMPLEMENTED] = { "UNIMPLEMENTED", EOPNOTSUPP },
	[REDD_INTERNAL] = { "INTERNAL", EREMOTEIO },
	[REDD_UNAVAILABLE] = { "UNAVAILABLE", EBUSY },
	[REDD_DATA_LOSS] = { "DATA_LOSS", EBADMSG },
	[REDD_UNAUTHENTICATED] = { "UNAUTHENTICATED", EPERM },
};

static const char *const stages[] = {
	[REDD_STAGE_NONE] = "none",	    [REDD_STAGE_REQUEST] = "request",
	[REDD_STAGE_CLONE] = "clone",	    [REDD_STAGE_SETUP] = "setup",
	[REDD_STAGE_SESSION] = "session",   [REDD_STAGE_CGROUP] = "cgroup",
	[REDD_STAGE_TERMINAL] = "terminal", [REDD_STAGE_DESCRIPTORS] = "descriptors",
	[REDD_STAGE_LIMITS] = "limits",	    [REDD_STAGE_GROUPS] = "groups",
	[REDD_STAGE_USER] = "user",	    [REDD_STAGE_DIRECTORY] = "directory",
	[REDD_STAGE_FILES] = "files",	    [REDD_STAGE_SANDBOX] = "sandbox",
	[REDD_STAGE_EXEC] = "exec",
};

const char *redd_code_name(enum redd_code code)
{
	return (size_t)code < ARRAY_SIZE(codes) ? codes[code].name : "UNKNOWN";
}

const char *redd_stage_name(enum redd_stage stage)
{
	return (size_t)stage < ARRAY_SIZE(stages) ? stages[stage] : "unknown";
}

void failure_init(struct failure *f)
{
	f->error = (struct redd_error){ .message = f->text };
	f->text[0] = '\0';
}

void failure_copy(struct failure *to, const struct failure *from)
{
	if (to == from)
		return;
	*to = *from;
	to->error.message = to->text;
}

static void failure_clean(struct failure *f)
{
	for (unsigned char *c = (unsigned char *)f->text; *c; c++) {
		if (*c < 0x20 || *c == 0x7f)
			*c = '?';
	}
}

/* The code that stands for a failure of this side. */
static enum redd_code code_of(int result)
{
	switch (-result) {
	case EINVAL:
	case EMSGSIZE:
	case ENAMETOOLONG:
		return REDD_INVALID_ARGUMENT;
	case ETIMEDOUT:
		return REDD_DEADLINE_EXCEEDED;
	case EAGAIN:
	case ENOMEM:
		return REDD_RESOURCE_EXHAUSTED;
	case EDEADLK:
	case EISCONN:
	case EBUSY:
		return REDD_FAILED_PRECONDITION;
	case ENOTCONN:
	case ENOENT:
	case ECONNREFUSED:
		return REDD_UNAVAILABLE;
	case EACCES:
	case EPERM:
		return REDD_PERMISSION_DENIED;
	case EBADMSG:
		return REDD_DATA_LOSS;
	default:
		return REDD_UNKNOWN;
	}
}

int failure_set(struct failure *f, int result, const char *format, ...)
{
	char text[FAILURE_TEXT_SIZE]; /* an argument may be f's own text */
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	failure_init(f);
	f->error.result = result;
	f->error.code = code_of(result);
	memcpy(f->text, text, sizeof(text));
	failure_clean(f);
	return result;
}

int failure_refused(struct failure *f, const Redd__V1__Error *error)
{
	int code = error && error->has_code ? (int)error->code : REDD_UNKNOWN;
	int sys = error && error->has_sys_errno ? error->sys_errno : 0;

	if (code <= REDD_OK || (size_t)code >= ARRAY_SIZE(codes))
		code = REDD_UNKNOWN;
	if (sys < 0 || sys > ERRNO_HIGHEST)
		sys = 0;
	failure_init(f);
	f->error.from_broker = true;
	f->error.code = (enum redd_code)code;
	f->error.sys_errno = sys;
	f->error.result = sys ? -sys : -codes[code].error;
	if (error && error->has_stage)
		f->error.stage = (enum redd_stage)error->stage;
	if (error && error->has_retry_after_ms)
		f->error.retry_after_ms = error->retry_after_ms;
	snprintf(f->text, sizeof(f->text), "%s",
		 error && error->message && error->message[0] ? error->message : codes[code].name);
	failure_clean(f);
	return f->error.result;
}
