/* A head, then pair after pair: the key's size and the value's, a byte each, and both texts. Where
 * a selector has no value, ANY_VALUE is in the key's size. What is read is trusted no further than
 * its sum; it goes through the checks of labels.h as what a client sends.
 */
#include "broker/record_labels.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>
#include <xxhash.h>

#include "broker/labels.h"
#include "proto/base/err.h"

#define PAGE KIB(4)

struct labels_head {
	uint64_t port;
	uint64_t sum; /* XXH3 of `text`, seeded with the port */
	uint32_t size;
	uint32_t n;
};

#define TEXT_MAX (LABELS_MAX * (2u + LABEL_KEY_MAX + LABEL_VALUE_MAX))

struct labels_piece {
	struct labels_head head;
	uint8_t text[TEXT_MAX];
};
_Static_assert(sizeof(struct labels_piece) <= RECORD_LABELS_SIZE, "labels outgrew their place");
#define ANY_VALUE 0x80u
_Static_assert(LABEL_KEY_MAX < ANY_VALUE && LABEL_VALUE_MAX <= UINT8_MAX, "a size is one byte");

static uint64_t piece_sum(const struct labels_piece *p)
{
	return XXH3_64bits_withSeed(p->text, p->head.size, p->head.port);
}

static void piece_add(struct labels_piece *p, const char *key, const char *value)
{
	size_t key_size = strlen(key), value_size = value ? strlen(value) : 0;
	uint8_t *to = p->text + p->head.size;

	to[0] = (uint8_t)(key_size | (value ? 0 : ANY_VALUE));
	to[1] = (uint8_t)value_size;
	memcpy(to + 2, key, key_size);
	if (value)
		memcpy(to + 2 + key_size, value, value_size);
	p->head.size += (uint32_t)(2 + key_size + value_size);
	p->head.n++;
}

int record_labels_write(int fd, off_t at, uint64_t port, const struct labels *labels)
{
	struct labels_piece p;
	const char *key, *value;
	ssize_t n;

	p.head = (struct labels_head){ .port = port };
	for (size_t i = 0; i < labels_count(labels); i++) {
		labels_at(labels, i, &key, &value);
		piece_add(&p, key, value);
	}
	p.head.sum = piece_sum(&p);
	n = pwrite(fd, &p, sizeof(p.head) + p.head.size, at);
	if (n < 0)
		return err_errno();
	return (size_t)n == sizeof(p.head) + p.head.size ? 0 : err_begin(-ENOSPC);
}

/* The pairs, pointing into the piece. False: it is not what was written. */
static bool piece_pairs(const struct labels_piece *p, struct label *ret)
{
	const uint8_t *at = p->text, *end = p->text + p->head.size;

	for (uint32_t i = 0; i < p->head.n; i++) {
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
	struct label pairs[LABELS_MAX];
	struct labels_piece p;
	const char *reason;
	ssize_t n = pread(fd, &p, sizeof(p), at);

	if (n < 0)
		return err_errno();
	if ((size_t)n != sizeof(p))
		return RECORD_LABELS_E_BAD;
	if (p.head.port != port) {
		*ret = NULL;
		return 0;
	}
	if (p.head.size > sizeof(p.text) || p.head.n > LABELS_MAX || p.head.sum != piece_sum(&p) ||
	    !piece_pairs(&p, pairs))
		return RECORD_LABELS_E_BAD;
	n = labels_new_selector(pairs, p.head.n, ret, &reason);
	return n < 0 ? err_pass((int)n) : n ? RECORD_LABELS_E_BAD : 0;
}

void record_labels_drop(int fd, off_t at)
{
	struct labels_head head;

	if (pread(fd, &head, sizeof(head), at) == (ssize_t)sizeof(head) &&
	    sizeof(head) + head.size > PAGE)
		fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, at, RECORD_LABELS_SIZE);
}
