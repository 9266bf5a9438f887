#include "broker/bind.h"

#include <criterion/criterion.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "proto/base/fd.h"
#include "tests/lib/places.h"

static char directory[PATH_MAX], path[PATH_MAX], error[256];
static int listener = -1, lock = -1, fds_before;

static void init(void)
{
	umask(0);
	fds_before = fd_count();
	cr_assert_eq(place_make_dir(directory), 0);
	snprintf(path, sizeof(path), "%.4000s/sock", directory);
}

static void fini(void)
{
	listener = fd_close(listener);
	lock = fd_close(lock);
	cr_assert_eq(fd_count(), fds_before, "descriptors are left");
	cr_assert_eq(place_remove_dir(directory), 0);
}

TestSuite(bind, .timeout = 30, .init = init, .fini = fini);

static int bind_here(void)
{
	return bind_path(path, false, &listener, &lock, error);
}

static void refuses(const char *words)
{
	cr_assert_eq(bind_here(), BIND_E_REFUSED, "%s is bound", path);
	cr_assert(strstr(error, words), "'%s' does not say '%s'", error, words);
}

/* Connects by a short name, whatever the length of the path. */
static int connect_to(const char *name)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int dir, fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), r;
	char copy[PATH_MAX], *slash;

	snprintf(copy, sizeof(copy), "%s", name);
	slash = strrchr(copy, '/');
	*slash = '\0';
	dir = open(copy, O_PATH | O_DIRECTORY | O_CLOEXEC);
	snprintf(address.sun_path, sizeof(address.sun_path), "/proc/self/fd/%d/%.60s", dir,
		 slash + 1);
	r = connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0 ? -errno : 0;
	close(dir);
	close(fd);
	return r;
}

static mode_t mode_of(const char *name)
{
	struct stat st;

	return lstat(name, &st) < 0 ? 0 : st.st_mode;
}

/* --- what is made ---------------------------------------------------------------------------- */

Test(bind, one_for_everyone_can_be_reached_whatever_the_umask)
{
	char place[PATH_MAX];

	umask(077);
	snprintf(place, sizeof(place), "%.4000s/all", directory);
	snprintf(path, sizeof(path), "%.4000s/all/sock", directory);
	cr_assert_eq(bind_path(path, true, &listener, &lock, error), 0, "%s", error);
	cr_assert_eq(mode_of(path), S_IFSOCK | 0666);
	cr_assert_eq(mode_of(place), S_IFDIR | 0755);
	cr_assert_eq(connect_to(path), 0);
}

Test(bind, the_socket_listens_has_mode_0600_and_is_closed_on_exec)
{
	cr_assert_eq(bind_here(), 0, "%s", error);
	cr_assert_eq(mode_of(path), S_IFSOCK | 0600);
	cr_assert_eq(connect_to(path), 0);
	cr_assert(fcntl(listener, F_GETFD) & FD_CLOEXEC);
	cr_assert(fcntl(lock, F_GETFD) & FD_CLOEXEC);
	cr_assert(fcntl(listener, F_GETFL) & O_NONBLOCK);
	cr_assert_eq(place_count_files(directory, NULL), 2, "socket and lock, nothing else");
}

Test(bind, a_missing_directory_is_made_for_its_owner_only)
{
	snprintf(path, sizeof(path), "%.4000s/new/sock", directory);
	cr_assert_eq(bind_here(), 0, "%s", error);
	snprintf(path, sizeof(path), "%.4000s/new", directory);
	cr_assert_eq(mode_of(path), S_IFDIR | 0700);
}

Test(bind, only_the_last_directory_is_made)
{
	snprintf(path, sizeof(path), "%.4000s/no/such/sock", directory);
	refuses("cannot be made: No such file or directory");
	cr_assert_eq(place_count_files(directory, NULL), 0);
}

Test(bind, paths_may_be_longer_than_an_address_holds)
{
	char name[101];
	size_t n = strlen(directory);

	memset(name, 'd', 100);
	name[100] = '\0';
	snprintf(path, sizeof(path), "%.2000s", directory);
	for (int i = 0; i < 5; i++) {
		n += (size_t)snprintf(path + n, sizeof(path) - n, "/%s", name);
		cr_assert_eq(mkdir(path, 0700), 0);
	}
	snprintf(path + n, sizeof(path) - n, "/sock");
	cr_assert_eq(bind_here(), 0, "%s", error);
	cr_assert_eq(connect_to(path), 0);
}

Test(bind, a_long_name_is_made_and_one_without_room_for_its_lock_is_refused)
{
	size_t n = strlen(directory);
	char *end = path + n + 1;

	memset(end, 'n', NAME_MAX - 16);
	end[NAME_MAX - 16] = '\0';
	cr_assert_eq(bind_here(), 0, "%s", error);
	cr_assert_eq(mode_of(path), S_IFSOCK | 0600);
	listener = fd_close(listener);
	lock = fd_close(lock);
	memcpy(end + NAME_MAX - 16, "n", 2);
	refuses("no usable last part");
}

Test(bind, a_name_in_the_current_directory_needs_no_slash)
{
	char back[PATH_MAX];

	cr_assert_not_null(getcwd(back, sizeof(back)));
	cr_assert_eq(chdir(directory), 0);
	snprintf(path, sizeof(path), "here");
	cr_assert_eq(bind_here(), 0, "%s", error);
	cr_assert_eq(mode_of("here"), S_IFSOCK | 0600);
	cr_assert_eq(chdir(back), 0);
}

/* Looks at everything in the directory as fast as it can. */
struct watcher {
	pthread_t thread;
	atomic_bool stop;
	mode_t loosest;
	unsigned long n_seen;
};

static void *watch(void *context)
{
	struct watcher *w = context;
	int fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = fdopendir(fd);

	while (!atomic_load(&w->stop)) {
		struct dirent *e;
		struct stat st;

		rewinddir(d);
		while ((e = readdir(d)))
			if (fstatat(fd, e->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
			    S_ISSOCK(st.st_mode)) {
				w->loosest |= st.st_mode & 07777;
				w->n_seen++;
			}
	}
	closedir(d);
	return NULL;
}

Test(bind, nobody_ever_sees_a_looser_mode)
{
	struct watcher w = { 0 };

	cr_assert_eq(pthread_create(&w.thread, NULL, watch, &w), 0);
	for (unsigned i = 0; i < place_rounds(1000); i++) {
		cr_assert_eq(bind_here(), 0, "%s", error);
		listener = fd_close(listener);
		lock = fd_close(lock);
		cr_assert_eq(unlink(path), 0);
	}
	atomic_store(&w.stop, true);
	pthread_join(w.thread, NULL);
	cr_assert_eq(w.loosest & ~0600u, 0, "a socket had mode %o", (unsigned)w.loosest);
}

/* --- who is there already -------------------------------------------------------------------- */

Test(bind, a_second_service_is_refused_with_the_first_ones_pid)
{
	char sentence[64];
	int l, k;

	cr_assert_eq(bind_here(), 0);
	snprintf(sentence, sizeof(sentence), "another redd-broker (pid %d)", (int)getpid());
	cr_assert_eq(bind_path(path, false, &l, &k, error), BIND_E_REFUSED);
	cr_assert(strstr(error, sentence), "%s", error);
	cr_assert(strstr(error, "redd shutdown"), "%s", error);
	cr_assert_eq(connect_to(path), 0, "the first one's socket is still there");
}

Test(bind, a_stale_socket_is_replaced)
{
	cr_assert_eq(bind_here(), 0);
	listener = fd_close(listener);
	lock = fd_close(lock);
	cr_assert_eq(connect_to(path), -ECONNREFUSED, "as after a crash");
	cr_assert_eq(bind_here(), 0, "%s", error);
	cr_assert_eq(connect_to(path), 0);
}

/* From now on whoever renames anything is killed. */
static void die_at_rename(void)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
#ifdef __NR_renameat
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, __NR_renameat, 1, 0),
#endif
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, __NR_renameat2, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = { sizeof(code) / sizeof(code[0]), code };

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ||
	    prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) < 0)
		_exit(77);
}

Test(bind, what_a_killed_start_left_is_cleared_by_the_next_one)
{
	pid_t pid;
	int status;

	if (place_valgrind())
		cr_skip_test("valgrind plays prctl(2)");
	pid = fork();
	if (pid == 0) {
		die_at_rename();
		bind_here();
		_exit(0);
	}
	cr_assert_eq(waitpid(pid, &status, 0), pid);
	if (WIFEXITED(status) && WEXITSTATUS(status) == 77)
		cr_skip_test("no seccomp filters here");
	cr_assert(WIFSIGNALED(status), "it ended before");
	cr_assert_eq(mode_of(path), 0, "not in place yet");
	cr_assert_eq(place_count_files(directory, NULL), 2, "the lock and what was not renamed");
	cr_assert_eq(bind_here(), 0, "%s", error);
	cr_assert_eq(place_count_files(directory, NULL), 2, "the lock and the socket");
}

Test(bind, what_is_no_socket_is_left_alone)
{
	int fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0644);

	cr_assert_eq(write(fd, "precious", 8), 8);
	close(fd);
	refuses("exists and is not a socket");
	cr_assert_eq(mode_of(path), S_IFREG | 0644);
	cr_assert_eq(unlink(path), 0);
	cr_assert_eq(mkdir(path, 0700), 0);
	refuses("exists and is not a socket");
	cr_assert_eq(rmdir(path), 0);
	cr_assert_eq(symlink("/nowhere", path), 0);
	refuses("exists and is not a socket");
	cr_assert_eq(mode_of(path), S_IFLNK | 0777);
}

Test(bind, a_lock_that_is_a_link_is_not_followed)
{
	char name[PATH_MAX], victim[PATH_MAX];

	snprintf(name, sizeof(name), "%.4000s/sock.lock", directory);
	snprintf(victim, sizeof(victim), "%.4000s/victim", directory);
	cr_assert_eq(symlink(victim, name), 0);
	refuses("lock file");
	cr_assert_eq(mode_of(victim), 0, "nothing was made behind the link");
}

/* Who leaves takes the lock's name away while it holds it; another one may have opened it by then.
 */
Test(bind, a_lock_whose_name_has_gone_is_no_lock)
{
	char name[PATH_MAX];
	int held;

	snprintf(name, sizeof(name), "%.4000s/sock.lock", directory);
	held = open(name, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	cr_assert_eq(flock(held, LOCK_EX | LOCK_NB), 0);
	cr_assert_eq(unlink(name), 0);
	cr_assert_eq(bind_here(), 0, "%s", error);
	close(held);
}

/* --- at the same time ------------------------------------------------------------------------ */

#define STARTERS 16

/* One start: waits for the sign, binds, tells the result, and stays until it is killed. */
static void starter(int sign, int report)
{
	char byte;

	if (read(sign, &byte, 1) < 0)
		_exit(1);
	byte = (char)bind_here();
	if (byte && !strstr(error, "another redd-broker (pid "))
		byte = 'x';
	if (write(report, &byte, 1) != 1)
		_exit(1);
	for (;;)
		pause();
}

static void one_round(void)
{
	int sign[2], report[2], winners = 0;
	pid_t pids[STARTERS];
	char byte;

	cr_assert_eq(pipe(sign), 0);
	cr_assert_eq(pipe(report), 0);
	for (int i = 0; i < STARTERS; i++) {
		pids[i] = fork();
		if (pids[i] == 0) {
			close(sign[1]);
			starter(sign[0], report[1]);
		}
	}
	close(sign[0]);
	close(sign[1]);
	for (int i = 0; i < STARTERS; i++) {
		cr_assert_eq(read(report[0], &byte, 1), 1);
		cr_assert(byte == 0 || byte == BIND_E_REFUSED, "a start failed with %d", byte);
		winners += byte == 0;
	}
	cr_assert_eq(winners, 1, "%d of %d own the socket", winners, STARTERS);
	cr_assert_eq(connect_to(path), 0);
	for (int i = 0; i < STARTERS; i++) {
		kill(pids[i], SIGKILL);
		waitpid(pids[i], NULL, 0);
	}
	close(report[0]);
	close(report[1]);
}

Test(bind, of_many_starts_at_once_exactly_one_wins, .timeout = 60)
{
	for (unsigned i = 0; i < place_rounds(40); i++)
		one_round();
	cr_assert_eq(place_count_files(directory, NULL), 2, "nothing is left beside them");
}

/* --- directories and paths ------------------------------------------------------------------- */

Test(bind, a_directory_that_others_can_write_is_refused_unless_it_is_sticky)
{
	cr_assert_eq(chmod(directory, 0770), 0);
	refuses("can be written by others; chmod go-w it");
	cr_assert_eq(chmod(directory, 0702), 0);
	refuses("can be written by others");
	cr_assert_eq(place_count_files(directory, NULL), 0);
	cr_assert_eq(chmod(directory, 01777), 0);
	cr_assert_eq(bind_here(), 0, "%s", error);
	cr_assert_eq(chmod(directory, 0755), 0);
}

Test(bind, a_strangers_directory_is_refused)
{
	if (geteuid() != 0)
		cr_skip_test("only root can give a directory away");
	cr_assert_eq(chown(directory, 65534, 65534), 0);
	refuses("belongs to uid 65534");
	cr_assert_eq(chown(directory, 0, 0), 0);
}

Test(bind, what_cannot_be_a_socket_path_is_refused_with_a_reason)
{
	char longest[PATH_MAX + 10];

	snprintf(path, sizeof(path), "%s", "");
	refuses("empty or longer than");
	snprintf(path, sizeof(path), "@abstract");
	refuses("abstract socket '@abstract'");
	snprintf(path, sizeof(path), "%.4000s/", directory);
	refuses("no usable last part");
	snprintf(path, sizeof(path), "/dev/null/sock");
	refuses("directory /dev/null cannot be");
	memset(longest, 'x', sizeof(longest) - 1);
	longest[sizeof(longest) - 1] = '\0';
	cr_assert_eq(bind_path(longest, false, &listener, &lock, error), BIND_E_REFUSED);
	cr_assert(strstr(error, "longer than"), "%s", error);
}

/* --- sockets that were passed in ------------------------------------------------------------- */

static void refuses_inherited(int fd, const char *words)
{
	cr_assert_eq(bind_check_inherited(fd, error), BIND_E_REFUSED);
	cr_assert(strstr(error, words), "'%s' does not say '%s'", error, words);
}

static int unix_socket(int type, const struct sockaddr_un *address, size_t size)
{
	int fd = socket(AF_UNIX, type | SOCK_CLOEXEC, 0);

	if (address)
		cr_assert_eq(bind(fd, (const struct sockaddr *)address, (socklen_t)size), 0);
	return fd;
}

Test(bind, an_inherited_socket_must_listen_at_a_path)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fds[2], fd;

	cr_assert_eq(bind_here(), 0);
	cr_assert_eq(bind_check_inherited(listener, error), 0);
	refuses_inherited(lock, "is not a unix socket");
	refuses_inherited(-1, "is not a unix socket");
	cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
	refuses_inherited(fds[0], "has no path");
	close(fds[0]);
	close(fds[1]);
	snprintf(address.sun_path + 1, sizeof(address.sun_path) - 1, "redd-test-%d", (int)getpid());
	fd = unix_socket(SOCK_STREAM, &address, sizeof(address));
	refuses_inherited(fd, "abstract");
	close(fd);
	snprintf(address.sun_path, sizeof(address.sun_path), "%.80s/other", directory);
	fd = unix_socket(SOCK_SEQPACKET, &address, sizeof(address));
	refuses_inherited(fd, "is not a stream socket");
	close(fd);
	unlink(address.sun_path);
	fd = unix_socket(SOCK_STREAM, &address, sizeof(address));
	refuses_inherited(fd, "does not listen");
	close(fd);
	fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd >= 0)
		refuses_inherited(fd, "is not a unix socket");
	fd_close(fd);
}
