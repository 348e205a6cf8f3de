"""The lane's worker and slow clients: where each request waits, and when it is given up."""

import errno
import os
import socket
import threading
import time

import pytest

from leaderboard_site.lane import slow_clients
from leaderboard_site.lane.wire import BAD, LOGINS, PAGES, PROBES, TOO_LONG, TRANSFERS, Incomplete, way_of
from tests.api.test_lane_worker import ELSE, PLAIN, serving, the_conn

MIB = 1024 * 1024
POST = "POST /login/ HTTP/1.1"


def request(line, *headers, body=b""):
    return "\r\n".join([line, "Host: localhost", *headers, "", ""]).encode("latin-1") + body


WAYS = {
    "no body": (request("GET / HTTP/1.1"), PAGES),
    "a small body, whole": (request("POST /submit/ HTTP/1.1", "Content-Length: 20", body=b"ab" * 10), PAGES),
    "a small body, not whole": (request(POST, "Content-Length: 20", body=b"a"), Incomplete),
    "a large body": (request(POST, "Content-Length: 65537", body=b"a"), TRANSFERS),
    "a body in chunks": (request(POST, "Transfer-Encoding: chunked", body=b"5\r\n"), TRANSFERS),
    "a body that waits to be asked for": (request(POST, "Content-Length: 20", "Expect: 100-continue"), Incomplete),
    "a large body that waits to be asked for": (
        request(POST, "Content-Length: 65537", "Expect: 100-continue"), TRANSFERS,
    ),
    "two lengths": (request("POST / HTTP/1.1", "Content-Length: 1", "Content-Length: 1"), TRANSFERS),
    "no number": (request("POST / HTTP/1.1", "content-length: +1"), TRANSFERS),
    "an artifact": (request("GET /api/jobs/1/artifacts/a.bin HTTP/1.1"), TRANSFERS),
    "a page with its name in the query": (request("GET /?next=/mlflow/ HTTP/1.1"), PAGES),
    "MLflow": (request("GET /mlflow/app HTTP/1.1"), TRANSFERS),
    "MLflow, written in another way": (request("GET /%6dlflow%2Fapp HTTP/1.1"), TRANSFERS),
    "the page to sign in": (request("GET /login/ HTTP/1.1"), PAGES),
    "signing in": (request("POST /login/?next=/ HTTP/1.1", "Content-Length: 1", body=b"a"), LOGINS),
    "signing in to the console": (request("POST /admin/logi%6e/ HTTP/1.1"), LOGINS),
    "signing in by the API": (request("POST /api/auth/login HTTP/1.1"), LOGINS),
    "signing up": (request("POST /sign-up/ HTTP/1.1"), LOGINS),
    "another password": (request("POST /account/password/ HTTP/1.1"), LOGINS),
    "ready": (request("GET /readyz HTTP/1.1"), PROBES),
    "a health check with a cookie": (request("HEAD /healthz HTTP/1.0", "Cookie: a=b"), PROBES),
    "an endless head": (b"GET / HTTP/1.1\r\nX: " + b"a" * 70_000, TOO_LONG),
    "no request": (b"\x16\x03\x01\x02\x00", BAD),
    "a small letter": (b"get / HTTP/1.1\r\n", BAD),
}  # fmt: skip


@pytest.mark.parametrize("case", WAYS)
def test_the_way_of_a_request(case):
    data, expected = WAYS[case]
    found = way_of(data)
    assert isinstance(found, Incomplete) if expected is Incomplete else found == expected


@pytest.mark.parametrize(
    ("data", "line"), [(WAYS["an endless head"][0], TOO_LONG), (WAYS["no request"][0], BAD)], ids=["endless", "none"]
)
def test_a_head_that_is_refused_is_answered_without_a_thread(data, line):
    with serving() as server:
        server.worker.enqueue_req = None
        client = server.connect(data)
        assert server.read(client).startswith(f"HTTP/1.1 {line}\r\nConnection: close\r\n".encode())


def test_more_large_bodies_than_may_wait_are_503():
    with serving() as server:
        server.worker._transfers = 1000
        client = server.connect(request("POST /login/ HTTP/1.1", "Content-Length: 100000"))
        assert server.read(client).startswith(b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 10\r\n")
        assert server.read(server.connect(ELSE)).endswith(b" site")


def reading(environ, start_response):
    """Read the whole body and answer with its length."""
    try:
        body = str(len(environ["wsgi.input"].read())).encode()
    except OSError as error:
        body = type(error).__name__.encode()
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]


def test_a_body_below_the_minimum_rate_is_given_up(monkeypatch):
    monkeypatch.setattr(slow_clients, "GRACE_SECONDS", 1)
    with serving() as server:
        server.worker.wsgi = reading
        client = server.connect(request("POST / HTTP/1.1", "Content-Length: 100000"))
        is_over = threading.Event()

        def trickle():
            while not is_over.wait(0.1):
                try:
                    client.send(b"a")
                except OSError:
                    return

        thread = threading.Thread(target=trickle)
        thread.start()
        assert server.read(client).endswith(b"TimeoutError")
        is_over.set()
        thread.join()


def test_a_body_above_the_minimum_rate_is_read_whole(monkeypatch):
    monkeypatch.setattr(slow_clients, "GRACE_SECONDS", 0)
    with serving() as server:
        server.worker.wsgi = reading
        client = server.connect(request("POST / HTTP/1.1", "Content-Length: 100000"), b"a" * 50_000)
        time.sleep(0.5)
        client.sendall(b"a" * 50_000)
        assert server.read(client).endswith(b"100000")


def file_and_bytes(content, path):
    """Return a site that sends the content as bytes at /bytes and as a file elsewhere."""
    path.write_bytes(content)

    def site(environ, start_response):
        if environ["PATH_INFO"] == "/bytes":
            start_response("200 OK", [("Content-Length", str(len(content)))])
            return [content[: MIB // 3], content[MIB // 3 :]]
        start_response("200 OK", [("Content-Length", str(len(content)))])
        return environ["wsgi.file_wrapper"](path.open("rb"))

    return site


@pytest.mark.parametrize("path", ["/bytes", "/file"])
def test_what_is_not_taken_at_once_arrives_whole_and_the_connection_goes_on(path, tmp_path):
    content = os.urandom(10 * MIB)
    with serving() as server:
        server.worker.wsgi = file_and_bytes(content, tmp_path / "file")
        client = server.connect()
        client.sendall(request(f"GET {path} HTTP/1.1"))
        server.until(lambda: server.worker._slow_readers._waiting)
        found = server.read(client)
        while len(found) < len(content):
            found += server.read(client, times=0)
        assert found.partition(b"\r\n\r\n")[2] == content
        client.setblocking(True)
        client.sendall(PLAIN)
        assert server.read(client).endswith(b"{}")


def test_a_file_system_that_cannot_sendfile_is_read(monkeypatch, tmp_path):
    def cannot(*_):
        raise OSError(errno.EINVAL, "")

    monkeypatch.setattr(os, "sendfile", cannot)
    with serving() as server:
        server.worker.wsgi = file_and_bytes(b"content", tmp_path / "file")
        client = server.connect(request("GET /file HTTP/1.1"))
        found = server.read(client)
        while not found.endswith(b"\r\n\r\ncontent"):
            found += server.read(client, times=0)  # fails when the connection is closed before


def test_a_reader_below_the_minimum_rate_is_given_up(monkeypatch, tmp_path):
    monkeypatch.setattr(slow_clients, "GRACE_SECONDS", 1)
    monkeypatch.setattr(slow_clients, "LEAST_BYTES_PER_SECOND", 64 * MIB)
    with serving() as server:
        server.worker.wsgi = file_and_bytes(bytes(16 * MIB), tmp_path / "file")
        server.connect(request("GET /file HTTP/1.1"))
        server.until(lambda: server.worker._slow_readers._waiting)
        server.until(lambda: server.worker.nr_conns == 0)


def test_the_oldest_slow_reader_makes_room(tmp_path):
    with serving() as server:
        server.worker._slow_readers._most = 2
        server.worker.wsgi = file_and_bytes(bytes(16 * MIB), tmp_path / "file")
        for count in (1, 2):
            server.connect(request("GET /file HTTP/1.1"))
            server.until(lambda count=count: len(server.worker._slow_readers._waiting) == count)
        server.connect(request("GET /file HTTP/1.1"))
        server.until(lambda: server.worker.nr_conns == 2)


def take(client, least):
    """Read so many bytes or a few more; return how many came."""
    count = 0
    while count < least and (data := client.recv(65536)):
        count += len(data)
    return count


def test_a_reader_who_takes_bytes_outlasts_a_newer_one_who_takes_none(tmp_path):
    with serving() as server:
        server.worker._slow_readers._most = 2
        server.worker.wsgi = file_and_bytes(bytes(16 * MIB), tmp_path / "file")
        clients = []
        for count in (1, 2):
            clients.append(server.connect(request("GET /file HTTP/1.1")))
            server.until(lambda count=count: len(server.worker._slow_readers._waiting) == count)
        reader, idler = clients
        taken = take(reader, 8 * MIB)
        server.connect(request("GET /file HTTP/1.1"))
        server.until(lambda: server.worker.nr_conns == 2)
        assert taken + take(reader, 16 * MIB - taken) >= 16 * MIB
        assert take(idler, 16 * MIB) < 16 * MIB


def test_an_event_of_a_reader_who_has_just_made_room_is_none():
    readers = slow_clients.SlowReaders(1)
    ends = [socket.socketpair() for _ in range(2)]
    first, second = [slow_clients.ClientSocket(pair[0]) for pair in ends]
    for sock in (first, second):
        sock.unsent = slow_clients.Unsent(0)
    readers._add(first, lambda _: first.close())
    readers._add(second, lambda _: second.close())
    readers._send(first, None)
    assert list(readers._waiting) == [second]
    for sock in (second, *(pair[1] for pair in ends)):
        sock.close()


def test_a_whole_small_body_is_awaited_in_the_main_loop():
    with serving() as server:
        server.worker.wsgi = reading
        client = server.connect(request("POST / HTTP/1.1", "Content-Length: 1000"), b"a" * 500)
        server.until(lambda: the_conn(server.worker).wanted)
        client.sendall(b"a" * 500)
        assert server.read(client).endswith(b"1000")


@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_a_small_body_that_waits_to_be_asked_for_is_awaited_in_the_main_loop(version):
    with serving() as server:
        server.worker.wsgi = reading
        line = f"POST / HTTP/{version}"
        client = server.connect(request(line, "Content-Length: 1000", "Expect: 100-continue", "Connection: close"))
        server.until(lambda: the_conn(server.worker).wanted)
        if version == "1.1":
            assert client.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        client.sendall(b"a" * 1000)
        assert server.read(client).endswith(b"1000")


def test_logins_that_wait_for_their_turn_hold_no_thread_for_pages():
    may_go_on = threading.Event()

    def waiting(environ, start_response):
        if environ["REQUEST_METHOD"] == "POST":
            assert may_go_on.wait(30)
        start_response("200 OK", [("Content-Length", "4")])
        return [b"page"]

    with serving() as server:
        server.worker.wsgi = waiting
        try:
            clients = [server.connect(request(POST)) for _ in range(20)]
            assert server.read(server.connect(ELSE)).endswith(b"page")
        finally:
            may_go_on.set()
        assert all(server.read(client).endswith(b"page") for client in clients)
