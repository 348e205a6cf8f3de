"""/metrics: what it tells, to whom, at what cost."""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
import uuid
from datetime import timedelta
from pathlib import Path

import pytest
from django.conf import settings
from django.db import OperationalError
from django.test import Client
from django.utils import timezone
from prometheus_client.parser import text_string_to_metric_families

from accounts.tests.factories import UserFactory
from jobs.models import TrackingOutbox
from jobs.tally import tally_endings
from jobs.tests.factories import JobFactory, WorkerFactory
from leaderboard_site.embedded.servers import free_port, http_answers
from leaderboard_site.metrics import site
from leaderboard_site.settings import networks


@pytest.fixture(autouse=True)
def no_cache(monkeypatch):
    monkeypatch.setattr(site, "KEPT_SECONDS", 0.0)


def samples(client=None, **headers):
    """{(name, labels): value} of what /metrics answers."""
    response = (client or Client()).get("/metrics", headers=headers)
    assert (response.status_code, response.headers["Content-Type"].partition(";")[0]) == (200, "text/plain")
    families = text_string_to_metric_families(response.content.decode())
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in families
        for sample in family.samples
    }


def key(metric, /, **labels):
    return f"leadersboard_{metric}", tuple(sorted(labels.items()))


# --- requests ------------------------------------------------------------------------------------------------------
@pytest.mark.django_db
def test_requests_are_counted_by_route_and_never_by_path(client):
    job_id = uuid.uuid4()
    route = "/jobs/<uuid:job_id>/"
    counted = key("http_requests_total", method="GET", route=route, status="302")
    timed = key("http_request_seconds_count", route=route)
    before = samples()
    for _ in range(3):
        client.get(f"/jobs/{job_id}/")
    after = samples()
    assert after[counted] - before.get(counted, 0) == 3
    assert after[timed] - before.get(timed, 0) == 3
    assert not any(str(job_id) in str(name) for name in after)


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("method", "path", "labels"),
    [
        ("GET", "/static/nothing-here.css", {"method": "GET", "route": "(static)", "status": "404"}),
        ("GET", "/api/nowhere/at/all", {"method": "GET", "route": "/api/", "status": "404"}),
        ("GET", "/wp-admin.php", {"method": "GET", "route": "(unknown)", "status": "404"}),
        ("BREW", "/wp-admin.php", {"method": "OTHER", "route": "(unknown)", "status": "404"}),
        ("GET", "/api/jobs", {"method": "GET", "route": "/api/jobs", "status": "401"}),
    ],
)
def test_what_strangers_ask_for_makes_no_new_series(client, method, path, labels):
    before = samples().get(key("http_requests_total", **labels), 0)
    client.generic(method, path)
    assert samples()[key("http_requests_total", **labels)] == before + 1


# --- who may read it -----------------------------------------------------------------------------------------------
def status(settings, *, token="", inside=(), proxies=0, address="198.51.100.7", **headers):
    settings.METRICS_TOKEN, settings.METRICS_NETWORKS = token, networks("METRICS_NETWORKS", list(inside))
    settings.NUM_PROXIES = proxies
    return Client(REMOTE_ADDR=address).get("/metrics", headers=headers).status_code


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("given", "headers", "answer"),
    [
        ({}, {}, 404),
        ({"address": "127.0.0.1"}, {}, 404),
        ({"token": "right"}, {}, 401),
        ({"token": "right"}, {"Authorization": "Bearer wrong"}, 401),
        ({"token": "right"}, {"Authorization": "Basic right"}, 401),
        ({"token": "right"}, {"Authorization": "Bearer \xff"}, 401),
        ({"token": "right"}, {"Authorization": "Bearer right"}, 200),
        ({}, {"Authorization": "Bearer "}, 404),
        ({"inside": ["198.51.100.0/24"]}, {}, 200),
        ({"inside": ["198.51.101.0/24"]}, {}, 404),
        ({"inside": ["198.51.100.0/24"], "address": ""}, {}, 404),
        # A proxy on this machine that the settings do not know of: everybody would be 127.0.0.1.
        ({"inside": ["127.0.0.0/8"], "address": "127.0.0.1"}, {"X-Forwarded-For": "203.0.113.9"}, 404),
        ({"inside": ["127.0.0.0/8"], "address": "127.0.0.1", "proxies": 1}, {"X-Forwarded-For": "203.0.113.9"}, 404),
        ({"inside": ["203.0.113.0/24"], "proxies": 1}, {"X-Forwarded-For": "127.0.0.1, 203.0.113.9"}, 200),
        ({"inside": ["127.0.0.0/8"], "proxies": 1}, {"X-Forwarded-For": "127.0.0.1, 203.0.113.9"}, 404),
    ],
    ids=range(15),
)
def test_only_who_is_told_may_read_it(settings, given, headers, answer):
    assert status(settings, **given, **headers) == answer


@pytest.mark.django_db
def test_an_operator_is_nobody_here_without_the_token(client, settings):
    settings.METRICS_NETWORKS = []
    client.force_login(UserFactory(is_staff=True, is_superuser=True))
    assert client.get("/metrics").status_code == 404


@pytest.mark.django_db
def test_switched_off_it_is_not_there_and_nothing_is_counted(settings):
    counted = key("http_requests_total", method="GET", route="/healthz", status="200")
    before = samples().get(counted, 0)
    settings.METRICS = False
    client = Client()
    assert client.get("/metrics").status_code == 404
    assert client.get("/healthz").headers["X-Request-ID"]
    settings.METRICS = True
    assert samples(Client()).get(counted, 0) == before


# --- the state of the site -----------------------------------------------------------------------------------------
@pytest.mark.django_db
def test_the_queue_and_what_runs():
    now = timezone.now()
    JobFactory.create_batch(2, created_at=now - timedelta(minutes=5), available_at=now - timedelta(minutes=4))
    JobFactory(created_at=now - timedelta(minutes=9), available_at=now + timedelta(hours=1))  # not due yet
    JobFactory(status="running")
    JobFactory(status="running", resource_class="medium", lease_until=now - timedelta(seconds=1))
    found = samples()
    assert found[key("queue_jobs", resource_class="small")] == 2
    assert 239 < found[key("queue_oldest_seconds", resource_class="small")] < 300
    assert found[key("queue_jobs", resource_class="medium")] == 0
    assert found[key("queue_oldest_seconds", resource_class="medium")] == 0
    assert found[key("running_jobs", resource_class="small")] == 1
    assert found[key("leases_over", resource_class="small")] == 0
    assert found[key("leases_over", resource_class="medium")] == 1


@pytest.mark.django_db
def test_workers_their_heartbeats_and_their_cards():
    now = timezone.now()
    card = {"index": 0, "name": "H200", "utilization": 0.25, "memory_used_bytes": 5, "memory_total_bytes": 10}
    WorkerFactory(name="a", state="idle", resource_classes=["small"], heartbeat_at=now, gpus=[card, 1])
    WorkerFactory(name="b", state="running", resource_classes=["small", "medium"], heartbeat_at=now, gpus=[card])
    WorkerFactory(name="silent", state="idle", resource_classes=["small"], heartbeat_at=now - timedelta(seconds=200))
    WorkerFactory(name="gone", state="stopped", resource_classes=["small"], heartbeat_at=now)
    WorkerFactory(name="disabled", state="idle", resource_classes=["small"], heartbeat_at=now, disabled_at=now)
    WorkerFactory(name="long-gone", state="idle", heartbeat_at=now - timedelta(days=1))
    found = samples()
    shown = {dict(labels)["worker"] for name, labels in found if name == "leadersboard_worker_heartbeat_age_seconds"}
    assert shown == {"a", "b", "silent", "disabled"}
    assert 199 < found[key("worker_heartbeat_age_seconds", worker="silent", host="host", state="idle")] < 260
    assert found[key("workers_live", resource_class="small")] == 2
    assert found[key("workers_live", resource_class="medium")] == 1
    assert found[key("gpu_utilization_ratio", host="host", gpu="0", name="H200")] == 0.25
    assert found[key("gpu_memory_used_bytes", host="host", gpu="0", name="H200")] == 5
    assert found[key("gpu_memory_total_bytes", host="host", gpu="0", name="H200")] == 10


@pytest.mark.django_db
def test_the_backlog_of_mlflow_and_the_parts():
    found = samples()
    assert (found[key("outbox_jobs")], found[key("outbox_oldest_seconds")]) == (0, 0)
    assert (found[key("part_up", part="database")], found[key("part_up", part="redis")]) == (1, 1)
    assert found[key("reconciler_leads")] == 0
    TrackingOutbox.objects.create(job=JobFactory(status="completed"), created_at=timezone.now() - timedelta(hours=1))
    found = samples()
    assert found[key("outbox_jobs")] == 1
    assert 3599 < found[key("outbox_oldest_seconds")] < 3700
    assert found[key("outbox_refused_jobs")] == 0
    TrackingOutbox.objects.update(refusals=5)
    found = samples()
    assert (found[key("outbox_jobs")], found[key("outbox_oldest_seconds")], found[key("outbox_refused_jobs")]) == (
        1,
        0,
        1,
    )


@pytest.mark.django_db
def test_jobs_by_ending_and_their_times():
    JobFactory.create_batch(2, status="completed")  # due for a second, ran for ten
    JobFactory(status="failed", error_code="timeout")
    JobFactory(status="cancelled", started_at=None, attempt=0)
    assert tally_endings(settled_seconds=-60) == 4
    found = samples()
    ended = {"resource_class": "small", "status": "completed", "error_code": ""}
    assert found[key("jobs_ended_total", **ended)] == 2
    assert found[key("jobs_ended_total", resource_class="small", status="failed", error_code="timeout")] == 1
    assert found[key("jobs_ended_total", resource_class="small", status="cancelled", error_code="cancelled")] == 1
    run = {"resource_class": "small", "status": "completed"}
    assert found[key("job_run_seconds_count", **run)] == 2
    assert found[key("job_run_seconds_sum", **run)] == pytest.approx(20)
    assert found[key("job_run_seconds_bucket", le="5.0", **run)] == 0
    assert found[key("job_run_seconds_bucket", le="15.0", **run)] == 2
    # The one that was cancelled before it ran has no times.
    assert found[key("job_dispatch_seconds_count", resource_class="small")] == 3


@pytest.mark.django_db
def test_without_the_database_it_says_so_and_still_counts_requests(monkeypatch):
    def broken(*given):
        raise OperationalError("away")

    monkeypatch.setattr(site, "_rows", broken)
    monkeypatch.setattr(site.connection, "close", lambda: None)  # the test's transaction lives in it
    found = samples()
    assert found[key("part_up", part="database")] == 0
    assert key("queue_jobs", resource_class="small") not in found
    assert any(name == "leadersboard_http_requests_total" for name, _ in found)


@pytest.mark.django_db
def test_it_is_read_once_in_some_seconds_and_costs_the_same_with_more_jobs(
    monkeypatch, django_assert_num_queries, django_assert_max_num_queries
):
    client = Client()
    client.get("/metrics")  # Redis, URLs
    JobFactory()
    with django_assert_max_num_queries(11) as few:
        client.get("/metrics")
    JobFactory.create_batch(3)
    WorkerFactory.create_batch(3)
    with django_assert_num_queries(len(few)):
        client.get("/metrics")
    monkeypatch.setattr(site, "KEPT_SECONDS", 60.0)
    client.get("/metrics")
    with django_assert_num_queries(0):
        client.get("/metrics")


# --- the tally -----------------------------------------------------------------------------------------------------
@pytest.mark.django_db
def test_each_ended_job_is_counted_once_and_stays_counted_when_it_goes(monkeypatch):
    monkeypatch.setattr("jobs.tally.BATCH", 2)
    moment = timezone.now() - timedelta(hours=1)
    # All ended in the same moment: the id decides what was counted.
    jobs = [JobFactory(status="completed", finished_at=moment) for _ in range(5)]
    assert [tally_endings() for _ in range(4)] == [2, 2, 1, 0]
    jobs[0].delete()
    JobFactory(status="completed", finished_at=moment + timedelta(seconds=1))
    assert tally_endings() == 1
    counted = samples()[key("jobs_ended_total", resource_class="small", status="completed", error_code="")]
    assert counted == 6


@pytest.mark.django_db
def test_what_ended_a_moment_ago_is_counted_later():
    """A transaction that ended an earlier job may commit after this one."""
    JobFactory(status="completed", finished_at=timezone.now())
    assert tally_endings() == 0
    assert tally_endings(settled_seconds=-60) == 1


# --- several processes ---------------------------------------------------------------------------------------------
def test_gunicorns_processes_count_together_also_those_that_ended(tmp_path):
    """A real gunicorn of two processes, one of which is replaced: the sum never falls."""
    port = free_port()
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("PYTEST", "COV_", "PROMETHEUS"))},
        "METRICS_NETWORKS": "127.0.0.0/8",
        "LOG_FORMAT": "json",
    }
    command = [sys.executable, "-m", "gunicorn", "leaderboard_site.wsgi", "--bind", f"127.0.0.1:{port}"]
    command += ["--workers", "2", "--worker-class", "gthread", "--threads", "2", "--access-logfile", "-"]
    log = (tmp_path / "log").open("wb")
    server = subprocess.Popen(
        [*command, "--no-control-socket"], cwd=settings.BASE_DIR, env=environment, stdout=log, stderr=log
    )
    try:
        wait_until(lambda: http_answers(port, "/healthz"))
        for _ in range(20):
            http_answers(port, "/healthz")
        before = healthz_count(port)
        assert before >= 20
        children = Path(f"/proc/{server.pid}/task/{server.pid}/children").read_text().split()
        os.kill(int(children[0]), signal.SIGTERM)
        wait_until(
            lambda: children[0] not in Path(f"/proc/{server.pid}/task/{server.pid}/children").read_text().split()
        )
        wait_until(lambda: healthz_count(port) >= before)
        assert healthz_count(port) == before
    finally:
        server.terminate()
        server.wait(20)
        log.close()
    lines = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines() if line.startswith("{")]
    assert any(line.get("path") == "/healthz" and len(line["request_id"]) == 32 for line in lines)


def wait_until(condition):
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def healthz_count(port):
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=20) as answer:
        families = text_string_to_metric_families(answer.read().decode())
        return sum(
            sample.value
            for family in families
            for sample in family.samples
            if sample.name == "leadersboard_http_requests_total" and sample.labels["route"] == "/healthz"
        )
