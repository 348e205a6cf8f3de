"""gunicorn with the lane's worker, as it runs for real: answers in order, whatever way the bytes come in."""

import json
import signal
import socket
import sys
import threading
import time
from contextlib import contextmanager, suppress

import psycopg
import pytest
from django.conf import settings
from django.db import connection

from accounts.services import create_token
from accounts.tests.factories import UserFactory
from jobs.models import Job
from jobs.tests.factories import JobFactory
from leaderboard_site.embedded.servers import free_port
from submissions.tests.factories import SubmissionFactory
from tests.serving import serving

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.slow]


@contextmanager
def gunicorn(folder, *arguments, **changes):
    """A server of one process on the test's database; its port and its process."""
    port = free_port()
    command = [sys.executable, "-m", "gunicorn", "leaderboard_site.wsgi", "--bind", f"127.0.0.1:{port}"]
    command += ["--workers", "1", "--threads", "4", "--no-control-socket", "--access-logfile", "-", *arguments]
    with serving(command, port, folder, **changes) as process:
        yield port, process


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
        return status, headers, self.file.read(int(headers.get("content-length", 0)))


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


@contextmanager
def database_in_between():
    """A way to the test's database that can be cut: its port, and the switch."""
    settings_dict, is_open, carried = connection.settings_dict, threading.Event(), []
    is_open.set()
    listener = socket.create_server(("127.0.0.1", 0))

    def carry(source, target):
        with suppress(OSError):
            while data := source.recv(65536):
                target.sendall(data)
        for one in (source, target):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def accept():
        with suppress(OSError):
            while True:
                client, _ = listener.accept()
                if not is_open.is_set():
                    client.close()
                    continue
                server = socket.socket(socket.AF_UNIX)
                server.connect(f"{settings_dict['HOST']}/.s.PGSQL.{settings_dict['PORT']}")
                carried.extend([client, server])
                for pair in ((client, server), (server, client)):
                    threading.Thread(target=carry, args=pair, daemon=True).start()

    def cut():
        is_open.clear()
        for one in carried:
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield listener.getsockname()[1], cut, is_open.set
    finally:
        cut()
        listener.close()
        for one in carried:
            one.close()


def post(secret, submission, *more):
    body = json.dumps({"submission_id": str(submission.pk)}).encode()
    lines = ["POST /api/jobs HTTP/1.1", "Host: localhost", f"Authorization: Bearer {secret}", *more]
    lines += ["Content-Type: application/json", f"Content-Length: {len(body)}", "", ""]
    return "\r\n".join(lines).encode() + body


@pytest.mark.skipif(not connection.settings_dict["HOST"].startswith("/"), reason="the database is reached by TCP")
def test_a_database_that_goes_and_comes_back_is_said_and_then_forgotten(tmp_path):
    user = UserFactory()
    secret = create_token(user, name="x")[1]
    submission = SubmissionFactory(user=user)
    path = f"/api/jobs/{JobFactory(user=user, submission=submission, status='completed').pk}/status"
    names = connection.settings_dict
    with database_in_between() as (port, cut, mend):
        url = f"postgresql://{names['USER']}@127.0.0.1:{port}/{connection.settings_dict['NAME']}?sslmode=disable"
        with gunicorn(tmp_path, DATABASE_URL=url) as (web, _):
            wire = Wire(web)
            for _ in range(2):
                assert wire.send(get(path, secret)).answer()[0] == 200
                assert wire.send(post(secret, submission)).answer()[0] == 202
                cut()
                for request in (get(path, secret), post(secret, submission)) * 2:
                    status, headers, _ = wire.send(request).answer()
                    assert (status, headers["retry-after"]) == (503, "10")
                mend()
            assert wire.send(get(path, secret)).answer()[0] == 200
    assert Job.objects.filter(user=user, status="pending").count() == 2


def test_a_server_that_is_told_to_end_answers_what_it_has_begun(tmp_path):
    """The person's row is locked from outside, so that the calls are in hand when the word comes."""
    user = UserFactory()
    secret, submission = create_token(user, name="x")[1], SubmissionFactory(user=user)
    path = f"/api/jobs/{JobFactory(user=user, status='completed').pk}/status"
    with (
        psycopg.connect(**connection.get_connection_params() | {"cursor_factory": psycopg.Cursor}) as outside,
        gunicorn(tmp_path) as (port, server),
    ):
        outside.execute("LOCK TABLE jobs_job IN ACCESS EXCLUSIVE MODE")
        asked = [Wire(port).send(get(path, secret)), Wire(port).send(post(secret, submission))]
        waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted"
        deadline = time.monotonic() + 60
        while outside.execute(waiting).fetchone()[0] < 2:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        server.send_signal(signal.SIGTERM)
        time.sleep(0.3)  # any moment after it will do
        outside.rollback()
        answers = [wire.answer() for wire in asked]
        assert [answer[0] for answer in answers] == [200, 202]
        assert {answer[1]["connection"] for answer in answers} == {"close"}
        began = time.monotonic()
        server.wait(60)
        # gunicorn would wait its whole graceful time for connections that nobody closes.
        assert time.monotonic() - began < 25


def test_a_worker_that_has_served_its_number_is_replaced_and_nobody_is_left_out(tmp_path):
    user = UserFactory()
    secret = create_token(user, name="x")[1]
    path = f"/api/jobs/{JobFactory(user=user, status='completed').pk}/status"
    told = []
    with gunicorn(tmp_path, "--max-requests", "5") as (port, _):
        wire = Wire(port)
        for _ in range(20):
            told.append(wire.send(get(path, secret)).answer())
            if told[-1][1]["connection"] == "close":
                assert wire.file.read() == b""
                wire = Wire(port)
    assert [answer[0] for answer in told] == [200] * 20
    assert (tmp_path / "log").read_text().count("Booting worker") > 1


def test_a_body_that_stalls_gives_its_thread_back(tmp_path):
    """As many as the pool has threads, and none of them ever comes to its end."""
    user = UserFactory()
    secret = create_token(user, name="x")[1]
    (tmp_path / "conf.py").write_text(
        f"import sys; sys.path.insert(0, {str(settings.BASE_DIR)!r})\n"
        "from leaderboard_site.gunicorn_hooks import *\n"
        "from leaderboard_site.lane import worker\n"
        "worker.STALL_SECONDS = 1\n"
    )
    heads = [
        ["POST /api/submissions HTTP/1.1", "Content-Type: multipart/form-data; boundary=b", "Content-Length: 90000"],
        ["POST /api/submissions HTTP/1.1", "Content-Type: multipart/form-data; boundary=b", "Content-Length: 9000000"],
        ["POST /api/auth/login HTTP/1.1", "Content-Type: application/json", "Content-Length: 100"],
        ["POST /login/ HTTP/1.1", "Content-Type: application/x-www-form-urlencoded", "Content-Length: 100"],
    ]
    with gunicorn(tmp_path, "--config", str(tmp_path / "conf.py"), "--keep-alive", "3") as (port, _):
        stalled = [
            Wire(port).send(
                "\r\n".join([*head, "Host: localhost", f"Authorization: Bearer {secret}", "", "a"]).encode()
            )
            for head in heads
        ]
        status = Wire(port).send(get("/healthz", secret)).answer()[0]
        assert status == 200
        for wire in stalled:
            line = wire.file.readline()
            assert line == b"" or line.split()[1] in (b"400", b"403"), line
    assert "Traceback" not in (tmp_path / "log").read_text()


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


def test_a_statement_that_hangs_is_given_up_and_the_lane_goes_on(tmp_path):
    job = JobFactory(status="running")
    secret = create_token(job.user, name="x")[1]
    asked = get(f"/api/jobs/{job.pk}/status", secret)
    body = json.dumps({"submission_id": str(SubmissionFactory(user=job.user).pk)})
    wish = f"POST /api/jobs HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {secret}\r\n"
    wish += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n{body}"
    database = connection.settings_dict
    with gunicorn(tmp_path, LANE_STATEMENT_SECONDS="1") as (port, _):
        wire = Wire(port)
        with psycopg.connect(
            dbname=database["NAME"], user=database["USER"], host=database["HOST"], port=database["PORT"]
        ) as other:
            other.execute("LOCK TABLE jobs_job IN ACCESS EXCLUSIVE MODE")
            for request in (asked, wish.encode()):
                status, headers, answer = wire.send(request).answer()
                assert (status, json.loads(answer)["code"], headers["retry-after"]) == (503, "unavailable", "10")
        assert wire.send(asked).answer()[0] == 200
        assert wire.send(wish.encode()).answer()[0] == 202
    assert Job.objects.count() == 2
