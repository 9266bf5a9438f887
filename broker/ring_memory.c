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

/* The address range is reserved as a whole first, so that the three maps stand side by side and
 * nothing else can come between. */
static int map_twice(struct ring_memory *m)
{
	size_t first = (size_t)m->header_size + m->size;
	size_t whole = first + m->size;
	uint8_t *base =
		mmap(NULL, whole, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (base == MAP_FAILED)
		return err_errno();
	if (mmap(base, first, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, m->fd, 0) ==
		    MAP_FAILED ||
	    mmap(base + first, m->size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, m->fd,
		 m->header_size) == MAP_FAILED) {
		int r = err_errno();

		munmap(base, whole);
		return r;
	}
	m->header = (struct ring_header *)base;
	m->data = base + m->header_size;
	return 0;
}

void ring_memory_reset(struct ring_memory *m)
{
	memset(m->header, 0, sizeof(*m->header));
	m->header->magic = RING_MAGIC;
	m->header->version = RING_VERSION;
	m->header->header_size = m->header_size;
	m->header->size = m->size;
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
	return seals & (F_SEAL_WRITE | F_SEAL_FUTURE_WRITE) ? RING_E_SEALED : 0;
}

static bool header_is_sound(const struct ring_header *h, off_t file_size)
{
	if (h->magic != RING_MAGIC || h->version != RING_VERSION ||
	    h->header_size != page_rounded_header_size())
		return false;
	if (h->size < RING_LOWEST || h->size > RING_HIGHEST || (h->size & (h->size - 1)))
		return false;
	return file_size == (off_t)h->header_size + h->size;
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
	if (n != (ssize_t)sizeof(h) || !header_is_sound(&h, st.st_size))
		return RING_E_BAD;
	m->header_size = h.header_size;
	m->size = h.size;
	return 0;
}

int ring_memory_adopt(int take_fd, struct ring_memory *ret)
{
	_cleanup_(ring_memory_drop) struct ring_memory m = { .fd = take_fd };
	int r = check_seals(take_fd);

	if (!r)
		r = check_contents(take_fd, &m);
	if (!r)
		r = map_twice(&m);
	if (r)
		return err_pass(r);
	*ret = m;
	m = (struct ring_memory){ .fd = -1 };
	return 0;
}

void ring_memory_drop(struct ring_memory *m)
{
	if (m->header)
		munmap(m->header, (size_t)m->header_size + 2 * (size_t)m->size);
	m->header = NULL;
	m->data = NULL;
	m->fd = fd_close(m->fd);
}
