"""The lane's worker, its main loop driven by hand: what other sides do at the worst moment, and how it ends."""

import socket
import threading
import time
from contextlib import contextmanager
from itertools import pairwise
from types import SimpleNamespace
from unittest.mock import Mock

import pytest
from gunicorn.config import Config

from leaderboard_site.lane import worker as lane
from leaderboard_site.lane.answers import Answer
from leaderboard_site.lane.calls import ENQUEUE, STATUS, SUBMIT
from leaderboard_site.lane.wire import Incomplete, read_call

JOB = "6c4a3c9e-0000-4000-8000-000000000000"
PLAIN = f"GET /api/jobs/{JOB}/status HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer x\r\n\r\n".encode()
ELSE = b"GET /login/ HTTP/1.1\r\nHost: localhost\r\n\r\n"


class Desk:
    """Answers when it is let, what it is told to."""

    AT_ONCE = (STATUS, ENQUEUE, SUBMIT)

    def __init__(self):
        self.may_answer = threading.Event()
        self.may_answer.set()
        self.answer = Answer(200, b"{}", (), "id")
        self.asked = 0

    def answer_all(self, route, calls):
        assert self.may_answer.wait(30)
        self.asked += len(calls)
        if isinstance(self.answer, Exception):
            raise self.answer
        return [self.answer] * len(calls)


class Server:
    """A worker with one listening socket; `turn` is one round of its main loop."""

    def __init__(self, worker, listener):
        self.worker, self.listener, self.clients = worker, listener, []

    def connect(self, *parts):
        client = socket.create_connection(self.listener.getsockname(), timeout=10)
        self.clients.append(client)
        self.until(lambda: self.worker.nr_conns >= len(self.clients))
        for part in parts:
            client.sendall(part)
        return client

    def turn(self):
        self.worker.wait_for_and_dispatch_events(0.02)
        self.worker.murder_keepalived()

    def until(self, is_so):
        deadline = time.monotonic() + 20
        while not is_so():
            assert time.monotonic() < deadline
            self.turn()

    def read(self, client, times=1):
        """What the client is told, until so many answers are there and no more comes; None: it was closed."""
        client.setblocking(False)
        found, deadline = b"", time.monotonic() + 20
        while time.monotonic() < deadline:
            self.turn()
            try:
                data = client.recv(65536)
            except BlockingIOError:
                if found.count(b"HTTP/1.1 200") >= times:
                    return found
                continue
            except ConnectionResetError:
                data = b""
            if not data:
                return found or None
            found += data
        raise AssertionError("nothing came")


@contextmanager
def serving(**settings):
    cfg = Config()
    for name, value in {"threads": 2, "keepalive": 30, **settings}.items():
        cfg.set(name, value)
    listener = socket.create_server(("127.0.0.1", 0))
    listener.setblocking(False)
    worker = lane.LaneWorker(0, 0, [listener], None, 30, cfg, Mock())
    worker.tpool, worker.poller = worker.get_thread_pool(), lane.selectors.DefaultSelector()
    worker.method_queue.init()
    worker._desk, worker._read_call, worker._incomplete = Desk(), read_call, Incomplete
    worker.wsgi = site
    worker._prepare()
    worker.poller.register(worker.method_queue.fileno(), 1, worker.method_queue.run_callbacks)
    worker.set_accept_enabled(True)
    server = Server(worker, listener)
    try:
        yield server
    finally:
        for client in server.clients:
            client.close()
        worker.tpool.shutdown(wait=True)
        for conn in list(worker.keepalived_conns):
            conn.close()
        worker.poller.close()
        worker.method_queue.close()
        listener.close()
        worker.tmp.close()


def site(environ, start_response):
    body = f"{environ['PATH_INFO']} site".encode()
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]


def the_conn(worker):
    [conn] = worker.keepalived_conns
    return conn


def test_a_call_the_desk_declines_reaches_the_site_whatever_else_happens_in_that_moment():
    """The wake-up and the client's next bytes in one round: the bytes are the pool's, and the loop goes on."""
    with serving() as server:
        worker = server.worker
        worker._desk.answer = None
        site_may_answer = threading.Event()
        worker.wsgi = lambda *request: site_may_answer.wait(20) and site(*request)
        client = server.connect()
        server.until(lambda: worker.keepalived_conns)
        conn = the_conn(worker)
        client.sendall(PLAIN)
        server.until(lambda: conn not in worker.keepalived_conns)
        client.sendall(PLAIN)
        worker.on_client_socket_readable(conn, conn.sock)  # its event of the same round
        site_may_answer.set()
        assert server.read(client, times=2).count(b" site") == 2


def test_an_event_of_a_connection_that_has_just_been_closed_is_none():
    with serving() as server:
        server.connect()
        server.until(lambda: server.worker.keepalived_conns)
        conn = the_conn(server.worker)
        server.worker._close(conn)
        server.worker.on_client_socket_readable(conn, conn.sock)
        assert server.worker.nr_conns == 0


def test_who_takes_nothing_of_a_long_answer_gives_the_thread_back(monkeypatch):
    monkeypatch.setattr(lane, "STALL_SECONDS", 1)
    with serving() as server:
        server.worker.wsgi = lambda environ, start: start("200 OK", [("Content-Length", "67108864")]) and [b"x" * 2**26]
        client = server.connect(ELSE)
        server.until(lambda: not server.worker.nr_conns)
        client.close()


def test_who_never_reads_is_dropped_and_nothing_follows_half_an_answer():
    with serving() as server:
        worker = server.worker
        client = server.connect()
        server.until(lambda: worker.keepalived_conns)
        conn = the_conn(worker)
        sent = []

        class Narrow:
            def send(self, message):
                sent.append(message)
                return len(message) // 2

            def __getattr__(self, name):
                return getattr(real, name)

        real, conn.sock = conn.sock, Narrow()
        conn.is_busy = True
        call = SimpleNamespace(tag=(conn, {}, "GET / HTTP/1.1"), began=0.0)
        worker._send(call, worker._desk.answer)
        assert conn.is_busy  # nothing more is read of it
        client.sendall(PLAIN)
        conn.sock = real
        server.until(lambda: worker.nr_conns == 0)
        assert (len(sent), worker._desk.asked) == (1, 0)


def test_a_desk_that_fails_leaves_its_calls_to_the_site_and_goes_on():
    with serving() as server:
        desk, good = server.worker._desk, server.worker._desk.answer
        for answer, told in ((RuntimeError("bad"), b"site"), (good, b"{}"), (SimpleNamespace(), None), (good, b"{}")):
            desk.answer = answer
            client = server.connect(PLAIN)
            found = server.read(client)
            assert found is None if told is None else found.endswith(told)
            client.close()
            server.clients.remove(client)
            server.until(lambda: server.worker.nr_conns == 0)


@pytest.mark.parametrize("whole", [PLAIN, ELSE])
def test_a_head_in_pieces_holds_no_thread(whole):
    with serving() as server:
        server.worker.enqueue_req = Mock(wraps=server.worker.enqueue_req)
        client = server.connect()
        for begin, end in pairwise((0, 3, 4, 5, 14, 22, 23, 40)):
            client.sendall(whole[begin:end])
            for _ in range(3):
                server.turn()
            assert not server.worker.enqueue_req.called
        client.sendall(whole[40:])
        assert server.read(client).endswith(b"{}" if whole is PLAIN else b"site")


def test_a_small_submission_in_pieces_holds_no_thread_and_is_read_once_it_is_whole():
    content = b"--b\r\n" + b"\xe9" * 60_000 + b"\r\n--b--\r\n"
    head = "POST /api/submissions HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer x\r\n"
    head += f"Content-Type: multipart/form-data; boundary=b\r\nContent-Length: {len(content)}\r\n\r\n"
    whole = head.encode() + content
    with serving() as server:
        read, seen = server.worker._read_call, []
        server.worker._read_call = lambda data: (seen.append(len(data)), read(data))[1]
        server.worker.enqueue_req = Mock(wraps=server.worker.enqueue_req)
        client = server.connect(whole[: len(head) + 10])
        conn = the_conn(server.worker)
        server.until(lambda: conn.wanted == len(whole))
        looks = len(seen)
        for begin, end in ((len(head) + 10, 20_000), (20_000, 40_000), (40_000, len(whole) - 1)):
            client.sendall(whole[begin:end])
            server.until(lambda end=end: len(conn.received) == end)
        assert len(seen) == looks
        client.sendall(whole[-1:])
        assert server.read(client).endswith(b"{}")
        assert not server.worker.enqueue_req.called


def test_a_request_that_never_ends_is_closed_with_its_time():
    with serving() as server:
        server.connect(PLAIN[:50])
        server.until(lambda: server.worker.keepalived_conns and the_conn(server.worker).received)
        conn = the_conn(server.worker)
        ends_at = conn.timeout
        server.clients[0].sendall(PLAIN[50:60])
        server.until(lambda: len(conn.received) == 60)
        assert conn.timeout == ends_at  # more bytes buy no more time
        conn.timeout, server.worker._swept_at = 0.0, 0.0
        server.until(lambda: server.worker.nr_conns == 0)


@pytest.mark.parametrize(
    "refused",
    [b"GARBAGE\r\n", b"get / HTTP/1.1\r\n", b"GET / HTTP/9.9\r\n", b"\x16\x03\x01\x02\x00", b"GET  / HTTP/1.1\r\n"],
)
def test_what_is_no_request_is_not_waited_for(refused):
    assert read_call(refused) is None


def test_a_client_that_will_not_close_does_not_stop_the_loop():
    """gthread itself waits two seconds for it in its main loop."""
    with serving() as server:
        client = server.connect(ELSE.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
        assert server.read(client).endswith(b"site")
        server.until(lambda: server.worker._lingering)
        assert server.read(server.connect(PLAIN)).endswith(b"{}")
        assert server.worker._lingering
        [conn] = server.worker._lingering
        conn.timeout, server.worker._swept_at = 0.0, 0.0
        server.until(lambda: not server.worker._lingering)
        assert server.worker.nr_conns == 1


def test_at_the_end_what_was_asked_is_answered_and_who_waits_is_let_go():
    with serving() as server:
        worker = server.worker
        worker._desk.may_answer.clear()
        idle, asked, half = server.connect(), server.connect(PLAIN), server.connect(PLAIN[:40])
        server.until(lambda: any(conn.is_busy for conn in worker.keepalived_conns))
        late = server.connect()
        server.until(lambda: len(worker.keepalived_conns) == 4)
        late.sendall(PLAIN)  # in the kernel's hands when the end begins
        worker.alive = False
        worker._desk.may_answer.set()
        half.sendall(PLAIN[40:])
        for client in (asked, late, half):
            answer = server.read(client)
            assert b"Connection: close\r\n" in answer
            assert answer.endswith(b"{}")
        assert server.read(idle) is None
        server.until(lambda: worker.nr_conns == 0)


def test_when_all_connections_are_taken_the_longest_waiting_make_room():
    with serving(worker_connections=4, threads=1) as server:
        worker = server.worker
        first = server.connect()
        for _ in range(3):
            server.connect(PLAIN[:30])
        server.until(lambda: worker.nr_conns < 4)
        assert server.read(first) is None


def test_pipelined_requests_of_both_kinds_are_answered_in_order():
    with serving() as server:
        client = server.connect(ELSE + PLAIN + ELSE + PLAIN[:30])
        found = server.read(client, times=3)
        client.setblocking(True)
        client.sendall(PLAIN[30:])
        found += server.read(client)
        bodies = [part.rpartition(b"\r\n\r\n")[2] for part in found.split(b"HTTP/1.1 ")[1:]]
        site_told = [f"{path} site".encode() for path in ("/login/", f"/api/jobs/{JOB}/status", "/login/")]
        assert bodies == [*site_told, b"{}"]


HEADERS = {
    "twice": "Host: localhost\r\nAuthorization: Bearer x",
    "folded": "User-Agent: a\r\n b",
    "a space before the colon": "User-Agent : a",
    "a space before the name": " User-Agent: a",
    "no colon": "User-Agent",
    "a bare line feed": "User-Agent: a\nX: b",
    "a bare carriage return": "User-Agent: a\rX: b",
    "a NUL": "User-Agent: a\0b",
    "a tab": "User-Agent:\ta",
    "letters beyond ASCII": "User-Agent: \u00e9",
    "chunks": "Transfer-Encoding: chunked",
    "no chunks": "Transfer-Encoding: identity",
    "a length for nothing": "Content-Length: 0",
    "an expectation": "Expect: 100-continue",
    "another protocol": "Upgrade: h2c",
    "no other request": "Connection: close",
    "an underscore": "X_Forwarded_For: 127.0.0.1",
    "a scheme that no proxy of ours tells": "X-Forwarded-Proto: https",
    "a cookie": "Cookie: a=b",
}
LINES = {
    "an absolute address": PLAIN.replace(b"GET /", b"GET http://localhost/"),
    "HTTP/1.0": PLAIN.replace(b"HTTP/1.1", b"HTTP/1.0"),
    "a query": PLAIN.replace(b"/status", b"/status?a=1"),
    "a fragment": PLAIN.replace(b"/status", b"/status#a"),
    "another case": PLAIN.replace(JOB[:8].encode(), JOB[:8].upper().encode()),
    "escapes": PLAIN.replace(b"/status", b"/%73tatus"),
    "dots": PLAIN.replace(b"/api/jobs/", b"/api/jobs/../jobs/"),
    "no host": PLAIN.replace(b"Host: localhost\r\n", b""),
    "one behind it": PLAIN + PLAIN,
    "a body": PLAIN + b"x",
    "a long head": PLAIN.replace(b"localhost", b"a" * 4000),
}


@pytest.mark.parametrize("case", HEADERS)
def test_a_head_with_anything_odd_is_gunicorns_to_judge(case):
    odd = PLAIN.replace(b"\r\n\r\n", f"\r\n{HEADERS[case]}\r\n\r\n".encode("latin-1"))
    assert isinstance(read_call(PLAIN), tuple)
    assert read_call(odd) is None


@pytest.mark.parametrize("case", LINES)
def test_a_request_in_any_other_way_of_writing_is_gunicorns_to_judge(case):
    assert read_call(LINES[case]) is None


@pytest.mark.parametrize(
    ("length", "body", "expected"),
    [
        ("2", b"{}", tuple), ("2", b"{", Incomplete), ("2", b"{}x", type(None)), ("+2", b"{}", type(None)),
        ("2, 2", b"{}", type(None)), ("0x2", b"{}", type(None)), ("-1", b"", type(None)), ("", b"{}", type(None)),
        ("65537", b"{}", type(None)), ("9" * 30, b"{}", type(None)), ("2\r\nContent-Length: 2", b"{}", type(None)),
        ("2\r\nTransfer-Encoding: chunked", b"{}", type(None)),
    ],
)  # fmt: skip
def test_the_length_of_a_body_is_read_in_one_way(length, body, expected):
    head = "POST /api/jobs HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer x\r\nContent-Type: application/json"
    assert isinstance(read_call(f"{head}\r\nContent-Length: {length}\r\n\r\n".encode() + body), expected)
