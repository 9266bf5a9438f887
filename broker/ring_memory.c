/* Makes, checks and maps the memory of rings.
 *
 * Invariant: what is mapped can neither shrink nor grow (seals), so no access below
 * header_size + 2 * size ever faults with SIGBUS.
 *
 * Making: memfd, size, seals, map, header. Adopting trusts nothing: seals first (only then the size
 * stays what it is), then the size, then the header, which is read once. The header is checked
 * through a read, before anything of the size it claims is mapped. Head and tail are left to
 * ring.c.
 */
#include "broker/ring_memory.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "broker/ring.h"
#include "proto/base/err.h"
#include "proto/base/fd.h"
#include "proto/limits.h"
#include "proto/shared_map.h"

#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 0x0008U /* Linux 6.3 */
#endif
#ifndef F_SEAL_FUTURE_WRITE
#define F_SEAL_FUTURE_WRITE 0x0010 /* Linux 5.1 */
#endif

#define SEALS_NEEDED (F_SEAL_SHRINK | F_SEAL_GROW)

static uint32_t page_rounded_header_size(void)
{
	uint32_t page = (uint32_t)sysconf(_SC_PAGESIZE);

	return ((uint32_t)sizeof(struct ring_header) + page - 1) / page * page;
}

static int make_memfd(size_t size, int *ret_fd)
{
	const unsigned int flags = MFD_CLOEXEC | MFD_ALLOW_SEALING;
	_cleanup_(fd_closep) int fd = memfd_create("redd-ring", flags | MFD_NOEXEC_SEAL);

	if (fd < 0 && errno == EINVAL)
		fd = memfd_create("redd-ring", flags);
	if (fd < 0)
		return err_errno();
	if (ftruncate(fd, (off_t)size) || fcntl(fd, F_ADD_SEALS, SEALS_NEEDED))
		return err_errno();
	*ret_fd = TAKE_FD(fd);
	return 0;
}

static int map_twice(struct ring_memory *m)
{
	uint8_t *base;
	int r = shared_map(m->fd, m->header_size, m->size, true, &base);

	if (r)
		return err_pass(r);
	m->header = (struct ring_header *)base;
	m->data = base + m->header_size;
	return 0;
}

void ring_memory_reset(struct ring_memory *m)
{
	memset(m->header, 0, sizeof(*m->header));
	m->header->log = (struct shared_log){ .magic = SHARED_LOG_MAGIC,
					      .version = RING_VERSION,
					      .header_size = m->header_size,
					      .size = m->size,
					      .layout = SHARED_LAYOUT };
}

int ring_memory_make(uint32_t size, struct ring_memory *ret)
{
	_cleanup_(ring_memory_drop) struct ring_memory m = { .fd = -1, .size = size };
	int r;

	m.header_size = page_rounded_header_size();
	r = make_memfd((size_t)m.header_size + size, &m.fd);
	if (r)
		return err_pass(r);
	r = map_twice(&m);
	if (r)
		return err_pass(r);
	ring_memory_reset(&m);
	*ret = m;
	m = (struct ring_memory){ .fd = -1 };
	return 0;
}

static int check_seals(int fd)
{
	int seals = fcntl(fd, F_GET_SEALS);

	if (seals < 0)
		return RING_E_BAD; /* no memfd */
	if ((seals & SEALS_NEEDED) != SEALS_NEEDED)
		return RING_E_BAD;
	return 0;
}

static bool is_sealed(int fd)
{
	return fcntl(fd, F_GET_SEALS) & (F_SEAL_WRITE | F_SEAL_FUTURE_WRITE);
}

/* Reads until all of it came. */
static int read_at(int fd, uint8_t *data, size_t size, off_t at)
{
	while (size) {
		ssize_t n = pread(fd, data, size, at);

		if (n < 0)
			return err_errno();
		if (n == 0)
			return err_begin(-ENODATA);
		data += n;
		at += n;
		size -= (size_t)n;
	}
	return 0;
}

static bool header_is_sound(const struct shared_log *log, off_t file_size)
{
	uint32_t size;

	return log->version == RING_VERSION && log->header_size == page_rounded_header_size() &&
	       shared_log_is_sound(log, (uint64_t)file_size, &size);
}

/* Sizes that are to be trusted, in *m. */
static int check_contents(int fd, struct ring_memory *m)
{
	struct ring_header h;
	struct stat st;
	ssize_t n;

	if (fstat(fd, &st))
		return err_errno();
	n = pread(fd, &h, sizeof(h), 0);
	if (n < 0)
		return err_errno();
	if (n != (ssize_t)sizeof(h) || !header_is_sound(&h.log, st.st_size))
		return RING_E_BAD;
	m->header_size = h.log.header_size;
	m->size = h.log.size;
	return 0;
}

/* A fresh one with what the sealed one holds; the sizes in *m are to be trusted. Its descriptor is
 * closed then: readers that map it keep what they have. */
static int replace_sealed(struct ring_memory *m)
{
	_cleanup_(ring_memory_drop) struct ring_memory fresh = { .fd = -1 };
	int r = ring_memory_make(m->size, &fresh);

	if (r)
		return err_pass(r);
	r = read_at(m->fd, (uint8_t *)fresh.header, (size_t)m->header_size + m->size, 0);
	if (r)
		return err_pass(r);
	fresh.is_copy = true;
	ring_memory_drop(m);
	*m = fresh;
	fresh = (struct ring_memory){ .fd = -1 };
	return 0;
}

int ring_memory_seal(struct ring_memory *m)
{
	if (is_sealed(m->fd))
		return 0;
	return fcntl(m->fd, F_ADD_SEALS, F_SEAL_FUTURE_WRITE | F_SEAL_SEAL) ? err_errno() : 0;
}

int ring_memory_adopt(int take_fd, struct ring_memory *ret)
{
	_cleanup_(ring_memory_drop) struct ring_memory m = { .fd = take_fd };
	int r = check_seals(take_fd);

	if (!r)
		r = check_contents(take_fd, &m);
	if (!r)
		r = is_sealed(take_fd) ? replace_sealed(&m) : map_twice(&m);
	if (r)
		return err_pass(r);
	*ret = m;
	m = (struct ring_memory){ .fd = -1 };
	return 0;
}

void ring_memory_drop(struct ring_memory *m)
{
	shared_unmap(m->header, m->header_size, m->size);
	m->header = NULL;
	m->data = NULL;
	m->fd = fd_close(m->fd);
}
