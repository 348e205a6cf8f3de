"""One pass of the reconciler, and who may make it."""

import json
import time
from datetime import timedelta
from io import StringIO

import psycopg
import pytest
from django.core.management import call_command
from django.db import connection
from django.db.models.functions import Now

from jobs import queue, reconciler
from jobs.models import Job, JobAttempt, JobLogChunk, Worker
from jobs.reconciler import LEADER_LOCK, Reconciler, leads, push_again, reconcile_once
from jobs.tests.factories import JobFactory, LogChunkFactory, WorkerFactory


@pytest.fixture
def pushed(monkeypatch):
    calls = []
    monkeypatch.setattr(queue, "push", lambda job_id, resource_class: calls.append(job_id) or True)
    return calls


def ago(seconds):
    return Now() - timedelta(seconds=seconds)


@pytest.mark.django_db
def test_push_again_calls_for_what_was_never_or_long_ago_called(pushed, settings):
    never, long_ago = JobFactory(), JobFactory(pushed_at=ago(settings.REPUSH_SECONDS + 1))
    JobFactory(pushed_at=ago(settings.REPUSH_SECONDS - 5))
    JobFactory(available_at=ago(-60))
    JobFactory(status="running")
    assert push_again() == 2
    assert set(pushed) == {never.pk, long_ago.pk}
    assert push_again() == 0


@pytest.mark.django_db
def test_push_again_stops_at_a_redis_that_is_away(monkeypatch):
    JobFactory.create_batch(3)
    monkeypatch.setattr(queue, "push", lambda *_: False)
    assert push_again() == 0
    assert Job.objects.filter(pushed_at=None).count() == 3


@pytest.mark.django_db
def test_one_pass_does_it_all(pushed, settings):
    lost = JobFactory(status="running", lease_until=ago(1))
    JobAttempt.objects.create(job=lost, number=1, worker_name="w")
    LogChunkFactory(job=JobFactory(status="completed"), attempt=1)
    silent = WorkerFactory(heartbeat_at=ago(settings.LEASE_SECONDS * 2 + 1))
    assert reconcile_once() == {"lost": {"pending": 1}, "pushed": 0}
    assert JobLogChunk.objects.count() == 0
    silent.refresh_from_db()
    assert silent.state == Worker.State.STOPPED
    out = StringIO()
    call_command("reconcile", "--once", stdout=out)
    assert json.loads(out.getvalue())["lost"] == {}


@pytest.mark.django_db
def test_one_leads_and_the_other_stands_by():
    parameters = connection.get_connection_params()
    with psycopg.connect(**{k: parameters[k] for k in ("dbname", "user", "host", "port") if k in parameters}) as other:
        other.execute("SELECT pg_advisory_lock(%s)", [LEADER_LOCK])
        assert not leads()
    # The server lets go of a connection's locks a moment after the connection was closed.
    deadline = time.monotonic() + 10
    while not leads() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert leads()
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_unlock_all()")


@pytest.mark.django_db
def test_nobody_is_judged_before_all_had_time_to_beat(pushed, settings, monkeypatch):
    settings.SETTLE_SECONDS, settings.RECONCILE_SECONDS = 90, 10
    now, judged = [1000.0], []
    monkeypatch.setattr(reconciler.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(reconciler, "requeue_lost_jobs", lambda: judged.append(now[0]))
    monkeypatch.setattr(reconciler, "leads", lambda: True)
    uptime = [1e6]
    monkeypatch.setattr(reconciler, "database_uptime", lambda: uptime[0])
    one = Reconciler()

    def passes(count):
        judged.clear()
        for _ in range(count):
            now[0] += 10
            one._pass()
        return len(judged)

    assert passes(9) == 0
    assert passes(3) == 3
    now[0] += 60  # frozen for a minute: the workers' beats may have been held up too
    assert passes(9) == 0
    assert passes(2) == 2
    uptime[0] = 30  # the database has just started
    assert passes(2) == 0
