#include "broker/closer.h"

#include <stdlib.h>
#include <uv.h>

#include "broker/broker.h"
#include "proto/base/fd.h"

struct closing {
	uv_work_t work;
	size_t n;
	int fds[];
};

static void on_work(uv_work_t *work)
{
	struct closing *c = work->data;

	fd_close_many(c->fds, c->n);
}

static void on_done(uv_work_t *work, int status)
{
	(void)status;
	free(work->data);
}

void closer_close(struct broker *b, int *take_fds, size_t n)
{
	struct closing *c;

	if (!n)
		return;
	c = malloc(sizeof(*c) + n * sizeof(c->fds[0]));
	if (!c) {
		fd_close_many(take_fds, n);
		return;
	}
	c->n = n;
	c->work.data = c;
	for (size_t i = 0; i < n; i++)
		c->fds[i] = TAKE_FD(take_fds[i]);
	if (uv_queue_work(&b->loop, &c->work, on_work, on_done) < 0) {
		on_work(&c->work);
		free(c);
	}
}
