/* Cutting lines and packets.
 *
 * Lines. A newline is looked for no further than an event could carry, and never twice in the same
 * bytes while a line is incomplete. A line of just the maximum is whole: so the byte behind the
 * maximum is waited for before it is said to be cut there.
 *
 * Packets. A header is removed with the first byte of its packet, not before: until then nothing of
 * it was told, and the reader stands at the record's start.
 *
 * At the end of the stream what was begun is UNTERMINATED, also when there is nothing left to tell
 * of it. So every record that was begun is ended by an event, or aborted by a gap.
 */
#include "broker/framing.h"

#include <string.h>

#include "proto/base/cleanup.h"
#include "proto/limits.h"

bool framing_is_header(uint32_t header)
{
	return header == 1 || header == 2 || header == 4;
}

const char *framing_check(const struct framing *f)
{
	if ((unsigned)f->cut > FRAMING_PACKETS)
		return "framing.cut has a value that this broker does not know";
	if (f->cut == FRAMING_RAW)
		return NULL;
	if (f->cut == FRAMING_PACKETS && !framing_is_header(f->header))
		return "framing.header of PACKETS is not 1, 2 or 4 bytes";
	if (f->maximum < 1 || f->maximum > RECORD_MAX_HIGHEST)
		return "framing.maximum is not from 1 to 1073741824";
	return NULL;
}

void framing_place_at(struct framing_place *p, uint64_t offset)
{
	*p = (struct framing_place){ .looked = offset, .end = offset };
}

/* --- lines ----------------------------------------------------------------------------------- */

static enum framing_what piece(struct framing_piece *ret, uint64_t before, uint64_t size,
			       uint64_t after, enum framing_record record)
{
	*ret = (struct framing_piece){ .before = (uint32_t)before,
				       .size = (uint32_t)size,
				       .after = (uint32_t)after,
				       .record = record };
	return FRAMING_PIECE;
}

/* The newline's place among the first `span` bytes, or `span`. */
static uint64_t find_newline(struct framing_place *p, const struct framing_in *in, uint64_t span)
{
	uint64_t from = p->looked > in->offset ? MIN(p->looked - in->offset, span) : 0;
	const uint8_t *at = from < span ? memchr(in->data + from, '\n', span - from) : NULL;
	uint64_t n = at ? (uint64_t)(at - in->data) : span;

	p->looked = MAX(p->looked, in->offset + n);
	return n;
}

static enum framing_what next_line(const struct framing *f, struct framing_place *p,
				   const struct framing_in *in, struct framing_piece *ret)
{
	uint64_t limit = f->maximum - p->told; /* of what is left of the line */
	uint64_t span = MIN(in->size, MIN(limit, in->most) + 1);
	uint64_t n = find_newline(p, in, span);

	if (n < span)
		return piece(ret, 0, n, 1, FRAMING_END);
	if (in->size > limit && limit <= in->most)
		return piece(ret, 0, limit, 0, FRAMING_CUT);
	if (in->size > in->most)
		return in->most ? piece(ret, 0, in->most, 0, FRAMING_PART) : FRAMING_NO_ROOM;
	if (in->is_last)
		return in->size || p->is_open ? piece(ret, 0, in->size, 0, FRAMING_UNTERMINATED)
					      : FRAMING_WAIT;
	return in->must && in->size ? piece(ret, 0, in->size, 0, FRAMING_PART) : FRAMING_WAIT;
}

/* --- packets --------------------------------------------------------------------------------- */

/* Less than a header is there. */
static enum framing_what next_header(const struct framing_in *in, struct framing_piece *ret)
{
	if (!in->size || !(in->is_last || in->must))
		return FRAMING_WAIT;
	return piece(ret, in->size, 0, 0, in->is_last ? FRAMING_UNTERMINATED : FRAMING_PART);
}

/* `left` bytes of the packet are to come, `before` of its header to be left out. */
static enum framing_what next_body(const struct framing_in *in, uint64_t before, uint64_t left,
				   struct framing_piece *ret)
{
	uint64_t there = in->size - before, n = MIN(MIN(there, left), in->most);

	if (n == left)
		return piece(ret, before, n, 0, FRAMING_END);
	if (there > n || (n && n == in->most))
		return n ? piece(ret, before, n, 0, FRAMING_PART) : FRAMING_NO_ROOM;
	if (in->is_last)
		return piece(ret, before, n, 0, FRAMING_UNTERMINATED);
	return in->must && in->size ? piece(ret, before, n, 0, FRAMING_PART) : FRAMING_WAIT;
}

static enum framing_what next_packet(const struct framing *f, const struct framing_place *p,
				     const struct framing_in *in, struct framing_piece *ret)
{
	uint64_t before = p->is_open ? 0 : f->header, left = p->end - in->offset;
	enum framing_what what;

	if (in->size < before)
		return next_header(in, ret);
	if (!p->is_open)
		left = record_length(in->data, f->header);
	if (left > f->maximum)
		return FRAMING_BAD;
	what = next_body(in, before, left, ret);
	if (what == FRAMING_PIECE)
		ret->next = in->offset + before + left;
	return what;
}

/* --- both ------------------------------------------------------------------------------------ */

enum framing_what framing_next(const struct framing *f, struct framing_place *p,
			       const struct framing_in *in, struct framing_piece *ret)
{
	return f->cut == FRAMING_LINES ? next_line(f, p, in, ret) : next_packet(f, p, in, ret);
}

void framing_took(struct framing_place *p, const struct framing_piece *piece)
{
	p->is_open = piece->record == FRAMING_PART;
	p->told = p->is_open ? p->told + piece->size : 0;
	p->end = piece->next;
}

/* --- finding a record ------------------------------------------------------------------------ */

static enum framing_found find_line(struct framing_place *p, const struct framing_log *log,
				    uint64_t from, uint64_t *ret)
{
	uint64_t at = MAX(from, MIN(p->looked, log->head));
	const uint8_t *newline =
		at < log->head ? memchr(log->data + (at - log->tail), '\n', log->head - at) : NULL;

	if (!newline) {
		p->looked = log->head;
		return FRAMING_NOT_YET;
	}
	p->looked = log->tail + (uint64_t)(newline - log->data);
	*ret = p->looked + 1;
	return FRAMING_FOUND;
}

/* An index helps only who cuts as it does. */
static const struct record_index *index_for(const struct framing *f, const struct framing_log *log)
{
	return log->index && log->index->header == f->header ? log->index : NULL;
}

static enum framing_found find_packet(const struct framing *f, const struct framing_place *p,
				      const struct framing_log *log, uint64_t from, uint64_t *ret)
{
	const struct record_index *ix = index_for(f, log);

	*ret = p->end;
	if (p->end >= from)
		return FRAMING_FOUND;
	if (!ix)
		return FRAMING_NEVER;
	return record_index_find(ix, from, log->head, ret) ? FRAMING_FOUND : FRAMING_HOPELESS;
}

enum framing_found framing_find(const struct framing *f, struct framing_place *p,
				const struct framing_log *log, uint64_t from, uint64_t *ret)
{
	return f->cut == FRAMING_LINES ? find_line(p, log, from, ret)
				       : find_packet(f, p, log, from, ret);
}

static enum framing_found last_line(const struct framing *f, const struct framing_log *log,
				    uint64_t *ret)
{
	/* The start of a line that is longer than that is where none of its records begins. */
	uint64_t size = log->head - log->tail, back = MIN(size, (uint64_t)f->maximum + 1);
	const uint8_t *from = log->data + (size - back), *newline = memrchr(from, '\n', back);

	*ret = newline ? log->tail + (uint64_t)(newline - log->data) + 1 : 0;
	return newline || back == log->head ? FRAMING_FOUND : FRAMING_NOT_YET;
}

static enum framing_found last_packet(const struct framing *f, const struct framing_log *log,
				      uint64_t *ret)
{
	const struct record_index *ix = index_for(f, log);

	if (!ix)
		return FRAMING_NEVER;
	*ret = ix->next;
	if (ix->is_bad)
		return FRAMING_HOPELESS;
	if (ix->next > log->head && ix->last >= log->tail)
		*ret = ix->last;
	return FRAMING_FOUND;
}

enum framing_found framing_find_last(const struct framing *f, const struct framing_log *log,
				     uint64_t *ret)
{
	*ret = 0;
	if (log->head == 0)
		return FRAMING_FOUND;
	return f->cut == FRAMING_LINES ? last_line(f, log, ret) : last_packet(f, log, ret);
}

bool framing_begins(const struct framing *f, const struct framing_log *log, uint64_t offset)
{
	if (offset == 0)
		return true;
	return f->cut == FRAMING_LINES && offset > log->tail &&
	       log->data[offset - 1 - log->tail] == '\n';
}
