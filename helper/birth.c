#include "helper/birth.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#define RECORDS_MAX 2u

static void judge_wrong(struct birth_verdict *v)
{
	v->kind = BIRTH_VERDICT_FAILED;
	v->stage = LINK_STAGE_REQUEST;
	v->error = EPROTO;
}

static void judge_born(struct birth_verdict *v, const struct birth *b)
{
	if (b->kind != BIRTH_BORN || b->pid <= 1) {
		judge_wrong(v);
		return;
	}
	v->kind = BIRTH_VERDICT_BORN;
	v->pid = b->pid;
	v->start_ns = b->time_ns;
}

static void judge_failed(struct birth_verdict *v, const struct birth *b)
{
	if (b->kind != BIRTH_FAILED || b->stage > LINK_STAGE_EXEC || b->error <= 0) {
		judge_wrong(v);
		return;
	}
	v->kind = BIRTH_VERDICT_FAILED;
	v->stage = b->stage;
	v->error = b->error;
}

void birth_judge(const void *bytes, size_t size, struct birth_verdict *ret)
{
	struct birth records[RECORDS_MAX] = { 0 };
	size_t n = size / sizeof(records[0]);

	*ret = (struct birth_verdict){ .kind = BIRTH_VERDICT_NOTHING };
	if (size % sizeof(records[0]) || n > RECORDS_MAX) {
		judge_wrong(ret);
		return;
	}
	if (!n)
		return;
	memcpy(records, bytes, size);
	if (n == 1 && records[0].kind == BIRTH_FAILED) {
		judge_failed(ret, &records[0]);
		return;
	}
	judge_born(ret, &records[0]);
	if (n == 2 && ret->kind == BIRTH_VERDICT_BORN)
		judge_failed(ret, &records[1]);
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
