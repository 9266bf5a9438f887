#include "broker/record_piece.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/uio.h>
#include <unistd.h>
#include <xxhash.h>

#include "proto/base/err.h"
#include "proto/limits.h"

#define PAGE KIB(4)

static uint64_t sum_of(const struct record_piece *head, const void *bytes)
{
	return XXH3_64bits_withSeed(bytes, head->size, head->owner ^ (uint64_t)head->n << 32);
}

int record_piece_write(int fd, off_t at, struct record_piece *head, const void *bytes)
{
	struct iovec iov[] = { { head, sizeof(*head) }, { (void *)bytes, head->size } };
	ssize_t n;

	head->sum = sum_of(head, bytes);
	n = pwritev(fd, iov, 2, at);
	if (n < 0)
		return err_errno();
	return (size_t)n == sizeof(*head) + head->size ? 0 : err_begin(-ENOSPC);
}

int record_piece_read(int fd, off_t at, struct record_piece *head, void *ret_bytes, uint32_t room)
{
	struct record_piece found;
	struct iovec iov[] = { { &found, sizeof(found) }, { ret_bytes, room } };
	ssize_t n = preadv(fd, iov, 2, at);

	if (n < 0)
		return err_errno();
	if ((size_t)n < sizeof(found))
		return RECORD_PIECE_E_BAD;
	if (found.owner != head->owner)
		return RECORD_PIECE_E_NONE;
	if (found.size > (size_t)n - sizeof(found) || found.sum != sum_of(&found, ret_bytes))
		return RECORD_PIECE_E_BAD;
	*head = found;
	return 0;
}

void record_piece_drop(int fd, off_t at, uint32_t room)
{
	struct record_piece head;

	if (pread(fd, &head, sizeof(head), at) == (ssize_t)sizeof(head) &&
	    sizeof(head) + head.size > PAGE)
		fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, at, room);
}
