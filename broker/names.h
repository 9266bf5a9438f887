/* Checks of what clients send as text. Each returns NULL when it is right, else a static sentence
 * for the client that says what is wrong. Texts are bytes with a size; none needs a final NUL.
 */
#ifndef REDD_NAMES_H
#define REDD_NAMES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A port's name: 1 to NAME_MAX_SIZE of [A-Za-z0-9._:@/-], not starting with a digit. */
const char *names_check_port(const void *text, size_t size);

/* A label's key and value: see labels.h. */
const char *names_check_label_key(const void *text, size_t size);
const char *names_check_label_value(const void *text, size_t size);

/* An idempotency token: 1 to TOKEN_MAX bytes of any kind. */
const char *names_check_token(const void *text, size_t size);

/* Name of a client program: up to CLIENT_NAME_MAX bytes (control bytes are escaped when shown). */
const char *names_check_client(const void *text, size_t size);

/* A program to execute, a path or a name: not empty, no NUL, shorter than PATH_MAX. */
const char *names_check_program(const void *text, size_t size);

/* A path: as a program. */
const char *names_check_path(const void *text, size_t size);

/* A directory from which others are taken: a path that starts with '/'. */
const char *names_check_absolute(const void *text, size_t size);

/* An argument of a program: no NUL. */
const char *names_check_argument(const void *text, size_t size);

/* A variable NAME=VALUE: a name that is not empty, '=', no NUL. */
const char *names_check_variable(const void *text, size_t size);

/* A variable's name alone: not empty, no '=', no NUL. */
const char *names_check_variable_name(const void *text, size_t size);

/* Well-formed UTF-8 (no overlong forms, surrogates or numbers past U+10FFFF). */
bool names_is_utf8(const void *text, size_t size);

#endif
