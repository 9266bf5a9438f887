/* The bounded queue of one input stream.
 *
 * Owns the items until it hands them out. In the list stand, in order: items that are done, at most
 * one that is begun, items that wait, and at most one close, last.
 *
 * Invariants: queued is the sum of size - done of all items; the offset of an item that waits is
 * written + what is queued before it; is_busy follows queued with hysteresis; whatever is queued
 * beyond the bound was let in by the rule that an empty queue takes any one write.
 *
 * Good path: push, iov, writev(2) by the owner, wrote, next_done, answer. A cancelled item leaves a
 * hole that the later ones close by moving down, save those whose offset was promised: they are
 * displaced (input.h tells why).
 *
 * Bytes are bounded by `bound`, and items too, because an item without data, or with one byte,
 * costs memory as well.
 */
#include "broker/input.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "proto/base/err.h"
#include "proto/limits.h"

/* One item may stand for so many bytes of the bound on average, but there may always be some. */
#define BYTES_PER_ITEM 64u
#define ITEMS_LOWEST   4096u

void input_init(struct input *in, uint32_t high, uint32_t low, uint32_t bound)
{
	*in = (struct input){
		.high = MAX(high, 1u),
		.bound = MAX(bound, 1u),
	};
	in->low = MIN(MAX(low, 1u), in->high);
	list_init(&in->items);
	list_init(&in->displaced);
}

static void drop_all(struct list *items, void (*on_drop)(struct input_item *, void *),
		     void *userdata)
{
	struct input_item *item, *tmp;

	list_for_each_safe (item, tmp, items, link) {
		list_remove(&item->link);
		if (on_drop)
			on_drop(item, userdata);
		input_item_free(item);
	}
}

void input_deinit(struct input *in, void (*on_drop)(struct input_item *item, void *userdata),
		  void *userdata)
{
	drop_all(&in->displaced, on_drop, userdata);
	drop_all(&in->items, on_drop, userdata);
	in->queued = 0;
	in->n_items = 0;
	in->n_guests = 0;
	in->is_closed = true;
}

void input_item_free(struct input_item *item)
{
	free(item);
}

/* --- marks and numbers ----------------------------------------------------------------------- */

static void count_queued(struct input *in, uint64_t queued)
{
	in->queued = queued;
	if (queued >= in->high)
		in->is_busy = true;
	else if (queued < in->low)
		in->is_busy = false;
}

bool input_is_busy(const struct input *in)
{
	return in->is_busy;
}

bool input_is_closed(const struct input *in)
{
	return in->is_closed;
}

uint64_t input_offset(const struct input *in)
{
	return in->written;
}

uint64_t input_accepted(const struct input *in)
{
	return in->written + in->queued;
}

size_t input_queued(const struct input *in)
{
	return in->queued;
}

uint32_t input_waiting(const struct input *in)
{
	bool ends = !list_is_empty(&in->items) &&
		    list_entry(in->items.prev, struct input_item, link)->is_close;

	return in->n_items - ends;
}

uint32_t input_window(const struct input *in)
{
	return in->bound;
}

/* --- taking ---------------------------------------------------------------------------------- */

static struct input_item *item_new(const void *header, size_t header_size, const void *data,
				   size_t size, void *cookie)
{
	struct input_item *item = malloc(sizeof(*item) + header_size + size);

	if (!item)
		return NULL;
	*item = (struct input_item){ .size = header_size + size, .cookie = cookie };
	list_init(&item->link);
	if (header_size)
		memcpy(item->data, header, header_size);
	if (size)
		memcpy(item->data + header_size, data, size);
	return item;
}

static struct input_item *item_empty(void *cookie)
{
	return item_new(NULL, 0, NULL, 0, cookie);
}

static bool has_room(const struct input *in, size_t size)
{
	if (in->n_items >= MAX(in->bound / BYTES_PER_ITEM, ITEMS_LOWEST))
		return false;
	if (in->queued == 0 || size == 0)
		return true;
	return in->queued < in->bound && size <= in->bound - in->queued;
}

static bool has_room_for_guest(const struct input *in, size_t size)
{
	return in->n_guests < INPUT_GUESTS_MAX && size <= INPUT_GUEST_SIZE;
}

/* From the end: who fills the queue stands there, and is found at once. */
bool input_has_of(const struct input *in, const void *writer)
{
	for (const struct list *l = in->items.prev; l != &in->items; l = l->prev)
		if (list_entry(l, struct input_item, link)->writer == writer)
			return true;
	return false;
}

int input_push_packet(struct input *in, const void *header, size_t header_size, const void *data,
		      size_t size, unsigned int flags, void *cookie, struct input_item **ret_item)
{
	struct input_item *item;
	bool is_guest = false;

	if (in->is_closed)
		return INPUT_E_CLOSED;
	if (in->is_busy && (flags & INPUT_NO_WAIT) && !(flags & INPUT_FORCE))
		return INPUT_E_BUSY;
	if (!has_room(in, header_size + size)) {
		if (!(flags & INPUT_GUEST) || !has_room_for_guest(in, header_size + size))
			return INPUT_E_FULL;
		is_guest = true;
	}
	item = item_new(header, header_size, data, size, cookie);
	if (!item)
		return err_begin(-ENOMEM);
	item->offset = input_accepted(in);
	item->is_pinned = flags & INPUT_PINNED;
	item->is_guest = is_guest;
	in->n_guests += is_guest;
	list_append(&in->items, &item->link);
	in->n_items++;
	count_queued(in, in->queued + item->size);
	if (ret_item)
		*ret_item = item;
	return 0;
}

int input_push(struct input *in, const void *data, size_t size, unsigned int flags, void *cookie,
	       struct input_item **ret_item)
{
	return input_push_packet(in, NULL, 0, data, size, flags, cookie, ret_item);
}

int input_push_close(struct input *in, void *cookie, struct input_item **ret_item)
{
	struct input_item *item;

	if (in->is_closed)
		return INPUT_E_CLOSED;
	item = item_empty(cookie);
	if (!item)
		return err_begin(-ENOMEM);
	item->offset = input_accepted(in);
	item->is_close = true;
	list_append(&in->items, &item->link);
	in->n_items++;
	in->is_closed = true;
	if (ret_item)
		*ret_item = item;
	return 0;
}

/* --- repeats --------------------------------------------------------------------------------- */

enum input_offset input_check_offset(const struct input *in, uint64_t offset, size_t size)
{
	uint64_t end;

	if (__builtin_add_overflow(offset, size, &end))
		return INPUT_OFFSET_WRONG;
	if (end <= in->written)
		return INPUT_OFFSET_WRITTEN;
	if (end <= input_accepted(in))
		return INPUT_OFFSET_PENDING;
	return offset <= input_accepted(in) ? INPUT_OFFSET_NEXT : INPUT_OFFSET_WRONG;
}

/* The item with the byte before `end`, which waits: there is one, and no close is it. */
static struct input_item *item_with_end(struct input *in, uint64_t end)
{
	struct input_item *item;

	list_for_each (item, &in->items, link) {
		if (item->size && item->offset + item->size >= end)
			return item;
	}
	return NULL;
}

int input_push_echo(struct input *in, uint64_t offset, size_t size, void *cookie,
		    struct input_item **ret_item)
{
	struct input_item *echo, *behind = item_with_end(in, offset + size);

	assert(behind);
	if (!has_room(in, 0))
		return INPUT_E_FULL;
	echo = item_empty(cookie);
	if (!echo)
		return err_begin(-ENOMEM);
	echo->offset = behind->offset + behind->size;
	echo->is_pinned = true;
	list_prepend(&behind->link, &echo->link); /* that is: right behind it */
	in->n_items++;
	if (ret_item)
		*ret_item = echo;
	return 0;
}

/* --- writing --------------------------------------------------------------------------------- */

int input_iov(const struct input *in, struct iovec *iov, int max)
{
	struct input_item *item;
	int n = 0;

	list_for_each (item, &in->items, link) {
		if (n == max)
			break;
		if (item->done == item->size)
			continue; /* done, or without data as a close is */
		iov[n].iov_base = item->data + item->done;
		iov[n].iov_len = item->size - item->done;
		n++;
	}
	return n;
}

void input_wrote(struct input *in, size_t n)
{
	struct input_item *item;
	size_t left = n;

	list_for_each (item, &in->items, link) {
		size_t piece = MIN(left, item->size - item->done);

		if (!left)
			break;
		item->done += piece;
		left -= piece;
	}
	assert(left == 0);
	in->written += n;
	count_queued(in, in->queued - n);
}

static struct input_item *take_item(struct input *in, struct input_item *item)
{
	list_remove(&item->link);
	in->n_items--;
	in->n_guests -= item->is_guest;
	return item;
}

struct input_item *input_next_done(struct input *in)
{
	struct input_item *first = list_first(&in->items, struct input_item, link);

	if (!first || first->is_close || first->done < first->size)
		return NULL;
	return take_item(in, first);
}

struct input_item *input_next_displaced(struct input *in)
{
	struct input_item *first = list_first(&in->displaced, struct input_item, link);

	if (first)
		list_remove(&first->link);
	return first;
}

bool input_close_is_due(const struct input *in)
{
	const struct input_item *first = list_first(&in->items, struct input_item, link);

	return first && first->is_close;
}

struct input_item *input_take_close(struct input *in)
{
	if (!input_close_is_due(in))
		return NULL;
	return take_item(in, list_first(&in->items, struct input_item, link));
}

/* --- cancelling ------------------------------------------------------------------------------ */

/* Closes the hole of `size` bytes in front of `link`. A displaced item leaves a hole as well. */
static void move_down_from(struct input *in, struct list *link, uint64_t size)
{
	while (link != &in->items && size) {
		struct input_item *item = list_entry(link, struct input_item, link);

		link = link->next;
		if (item->is_pinned) {
			size += item->size;
			count_queued(in, in->queued - item->size);
			list_append(&in->displaced, &take_item(in, item)->link);
		} else {
			item->offset -= size;
		}
	}
}

int input_cancel(struct input *in, struct input_item *item)
{
	struct list *next = item->link.next;

	if (item->done)
		return INPUT_E_STARTED;
	take_item(in, item);
	if (item->is_close) {
		in->is_closed = false;
		return 0;
	}
	count_queued(in, in->queued - item->size);
	move_down_from(in, next, item->size);
	return 0;
}
