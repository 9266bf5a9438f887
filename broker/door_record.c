#include "broker/door_record.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>
#include <xxhash.h>

#include "broker/record_labels.h"
#include "proto/base/err.h"
#include "proto/base/fd.h"

#define LAYOUT	  1u
#define LABELS_AT KIB(4)
#define SIZE	  (LABELS_AT + RECORD_LABELS_SIZE)
#define SEALS	  (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL)
_Static_assert(sizeof(struct door_record) <= LABELS_AT, "a door's record outgrew its place");

static uint64_t sum_of(const struct door_record *r)
{
	const uint8_t *from = (const uint8_t *)r + sizeof(r->sum);

	return XXH3_64bits(from, sizeof(*r) - sizeof(r->sum));
}

int door_record_write(struct door_record *record, const struct labels *selector, int *ret_fd)
{
	_cleanup_(fd_closep) int fd = memfd_create("redd-door", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	ssize_t n;

	if (fd < 0 || ftruncate(fd, (off_t)SIZE) < 0)
		return err_errno();
	record->layout = LAYOUT;
	record->has_selector = selector != NULL;
	record->sum = sum_of(record);
	n = pwrite(fd, record, sizeof(*record), 0);
	if (n < 0)
		return err_errno();
	if ((size_t)n != sizeof(*record))
		return err_begin(-ENOSPC);
	if (selector) {
		int r = record_labels_write(fd, (off_t)LABELS_AT, record->delegation, selector);

		if (r < 0)
			return err_pass(r);
	}
	if (fcntl(fd, F_ADD_SEALS, SEALS) < 0)
		return err_errno();
	*ret_fd = TAKE_FD(fd);
	return 0;
}

static bool is_sane(const struct door_record *r)
{
	return r->layout == LAYOUT && r->sum == sum_of(r) && r->n_groups <= CONN_GROUPS &&
	       r->n_ports <= DELEGATION_PORTS && r->n_streams <= PORT_STREAMS_MAX &&
	       r->has_selector <= 1;
}

int door_record_read(int fd, struct door_record *ret, struct labels **ret_selector)
{
	ssize_t n = pread(fd, ret, sizeof(*ret), 0);
	int r;

	*ret_selector = NULL;
	if (n < 0)
		return err_errno();
	if ((size_t)n != sizeof(*ret) || !is_sane(ret))
		return DOOR_RECORD_E_BAD;
	if (!ret->has_selector)
		return 0;
	r = record_labels_read(fd, (off_t)LABELS_AT, ret->delegation, ret_selector);
	if (r < 0)
		return err_pass(r);
	return r || !*ret_selector ? DOOR_RECORD_E_BAD : 0;
}
