"""Pages are answered while more slow clients are connected than the web server has threads.

The server is a black box here: whatever serves the site must pass these tests.
"""

import socket
import threading
import time
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from django.conf import settings

from accounts.services import create_token
from accounts.tests.factories import UserFactory
from jobs.tests.factories import JobFactory
from tests.attacks.servers import PROCESSES, started

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.slow]

MIB = 1024 * 1024
# A page that takes longer than this under attack counts as stopped. It is generous: test machines are busy.
PATIENCE_SECONDS = 30
# The kernel shares out connections among the processes unevenly.
CLIENTS_PER_THREAD = 3


class SlowClients:
    """Connections that never pause long enough for a time-out, and never get far."""

    def __init__(self, port):
        self._port, self._senders, self._readers = port, [], []
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._trickle, daemon=True)

    def send(self, *parts):
        """Open a connection and send the parts, then one byte a second."""
        client = socket.create_connection(("127.0.0.1", self._port), timeout=30)
        for part in parts:
            client.sendall(part)
        self._senders.append(client)

    def ask(self, request):
        """Send a request, then read one byte of the answer a second."""
        client = socket.socket()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.settimeout(30)
        client.connect(("127.0.0.1", self._port))
        client.sendall(request)
        self._readers.append(client)

    def _trickle(self):
        while not self._is_over.wait(1):
            for client in self._senders:
                with suppress(OSError):
                    client.send(b"a", socket.MSG_DONTWAIT)
            for client in self._readers:
                with suppress(OSError):
                    client.recv(1, socket.MSG_DONTWAIT)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._is_over.set()
        self._thread.join()
        for client in self._senders + self._readers:
            client.close()


@pytest.fixture(scope="module", params=PROCESSES)
def server(request, django_db_setup, tmp_path_factory):
    """One server for all attacks: after each it must be as good as new."""
    with started(request.param, tmp_path_factory.mktemp("server")) as server:
        yield server


@pytest.fixture
def user():
    return UserFactory()


@pytest.fixture
def secret(user):
    return create_token(user, name="x")[1]


@contextmanager
def slow_clients(server, begin):
    """Start so many that every thread could be held several times; `begin(clients, number)` starts one."""
    with SlowClients(server.port) as clients:
        for number in range(server.threads * CLIENTS_PER_THREAD):
            begin(clients, number)
        time.sleep(1)  # until each has reached where it would be waited for
        yield


def assert_answers(server):
    for path in ("/healthz", "/login/", "/", "/readyz", "/api/leaderboards", "/healthz"):
        began = time.monotonic()
        try:
            status = server.get(path, PATIENCE_SECONDS)[0]
        except OSError as error:
            status = getattr(error, "code", error)
        seconds = time.monotonic() - began
        assert status in (200, 401), (path, status, seconds)
        assert seconds < PATIENCE_SECONDS, path


def head(*lines):
    return "\r\n".join([*lines, "Host: localhost", "", ""]).encode()


HEADS = {
    "over 16 KiB": head("GET /login/ HTTP/1.1", f"Cookie: {'a' * 20_000}")[:-2] + b"X-More: ",
    "an odd first line": b"GET /login/\xe9 ",
    "no request": b"\x16\x03\x01\x02\x00",
    "short": b"GET /login/ HTTP/1.1\r\nX-More: ",
}


def test_slow_heads_hold_no_thread(server):
    with slow_clients(server, lambda clients, number: clients.send(list(HEADS.values())[number % len(HEADS)])):
        assert_answers(server)


FORM = "Content-Type: application/x-www-form-urlencoded"
MULTIPART = "Content-Type: multipart/form-data; boundary=edge"
FILE = b'--edge\r\nContent-Disposition: form-data; name="files"; filename="main.zip"\r\n\r\n'


def test_slow_bodies_hold_no_thread(server, secret):
    token = f"Authorization: Bearer {secret}"
    upload = "POST /api/submissions HTTP/1.1"
    bodies = [
        [head(upload, token, MULTIPART, f"Content-Length: {3 * MIB}"), FILE, b"a" * 100_000],
        [head(upload, token, MULTIPART, "Content-Length: 100000"), FILE, b"a" * 80_000],
        [head(upload, token, MULTIPART, "Transfer-Encoding: chunked"), b"fffff\r\n"],
        [head("POST /login/ HTTP/1.1", FORM, "Content-Length: 50"), b"username="],
        [head("POST /login/ HTTP/1.1", FORM, "Content-Length: 900000"), b"username=" + b"a" * 70_000],
        [head("POST /login/ HTTP/1.1", FORM, "Transfer-Encoding: chunked"), b"fffff\r\n"],
        [head("POST /login/ HTTP/1.1", MULTIPART, f"Content-Length: {3 * MIB}"), FILE, b"a" * 100_000],
        [head("POST /api/auth/login HTTP/1.1", "Content-Type: application/json", "Content-Length: 900000"), b"{"],
    ]
    with slow_clients(server, lambda clients, number: clients.send(*bodies[number % len(bodies)])):
        assert_answers(server)


def test_strangers_hold_no_thread_for_uploads_by_a_body_that_they_announce(server, secret):
    lines = ["POST /login/ HTTP/1.1", "Cookie: csrftoken=a", FORM, "Content-Length: 60000", "Expect: 100-continue"]
    body = b"a" * 100_000
    upload = head(
        "POST /api/submissions HTTP/1.1", f"Authorization: Bearer {secret}", MULTIPART, f"Content-Length: {len(body)}"
    )
    with (
        slow_clients(server, lambda clients, _: clients.send(head(*lines))),
        socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE_SECONDS / 2) as client,
    ):
        client.sendall(upload + body)
        assert client.recv(100).startswith(b"HTTP/1.1 400")


@pytest.fixture
def artifact(user):
    """The address of a file that is larger than what a kernel keeps for a reader."""
    name = "slow/weights.bin"
    path = Path(settings.ARTIFACT_ROOT) / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(bytes(16 * MIB))
    item = {"path": "weights.bin", "bytes": 16 * MIB, "sha256": "0" * 64, "name": name}
    job = JobFactory(user=user, status="completed", artifacts=[item])
    yield f"/api/jobs/{job.pk}/artifacts/weights.bin"
    path.unlink()


def test_slow_readers_hold_no_thread(server, secret, artifact):
    request = head(f"GET {artifact} HTTP/1.1", f"Authorization: Bearer {secret}")
    with slow_clients(server, lambda clients, _: clients.ask(request)):
        assert_answers(server)


def test_a_file_arrives_whole_at_a_reader_that_pauses(server, secret, artifact):
    """What the client did not take at once arrives later, byte for byte."""
    content = bytes(range(256)) * (16 * MIB // 256)
    (Path(settings.ARTIFACT_ROOT) / "slow/weights.bin").write_bytes(content)
    request = head(f"GET {artifact} HTTP/1.1", f"Authorization: Bearer {secret}")
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as client:
        for _ in range(2):
            client.sendall(request)
            time.sleep(1)
            with client.makefile("rb") as answer:
                lines = list(iter(answer.readline, b"\r\n"))
                assert lines[0].startswith(b"HTTP/1.1 200"), lines
                assert answer.read(len(content)) == content
