#include "broker/record_shown.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "broker/port.h"
#include "broker/record_piece.h"
#include "proto/base/err.h"

#define TEXT_MAX (RECORD_SHOWN_SIZE - sizeof(struct record_piece))
#define IS_CUT	 (1u << 31) /* in the number of strings */

/* Appends a string with its NUL. False: it does not fit. */
static bool add(struct record_piece *head, char *text, const char *string)
{
	size_t size = strlen(string) + 1;

	if (size > TEXT_MAX - head->size)
		return false;
	memcpy(text + head->size, string, size);
	head->size += (uint32_t)size;
	head->n++;
	return true;
}

int record_shown_write(int fd, off_t at, uint64_t port, const struct port_options *options)
{
	struct record_piece head = { .owner = port };
	bool fits = true;
	const char *arg = NULL;
	char text[TEXT_MAX];

	if (!add(&head, text, options->program ? options->program : "") ||
	    !add(&head, text, options->directory ? options->directory : ""))
		return err_begin(-ENAMETOOLONG);
	while (fits && (arg = string_block_next(&options->arguments, arg)))
		fits = add(&head, text, arg);
	if (!fits || options->arguments_are_cut)
		head.n |= IS_CUT;
	return err_pass(record_piece_write(fd, at, &head, text));
}

static int take(struct port_options *ret, const struct record_piece *head, const char *text)
{
	const char *at = text, *end = text + head->size;
	uint32_t n = head->n & ~IS_CUT;
	int r = 0;

	for (uint32_t i = 0; i < n && !r; i++) {
		size_t size = strnlen(at, (size_t)(end - at));

		if (at + size == end)
			return RECORD_SHOWN_E_BAD;
		if (i < 2)
			*(i ? &ret->directory : &ret->program) = strdup(at);
		else
			r = string_block_add(&ret->arguments, at, size);
		at += size + 1;
	}
	ret->arguments_are_cut = head->n & IS_CUT;
	return err_pass(r);
}

int record_shown_read(int fd, off_t at, uint64_t port, struct port_options *ret)
{
	struct record_piece head = { .owner = port };
	char text[TEXT_MAX];
	int r = record_piece_read(fd, at, &head, text, sizeof(text));

	if (!r)
		r = take(ret, &head, text);
	else if (r == RECORD_PIECE_E_NONE)
		r = 0;
	else if (r > 0)
		r = RECORD_SHOWN_E_BAD;
	if (!ret->program)
		ret->program = strdup("");
	if (!ret->directory)
		ret->directory = strdup("");
	return ret->program && ret->directory ? r : err_begin(-ENOMEM);
}
