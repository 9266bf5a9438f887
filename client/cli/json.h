/* JSON, written as it is told. Text is bytes: what is UTF-8 goes out as such, control characters
 * are escaped, and a byte that is part of no character becomes the lone surrogate \udcXX (as
 * Python's "surrogateescape" does), so that nothing is lost.
 */
#ifndef REDD_CLI_JSON_H
#define REDD_CLI_JSON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

struct json {
	FILE *file;
	bool comma; /* the next item needs one */
};

/* In an object every item has a key; in an array, and outside, key is NULL. */
void json_object(struct json *j, const char *key);
void json_object_end(struct json *j);
void json_array(struct json *j, const char *key);
void json_array_end(struct json *j);
void json_bytes(struct json *j, const char *key, const void *data, size_t size);
void json_string(struct json *j, const char *key, const char *s); /* NULL: null */
void json_number(struct json *j, const char *key, int64_t n);
void json_unsigned(struct json *j, const char *key, uint64_t n);
void json_bool(struct json *j, const char *key, bool b);

/* A newline: the end of a record. */
void json_line(struct json *j);

#endif
