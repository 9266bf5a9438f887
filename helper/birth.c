#include "helper/birth.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#define RECORDS_MAX 3u

static void judge_wrong(struct birth_verdict *v)
{
	v->kind = BIRTH_VERDICT_FAILED;
	v->stage = LINK_STAGE_REQUEST;
	v->error = EPROTO;
}

static void judge_failed(struct birth_verdict *v, const struct birth *b)
{
	v->kind = BIRTH_VERDICT_FAILED;
	v->stage = b->stage;
	v->error = b->error;
	if (b->stage > LINK_STAGE_EXEC || b->error <= 0)
		judge_wrong(v);
}

static void judge_born(struct birth_verdict *v, const struct birth *b)
{
	v->kind = BIRTH_VERDICT_BORN;
	v->pid = b->pid;
	v->start_ns = b->time_ns;
	if (b->pid > 1)
		return;
	v->pid = 0;
	judge_wrong(v);
}

/* One record more. */
static void judge_record(struct birth_verdict *v, const struct birth *b)
{
	if (b->kind == BIRTH_BORN && v->kind == BIRTH_VERDICT_NOTHING)
		judge_born(v, b);
	else if (b->kind == BIRTH_EXECUTING && v->kind == BIRTH_VERDICT_BORN)
		v->kind = BIRTH_VERDICT_EXECUTING;
	else if (b->kind == BIRTH_FAILED && v->kind != BIRTH_VERDICT_FAILED)
		judge_failed(v, b);
	else
		judge_wrong(v);
}

void birth_judge(const void *bytes, size_t size, struct birth_verdict *ret)
{
	struct birth b;

	*ret = (struct birth_verdict){ .kind = BIRTH_VERDICT_NOTHING };
	if (size % sizeof(b) || size > RECORDS_MAX * sizeof(b)) {
		judge_wrong(ret);
		return;
	}
	for (size_t at = 0; at < size; at += sizeof(b)) {
		memcpy(&b, (const char *)bytes + at, sizeof(b));
		judge_record(ret, &b);
	}
}

void birth_peek(int fd, struct birth_verdict *ret)
{
	char bytes[RECORDS_MAX * sizeof(struct birth) + 1];
	ssize_t n;

	do
		n = recv(fd, bytes, sizeof(bytes), MSG_PEEK | MSG_DONTWAIT);
	while (n < 0 && errno == EINTR);
	if (n < 0 && errno != EAGAIN && errno != ECONNRESET) {
		*ret = (struct birth_verdict){ 0 };
		judge_wrong(ret);
		return;
	}
	birth_judge(bytes, n < 0 ? 0 : (size_t)n, ret);
}

void birth_cancel(int fd, struct birth_verdict *ret)
{
	shutdown(fd, SHUT_RD);
	birth_peek(fd, ret);
}
