/* A stream of frames cut at random places: however it comes in, the same frames come out, and no
 * byte past what is there is looked at. The first byte says how the rest is cut.
 */
#include "proto/frame.h"

#include "tests/fuzz/fuzz.h"

#define MAX_LENGTH 4096u

/* Where the first `n` frames end, or where it stopped and why. */
static int walk(const uint8_t *data, size_t size, size_t *ret_at)
{
	size_t prefix, length, at = 0;
	int r = 0;

	while (!r) {
		r = frame_parse(data + at, size - at, MAX_LENGTH, &prefix, &length);
		if (r)
			break;
		FUZZ_CHECK(prefix >= 1 && prefix <= FRAME_PREFIX_MAX);
		FUZZ_CHECK(prefix <= size - at && length <= MAX_LENGTH);
		if (length > size - at - prefix)
			break;
		at += prefix + length;
	}
	*ret_at = at;
	return r;
}

static void check_written(size_t length)
{
	uint8_t out[FRAME_PREFIX_MAX];
	size_t n = frame_prefix(out, length), prefix, again;

	FUZZ_CHECK(frame_parse(out, n, UINT32_MAX, &prefix, &again) == 0);
	FUZZ_CHECK(prefix == n && again == length);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	size_t cut, whole_at, part_at, rest_at;
	uint8_t *part, *rest;
	int whole;

	if (size < 1)
		return 0;
	cut = data[0] * (size - 1) / 255;
	data++, size--;
	check_written(size);

	rest = fuzz_copy(data, size);
	whole = walk(rest, size, &whole_at);
	part = fuzz_copy(data, cut);
	walk(part, cut, &part_at);
	FUZZ_CHECK(part_at <= whole_at);
	FUZZ_CHECK(walk(rest + part_at, size - part_at, &rest_at) == whole);
	FUZZ_CHECK(part_at + rest_at == whole_at);
	free(part);
	free(rest);
	return 0;
}
