"""Programs that nobody here wrote run through redd unchanged: the same bytes, the same statuses.

A compile of redd itself with redd as make's shell, a TAP suite under prove, rsync and git as duplex
protocols, a shell and a full-screen editor in a terminal, gigabytes through stdin and stdout at once.
"""
import fcntl
import hashlib
import os
import pty
import select
import shutil
import signal
import struct
import subprocess
import tempfile
import termios
import threading
import time
import unittest

BUILD = os.path.abspath(os.environ.get("REDD_BUILD", "build"))
TOP = os.path.abspath(os.path.join(os.path.dirname(__file__), "..", ".."))
REDD = os.path.join(BUILD, "redd")
SLOW = int(os.environ.get("REDD_TEST_SLOW", "1"))
PATIENCE = 20 * SLOW
IS_VALGRIND = os.environ.get("REDD_VALGRIND") == "1"


def broker_command(socket, logs):
    command = [os.path.join(BUILD, "redd-broker"), "--socket", socket]
    if os.environ.get("REDD_PLAIN_CLONE") or IS_VALGRIND:
        command.append("--plain-clone")
    return command


class Terminal:
    """A program in a terminal of ours, whose screen is read as it comes."""

    def __init__(self, command, env, rows=30, columns=100):
        self.seen = b""
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
            os.execve(command[0], command, env)

    def send(self, data):
        os.write(self.fd, data)

    def expect(self, text):
        end = time.monotonic() + PATIENCE
        while text not in self.seen:
            left = end - time.monotonic()
            if left <= 0 or not select.select([self.fd], [], [], left)[0]:
                raise AssertionError("%r did not come; seen: %r" % (text, self.seen[-2000:]))
            try:
                data = os.read(self.fd, 65536)
            except OSError:
                data = b""
            if not data:
                raise AssertionError("ended before %r; seen: %r" % (text, self.seen[-2000:]))
            self.seen += data
        self.seen = self.seen[self.seen.index(text) + len(text):]

    def resize(self, rows, columns):
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def wait(self):
        """Reads to the end and returns the status."""
        while True:
            try:
                if not os.read(self.fd, 65536):
                    break
            except OSError:
                break
        os.close(self.fd)
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


class Programs(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.work = tempfile.mkdtemp(prefix="redd-programs-")
        cls.socket = os.path.join(cls.work, "redd.sock")
        cls.env = dict(os.environ, REDD_SOCKET=cls.socket, HOME=cls.work, TERM="xterm")
        for name in ("MAKEFLAGS", "MFLAGS", "MAKELEVEL"):
            cls.env.pop(name, None)
        cls.broker = subprocess.Popen(broker_command(cls.socket, cls.work), cwd=cls.work,
                                      stdin=subprocess.DEVNULL)
        # The path is renamed into place when it listens; redd itself waits for the answer.
        end = time.monotonic() + PATIENCE
        while not os.path.exists(cls.socket):
            if cls.broker.poll() is not None or time.monotonic() > end:
                raise RuntimeError("the broker did not start")
            os.sched_yield()

    @classmethod
    def tearDownClass(cls):
        cls.broker.send_signal(signal.SIGTERM)
        status = cls.broker.wait(PATIENCE)
        shutil.rmtree(cls.work)
        assert status == 0, "the broker left with %d" % status

    def path(self, *parts):
        return os.path.join(self.work, *parts)

    def run_it(self, *command, **options):
        return subprocess.run(command, env=self.env, timeout=300 * SLOW, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, **options)

    def script(self, name, text):
        path = self.path(name)
        with open(path, "w") as f:
            f.write(text)
        os.chmod(path, 0o755)
        return path

    @unittest.skipIf(SLOW > 1, "a whole compile is the same in every flavour, and slow")
    def test_make_compiles_redd_with_redd_as_its_shell(self):
        done = self.run_it("make", "-C", TOP, "-j2", "BUILD=" + self.path("build"), "SHELL=" + REDD,
                           ".SHELLFLAGS=run -- /bin/sh -c", self.path("build", "redd-helper"))
        self.assertEqual(done.returncode, 0, done.stdout[-4000:])
        # It is asked for nothing: it must start and refuse as any helper does.
        made = self.run_it(self.path("build", "redd-helper"))
        as_built = self.run_it(os.path.join(BUILD, "redd-helper"))
        self.assertEqual((made.returncode, made.stdout), (as_built.returncode, as_built.stdout))

    def test_make_gets_the_status_of_a_command_that_fails(self):
        with open(self.path("Makefile"), "w") as f:
            f.write("all:\n\t@echo before; exit 3\n")
        done = self.run_it("make", "-C", self.work, "SHELL=" + REDD,
                           ".SHELLFLAGS=run -- /bin/sh -c", "all")
        self.assertEqual(done.returncode, 2)
        self.assertIn(b"before", done.stdout)
        self.assertIn(b"Error 3", done.stdout)

    def test_prove_runs_a_perl_tap_suite(self):
        os.mkdir(self.path("t"))
        for i in range(4):
            self.script("t/%d.t" % i, "#!/usr/bin/perl\nuse Test::More tests => 3;\n"
                        "ok(1, 'one'); is(`echo two`, \"two\\n\", 'two');\n"
                        "diag('to stderr'); is($$ > 1, 1, 'three');\n")
        done = self.run_it("prove", "--exec", REDD + " run --", self.path("t"))
        self.assertEqual(done.returncode, 0, done.stdout)
        self.assertIn(b"Files=4, Tests=12", done.stdout)
        self.script("t/bad.t", "#!/usr/bin/perl\nuse Test::More tests => 1; ok(0, 'no');\n")
        done = self.run_it("prove", "--exec", REDD + " run --", self.path("t"))
        self.assertEqual(done.returncode, 1)
        self.assertIn(b"Failed 1/1 subtests", done.stdout)

    def test_rsync_speaks_its_protocol_through_it(self):
        rsh = self.script("rsh", "#!/bin/sh\nshift\nexec '%s' run -- \"$@\"\n" % REDD)
        source, target = self.path("from"), self.path("to")
        os.mkdir(source)
        for i in range(40):
            with open(os.path.join(source, "f%d" % i), "wb") as f:
                f.write(os.urandom(1 + i * 20000 // SLOW))
        for _ in range(2):  # the second time with something to compare
            done = self.run_it("rsync", "-a", "--checksum", "-e", rsh, source + "/",
                               "host:" + target + "/")
            self.assertEqual(done.returncode, 0, done.stdout)
            self.assertEqual(self.run_it("diff", "-r", source, target).returncode, 0)
            with open(os.path.join(source, "f7"), "ab") as f:
                f.write(b"more")
            done = self.run_it("rsync", "-a", "-e", rsh, source + "/", "host:" + target + "/")
            self.assertEqual(done.returncode, 0, done.stdout)

    def test_git_clones_through_it(self):
        origin, clone = self.path("origin"), self.path("clone")
        git = ("git", "-c", "user.name=t", "-c", "user.email=t@example.org", "-C", origin)
        self.run_it("git", "init", "-q", origin)
        for i in range(5):
            with open(os.path.join(origin, "file"), "wb") as f:
                f.write(os.urandom(300000 // SLOW))
            self.run_it(*git, "add", "file")
            self.run_it(*git, "commit", "-q", "-m", "commit %d" % i)
        done = self.run_it("git", "clone", "-q", "-u", REDD + " run -- git-upload-pack",
                           "file://" + origin, clone)
        self.assertEqual(done.returncode, 0, done.stdout)
        heads = [self.run_it("git", "-C", d, "rev-parse", "HEAD").stdout for d in (origin, clone)]
        self.assertEqual(heads[0], heads[1])
        self.assertEqual(len(heads[0].strip()), 40)

    def test_an_interactive_shell_in_a_terminal(self):
        t = Terminal([REDD, "run", "-t", "--", "/bin/bash", "--norc", "--noprofile", "-i"],
                     dict(self.env, PS1="ready> "))
        t.expect(b"ready> ")
        t.send(b"echo $((6*7))\r")
        t.expect(b"42")
        t.expect(b"ready> ")
        t.send(b"stty size\r")
        t.expect(b"30 100")
        t.expect(b"ready> ")
        t.send(b"trap 'stty size' WINCH; echo trapped\r")
        t.expect(b"trapped\r\n")
        t.expect(b"ready> ")
        t.resize(40, 120)
        t.send(b"\r")
        t.expect(b"40 120")
        t.send(b"echo g''o; cat\r")
        t.expect(b"go\r\n")  # the shell has given the terminal its usual modes back
        t.send(b"through\r")
        t.expect(b"through\r\nthrough")  # echoed by the terminal, and said by cat
        t.send(b"\x03")  # the terminal's own interrupt ends cat, not the shell
        t.expect(b"ready> ")
        t.send(b"sleep 1000 & jobs; kill %1; wait; exit 5\r")
        t.expect(b"Running")
        self.assertEqual(t.wait(), 5)

    def test_a_full_screen_editor_in_a_terminal(self):
        editor = shutil.which("vim.tiny") or shutil.which("vi")
        self.assertIsNotNone(editor, "an editor (package vim-tiny) must be there")
        name = self.path("edited")
        t = Terminal([REDD, "run", "-t", "--", editor, "-u", "NONE", "-n", name], self.env)
        t.expect(b"edited")
        t.send(b"ihello from the editor\x1b")
        t.expect(b"hello from the editor")
        t.send(b":wq\r")
        self.assertEqual(t.wait(), 0)
        with open(name, "rb") as f:
            self.assertEqual(f.read(), b"hello from the editor\n")

    def test_gigabytes_through_stdin_and_stdout_at_once(self):
        total = (4 << 30) // (1 if SLOW == 1 else 64 * SLOW)
        block = os.urandom(1 << 20)
        child = subprocess.Popen([REDD, "run", "--", "cat"], env=self.env, stdin=subprocess.PIPE,
                                 stdout=subprocess.PIPE)
        sent, got = hashlib.blake2b(), hashlib.blake2b()

        def feed():
            for i in range(total >> 20):
                piece = i.to_bytes(8, "big") + block[8:]
                sent.update(piece)
                child.stdin.write(piece)
            child.stdin.close()

        writer = threading.Thread(target=feed)
        writer.start()
        n = 0
        while data := child.stdout.read(1 << 20):
            n += len(data)
            got.update(data)
        writer.join()
        child.stdout.close()
        self.assertEqual(child.wait(PATIENCE), 0)
        self.assertEqual(n, total >> 20 << 20)
        self.assertEqual(got.digest(), sent.digest())


if __name__ == "__main__":
    unittest.main()
