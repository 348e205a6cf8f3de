"""`manage.py doctor`: what it finds wrong is wrong, with the command that mends it; a part that hangs is a finding."""

import io
import json
import threading
import time
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from django.core.management import CommandError, call_command
from django.db import OperationalError
from django.utils import timezone

from jobs.models import TrackingOutbox
from jobs.tests.factories import JobFactory, WorkerFactory
from leaderboard_site.doctor import machine, parts, work
from leaderboard_site.doctor.findings import OK, WARNING, WRONG, Found, run_check
from leaderboard_site.management.commands import doctor
from leaderboards.tests.factories import LeaderboardFactory


def look(check):
    """[(state, what, mend)] of one check, in this thread."""
    found = Found("check")
    check(found)
    return [(finding.state, finding.what, finding.mend) for finding in found.findings]


def wrong(check, word, mend=""):
    """That the check finds exactly this wrong."""
    bad = [(what, how) for state, what, how in look(check) if state not in (OK, "skipped")]
    assert len(bad) == 1 and word in bad[0][0] and mend in bad[0][1], bad


def is_well(check):
    states = {state for state, _, _ in look(check)}
    assert states == {OK}, look(check)


def call(*arguments):
    out = io.StringIO()
    try:
        call_command("doctor", *arguments, stdout=out)
    except SystemExit as ended:
        return ended.code, out.getvalue()
    return 0, out.getvalue()


@pytest.mark.django_db
def test_the_servers_of_this_test_are_well():
    is_well(parts.schema)
    is_well(parts.clock)
    is_well(parts.storage)
    wrong(parts.postgresql, "fsync is off", "ALTER SYSTEM SET fsync = on")  # they are without, to be fast
    assert look(parts.redis)[0][0] == OK


@pytest.mark.django_db(transaction=True)
def test_the_command_as_text_and_as_json():
    code, out = call("--only", "schema", "redis", "workers")
    assert code == 1
    assert "wrong    workers     no worker takes jobs of the class small" in out
    assert "-> manage.py worker" in out
    code, out = call("--json", "--only", "schema", "clock")
    told = json.loads(out)
    assert (code, [(one["check"], one["state"]) for one in told]) == (0, [("schema", "ok"), ("clock", "ok")])
    assert set(told[0]) == {"check", "state", "what", "mend"}
    assert json.loads(call("--json", "--only", "schema", "clock", "--skip", "schema")[1])[0]["check"] == "clock"


@pytest.mark.parametrize("option", ["--only", "--skip"])
def test_an_unknown_check_is_refused(option):
    with pytest.raises(CommandError, match=r"unknown 'heart'; known are software"):
        call(option, "heart")


@pytest.mark.django_db
def test_without_the_database_the_rest_is_still_looked_at(monkeypatch):
    def away():
        raise OperationalError("away")

    monkeypatch.setattr(doctor.connection.introspection, "table_names", away)
    code, out = call("--only", "schema", "workers", "gpu", "--json")
    assert [(one["check"], one["state"]) for one in json.loads(out)] == [
        ("schema", "skipped"),
        ("gpu", "ok"),
        ("workers", "skipped"),
    ]
    assert code == 0


def test_a_check_that_hangs_or_breaks_is_a_finding():
    began = time.monotonic()
    hangs = run_check("mlflow", lambda found: time.sleep(30), seconds=0.1)
    assert (hangs[0].state, time.monotonic() - began < 10) == (WRONG, True)
    broken = run_check("mlflow", lambda found: 1 / 0, seconds=10)
    assert (broken[0].state, broken[0].what) == (WRONG, "ZeroDivisionError: division by zero")


# --- parts ---------------------------------------------------------------------------------------------------------
@pytest.mark.django_db
def test_schema(monkeypatch):
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE jobs_job DISABLE TRIGGER jobs_job_guard")
    wrong(parts.schema, "trigger", "ENABLE TRIGGER jobs_job_guard")
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE jobs_job ENABLE TRIGGER jobs_job_guard")
        cursor.execute("DELETE FROM django_migrations WHERE app = 'jobs' AND name = '0003_guard'")
    assert "manage.py migrate" in {mend for _, _, mend in look(parts.schema)}


@pytest.mark.django_db
def test_a_newer_schema_than_the_code():
    from django.db.migrations.recorder import MigrationRecorder

    MigrationRecorder.Migration.objects.create(app="jobs", name="9999_future")
    wrong(parts.schema, "jobs.9999_future was applied by a newer version")


@pytest.mark.django_db
def test_a_clock_that_is_wrong(monkeypatch):
    real = time.time
    monkeypatch.setattr(parts.time, "time", lambda: real() - 60)
    wrong(parts.clock, "60.0 s behind the database's", "timedatectl")


def test_redis_away_and_open(settings, monkeypatch):
    class Away:
        def info(self):
            raise parts.RedisError("refused")

    monkeypatch.setattr(parts.queue, "connection", Away)
    wrong(parts.redis, "does not answer", "REDIS_URL")

    class Open(Away):
        def info(self):
            return {"redis_version": "7", "aof_enabled": 1, "maxmemory_policy": "allkeys-lru"}

        def set(self, *given, **named):
            pass

        delete = set

    monkeypatch.setattr(parts.queue, "connection", Open)
    settings.REDIS_URL = "redis://10.0.0.1:6379/0"
    states = look(parts.redis)
    assert [state for state, _, _ in states] == [OK, WARNING, WRONG]
    assert "without a password" in states[2][1]


def test_mlflow_away(settings):
    settings.MLFLOW_TRACKING_URI = "http://user:hidden@127.0.0.1:9"
    wrong(parts.mlflow, "127.0.0.1:9 does not answer", "MLFLOW_TRACKING_URI")
    assert "hidden" not in str(look(parts.mlflow))


def test_a_wrong_secret_of_mlflow(settings, mlflow_url):
    assert [state for state, _, _ in look(parts.mlflow)] == [OK]
    settings.MLFLOW_TRACKING_PASSWORD = "another"
    wrong(parts.mlflow, "answers 401 Unauthorized", "MLFLOW_TRACKING_PASSWORD_FILE")


def test_an_mlflow_without_a_secret(settings):
    class Open(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"3.17.2")

        def log_message(self, *given):
            pass

    server = HTTPServer(("127.0.0.1", 0), Open)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    settings.MLFLOW_TRACKING_URI = f"http://127.0.0.1:{server.server_port}"
    try:
        found = look(parts.mlflow)
    finally:
        server.shutdown()
        server.server_close()
    assert [state for state, _, _ in found] == [WARNING, OK]
    assert "answers without a secret" in found[0][1]


def test_a_storage_that_cannot_be_written(settings, tmp_path):
    (tmp_path / "file").write_text("")
    broken = {
        "BACKEND": "submissions.storage.DurableFileSystemStorage",
        "OPTIONS": {"location": str(tmp_path / "file")},
    }
    settings.STORAGES = {**settings.STORAGES, "submissions": broken}
    wrong(parts.storage, "submissions: ", "mkdir -p")


# --- machine -------------------------------------------------------------------------------------------------------
def test_disk_full_and_out_of_inodes(settings, monkeypatch):
    is_well(machine.disk)

    class State:
        f_frsize, f_blocks, f_bavail, f_files, f_favail = 4096, 10**9, 1000, 10**6, 10**6

    monkeypatch.setattr(machine.os, "statvfs", lambda path: State)
    found = look(machine.disk)
    assert found and all(state == WRONG and "3.9 MiB free of 3.7 TiB" in what for state, what, _ in found)
    State.f_bavail, State.f_favail = 10**9, 10
    found = look(machine.disk)
    assert found and all(state == WRONG and "10 inodes free" in what for state, what, _ in found)


def test_secrets_are_looked_at_and_never_shown(settings, tmp_path):
    settings.VAR_DIR = settings.BASE_DIR = tmp_path
    settings.SECRET_KEY = "x7-QbnP0fjWz_2ko9sVtYcHq41LmRe8d"
    is_well(machine.secrets)
    for key in ("short", "a" * 60, "a-long-random-text"):
        settings.SECRET_KEY = key
        wrong(machine.secrets, "SECRET_KEY is short or not random", "token_urlsafe")
    assert "a-long-random-text" not in str(look(machine.secrets))
    settings.SECRET_KEY = "x7-QbnP0fjWz_2ko9sVtYcHq41LmRe8d"
    (tmp_path / "operator.password").write_text("p")
    (tmp_path / "operator.password").chmod(0o644)
    wrong(machine.secrets, "operator.password can be read by others", "chmod 600")


@pytest.mark.django_db
def test_a_data_set_that_is_not_here(settings, tmp_path):
    settings.DATASET_ROOT = tmp_path
    LeaderboardFactory(dataset="bottles")
    wrong(machine.datasets, "bottles is not on this machine", str(tmp_path))
    (tmp_path / "bottles").mkdir()
    is_well(machine.datasets)


def test_gpu(monkeypatch, tmp_path):
    def program(text):
        (tmp_path / "nvidia-smi").write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / "nvidia-smi").chmod(0o755)

    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    program("echo '0, GPU-1, 143771, 0, 5, NVIDIA H200'")
    assert look(machine.gpu) == [(OK, "0: NVIDIA H200, 0 B of 140 GiB in use", "")]
    program("echo 'Driver/library version mismatch'; exit 18")
    wrong(machine.gpu, "Driver/library version mismatch", "reboot")


# --- work ----------------------------------------------------------------------------------------------------------
@pytest.mark.django_db
def test_workers_reconciler_and_backlog():
    limits = {"memory": "watchdog", "processes": "rlimit"}
    WorkerFactory(name="w", state="idle", resource_classes=["small"], heartbeat_at=timezone.now(), limits=limits)
    assert "w has no control group (memory: watched)" in [what for _, what, _ in look(work.workers)]
    wrong(work.workers, "no worker takes jobs of the class medium", "manage.py worker")
    wrong(work.reconciler, "none leads", "manage.py reconcile")
    is_well(work.stuck)
    is_well(work.outbox)
    row = TrackingOutbox.objects.create(job=JobFactory(status="completed"), last_error="refused")
    is_well(work.outbox)
    TrackingOutbox.objects.filter(pk=row.pk).update(created_at=timezone.now() - timedelta(hours=2))
    wrong(work.outbox, "for 120 minutes: refused")
    TrackingOutbox.objects.filter(pk=row.pk).update(refusals=5)
    wrong(work.outbox, f"MLflow does not take job {row.pk}: refused")


@pytest.mark.django_db
def test_stuck_jobs_are_named():
    job = JobFactory(status="running", lease_until=timezone.now() - timedelta(hours=1))
    wrong(work.stuck, str(job.pk), "Take it back")
