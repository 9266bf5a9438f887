/* Pair after pair: the key's size and the value's, a byte each, and both texts. Where a selector
 * has no value, ANY_VALUE is in the key's size. What is read is trusted no further than its sum; it
 * goes through the checks of labels.h as what a client sends.
 */
#include "broker/record_labels.h"

#include <stdbool.h>
#include <string.h>

#include "broker/labels.h"
#include "broker/record_piece.h"
#include "proto/base/err.h"

#define ANY_VALUE 0x80u
_Static_assert(LABEL_KEY_MAX < ANY_VALUE && LABEL_VALUE_MAX <= UINT8_MAX, "a size is one byte");

#define TEXT_MAX (LABELS_MAX * (2u + LABEL_KEY_MAX + LABEL_VALUE_MAX))
_Static_assert(sizeof(struct record_piece) + TEXT_MAX <= RECORD_LABELS_SIZE,
	       "labels outgrew their place");

static uint32_t add_pair(uint8_t *to, const char *key, const char *value)
{
	size_t key_size = strlen(key), value_size = value ? strlen(value) : 0;

	to[0] = (uint8_t)(key_size | (value ? 0 : ANY_VALUE));
	to[1] = (uint8_t)value_size;
	memcpy(to + 2, key, key_size);
	if (value)
		memcpy(to + 2 + key_size, value, value_size);
	return (uint32_t)(2 + key_size + value_size);
}

int record_labels_write(int fd, off_t at, uint64_t port, const struct labels *labels)
{
	struct record_piece head = { .owner = port, .n = (uint32_t)labels_count(labels) };
	uint8_t text[TEXT_MAX];

	for (size_t i = 0; i < head.n; i++) {
		const char *key, *value;

		labels_at(labels, i, &key, &value);
		head.size += add_pair(text + head.size, key, value);
	}
	return err_pass(record_piece_write(fd, at, &head, text));
}

/* The pairs, pointing into the text. False: it is not what was written. */
static bool read_pairs(const struct record_piece *head, const uint8_t *text, struct label *ret)
{
	const uint8_t *at = text, *end = text + head->size;

	for (uint32_t i = 0; i < head->n; i++) {
		size_t left = (size_t)(end - at), key = left < 2 ? 0 : at[0] & ~ANY_VALUE;

		if (left < 2 || left < 2 + key + at[1])
			return false;
		ret[i] = (struct label){ at + 2, key, at + 2 + key, at[1] };
		if (at[0] & ANY_VALUE)
			ret[i].value = NULL;
		at += 2 + key + at[1];
	}
	return at == end;
}

int record_labels_read(int fd, off_t at, uint64_t port, struct labels **ret)
{
	struct record_piece head = { .owner = port };
	struct label pairs[LABELS_MAX];
	uint8_t text[TEXT_MAX];
	const char *reason;
	int r = record_piece_read(fd, at, &head, text, sizeof(text));

	if (r == RECORD_PIECE_E_NONE) {
		*ret = NULL;
		return 0;
	}
	if (r)
		return r < 0 ? err_pass(r) : RECORD_LABELS_E_BAD;
	if (head.n > LABELS_MAX || !read_pairs(&head, text, pairs))
		return RECORD_LABELS_E_BAD;
	r = labels_new_selector(pairs, head.n, ret, &reason);
	return r < 0 ? err_pass(r) : r ? RECORD_LABELS_E_BAD : 0;
}
