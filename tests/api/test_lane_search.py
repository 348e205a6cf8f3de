"""Looking for the line that ends a file: what the buffer's own `find` says, by the C library and without it."""

import random

import pytest

from leaderboard_site.lane import search

NOISE = random.Random(5).randbytes(100_000)
LINE = b"\r\n--edge"


@pytest.fixture(params=["by the C library", "by the buffer"])
def find(request, monkeypatch):
    if request.param == "by the buffer":
        monkeypatch.setattr(search, "_memmem", None)
    return search.find


@pytest.mark.parametrize("at", [0, 1, 4095, 50_000, len(NOISE) - len(LINE) - 1, len(NOISE) - len(LINE)])
def test_the_first_one_is_found_wherever_it_stands(find, at):
    buffer = bytearray(NOISE)
    buffer[at : at + len(LINE)] = LINE
    assert find(buffer, LINE, len(buffer)) == at
    buffer += LINE
    assert find(buffer, LINE, len(buffer)) == at


def test_nothing_is_found_that_reaches_beyond_the_end(find):
    buffer = bytearray(NOISE + LINE)
    assert find(buffer, LINE, len(buffer)) == len(NOISE)
    assert find(buffer, LINE, len(buffer) - 1) == -1
    assert [find(buffer, LINE, end) for end in (0, 1, len(LINE) - 1)] == [-1, -1, -1]


@pytest.mark.parametrize("seed", range(20))
def test_among_what_looks_like_it_the_same_is_found(find, seed):
    chance = random.Random(seed)
    buffer = bytearray(b"".join(chance.choices([b"\r\n", b"\r\n--", b"\0", b"--edge", b"\r\n--edg", LINE[1:]], k=200)))
    for end in range(0, len(buffer), 7):
        assert find(buffer, LINE, end) == buffer.find(LINE, 0, end)


def test_bytes_are_searched_from_where_it_is_wanted(find):
    content = LINE + NOISE + LINE
    for start in (0, 1, 50_000, len(NOISE) + len(LINE), len(content) - len(LINE) + 1, len(content), len(content) + 9):
        assert find(content, LINE, len(content), start=start) == content.find(LINE, start)


def test_the_c_library_is_what_looks_on_linux():
    assert search._memmem is not None
