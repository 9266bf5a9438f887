/* The scan against protobuf-c: what passes must unpack, within the memory that was told and that
 * the size allows; what is refused has a reason and a path that can be shown.
 */
#include "proto/scan.h"

#include "proto/arena.h"
#include "proto/redd.pb-c.h"
#include "tests/fuzz/fuzz.h"

static void check_refused(const ProtobufCMessageDescriptor *type, const struct scan_result *result,
			  size_t size)
{
	char path[64];

	FUZZ_CHECK(result->reason && strlen(result->reason) > 20);
	FUZZ_CHECK(result->n_path <= SCAN_DEPTH_MAX && result->offset <= size);
	scan_path(type, result, path, sizeof(path));
	FUZZ_CHECK(strlen(path) < sizeof(path));
}

static void check_passed(const ProtobufCMessageDescriptor *type, const struct scan_result *result,
			 const uint8_t *data, size_t size)
{
	size_t budget = ARENA_FACTOR * size > ARENA_FLOOR ? ARENA_FACTOR * size : ARENA_FLOOR;
	struct arena arena;

	FUZZ_CHECK(result->arena <= budget);
	arena_init(&arena);
	arena_reset(&arena, result->arena);
	FUZZ_CHECK(protobuf_c_message_unpack(type, arena_allocator(&arena), size, data));
	arena_deinit(&arena);
}

static void check(const ProtobufCMessageDescriptor *type, const uint8_t *data, size_t size)
{
	struct scan_result result;

	if (scan_message(type, data, size, &result))
		check_refused(type, &result, size);
	else
		check_passed(type, &result, data, size);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint8_t *copy = fuzz_copy(data, size);

	check(&redd__v1__request__descriptor, copy, size);
	check(&redd__v1__message__descriptor, copy, size);
	free(copy);
	return 0;
}
