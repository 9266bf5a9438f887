#include "tests/lib/play.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "proto/base/fd.h"
#include "proto/base/log.h"
#include "proto/fdpass.h"
#include "tests/lib/places.h"

#define PATIENCE_MS 10000

static int complain(const char *what)
{
	fprintf(stderr, "play: %s: %s\n", what, strerror(errno));
	return -1;
}

/* --- starting ----------------------------------------------------------------------------------
 */

static int listen_at(const char *path)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
	if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0 ||
	    listen(fd, 16) < 0)
		return complain(path);
	return fd;
}

/* The keeper starts a script, as it knows no arguments for a broker. */
static int write_script(const struct play *p, char *path, size_t size)
{
	char text[2 * PATH_MAX];
	int fd, n;

	snprintf(path, size, "%s/redd-broker", p->directory);
	n = snprintf(text, sizeof(text), "#!/bin/sh\nexec %s %s/meeting\n", place_prog("stand_in"),
		     p->directory);
	fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0700);
	if (fd < 0 || write(fd, text, (size_t)n) != n)
		return complain(path);
	close(fd);
	return 0;
}

static size_t add_string(char *out, size_t at, const char *text)
{
	memcpy(out + at, text, strlen(text) + 1);
	return at + strlen(text) + 1;
}

static void fill_config(struct link_config *c, uint32_t flags, int listener, int lock)
{
	struct rlimit nofile;

	getrlimit(RLIMIT_NOFILE, &nofile);
	*c = (struct link_config){ .magic = LINK_CONFIG_MAGIC,
				   .version = LINK_VERSION,
				   .n_listeners = 1,
				   .log_level = LOG_LEVEL_ERROR,
				   .flags = flags,
				   .nofile_soft = nofile.rlim_cur,
				   .nofile_hard = nofile.rlim_max,
				   .listener_fds[0] = listener,
				   .lock_fds[0] = lock,
				   .notify_fd = -1 };
}

static int make_config(const struct play *p, uint32_t flags, int listener, int lock)
{
	char broker[PATH_MAX + 16], strings[5 * PATH_MAX];
	struct link_config c;
	size_t n;
	int fd;

	if (write_script(p, broker, sizeof(broker)) < 0)
		return -1;
	fill_config(&c, flags, listener, lock);
	n = add_string(strings, 0, broker);
	n = add_string(strings, n, place_program("redd-helper"));
	n = add_string(strings, n, p->socket);
	n = add_string(strings, n, p->lock);
	c.strings_size = (uint32_t)n;
	c.size = (uint32_t)(sizeof(c) + n);
	fd = memfd_create("config", MFD_ALLOW_SEALING);
	if (fd < 0 || fd_write_all(fd, &c, sizeof(c)) < 0 || fd_write_all(fd, strings, n) < 0 ||
	    fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE) < 0)
		return complain("config");
	return fd;
}

static void become_keeper(int config)
{
	char number[16];
	char *const argv[] = { (char *)"redd-helper", (char *)"keeper", (char *)"--config-fd",
			       number, NULL };
	char *const envp[] = { NULL };

	prctl(PR_SET_PDEATHSIG, SIGKILL); /* a test that crashes leaves nothing */
	snprintf(number, sizeof(number), "%d", config);
	execve(place_program("redd-helper"), argv, envp);
	_exit(127);
}

static int start_keeper(struct play *p, uint32_t flags)
{
	int listener = listen_at(p->socket);
	int lock = open(p->lock, O_CREAT | O_RDWR, 0600), config;

	if (listener < 0 || lock < 0)
		return -1;
	fcntl(listener, F_SETFD, 0);
	config = make_config(p, flags, listener, lock);
	if (config < 0)
		return -1;
	p->keeper = fork();
	if (p->keeper == 0)
		become_keeper(config);
	close(listener);
	close(lock);
	close(config);
	return p->keeper < 0 ? complain("fork") : 0;
}

int play_start(struct play *p, uint32_t flags)
{
	char meeting[PATH_MAX + 16];

	*p = (struct play){ .meeting_fd = -1, .stand_in_fd = -1, .link_fd = -1, .forker_fd = -1 };
	if (place_make_dir(p->directory) < 0)
		return -1;
	snprintf(p->socket, sizeof(p->socket), "%.*s/sock", PATH_MAX - 8, p->directory);
	snprintf(p->lock, sizeof(p->lock), "%.*s/lock", PATH_MAX - 8, p->directory);
	snprintf(meeting, sizeof(meeting), "%s/meeting", p->directory);
	p->meeting_fd = listen_at(meeting);
	if (p->meeting_fd < 0 || start_keeper(p, flags) < 0)
		return -1;
	return play_meet(p) < 0 ? -1 : play_greet(p, NULL, NULL);
}

static bool is_ready(int fd, int timeout_ms)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };

	return poll(&p, 1, place_patience_ms(timeout_ms)) == 1;
}

int play_meet(struct play *p)
{
	struct ucred peer;
	socklen_t size = sizeof(peer);
	struct fdpass_info info;
	char byte;

	p->stand_in_fd = fd_close(p->stand_in_fd);
	p->link_fd = fd_close(p->link_fd);
	p->forker_fd = fd_close(p->forker_fd);
	if (!is_ready(p->meeting_fd, PATIENCE_MS))
		return complain("no broker came");
	p->stand_in_fd = accept4(p->meeting_fd, NULL, NULL, SOCK_CLOEXEC);
	if (getsockopt(p->stand_in_fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) < 0)
		return complain("stand-in");
	p->stand_in = peer.pid;
	if (fdpass_recv(p->stand_in_fd, &byte, 1, 0, &p->link_fd, 1, &info) != 1 || !info.n_fds)
		return complain("no link");
	return 0;
}

/* --- messages ----------------------------------------------------------------------------------
 */

void play_message_close(struct play_message *m)
{
	fd_close_many(m->fds, m->n_fds);
	m->n_fds = 0;
}

int play_receive(struct play *p, struct play_message *m, int timeout_ms)
{
	struct fdpass_info info;
	ssize_t n;

	play_message_close(m);
	if (!is_ready(p->link_fd, timeout_ms))
		return PLAY_E_TIMEOUT;
	n = fdpass_recv(p->link_fd, m->room, sizeof(m->room), MSG_DONTWAIT, m->fds,
			sizeof(m->fds) / sizeof(m->fds[0]), &info);
	if (n <= 0)
		return PLAY_E_END;
	m->n_fds = info.n_fds;
	if (m->head.type == LINK_FORKER && m->n_fds == 1) {
		fd_close(p->forker_fd);
		p->forker_fd = m->fds[0];
		p->forker = m->forker.pid;
		m->fds[0] = -1;
	}
	return 0;
}

int play_greet(struct play *p, void (*each)(struct play_message *m, void *context), void *context)
{
	struct play_message m = { 0 };
	int r;

	while ((r = play_receive(p, &m, PATIENCE_MS)) == 0) {
		if (m.head.type == LINK_SETUP)
			p->setup = m.setup;
		if (m.head.type == LINK_FORKER)
			break;
		if (each)
			each(&m, context);
	}
	play_message_close(&m);
	return r ? complain("the keeper's greeting did not end") : 0;
}

int play_send(int link, const void *message, size_t size, const int *fds, size_t n_fds)
{
	struct iovec iov = { (void *)message, size };
	ssize_t n = fdpass_send(link, &iov, 1, fds, n_fds, 0);

	return n < 0 ? (int)n : 0;
}

/* --- spawns ------------------------------------------------------------------------------------
 */

void play_spawn_init(struct play *p, struct play_spawn *s, uint32_t slot, const char *const *argv)
{
	*s = (struct play_spawn){ .id = { .port = ++p->n_ports, .slot = slot }, .birth_fd = -1 };
	spawn_bytes_init(&s->bytes);
	s->bytes.head.flags = LINK_SPAWN_SETSID;
	spawn_bytes_program(&s->bytes, "", argv);
}

void play_spawn_pass(struct play_spawn *s, uint32_t target, int fd)
{
	spawn_bytes_descriptor(&s->bytes, target, s->n_passed);
	s->passed[s->n_passed++] = fd;
}

static int deposit(struct play *p, const struct play_spawn *s, int birth)
{
	struct link_deposit m = { .head = { LINK_DEPOSIT, sizeof(m) },
				  .id = s->id,
				  .n_holds = 1 + s->n_holds,
				  .holds[0] = LINK_HOLD(HOLD_BIRTH, 0) };
	int fds[LINK_HOLDS_MAX] = { birth };

	memcpy(m.holds + 1, s->holds, s->n_holds * sizeof(s->holds[0]));
	memcpy(fds + 1, s->hold_fds, s->n_holds * sizeof(s->hold_fds[0]));
	return play_send(p->link_fd, &m, sizeof(m), fds, m.n_holds);
}

static int hand_over(struct play *p, struct play_spawn *s, int birth)
{
	_Alignas(8) uint8_t bytes[sizeof(struct spawn_bytes) + 256];
	int fds[LINK_FDS_MAX] = { birth };
	size_t size;

	s->bytes.head.id = s->id;
	size = spawn_bytes_datagram(&s->bytes, s->n_passed, bytes);
	memcpy(fds + 1, s->passed, s->n_passed * sizeof(fds[0]));
	return play_send(p->forker_fd, bytes, size, fds, 1 + s->n_passed);
}

int play_spawn(struct play *p, struct play_spawn *s)
{
	int birth[2], r;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, birth) < 0)
		return -errno;
	s->id.attempt++;
	r = deposit(p, s, birth[0]);
	if (r == 0)
		r = hand_over(p, s, birth[1]);
	close(birth[1]);
	s->birth_fd = fd_close(s->birth_fd);
	if (s->keep_birth)
		s->birth_fd = birth[0];
	else
		close(birth[0]);
	return r;
}

int play_forget(struct play *p, const struct link_spawn_id *id)
{
	struct link_forget m = { { LINK_FORGET, sizeof(m) }, *id };

	return play_send(p->link_fd, &m, sizeof(m), NULL, 0);
}

int play_spawn_wait(struct play *p, struct play_spawn *s, struct play_message *m)
{
	if (play_spawn(p, s) < 0)
		return complain("spawn");
	do {
		if (play_receive(p, m, PATIENCE_MS) != 0)
			return complain("no verdict came");
	} while (m->head.type == LINK_FORKER || m->started.id.port != s->id.port);
	return 0;
}

int play_wait_exit(struct play *p, const struct link_spawn_id *id, struct play_message *m)
{
	do {
		if (play_receive(p, m, PATIENCE_MS) != 0)
			return complain("no exit came");
	} while (m->head.type != LINK_EXITED || m->exited.id.port != id->port);
	play_message_close(m);
	return 0;
}

/* --- ending ------------------------------------------------------------------------------------
 */

static int clean_up(struct play *p)
{
	int left = access(p->socket, F_OK) == 0 || access(p->lock, F_OK) == 0;

	p->meeting_fd = fd_close(p->meeting_fd);
	p->stand_in_fd = fd_close(p->stand_in_fd);
	p->link_fd = fd_close(p->link_fd);
	p->forker_fd = fd_close(p->forker_fd);
	place_remove_dir(p->directory);
	return left ? complain("the socket or its lock was left behind") : 0;
}

static int wait_keeper(struct play *p)
{
	int status;

	if (waitpid(p->keeper, &status, 0) != p->keeper)
		return -1;
	p->keeper = 0;
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

int play_stop(struct play *p, int status)
{
	struct link_bye m = { .head = { LINK_BYE, sizeof(m) }, .status = status };
	int r = play_send(p->link_fd, &m, sizeof(m), NULL, 0), left;
	char byte = 0;

	if (r == 0 && write(p->stand_in_fd, &byte, 1) != 1)
		r = complain("stand-in");
	if (wait_keeper(p) != status)
		r = complain("the keeper's status is wrong");
	left = clean_up(p);
	return r ? r : left;
}

void play_kill(struct play *p)
{
	if (p->keeper > 0) {
		kill(p->keeper, SIGKILL);
		wait_keeper(p);
	}
	unlink(p->socket);
	unlink(p->lock);
	clean_up(p);
}
