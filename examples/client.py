#!/usr/bin/python3
"""A redd client in one file of Python: runs a program, feeds it our stdin, prints what it says, and
leaves with its status.

    client.py [--socket PATH] [--proto redd.proto] [--name NAME] PROGRAM [ARG...]

Written from redd.proto and PROTOCOL.md alone, with the stock protobuf library (Debian's
python3-protobuf) and protoc. It is meant to be read: everything a client has to know of the wire is
here. Frames are a varint with the length and then one message; requests carry an id that their
answer repeats; events carry none.
"""

import argparse
import collections
import importlib
import os
import selectors
import socket
import stat
import subprocess
import sys
import tempfile

WINDOW = 1 << 20  # bytes of output that the broker may send before we give more credit
EVENT_COST = 64   # what an event costs besides its data


def load_protocol(path):
    """Generates the message classes from the schema, in a directory that is gone again at once."""
    with tempfile.TemporaryDirectory() as directory:
        subprocess.run(["protoc", f"-I{os.path.dirname(path)}", f"--python_out={directory}", path],
                       check=True)
        sys.path.insert(0, directory)
        try:
            return importlib.import_module("redd_pb2")
        finally:
            sys.path.remove(directory)


class Refused(Exception):
    """An Error from the broker."""


class Connection:
    """Frames in and out of a socket, and the answers to requests."""

    def __init__(self, path, pb):
        self.pb = pb
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.connect(path)
        self.received = bytearray()
        self.messages = collections.deque()  # complete, and not looked at yet
        self.last_id = 0

    def send(self, **body):
        """Sends a Request with this body, and returns its id."""
        self.last_id += 1
        self.post(id=self.last_id, **body)
        return self.last_id

    def post(self, **request):
        """Sends a Request as it is."""
        data = self.pb.Request(**request).SerializeToString()
        self.socket.sendall(varint(len(data)) + data)

    def receive(self):
        """Waits for bytes, and turns what is complete into messages."""
        data = self.socket.recv(1 << 16)
        if not data:
            raise ConnectionError("the broker closed the connection")
        self.received += data
        while (frame := self.cut()) is not None:
            message = self.pb.Message.FromString(frame)
            if message.WhichOneof("body") == "bye":
                raise Refused(describe(self.pb, message.bye.error))
            self.messages.append(message)

    def cut(self):
        """Takes the next complete frame from what was received."""
        length = shift = 0
        for position, byte in enumerate(self.received[:5]):
            length |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                break
        else:
            return None
        end = position + 1 + length
        if len(self.received) < end:
            return None
        frame = bytes(self.received[position + 1:end])
        del self.received[:end]
        return frame

    def call(self, **body):
        """Sends a request and waits for its answer. Events that come with it stay in messages."""
        request = self.send(**body)
        while True:
            for message in self.messages:
                if message.reply_to == request:
                    self.messages.remove(message)
                    return answer(self.pb, message)
            self.receive()


def varint(number):
    out = bytearray()
    while number >= 0x80:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def describe(pb, error):
    text = f"{pb.Code.Name(error.code)}: {error.message}"
    if error.stage:
        text += f" ({pb.Stage.Name(error.stage)}, errno {error.sys_errno})"
    return text


def answer(pb, message):
    """The body of an answer; an Error becomes an exception."""
    kind = message.WhichOneof("body")
    if kind == "error":
        raise Refused(describe(pb, message.error))
    return getattr(message, kind)


class Run:
    """One program: spawned with a subscription, fed, read to its end, waited for."""

    def __init__(self, connection, options):
        self.connection = connection
        self.pb = connection.pb
        self.next_offset = {}   # stream -> offset that must come next
        self.ended = set()
        self.exit = None
        self.closed = False
        self.in_flight = {}     # id of a Write -> its size
        self.input_open = True
        self.owed = 0           # credit that we have not given back yet
        self.started = self.spawn(options)

    def spawn(self, options):
        pb = self.pb
        environment = pb.Environment(client=[name + b"=" + value
                                             for name, value in os.environb.items()])
        setattr(environment, "from", pb.Environment.CLIENT)
        spawn = pb.Spawn(
            program=os.fsencode(options.program),
            args=[os.fsencode(arg) for arg in options.args],
            client_directory=os.getcwdb(),
            environment=environment,
            descriptors=[pb.Descriptor(fd=0, kind=pb.KIND_PIPE)],
            checksum=True,
            subscribe=pb.Subscribe(overflow=pb.OVERFLOW_BLOCK, credit=WINDOW))
        if options.name:
            spawn.name = os.fsencode(options.name)
        return self.connection.call(spawn=spawn)

    @property
    def port(self):
        return self.pb.PortRef(id=self.started.port)

    def handle(self, message):
        kind = message.WhichOneof("body")
        if message.reply_to:
            self.handle_answer(message)
        elif kind == "output":
            self.handle_output(message.output)
        elif kind == "gap":
            raise AssertionError(f"a blocking subscription has a gap: {message.gap}")
        elif kind == "stream_end":
            self.handle_end(message.stream_end)
        elif kind == "exited":
            self.exit = message.exited.exit
        elif kind == "closed":
            self.closed = True
        # Whatever else comes is from a newer broker and not for us.

    def handle_answer(self, message):
        size = self.in_flight.pop(message.reply_to, None)
        try:
            answer(self.pb, message)
        except Refused as refused:
            # The program may close its input, or end, before it has read everything.
            print(f"client.py: input: {refused}", file=sys.stderr)
            self.input_open = False
        else:
            if size is not None and message.written.size != size:
                raise AssertionError("a write was not taken whole")

    def handle_output(self, output):
        expected = self.next_offset.get(output.stream, 0)
        if output.offset != expected:
            raise AssertionError(f"stream {output.stream}: {output.offset} instead of {expected}")
        self.next_offset[output.stream] = expected + output.consumed
        to = sys.stderr if output.stream == 2 else sys.stdout
        to.buffer.write(output.data)
        to.buffer.flush()
        self.give_back(output.subscription, len(output.data) + EVENT_COST)

    def give_back(self, subscription, cost):
        """Credit for what we are done with, in portions of a quarter of the window."""
        self.owed += cost
        if self.owed >= WINDOW // 4:
            # With id 0 it is not answered.
            self.connection.post(id=0, credit=self.pb.Credit(subscription=subscription,
                                                             bytes=self.owed))
            self.owed = 0

    def handle_end(self, end):
        if end.total != self.next_offset.get(end.stream, 0):
            raise AssertionError(f"stream {end.stream}: {end.total} bytes were written, "
                                 f"{self.next_offset.get(end.stream, 0)} came")
        self.ended.add(end.stream)

    def may_feed(self):
        return self.input_open and sum(self.in_flight.values()) < self.started.input_window

    def feed(self):
        room = self.started.input_window - sum(self.in_flight.values())
        data = os.read(0, min(room, 1 << 16))
        if data:
            request = self.connection.send(write=self.pb.Write(port=self.port, data=data))
            self.in_flight[request] = len(data)
        else:
            self.connection.send(close=self.pb.Close(port=self.port))
            self.input_open = False

    def loop(self):
        with selectors.PollSelector() as selector:
            selector.register(self.connection.socket, selectors.EVENT_READ)
            feeding = False
            while True:
                while self.connection.messages:
                    self.handle(self.connection.messages.popleft())
                if self.closed:
                    return
                if self.may_feed() != feeding:
                    feeding = not feeding
                    (selector.register(0, selectors.EVENT_READ) if feeding
                     else selector.unregister(0))
                for key, _ in selector.select():
                    if key.fd == 0:
                        self.feed()
                    else:
                        self.connection.receive()

    def wait(self):
        """What the broker knows in the end: it must agree with what we saw."""
        waited = self.connection.call(wait=self.pb.Wait(port=self.port, until=self.pb.Wait.CLOSED))
        if waited.exit.state != self.exit.state or self.ended != {1, 2}:
            raise AssertionError("the end of the port does not match its events")
        self.connection.call(forget=self.pb.Forget(port=self.port))
        if waited.exit.state == self.pb.Exit.CODE:
            return waited.exit.code
        if waited.exit.state == self.pb.Exit.SIGNAL:
            return 128 + waited.exit.signal
        raise Refused("how the program ended is not known")


def default_socket():
    """Where the broker is when nobody says."""
    if "REDD_SOCKET" in os.environ:
        return os.environ["REDD_SOCKET"]
    if "XDG_RUNTIME_DIR" in os.environ:
        return f"{os.environ['XDG_RUNTIME_DIR']}/redd/redd.sock"
    directory = f"/tmp/redd-{os.geteuid()}"
    state = os.lstat(directory)
    if (not stat.S_ISDIR(state.st_mode) or state.st_uid != os.geteuid()
            or stat.S_IMODE(state.st_mode) != 0o700):
        raise PermissionError(f"{directory} is not ours alone")
    return f"{directory}/redd.sock"


def parse_arguments():
    here = os.path.dirname(os.path.realpath(__file__))
    parser = argparse.ArgumentParser(description="Runs a program through redd.")
    parser.add_argument("--socket")
    parser.add_argument("--proto", default=f"{here}/../proto/redd.proto")
    parser.add_argument("--name")
    parser.add_argument("program")
    parser.add_argument("args", nargs=argparse.REMAINDER)
    return parser.parse_args()


def main():
    options = parse_arguments()
    try:
        pb = load_protocol(os.path.realpath(options.proto))
        connection = Connection(options.socket or default_socket(), pb)
        welcome = connection.call(hello=pb.Hello(version=1, client="client.py"))
        if welcome.version != 1:
            raise Refused(f"the broker speaks version {welcome.version}")
        run = Run(connection, options)
        run.loop()
        return run.wait()
    except (OSError, Refused) as error:
        print(f"client.py: {error}", file=sys.stderr)
        return 125


if __name__ == "__main__":
    sys.exit(main())
