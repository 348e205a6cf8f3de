"""What of a run's log reaches people: no terminal control, no forged text, however the bytes are cut."""

import re
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.logs import LogCleaner, LogShipper
from jobs.models import JobLogChunk
from jobs.tests.factories import JobFactory


def clean(*pieces):
    cleaner = LogCleaner()
    return b"".join([cleaner.clean(piece) for piece in pieces] + [cleaner.clean(b"", is_last=True)])


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        (b"\x1b[31mred\x1b[0m", b"\x1b[31mred\x1b[0m"),  # colours stay
        (b"\x1b[38;5;12mx\x1b[m", b"\x1b[38;5;12mx\x1b[m"),
        (b"a\x1b[2Jb\x1b[Hc\x1b[1;1Hd", b"abcd"),  # the cursor, the screen
        (b"a\x1b[?25lb\x1b[>4;2mc\x1b[ mz", b"abcz"),
        (b"a\x1b]52;c;ZXZpbA==\x07b", b"ab"),  # the clipboard
        (b"a\x1b]52;c;ZXZpbA==\x1b\\b", b"ab"),
        (b"\x1b]8;;http://evil\x1b\\click\x1b]8;;\x1b\\", b"click"),  # a link that lies
        (b"a\x1b]0;title never ended\nnext line", b"a\nnext line"),
        (b"a\x1bPq#0\x1b\\b\x1b_x\x1b\\c\x1b^y\x1b\\d\x1bXz\x1b\\e", b"abcde"),
        (b"a\x1bcb\x1b7c", b"abc"),
        (b"a\x1b[2\x00Jb", b"aJb"),  # taking the NUL out must not make a sequence
        (b"a\x1b\x1b[2Jb", b"ab"),
        (b"a\x1b[" + b"1" * 500 + b"mb", b"ab"),
        (b"1%\r2%\r3%\r\ndone\n", b"1%\n2%\n3%\ndone\n"),
        (b"a\x00b\x08c\x7fd\x07e\tf", b"abcde\tf"),
        ("\u202egnp.exe \u2066x\u2069\u200f\ufeff".encode(), b"gnp.exe x"),
        ("\x9b2Jx\x9d0;t".encode(), b"2Jx0;t"),  # C1: without its introducer it is text
        (b"\xff\xfe ok \xe3\x81", "\ufffd\ufffd ok \ufffd".encode()),
        ("日本語".encode(), "日本語".encode()),
        (b"cut \x1b[3", b"cut "),
    ],
)
def test_cleaner_shows(raw, shown):
    assert clean(raw) == shown
    assert clean(*[bytes([byte]) for byte in raw]) == shown


NASTY = st.lists(
    st.sampled_from(
        [
            "\x1b",
            "[",
            "]",
            "P",
            "\\",
            "\x07",
            "\r",
            "\n",
            "m",
            "J",
            "3",
            ";",
            "?",
            "\x00",
            "é",
            "\u202e",
            "\x9b",
            "ab",
            "日",
        ]
    ),
    max_size=40,
).map("".join)


@given(text=NASTY, cuts=st.lists(st.integers(0, 120), max_size=6), tail=st.binary(max_size=4))
def test_cleaner_in_pieces_equals_cleaner_of_the_whole(text, cuts, tail):
    raw = text.encode() + tail
    edges = [0, *sorted(min(cut, len(raw)) for cut in cuts), len(raw)]
    pieces = [raw[start:end] for start, end in pairwise(edges)]
    assert clean(*pieces) == clean(raw)


@given(st.one_of(st.binary(max_size=200), NASTY.map(str.encode)))
def test_cleaner_leaves_colours_and_text_alone(raw):
    shown = clean(raw).decode()  # always UTF-8
    rest = re.sub(r"\x1b\[[0-9;:]*m", "", shown)
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", rest)


def test_cleaner_keeps_little_of_a_sequence_that_never_ends():
    cleaner = LogCleaner()
    for start in (b"\x1b[", b"\x1b]"):
        cleaner.clean(start)
        for _ in range(200):
            assert cleaner.clean(b"1" * 1000) == b""
        assert len(cleaner._sequence) < 100
        cleaner.clean(b"\n")


@pytest.fixture
def shipper(tmp_path):
    job = JobFactory(status="running")
    return LogShipper(tmp_path / "log", tmp_path / "log.txt", job_id=job.pk, attempt=job.attempt)


def shipped(shipper):
    rows = JobLogChunk.objects.filter(job_id=shipper._job_id).order_by("offset").values_list("offset", "content")
    text = b""
    for offset, content in rows:
        assert offset == len(text), "a gap or an overlap"
        text += bytes(content)
    return text


def write(shipper, content):
    with shipper._source.open("ab") as log:
        log.write(content)
    shipper.collect()


@pytest.mark.django_db
def test_shipper_follows_the_log(shipper):
    shipper.ship()
    write(shipper, b"one\n\x1b[2J")
    shipper.ship()
    write(shipper, b"two\n" * 100_000)
    shipper.ship()
    assert shipped(shipper) == b"one\n" + b"two\n" * 100_000
    assert shipper.cleaned.read_bytes() == shipped(shipper)


@pytest.mark.django_db
def test_shipper_sends_again_what_was_not_acknowledged(shipper):
    write(shipper, b"one\n")
    shipper.ship()
    shipper._shipped_bytes = 0  # the database took it, its answer was lost
    write(shipper, b"two\n")
    shipper.ship()
    write(shipper, b"three\n")
    shipper.ship()
    assert shipped(shipper) == b"one\ntwo\nthree\n"


@pytest.mark.django_db
def test_shipper_of_an_older_attempt_ships_nothing(shipper):
    shipper._attempt += 1
    write(shipper, b"zombie\n")
    shipper.ship()
    assert JobLogChunk.objects.count() == 0
