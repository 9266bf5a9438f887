#include "tests/lib/command.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "tests/lib/places.h"

#define ARGS_MAX    64
#define PATIENCE_MS 20000

static long long now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000LL + now.tv_nsec / 1000000;
}

static void collect(va_list args, const char **list)
{
	size_t n = 0;

	while (n < ARGS_MAX && (list[n] = va_arg(args, const char *)))
		n++;
	cr_assert_lt(n, ARGS_MAX);
}

void command_start_list(struct command *c, const char *socket, const char *const *args)
{
	const char *argv[ARGS_MAX + 4] = { "redd" };
	size_t n = 1;
	int in[2], out[2], err[2];

	if (socket) {
		argv[n++] = "--socket";
		argv[n++] = socket;
	}
	while (*args)
		argv[n++] = *args++;
	cr_assert_eq(pipe2(in, O_CLOEXEC) | pipe2(out, O_CLOEXEC) | pipe2(err, O_CLOEXEC), 0);
	*c = (struct command){ .in = in[1], .out_fd = out[0], .err_fd = err[0] };
	fcntl(c->in, F_SETFL, O_NONBLOCK);
	c->pid = fork();
	cr_assert_geq(c->pid, 0);
	if (c->pid == 0) {
		dup2(in[0], 0);
		dup2(out[1], 1);
		dup2(err[1], 2);
		execv(place_program("redd"), (char *const *)argv);
		_exit(99);
	}
	close(in[0]);
	close(out[1]);
	close(err[1]);
}

void command_start(struct command *c, const char *socket, ...)
{
	const char *list[ARGS_MAX + 1];
	va_list args;

	va_start(args, socket);
	collect(args, list);
	va_end(args);
	command_start_list(c, socket, list);
}

/* Takes what is there; false at the end. */
static bool take(int *fd, struct command_text *t)
{
	char buffer[65536];
	ssize_t n = read(*fd, buffer, sizeof(buffer));

	if (n <= 0) {
		close(*fd);
		*fd = -1;
		return false;
	}
	t->text = realloc(t->text, t->size + (size_t)n + 1);
	memcpy(t->text + t->size, buffer, (size_t)n);
	t->size += (size_t)n;
	t->text[t->size] = '\0';
	return true;
}

/* One step: what can be read is read, what can be fed is fed. False when it took too long. */
static bool step(struct command *c, const char **in, size_t *size, long long deadline)
{
	struct pollfd p[] = { { c->out_fd, POLLIN, 0 },
			      { c->err_fd, POLLIN, 0 },
			      { *size ? c->in : -1, POLLOUT, 0 } };
	long long left = deadline - now_ms();

	if (left <= 0)
		return false;
	poll(p, 3, (int)left);
	if (p[0].revents)
		take(&c->out_fd, &c->out);
	if (p[1].revents)
		take(&c->err_fd, &c->err);
	if (p[2].revents) {
		ssize_t n = write(c->in, *in, *size);

		if (n < 0 && errno != EAGAIN)
			*size = 0; /* it reads no more */
		if (n > 0) {
			*in += n;
			*size -= (size_t)n;
		}
	}
	return true;
}

bool command_await(struct command *c, const char *text)
{
	long long deadline = now_ms() + place_patience_ms(PATIENCE_MS);
	size_t none = 0;
	const char *nothing = NULL;

	while (c->out_fd >= 0 && !(c->out.text && strstr(c->out.text, text))) {
		if (!step(c, &nothing, &none, deadline))
			return false;
	}
	return c->out.text && strstr(c->out.text, text);
}

static void reap(struct command *c, bool hung)
{
	int status;

	if (hung)
		kill(c->pid, SIGKILL);
	cr_assert_eq(waitpid(c->pid, &status, 0), c->pid);
	c->status = hung ? -1 : WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

void command_finish(struct command *c, const void *in, size_t size)
{
	long long deadline = now_ms() + place_patience_ms(PATIENCE_MS);
	const char *p = in;
	bool alive = true;

	signal(SIGPIPE, SIG_IGN);
	while (alive && (c->out_fd >= 0 || c->err_fd >= 0)) {
		if (!size && c->in >= 0) {
			close(c->in);
			c->in = -1;
		}
		alive = step(c, &p, &size, deadline);
	}
	reap(c, !alive);
	if (!c->out.text)
		c->out.text = calloc(1, 1);
	if (!c->err.text)
		c->err.text = calloc(1, 1);
}

void command_run(struct command *c, const char *socket, const void *in, size_t size, ...)
{
	const char *list[ARGS_MAX + 1];
	va_list args;

	va_start(args, size);
	collect(args, list);
	va_end(args);
	command_start_list(c, socket, list);
	command_finish(c, in, size);
}

void command_expect_complaint(const struct command *c, const char *part)
{
	char *end = strchr(c->err.text, '\n');

	cr_assert(end && !end[1], "not one line: %s", c->err.text);
	cr_assert_eq(strncmp(c->err.text, "redd: ", 6), 0, "%s", c->err.text);
	cr_assert_not_null(strstr(c->err.text, part), "%s", c->err.text);
}

void command_free(struct command *c)
{
	if (!c->pid)
		return; /* never started */
	free(c->out.text);
	free(c->err.text);
	if (c->in >= 0)
		close(c->in);
	if (c->out_fd >= 0)
		close(c->out_fd);
	if (c->err_fd >= 0)
		close(c->err_fd);
	*c = (struct command){ .in = -1, .out_fd = -1, .err_fd = -1 };
}
