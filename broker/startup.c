/* Everything here is done once, before there is a loop or a client, and may block. What the service
 * needs later is handed on in one sealed memfd (struct link_config) and in descriptors that survive
 * the exec; all other memory of this process is gone with it.
 */
#include "broker/startup.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "broker/bind.h"
#include "helper/link.h"
#include "proto/base/buf.h"
#include "proto/base/err.h"
#include "proto/base/fd.h"
#include "proto/base/log.h"

#ifndef REDD_LIBEXECDIR
#define REDD_LIBEXECDIR "/usr/local/libexec/redd"
#endif

#define FIRST_PASSED_FD 3 /* SD_LISTEN_FDS_START */

struct service {
	struct link_config config;
	char error[256];
	char broker[PATH_MAX], helper[PATH_MAX];
	char paths[LISTENERS_MAX][PATH_MAX];
};

extern char **environ;

void startup_default_path(char path[4096])
{
	const char *runtime = getenv("XDG_RUNTIME_DIR");

	if (runtime && *runtime == '/')
		snprintf(path, 4096, "%s/redd/redd.sock", runtime);
	else
		snprintf(path, 4096, "/tmp/redd-%u/redd.sock", (unsigned)geteuid());
}

/* The helper stands beside this program (a build directory), or where it was installed. */
static int programs_find(struct service *s)
{
	ssize_t n = readlink("/proc/self/exe", s->broker, sizeof(s->broker) - 1);
	char *slash;

	if (n < 0)
		return err_errno();
	s->broker[n] = '\0';
	slash = strrchr(s->broker, '/');
	snprintf(s->helper, sizeof(s->helper), "%.*s/redd-helper", (int)(slash - s->broker),
		 s->broker);
	if (access(s->helper, X_OK) < 0)
		snprintf(s->helper, sizeof(s->helper), "%s/redd-helper", REDD_LIBEXECDIR);
	if (access(s->helper, X_OK) == 0)
		return 0;
	snprintf(s->error, sizeof(s->error),
		 "redd-helper is neither beside redd-broker nor in %s; "
		 "install it again",
		 REDD_LIBEXECDIR);
	return BIND_E_REFUSED;
}

static int listener_add(struct service *s, int fd, int lock, const char *path)
{
	uint32_t n = s->config.n_listeners++;
	struct sockaddr_un address;
	socklen_t size = sizeof(address);

	s->config.listener_fds[n] = fd;
	s->config.lock_fds[n] = lock;
	if (path && !realpath(path, s->paths[n]))
		return err_errno();
	if (!path && getsockname(fd, (struct sockaddr *)&address, &size) == 0)
		s->paths[n][0] = '\0';
	return 0;
}

static int listeners_inherit(struct service *s)
{
	const char *pid = getenv("LISTEN_PID"), *count = getenv("LISTEN_FDS");
	int n = count ? atoi(count) : 0, r;

	if (!pid || atoi(pid) != (int)getpid())
		return 0;
	if (n > (int)LISTENERS_MAX) {
		snprintf(s->error, sizeof(s->error), "more than %u sockets were passed",
			 LISTENERS_MAX);
		return BIND_E_REFUSED;
	}
	for (int fd = FIRST_PASSED_FD; fd < FIRST_PASSED_FD + n; fd++) {
		r = bind_check_inherited(fd, s->error);
		if (!r)
			r = fd_set_nonblocking(fd);
		if (!r)
			r = listener_add(s, fd, -1, NULL);
		if (r)
			return err_pass(r);
	}
	return 0;
}

static int listener_bind(struct service *s, const char *path, bool everyone)
{
	int listener, lock, r;

	if (s->config.n_listeners == LISTENERS_MAX) {
		snprintf(s->error, sizeof(s->error), "more than %u sockets", LISTENERS_MAX);
		return BIND_E_REFUSED;
	}
	r = bind_path(path, everyone, &listener, &lock, s->error);
	return r ? err_pass(r) : listener_add(s, listener, lock, path);
}

/* The service's own one is the first, whatever was asked for. */
static int listeners_open(struct service *s, const struct start *start)
{
	char path[PATH_MAX];
	int r = listeners_inherit(s);

	for (unsigned i = 0; !r && i < start->n_sockets; i++)
		r = listener_bind(s, start->sockets[i], false);
	if (!r && !s->config.n_listeners) {
		startup_default_path(path);
		r = listener_bind(s, path, false);
	}
	for (unsigned i = 0; !r && i < start->n_public_sockets; i++)
		r = listener_bind(s, start->public_sockets[i], true);
	s->config.n_public = start->n_public_sockets;
	return err_pass(r);
}

/* sd_notify(3): a datagram socket connected to $NOTIFY_SOCKET, so that nobody needs the path later.
 */
static int notify_open(void)
{
	const char *path = getenv("NOTIFY_SOCKET");
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	_cleanup_(fd_closep) int fd = -1;
	size_t size;

	if (!path || (*path != '/' && *path != '@') || strlen(path) >= sizeof(address.sun_path))
		return -1;
	size = strlen(path);
	memcpy(address.sun_path, path, size);
	if (*path == '@')
		address.sun_path[0] = '\0';
	fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0 || connect(fd, (struct sockaddr *)&address,
			      (socklen_t)(offsetof(struct sockaddr_un, sun_path) + size)) < 0)
		return -1;
	return TAKE_FD(fd);
}

static int strings_add(struct buf *out, const char *text)
{
	return buf_append(out, text, strlen(text) + 1);
}

/* The order is that of struct link_config's comment. */
static int strings_collect(struct service *s, struct buf *out)
{
	char lock[PATH_MAX + 8];
	int r = strings_add(out, s->broker);

	if (!r)
		r = strings_add(out, s->helper);
	for (uint32_t i = 0; !r && i < s->config.n_listeners; i++) {
		snprintf(lock, sizeof(lock), "%s.lock", s->paths[i]);
		r = strings_add(out, s->paths[i]);
		if (!r)
			r = strings_add(out, s->config.lock_fds[i] < 0 ? "" : lock);
	}
	for (char **e = environ; !r && *e; e++) {
		r = strings_add(out, *e);
		s->config.envc++;
	}
	return err_pass(r);
}

static int config_write(struct service *s, const struct settings *settings, int *ret_fd)
{
	_cleanup_(buf_deinit) struct buf strings;
	_cleanup_(fd_closep) int fd = memfd_create("redd-config", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	struct link_config *c = &s->config;
	int r;

	buf_init(&strings, MIB(64));
	if (fd < 0)
		return err_errno();
	r = strings_collect(s, &strings);
	if (r)
		return r < 0 ? err_pass(r) : err_begin(-E2BIG);
	c->strings_size = (uint32_t)buf_size(&strings);
	c->text_size = sizeof(*settings);
	c->size = (uint32_t)sizeof(*c) + c->strings_size + c->text_size;
	r = fd_write_all(fd, c, sizeof(*c));
	if (!r)
		r = fd_write_all(fd, buf_head(&strings), c->strings_size);
	if (!r)
		r = fd_write_all(fd, settings, sizeof(*settings));
	if (r)
		return err_pass(r);
	if (fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL) < 0)
		return err_errno();
	*ret_fd = TAKE_FD(fd);
	return 0;
}

static int config_fill(struct service *s, const struct settings *settings)
{
	struct link_config *c = &s->config;
	struct rlimit nofile;

	if (getrlimit(RLIMIT_NOFILE, &nofile) < 0)
		return err_errno();
	if (getrandom(c->instance, sizeof(c->instance), 0) != (ssize_t)sizeof(c->instance))
		return err_errno();
	c->magic = LINK_CONFIG_MAGIC;
	c->version = LINK_VERSION;
	c->idle_exit_ms = settings->idle_exit_ms;
	c->log_level = settings->log_level;
	c->flags = settings->plain_clone ? LINK_CONFIG_PLAIN_CLONE : 0;
	c->nofile_soft = nofile.rlim_cur;
	c->nofile_hard = nofile.rlim_max;
	c->notify_fd = notify_open();
	return 0;
}

/* The only descriptors that the keeper may find. */
static int keep_over_exec(int fd)
{
	if (fd >= 0 && fcntl(fd, F_SETFD, 0) < 0)
		return err_errno();
	return 0;
}

static int keeper_exec(struct service *s, int config_fd)
{
	char number[16];
	char *const argv[] = { "redd-helper", "keeper", "--config-fd", number, NULL };
	char *const envp[] = { NULL };
	int r = keep_over_exec(config_fd);

	for (uint32_t i = 0; !r && i < s->config.n_listeners; i++) {
		r = keep_over_exec(s->config.listener_fds[i]);
		if (!r)
			r = keep_over_exec(s->config.lock_fds[i]);
	}
	if (!r)
		r = keep_over_exec(s->config.notify_fd);
	if (r)
		return err_pass(r);
	snprintf(number, sizeof(number), "%d", config_fd);
	execve(s->helper, argv, envp);
	return err_errno();
}

/* 0, 1 and 2 must be open, or a socket would take their place. */
static int stdio_fill(void)
{
	for (int fd = open("/dev/null", O_RDWR | O_CLOEXEC); fd < 3; fd = dup(fd))
		if (fd < 0)
			return err_errno();
	return 0;
}

static int startup_steps(struct service *s, const struct start *start)
{
	int config_fd = -1, r = stdio_fill();

	if (!r)
		r = programs_find(s);
	if (!r)
		r = listeners_open(s, start);
	if (!r)
		r = config_fill(s, &start->settings);
	if (!r)
		r = config_write(s, &start->settings, &config_fd);
	return r ? err_pass(r) : keeper_exec(s, config_fd);
}

int startup(const struct start *start)
{
	struct service *s = calloc(1, sizeof(*s));
	int r;

	if (!s) {
		fprintf(stderr, "redd-broker: no memory to start\n");
		return 1;
	}
	r = startup_steps(s, start);
	if (r == BIND_E_REFUSED)
		fprintf(stderr, "redd-broker: %s\n", s->error);
	else
		fprintf(stderr, "redd-broker: cannot start: %s\n", err_string(r));
	free(s);
	return 1;
}
