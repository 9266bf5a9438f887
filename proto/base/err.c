/* Where an error began: one record a thread, overwritten by the next one. */
#include "proto/base/err.h"

#include <stdio.h>
#include <string.h>

static __thread struct {
	int error;
	const char *file;
	int line;
	const char *func;
	char text[256];
} origin;

int err_begin_at(int error, const char *file, int line, const char *func)
{
	const char *slash = strrchr(file, '/');

	origin.error = error;
	origin.file = slash ? slash + 1 : file;
	origin.line = line;
	origin.func = func;
	return error;
}

const char *err_name(int error)
{
	const char *text = strerrordesc_np(error < 0 ? -error : error);

	return text ? text : "Unknown error";
}

const char *err_string(int error)
{
	if (!origin.file || origin.error != error)
		return err_name(error);
	snprintf(origin.text, sizeof(origin.text), "%s (at %s:%d %s)", err_name(error), origin.file,
		 origin.line, origin.func);
	return origin.text;
}
