/* When which byte of a stream came, about: a few marks, so that the age of any byte can be told
 * without a note for each. Pure.
 *
 * A mark stands for the bytes from its offset to that of the next one; they came between its two
 * times. When room is needed the two neighbours that are closest in time become one: so the marks
 * always reach back to the first byte that is of interest, and what one of them stands for came
 * within an eighth of the time that all reached back when it was made.
 */
#ifndef REDD_BROKER_PACE_H
#define REDD_BROKER_PACE_H

#include <stdint.h>

#define PACE_MARKS 16u

struct pace {
	struct {
		uint64_t offset, first_ms, last_ms;
	} marks[PACE_MARKS]; /* rising */
	uint32_t n;
};

/* Zeroed it is empty. Bytes from `offset` on came at now_ms; those before `oldest` are of no
 * interest any more. None of the three goes back. */
void pace_note(struct pace *p, uint64_t offset, uint64_t oldest, uint64_t now_ms);

/* The age of the byte at `offset`, which came: never less than it is. */
uint64_t pace_age(const struct pace *p, uint64_t offset, uint64_t now_ms);

#endif
