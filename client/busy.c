/* Busy inputs: which of its port a subscription has been told to be so. Whoever subscribes anew is
 * told those that are busy then, and takes the others for free. So when the connection is back what
 * was busy before is free, until the next broker says otherwise.
 */
#include "client/subscribe.h"

static void note(struct busy *b, const struct redd_marks *m)
{
	size_t i = 0;

	while (i < b->n && b->streams[i] != m->stream)
		i++;
	if (i < b->n && !m->busy)
		b->streams[i] = b->streams[--b->n];
	else if (i == b->n && m->busy && i < REDD_STREAMS_MAX)
		b->streams[b->n++] = m->stream;
}

void marks_tell(struct redd_subscription *s, const struct redd_marks *m)
{
	note(&s->busy, m);
	if (s->handler.on_marks)
		s->handler.on_marks(s, m, s->handler.user);
}

void marks_resume(struct redd_subscription *s)
{
	const struct busy before = s->busy;

	/* Who is told may free it; then it has no handler any more. */
	for (size_t i = 0; i < before.n; i++)
		marks_tell(s, &(struct redd_marks){ .stream = before.streams[i] });
}
