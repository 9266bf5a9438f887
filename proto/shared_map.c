#include "proto/shared_map.h"

#include <errno.h>
#include <sys/mman.h>

#include "proto/base/err.h"

/* The address range is reserved as a whole first, so that the maps stand side by side and nothing
 * else can come between. */
int shared_map(int fd, size_t header_size, size_t size, bool is_writable, uint8_t **ret)
{
	const int protection = is_writable ? PROT_READ | PROT_WRITE : PROT_READ;
	size_t first = header_size + size;
	uint8_t *base = mmap(NULL, first + size, PROT_NONE,
			     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (base == MAP_FAILED)
		return err_errno();
	if (mmap(base, first, protection, MAP_SHARED | MAP_FIXED, fd, 0) == MAP_FAILED ||
	    mmap(base + first, size, protection, MAP_SHARED | MAP_FIXED, fd, (off_t)header_size) ==
		    MAP_FAILED) {
		int r = err_errno();

		munmap(base, first + size);
		return r;
	}
	*ret = base;
	return 0;
}

void shared_unmap(void *base, size_t header_size, size_t size)
{
	if (base)
		munmap(base, header_size + 2 * size);
}
