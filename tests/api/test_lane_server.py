"""gunicorn with the lane's worker, as it runs for real: answers in order, whatever way the bytes come in."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager

import pytest
from django.conf import settings
from django.db import connection

from accounts.services import create_token
from accounts.tests.factories import UserFactory
from jobs.tests.factories import JobFactory
from leaderboard_site.embedded.servers import free_port, http_answers

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.slow]


@contextmanager
def gunicorn(folder, **changes):
    """A server of one process on the test's database; its port and its process."""
    port = free_port()
    database = connection.settings_dict
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("PYTEST", "COV_", "PROMETHEUS"))},
        "DATABASE_URL": f"postgresql://{database['USER']}@/{database['NAME']}?host={database['HOST']}&port={database['PORT']}",
        "MAINTENANCE_FILE": str(folder / "maintenance"),
        **changes,
    }
    command = [sys.executable, "-m", "gunicorn", "leaderboard_site.wsgi", "--bind", f"127.0.0.1:{port}"]
    command += ["--workers", "1", "--threads", "4", "--no-control-socket", "--access-logfile", "-"]
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen(command, cwd=settings.BASE_DIR, env=environment, stdout=log, stderr=log)
        try:
            deadline = time.monotonic() + 60
            while not http_answers(port, "/healthz"):
                assert time.monotonic() < deadline, (folder / "log").read_text()
                time.sleep(0.1)
            yield port, server
        finally:
            server.terminate()
            server.wait(60)


class Wire:
    """One connection, and what comes back on it."""

    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=30)
        self.file = self.socket.makefile("rb")

    def send(self, *parts):
        for part in parts:
            self.socket.sendall(part)
            if len(parts) > 1:
                time.sleep(0.05)
        return self

    def answer(self):
        """Status, headers and body of the next answer."""
        status = int(self.file.readline().split()[1])
        headers = {}
        while line := self.file.readline().strip():
            name, _, value = line.decode().partition(": ")
            headers[name.lower()] = value
        return status, headers, self.file.read(int(headers["content-length"]))


def get(path, secret, *more):
    lines = [f"GET {path} HTTP/1.1", "Host: localhost", f"Authorization: Bearer {secret}", *more, "", ""]
    return "\r\n".join(lines).encode()


def test_answers_come_in_order_whatever_way_the_bytes_come_in(tmp_path):
    user = UserFactory()
    secret = create_token(user, name="x")[1]
    jobs = [JobFactory(user=user, status="running") for _ in range(3)]
    paths = [f"/api/jobs/{job.pk}/status" for job in jobs]
    ids = [str(job.pk) for job in jobs]

    def told(wire):
        status, headers, body = wire.answer()
        assert (status, headers["content-security-policy"][:18], len(headers["x-request-id"])) == (
            200,
            "default-src 'self'",
            32,
        )
        return json.loads(body)["job_id"]

    with gunicorn(tmp_path) as (port, server):
        wire = Wire(port)
        # One after the other on one connection, by the lane and (with a header it does not know) by the site in turn.
        for number in (0, 1, 2):
            assert told(wire.send(get(paths[number], secret))) == ids[number]
            assert told(wire.send(get(paths[number], secret, "X-Else: 1"))) == ids[number]
        # Cut in the middle of the head.
        whole = get(paths[1], secret)
        assert told(wire.send(whole[:30], whole[30:90], whole[90:])) == ids[1]
        # The next one before the first is answered.
        wire.send(get(paths[0], secret))
        wire.send(get(paths[1], secret))
        wire.send(get(paths[2], secret))
        assert [told(wire) for _ in range(3)] == ids
        # Three in one piece.
        wire.send(b"".join(get(path, secret) for path in paths))
        assert [told(wire) for _ in range(3)] == ids
        # What is no HTTP at all is refused as ever, and harms nobody.
        assert Wire(port).send(b"GET /api/jobs/\r\n\r\n").answer()[0] == 400
        assert told(wire.send(get(paths[2], secret))) == ids[2]
        # Who goes before the answer came leaves nothing behind.
        for _ in range(20):
            Wire(port).send(get(paths[0], secret)).socket.close()
        assert told(wire.send(get(paths[0], secret))) == ids[0]
        assert Wire(port).send(get(paths[0], "nobodys")).answer()[0] == 401
        server.send_signal(signal.SIGTERM)
        assert wire.file.read() == b""  # an idle connection is closed, and holds up nothing
    log = (tmp_path / "log").read_text()
    assert f'"GET {paths[0]} HTTP/1.1" 200' in log
    assert "Traceback" not in log


def test_requests_of_the_lane_are_counted_with_the_sites(tmp_path):
    user = UserFactory()
    job = JobFactory(user=user, status="running")
    secret = create_token(user, name="x")[1]
    path = f"/api/jobs/{job.pk}/status"
    with gunicorn(tmp_path, METRICS_NETWORKS="127.0.0.0/8") as (port, _):
        wire = Wire(port)
        for more in ((), (), ("X-Else: 1",)):
            assert wire.send(get(path, secret, *more)).answer()[0] == 200
        text = wire.send(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n").answer()[2].decode()
    line = 'leadersboard_http_requests_total{method="GET",route="/api/jobs/<uuid:job_id>/status",status="200"} 3.0'
    assert line in text
