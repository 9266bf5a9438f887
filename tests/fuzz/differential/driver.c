/* Reads frames on standard input and says what the codec makes of each; differential.py compares
 * that with another implementation.
 *
 *	in:   kind ('R' a Request, 'M' a Message), size (4 bytes, host order), the frame's body
 *	out:  verdict ('+' taken, '-' refused), size, the message packed again or the reason
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/codec.h"
#include "proto/frame.h"
#include "proto/redd.pb-c.h"

#define BODY_MAX (1u << 20)

static void put(char verdict, const void *data, size_t size)
{
	uint32_t n = (uint32_t)size;

	putchar(verdict);
	fwrite(&n, sizeof(n), 1, stdout);
	fwrite(data, 1, size, stdout);
	fflush(stdout);
}

static void answer(struct arena *a, char kind, const uint8_t *data, size_t size)
{
	const char *reason = "";
	ProtobufCMessage *message = NULL;
	size_t prefix, length;
	struct buf out;
	int r;

	if (kind == 'R')
		r = codec_unpack_request(a, data, size, (Redd__V1__Request **)&message, &reason);
	else
		r = codec_unpack_message(a, data, size, (Redd__V1__Message **)&message, &reason);
	if (r) {
		put('-', reason, strlen(reason));
		return;
	}
	buf_init(&out, 16 * BODY_MAX);
	if (codec_pack(&out, message, 8 * BODY_MAX) ||
	    frame_parse(buf_head(&out), buf_size(&out), 8 * BODY_MAX, &prefix, &length))
		abort();
	put('+', buf_head(&out) + prefix, length);
	buf_deinit(&out);
}

int main(void)
{
	static uint8_t body[BODY_MAX];
	struct arena arena;
	uint32_t size;
	int kind;

	arena_init(&arena);
	while ((kind = getchar()) != EOF) {
		if (fread(&size, sizeof(size), 1, stdin) != 1 || size > sizeof(body) ||
		    fread(body, 1, size, stdin) != size)
			return 1;
		answer(&arena, (char)kind, body, size);
	}
	arena_deinit(&arena);
	return 0;
}
