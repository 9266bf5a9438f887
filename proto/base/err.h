/* Unexpected errors: a negative errno that is passed up unchanged. Where it began is remembered, so
 * that the callback's shim, where it ends, can log one line with file, line and function.
 *
 *	return err_begin(-ENOMEM);              // here it begins
 *	return err_pass(r);                     // r came from below, unchanged
 *	log_error("accept: %s", err_string(r)); // "Cannot allocate memory (at conn.c:88 conn_new)"
 *
 * Expected outcomes are positive MODULE_E_* values, listed in each header, and are not traced.
 */
#ifndef REDD_BASE_ERR_H
#define REDD_BASE_ERR_H

/* Records the origin of `error` (a negative errno) for this thread and returns it. */
int err_begin_at(int error, const char *file, int line, const char *func);

#define err_begin(e) err_begin_at((e), __FILE__, __LINE__, __func__)
#define err_errno()  err_begin(-errno)
#define err_pass(r)  (r)

/* Text of a negative errno with its origin, if the last recorded one is the same number. Valid
 * until the thread's next call. */
const char *err_string(int error);

/* Text of an errno (positive or negative) alone: "No such file or directory". Thread-safe. */
const char *err_name(int error);

#endif
