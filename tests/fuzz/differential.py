#!/usr/bin/python3
"""The codec against Google's protobuf: random frames, legal and damaged, given to both.

    differential.py [--frames N] [--seed S]

For every frame: what our codec takes, the reference takes too, and the message is the same. What the
reference takes and ours does not must break one of the rules of PROTOCOL.md, section 2, which are
written down here once more, independently of the C code, on top of the reference's descriptors.

Everything is generated and compiled into a temporary directory.
"""

import argparse
import importlib
import os
import random
import struct
import subprocess
import sys
import tempfile

from google.protobuf.message import DecodeError

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__))))

DEPTH_MAX = 8
UNKNOWN_MAX = 64
FIELDS_MAX = 131056
DATA_FIELDS = {"redd.v1.Hello.session", "redd.v1.Welcome.session", "redd.v1.Welcome.instance",
               "redd.v1.Ping.data", "redd.v1.Pong.data", "redd.v1.Spawn.token",
               "redd.v1.Open.token",
               "redd.v1.Write.data", "redd.v1.Output.data",
               "redd.v1.Pattern.text", "redd.v1.Pattern.regex", "redd.v1.Matched.data"}
VARINT, I64, LEN, I32 = 0, 1, 2, 5


def run(*command):
    subprocess.run(command, check=True, cwd=ROOT)


def build(directory):
    """Generates both sides and compiles the driver. Returns the Python module and its path."""
    run("protoc", "-Iproto", f"--python_out={directory}", "proto/redd.proto")
    run("protoc-c", f"--c_out={directory}", "proto/redd.proto")
    sources = [f"proto/{name}" for name in os.listdir(f"{ROOT}/proto") if name.endswith(".c")]
    sources += [f"proto/base/{name}" for name in os.listdir(f"{ROOT}/proto/base")
                if name.endswith(".c")]
    driver = f"{directory}/driver"
    run("gcc", "-std=gnu11", "-D_GNU_SOURCE", "-O1", "-w", "-I.", f"-I{directory}", "-o", driver,
        "tests/fuzz/differential/driver.c", *sources, f"{directory}/proto/redd.pb-c.c",
        "-lprotobuf-c")
    sys.path.insert(0, directory)
    try:
        return importlib.import_module("redd_pb2"), driver
    finally:
        sys.path.remove(directory)


class Codec:
    """The C side."""

    def __init__(self, driver):
        self.process = subprocess.Popen([driver], stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def close(self):
        self.process.stdin.close()
        self.process.stdout.close()
        return self.process.wait()

    def ask(self, kind, body):
        """(taken, the message packed again or the reason)"""
        self.process.stdin.write(kind + struct.pack("=I", len(body)) + body)
        self.process.stdin.flush()
        head = self.process.stdout.read(5)
        if len(head) < 5:
            raise AssertionError(f"the codec died at {body.hex()}")
        size, = struct.unpack("=I", head[1:])
        return head[:1] == b"+", self.process.stdout.read(size)


# --- the rules ------------------------------------------------------------------------------------


class Broken(Exception):
    """A rule of PROTOCOL.md is."""


class Rules:
    """Walks a frame and raises Broken if it has to be refused."""

    def __init__(self, body):
        self.body = body
        self.fields = self.unknown = 0
        # The reference sets values aside that an enum does not have; protobuf-c keeps them as
        # numbers, for the handler to refuse. Then only the verdicts can be compared.
        self.strange_enum = False

    def varint(self, at, end, most, bits):
        value = 0
        for n in range(most):
            if at + n >= end:
                raise Broken("cut")
            byte = self.body[at + n]
            value |= (byte & 0x7F) << (7 * n)
            if byte < 0x80:
                if value >> bits:
                    raise Broken("too large")
                return value, at + n + 1
        raise Broken("too long")

    def message(self, descriptor, at, end, depth):
        if depth > DEPTH_MAX:
            raise Broken("depth")
        seen = set()
        while at < end:
            at = self.field(descriptor, at, end, depth, seen)

    def field(self, descriptor, at, end, depth, seen):
        tag, at = self.varint(at, end, 5, 32)
        number, wire = tag >> 3, tag & 7
        if number == 0:
            raise Broken("field 0")
        self.fields += 1
        if self.fields > FIELDS_MAX:
            raise Broken("fields")
        start, stop = self.value(wire, at, end)
        field = descriptor.fields_by_number.get(number)
        if field is None:
            self.unknown += 1
            if self.unknown > UNKNOWN_MAX:
                raise Broken("unknown fields")
        else:
            self.known(field, wire, start, stop, depth, seen)
        return stop

    def value(self, wire, at, end):
        if wire == VARINT:
            return at, self.varint(at, end, 10, 64)[1]
        size = {I64: 8, I32: 4}.get(wire)
        if wire == LEN:
            size, at = self.varint(at, end, 5, 32)
        if size is None:
            raise Broken("wire type")
        if size > end - at:
            raise Broken("past the end")
        return at, at + size

    def known(self, field, wire, start, stop, depth, seen):
        own = wire_of(field)
        repeated = field.label == field.LABEL_REPEATED
        if wire == LEN and repeated and own != LEN:
            self.packed(field, own, start, stop)
            return
        if wire != own:
            raise Broken("another type")
        if not repeated:
            self.singular(field, seen)
        data = self.body[start:stop]
        if field.type == field.TYPE_ENUM:
            self.enum(field, self.varint(start, stop, 10, 64)[0])
        elif field.type == field.TYPE_MESSAGE:
            self.message(field.message_type, start, stop, depth + 1)
        elif field.type == field.TYPE_BYTES:
            if b"\0" in data and field.full_name not in DATA_FIELDS:
                raise Broken("NUL")
        elif field.type == field.TYPE_STRING:
            try:
                text = bytes(data).decode("utf-8")
            except UnicodeDecodeError:
                raise Broken("UTF-8") from None
            if "\0" in text:
                raise Broken("NUL")

    def enum(self, field, value):
        value = (value & 0xFFFFFFFF) - ((value & 0x80000000) << 1)
        if value not in field.enum_type.values_by_number:
            self.strange_enum = True

    def packed(self, field, own, at, end):
        if own != VARINT:
            if (end - at) % {I64: 8, I32: 4}[own]:
                raise Broken("packed")
            return
        while at < end:
            value, at = self.varint(at, end, 10, 64)
            if field.type == field.TYPE_ENUM:
                self.enum(field, value)

    @staticmethod
    def singular(field, seen):
        if field.containing_oneof:
            if field.containing_oneof.name in seen:
                raise Broken("oneof")
            seen.add(field.containing_oneof.name)
        elif field.type == field.TYPE_MESSAGE:
            if field.number in seen:
                raise Broken("twice")
            seen.add(field.number)


def wire_of(field):
    if field.type in (field.TYPE_STRING, field.TYPE_BYTES, field.TYPE_MESSAGE):
        return LEN
    if field.type in (field.TYPE_FIXED64, field.TYPE_SFIXED64, field.TYPE_DOUBLE):
        return I64
    if field.type in (field.TYPE_FIXED32, field.TYPE_SFIXED32, field.TYPE_FLOAT):
        return I32
    return VARINT


def broken_rule(rules, descriptor):
    try:
        rules.message(descriptor, 0, len(rules.body), 1)
    except Broken as broken:
        return str(broken)
    return None


# --- frames ---------------------------------------------------------------------------------------


class Maker:
    """Random messages by the reference's descriptors, and damage to their bytes."""

    def __init__(self, seed):
        self.random = random.Random(seed)

    def number(self, bits, signed):
        value = self.random.getrandbits(self.random.randint(0, bits))
        return value - (1 << bits) if signed and value >> (bits - 1) else value

    def scalar(self, field):
        r = self.random
        if field.type == field.TYPE_ENUM:
            return r.choice(field.enum_type.values).number
        if field.type == field.TYPE_BOOL:
            return bool(r.getrandbits(1))
        if field.type == field.TYPE_STRING:
            return r.choice(["", "ä", "plain", "\U0001f41f", "x" * 30, "\x7f\x01"])
        if field.type == field.TYPE_BYTES:
            return bytes(r.randint(1, 255) for _ in range(r.choice([0, 1, 3, 20, 150])))
        return self.number(64 if "64" in _TYPES[field.type] else 32,
                           not _TYPES[field.type].startswith(("uint", "fixed")))

    def fill(self, message):
        for field in message.DESCRIPTOR.fields:
            if self.random.random() < 0.6:
                continue
            repeated = field.label == field.LABEL_REPEATED
            if field.type == field.TYPE_MESSAGE:
                place = getattr(message, field.name)
                for _ in range(self.random.randint(0, 3) if repeated else 1):
                    inner = place.add() if repeated else place
                    inner.SetInParent()
                    self.fill(inner)
            elif repeated:
                getattr(message, field.name).extend(
                    self.scalar(field) for _ in range(self.random.randint(0, 4)))
            else:
                setattr(message, field.name, self.scalar(field))
        return message

    def envelope(self, kind):
        """A Request or Message with one body, as a client or the broker would send it."""
        message = kind()
        fields = message.DESCRIPTOR.oneofs_by_name["body"].fields
        chosen = self.random.choice(fields)
        inner = getattr(message, chosen.name)
        inner.SetInParent()
        self.fill(inner)
        if self.random.random() < 0.8:
            first = message.DESCRIPTOR.fields_by_number[1]
            setattr(message, first.name, self.number(64, False))
        return message

    def damage(self, body):
        body = bytearray(body)
        for _ in range(self.random.randint(1, 3)):
            if not body:
                break
            at = self.random.randrange(len(body))
            what = self.random.randrange(6)
            if what == 0:
                del body[at:]
            elif what == 1:
                other = self.random.randrange(len(body) + 1)
                body[at:at] = body[min(at, other):max(at, other)]
            elif what == 2:
                del body[at:at + self.random.randint(1, 4)]
            elif what == 3:
                body[at] ^= 1 << self.random.randrange(8)
            elif what == 4:
                body[at:at] = self.random.randbytes(self.random.randint(1, 3))
            else:
                body[at] = self.random.choice([0, 1, 0x7F, 0x80, 0xFF])
        return bytes(body)


_TYPES = {3: "int64", 4: "uint64", 5: "int32", 6: "fixed64", 7: "fixed32", 13: "uint32",
          15: "sfixed32", 16: "sfixed64", 17: "sint32", 18: "sint64"}


# --- comparing ------------------------------------------------------------------------------------


def canonical(kind, body):
    """The message as the reference reads it, or None if it does not."""
    try:
        message = kind.FromString(body)
    except DecodeError:
        return None
    message.DiscardUnknownFields()
    return message.SerializeToString(deterministic=True)


def compare(codec, kind, letter, body):
    """(the rule that it breaks or None, in which way the two differ or None)"""
    taken, answer = codec.ask(letter, body)
    rules = Rules(body)
    rule = broken_rule(rules, kind.DESCRIPTOR)
    if rule:
        return rule, "taken, though it breaks a rule" if taken else None
    want = canonical(kind, body)
    if taken and want is None:
        return None, "taken, and the reference refuses it"
    if not taken:
        return None, f"refused without a rule: {answer.decode()}"
    if not rules.strange_enum and canonical(kind, answer) != want:
        return None, f"taken as another message: {answer.hex()}"
    return None, None


class Tally:
    def __init__(self):
        self.taken = 0
        self.by_rule = {}
        self.failures = []

    def add(self, codec, kind, letter, body):
        rule, difference = compare(codec, kind, letter, body)
        if difference:
            self.failures.append(f"{letter.decode()} {body.hex()}: {difference} ({rule})")
        elif rule:
            self.by_rule[rule] = self.by_rule.get(rule, 0) + 1
        else:
            self.taken += 1


def run_random(codec, pb, frames, seed):
    maker, tally = Maker(seed), Tally()
    for n in range(frames):
        kind, letter = ((pb.Request, b"R"), (pb.Message, b"M"))[n % 2]
        body = maker.envelope(kind).SerializeToString()
        if n % 4 >= 2:
            body = maker.damage(body)
        elif n % 64 < 2:
            body += maker.envelope(kind).SerializeToString()
        tally.add(codec, kind, letter, body)
        if len(tally.failures) >= 10:
            break
    return tally


def main():
    parser = argparse.ArgumentParser(description="Compares the codec with Google's protobuf.")
    parser.add_argument("--frames", type=int, default=100000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        pb, driver = build(directory)
        codec = Codec(driver)
        tally = run_random(codec, pb, options.frames, options.seed)
        codec.close()
    print(f"seed {options.seed}: {tally.taken} taken by both, refused by rule: "
          f"{dict(sorted(tally.by_rule.items()))}")
    for failure in tally.failures:
        print(failure)
    return 1 if tally.failures else 0


if __name__ == "__main__":
    sys.exit(main())
