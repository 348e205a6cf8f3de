"""The log that a supervisor writes: lines of two outputs, the last state of those that are rewritten, and its limits."""

import os
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.execution import logfile
from jobs.execution.logfile import REWRITTEN_SHARE, LogFile
from jobs.execution.output_lines import LONGEST_HELD, OutputLines

OUT, ERR = 0, 1


@pytest.fixture
def written(tmp_path):
    """Write (stream, bytes) pieces to a log; return what it holds."""

    def write(*pieces, kept=1 << 20):
        folder = os.open(tmp_path, os.O_RDONLY)
        log = LogFile(folder, kept)
        for stream, piece in pieces:
            log.add(piece, stream)
        log.finish()
        os.close(folder)
        return (tmp_path / "log").read_bytes()

    write.folder = tmp_path
    return write


@pytest.mark.parametrize(
    ("raw", "kept"),
    [
        (b"1%\r2%\r100%\ndone\n", b"100%\ndone\n"),
        (b"\r1%\r2%\r100%\n", b"100%\n"),
        (b"1%\r2%\r", b"2%"),
        (b"a\r\nb\r\n", b"a\nb\n"),
        (b"a\r\r\n", b"a\n"),
        (b"bar\r      \rnext\n", b"next\n"),
        (b"no end", b"no end"),
        (b"\xff\x00\xfe\n\r\x1b[", b"\xff\x00\xfe\n\x1b["),
        (b"x" * 1_000_000, b"x" * 1_000_000),
    ],
)
def test_of_a_rewritten_line_the_last_state_is_kept(written, raw, kept):
    assert written((OUT, raw)) == kept


@given(
    st.lists(st.sampled_from([b"a", b"bc", b"\r", b"\n", b"\r\n", b"::"]), max_size=25),
    st.lists(st.integers(0, 40), max_size=5),
)
def test_lines_are_the_same_however_the_output_is_cut(words, cuts):
    raw = b"".join(words)
    edges = [0, *sorted(min(cut, len(raw)) for cut in cuts), len(raw)]
    whole, pieces = OutputLines(), OutputLines()
    in_pieces = b"".join([pieces.add(raw[start:end]) for start, end in pairwise(edges)])
    assert in_pieces == whole.add(raw)
    assert pieces.held == whole.held


def test_outputs_do_not_run_into_each_other(written):
    pieces = [
        (ERR, b"\r 10%|#   |"), (OUT, b"::progress 0.1 one\n"), (ERR, b"\r 20%|##  |"), (OUT, b"::metric a"), (ERR, b"\nwarning\n"),
        (OUT, b"=1\nlast"), (ERR, b"words"),
    ]  # fmt: skip
    assert written(*pieces) == b"::progress 0.1 one\n 20%|##  |\nwarning\n::metric a=1\nlast\nwords"
    assert (written.folder / "reports").read_bytes() == b"::progress 0.1 one\n::metric a=1\n"


def test_rewritten_states_take_no_room_and_count_a_sixteenth(tmp_path):
    folder = os.open(tmp_path, os.O_RDONLY)
    log = LogFile(folder, kept=1000)
    states = b"".join(b"\r%5d|####      |" % number for number in range(10_000))
    log.add(states, ERR)
    assert log.counted == pytest.approx(len(states) / REWRITTEN_SHARE, rel=0.01)
    log.add(b"\nValueError\n", ERR)
    log.finish()
    os.close(folder)
    assert (tmp_path / "log").read_bytes() == b" 9999|####      |\nValueError\n"
    assert log.left_out == 0


def test_reports_in_rewritten_states_count_whole(tmp_path):
    folder = os.open(tmp_path, os.O_RDONLY)
    log = LogFile(folder, kept=1000)
    log.add(b"::progress 0.5\r" * 1000)
    log.finish()
    os.close(folder)
    assert log.counted == 15_000


def test_an_unfinished_line_is_shown_after_a_while(tmp_path, monkeypatch):
    clock = [1000.0]
    monkeypatch.setattr(logfile.time, "monotonic", lambda: clock[0])
    folder = os.open(tmp_path, os.O_RDONLY)
    log, shown = LogFile(folder, kept=1000), tmp_path / "log"
    log.add(b"loading... ")
    log.add(b"\r 1%", ERR)
    log.show_unfinished()
    assert shown.read_bytes() == b""
    clock[0] += 1
    log.show_unfinished()
    assert shown.read_bytes() == b"loading... "
    log.add(b"done\n")
    log.add(b"loading again")
    clock[0] += 61
    log.show_unfinished()
    log.add(b"\rloaded\n")
    log.add(b"\r 2%\n", ERR)
    log.finish()
    os.close(folder)
    # Of a bar, a state a minute while nothing else comes.
    assert shown.read_bytes() == b"loading... done\nloading again\nloaded\n 2%\n"


def test_little_of_a_line_is_held():
    lines = OutputLines()
    given = b"".join([lines.add(b"x" * 1000) for _ in range(1000)])
    assert len(lines.held) <= LONGEST_HELD
    assert given + lines.held == b"x" * 1_000_000
