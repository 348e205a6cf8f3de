"""Health checks are answered while every thread that answers pages is busy."""

import importlib.util
import socket
import threading
import time
from contextlib import suppress
from pathlib import Path

import psycopg
import pytest
from django.conf import settings
from django.db import connection

from tests.attacks.servers import started

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.slow]

# The site with one more page, which leaves a file when it begins and computes until another is there.
BUSY_PAGE = """
from pathlib import Path
from uuid import uuid4

from django.http import HttpResponse
from django.urls import path

from leaderboard_site.urls import *


def busy(request):
    folder = Path(request.GET["folder"])
    (folder / f"begun-{uuid4()}").touch()
    while not (folder / "end").exists():
        sum(range(10_000))
    return HttpResponse()


urlpatterns = [path("busy/", busy), *urlpatterns]
"""
STILL_WORKING = """
SELECT count(*) FROM pg_stat_activity
WHERE datname = current_database() AND state <> 'idle' AND pid <> pg_backend_pid()
"""
SETTINGS = "from leaderboard_site.settings import *\nROOT_URLCONF = 'busy_urls'\n"


def docker_health():
    """The check of the web container, docker/health.py."""
    spec = importlib.util.spec_from_file_location("health", Path(settings.BASE_DIR) / "docker" / "health.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module", params=["1", "0"], ids=["lane", "no lane"])
def server(request, django_db_setup, tmp_path_factory):
    folder = tmp_path_factory.mktemp("server")
    (folder / "busy_urls.py").write_text(BUSY_PAGE)
    (folder / "busy_settings.py").write_text(SETTINGS)
    modules = {"DJANGO_SETTINGS_MODULE": "busy_settings", "PYTHONPATH": str(folder), "LANE": request.param}
    with started("make run", folder, **modules) as server:
        yield server


def ask_in_the_background(server, path):
    client = socket.create_connection(("127.0.0.1", server.port), timeout=30)
    client.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    threading.Thread(target=_read, args=(client,), daemon=True).start()


def _read(client):
    with client, suppress(OSError):
        client.settimeout(120)
        client.recv(1000)


def assert_is_well(server):
    for _ in range(20):  # as often as it takes to meet each process
        assert server.get("/healthz") == (200, b'{"status": "ok"}')
    docker_health().answers(server.port, "/healthz")
    status, body = server.get("/readyz")
    assert (status, b'"database": "ok"' in body) == (200, True)
    probe = "GET /healthz HTTP/1.1\r\nHost: localhost\r\nUser-Agent: kube-probe/1.37\r\nAccept: */*\r\n{}\r\n"
    for more in ("Connection: close\r\n", "Accept-Language: ja\r\nCookie: a=b\r\nConnection: close\r\n"):
        with socket.create_connection(("127.0.0.1", server.port), timeout=30) as client:
            client.sendall(probe.format(more).encode())
            with client.makefile("rb") as answer:
                assert answer.read().startswith(b"HTTP/1.1 200 OK\r\n")


def keep_all_threads_busy(server, path, count_busy):
    """Ask for the page until every thread answers it: the kernel shares connections out unevenly among processes."""
    deadline = time.monotonic() + 60
    while count_busy() < server.threads:
        assert time.monotonic() < deadline
        ask_in_the_background(server, path)
        time.sleep(0.05)


def test_health_is_answered_while_all_threads_compute(server, tmp_path):
    keep_all_threads_busy(server, f"/busy/?folder={tmp_path}", lambda: len(list(tmp_path.glob("begun-*"))))
    try:
        assert_is_well(server)
    finally:
        (tmp_path / "end").touch()


def test_health_is_answered_while_all_threads_wait_for_the_database(server):
    with psycopg.connect(**connection.get_connection_params() | {"cursor_factory": psycopg.Cursor}) as outside:
        outside.execute("LOCK TABLE leaderboards_leaderboard IN ACCESS EXCLUSIVE MODE")
        waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted"
        keep_all_threads_busy(server, "/", lambda: outside.execute(waiting).fetchone()[0])
        assert_is_well(server)
        outside.rollback()
        # The pages go on now, and must be done before the tables are emptied for the next test.
        while outside.execute(STILL_WORKING).fetchone()[0]:
            outside.rollback()
            time.sleep(0.05)
