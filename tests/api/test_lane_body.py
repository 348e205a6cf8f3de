"""A body read straight from its socket: all of it, in any pieces, and nothing of what follows."""

import socket
import threading
from types import SimpleNamespace

import pytest
from gunicorn.http.body import Body, ChunkedReader, LengthReader
from gunicorn.http.unreader import SocketUnreader

from leaderboard_site.lane.body import read_straight

CONTENT = bytes(range(256)) * 4000


@pytest.fixture
def ends():
    ours, theirs = socket.socketpair()
    ours.settimeout(10)
    yield ours, theirs
    ours.close()
    theirs.close()


def request(ours, read_already, length):
    unreader = SocketUnreader(ours)
    unreader.unread(read_already)
    asked = SimpleNamespace(body=Body(LengthReader(unreader, length)))
    read_straight(asked)
    return asked.body, unreader


@pytest.mark.parametrize("size", [1000, 64 * 1024, 2**20, None])
def test_all_of_it_and_nothing_of_the_next_request(ends, size):
    ours, theirs = ends
    sending = threading.Thread(target=theirs.sendall, args=(CONTENT[5000:] + b"GET / HTTP/1.1",))
    sending.start()
    body, unreader = request(ours, CONTENT[:5000], len(CONTENT))
    pieces = list(iter(lambda: body.read(size), b""))
    sending.join()
    assert b"".join(pieces) == CONTENT
    assert unreader.take_buffered() + ours.recv(100) == b"GET / HTTP/1.1"


def test_what_was_read_with_the_head_beyond_the_body_is_left(ends):
    body, unreader = request(ends[0], b"bodyGET /", 4)
    assert (body.readline(), body.read(), unreader.take_buffered()) == (b"body", b"", b"GET /")


def test_one_that_breaks_off_is_short(ends):
    ours, theirs = ends
    theirs.sendall(b"abc")
    theirs.close()
    body, _ = request(ours, b"", 10)
    assert (body.read(10), body.read(10)) == (b"abc", b"")


def test_one_that_stalls_is_told(ends):
    ours, _ = ends
    ours.settimeout(0.05)
    body, _ = request(ours, b"a", 10)
    with pytest.raises(TimeoutError):
        body.read(10)


def test_chunked_ones_are_left_to_gunicorn(ends):
    chunked = Body(ChunkedReader(None, SocketUnreader(ends[0])))
    asked = SimpleNamespace(body=chunked)
    read_straight(asked)
    assert asked.body is chunked
