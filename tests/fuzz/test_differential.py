#!/usr/bin/python3
"""The wire as others read it: the codec against Google's protobuf, and the bytes that PROTOCOL.md
prints against the schema."""

import os
import re
import sys
import tempfile
import unittest

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))

import differential  # noqa: E402  (found by the line above)
from google.protobuf import text_format  # noqa: E402

FRAMES = int(os.environ.get("FRAMES", "20000"))
SEED = int(os.environ.get("SEED", "20240508"))


class Wire(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.directory = tempfile.TemporaryDirectory()
        cls.pb, driver = differential.build(cls.directory.name)
        cls.codec = differential.Codec(driver)

    @classmethod
    def tearDownClass(cls):
        cls.codec.close()
        cls.directory.cleanup()

    def check(self, body, rule):
        """As a Request the body breaks just this rule (None: it is legal), and both sides say so."""
        got, difference = differential.compare(self.codec, self.pb.Request, b"R", body)
        self.assertEqual((got, difference), (rule, None), body.hex())

    def test_random_frames_are_read_as_the_reference_reads_them(self):
        tally = differential.run_random(self.codec, self.pb, FRAMES, SEED)
        self.assertEqual(tally.failures, [], f"seed {SEED}")
        self.assertGreater(tally.taken, FRAMES // 3)
        self.assertGreater(sum(tally.by_rule.values()), FRAMES // 10)
        # "twice" needs luck with the seed, and has a frame of its own below.
        for rule in ("past the end", "field 0", "another type", "UTF-8", "NUL", "oneof"):
            self.assertIn(rule, tally.by_rule)

    def test_each_rule_is_kept_at_its_limit(self):
        unknown = b"\xf8\x07\x01"  # field 127, a number
        self.check(unknown * 64, None)
        self.check(unknown * 65, "unknown fields")
        self.check(b"\x08" + b"\xff" * 9 + b"\x01", None)
        self.check(b"\x08" + b"\xff" * 9 + b"\x02", "too large")
        self.check(b"\x08" + b"\x80" * 10 + b"\x00", "too long")
        self.check(b"\x12\x80\x80\x80\x80\x00", None)
        self.check(b"\x12\x80\x80\x80\x80\x80\x00", "too long")
        self.check(b"\x12\x00\x12\x00", "oneof")
        self.check(b"\x5a\x04\x0a\x00\x0a\x00", "twice")  # a Wait with two ports
        self.check(b"\xda\x01\x04\x4a\x00\x4a\x00", "twice")  # an Expect with two Writes
        self.check(b"\xda\x01\x05\x22\x03\x12\x01\x00", None)  # a regex of one NUL
        self.check(b"\x0b\x0c", "wire type")
        self.check(b"", None)

    def test_a_long_argument_list_is_legal(self):
        spawn = self.pb.Spawn(program=b"/bin/echo", args=[b"x"] * 100000)
        self.check(self.pb.Request(id=1, spawn=spawn).SerializeToString(), None)
        environment = self.pb.Environment(set=[b"A=1"] * 20000)
        spawn = self.pb.Spawn(program=b"/bin/echo", environment=environment)
        self.check(self.pb.Request(id=1, spawn=spawn).SerializeToString(), None)


# A line that says who sends what, and the indented block of bytes below it.
EXAMPLE = re.compile(r"`(Request|Message) \{ (.*) \}`[^\n]*\n\n((?:    .*\n)+)")


def bytes_of(block):
    """Hex pairs at the beginning of each line; what follows them is explanation."""
    out = bytearray()
    for line in block.splitlines():
        pairs = re.match(r"\s+((?:[0-9a-f]{2} )*[0-9a-f]{2})(?:   .*)?$", line)
        out += bytes.fromhex(pairs.group(1))
    return bytes(out)


class Protocol(unittest.TestCase):
    def setUp(self):
        self.directory = tempfile.TemporaryDirectory()
        self.addCleanup(self.directory.cleanup)
        self.pb = Wire.pb if hasattr(Wire, "pb") else differential.build(self.directory.name)[0]
        with open(f"{differential.ROOT}/proto/PROTOCOL.md", encoding="utf-8") as file:
            self.text = file.read()

    def test_the_examples_are_what_they_say(self):
        examples = EXAMPLE.findall(self.text)
        self.assertEqual(len(examples), 10)
        for name, said, block in examples:
            frame = bytes_of(block)
            self.assertEqual(frame[0], len(frame) - 1, said)
            message = getattr(self.pb, name).FromString(frame[1:])
            self.assertFalse(message.UnknownFields(), said)
            if "..." not in said:
                want = text_format.Parse(said, getattr(self.pb, name)())
                self.assertEqual(message, want, said)

    def test_every_code_is_explained(self):
        for value in self.pb.Code.DESCRIPTOR.values:
            if value.name != "OK":
                self.assertRegex(self.text, rf"\b{value.name} \({value.number}\)")

    def test_every_request_and_event_is_named(self):
        for kind in (self.pb.Request, self.pb.Message):
            for field in kind.DESCRIPTOR.oneofs_by_name["body"].fields:
                self.assertRegex(self.text, rf"\b{field.message_type.name}\b")


if __name__ == "__main__":
    unittest.main()
