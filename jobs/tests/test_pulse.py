"""The heartbeat while a run ends: the lease goes on although its supervisor is gone."""

import time
from uuid import uuid4

import pytest
from django.db import OperationalError
from django.db.models.functions import Now

from jobs import pulse, transitions
from jobs.execution.client import Supervisor
from jobs.models import Worker
from jobs.pulse import Held, Pulse, persist
from jobs.running import Runner
from jobs.tests.factories import JobFactory, WorkerFactory


@pytest.fixture
def supervisor():
    started = Supervisor.start()
    yield started
    started.close()


def test_renewal_after_the_supervisor_is_gone_reaches_nobody(supervisor):
    held = Held(uuid4(), 1)
    held.begin(supervisor)
    held.renewed(5, cancel=False)
    held.end()
    supervisor.close()
    held.renewed(5, cancel=True)
    held.lose()
    assert held.is_lost and held.is_cancel_requested


def test_stop_now_after_the_run_has_ended_does_nothing(supervisor):
    runner = Runner(None, executor="bubblewrap")
    runner._held = Held(uuid4(), 1)
    runner._held.begin(supervisor)
    runner._held.end()
    supervisor.close()
    runner.stop_now()
    assert runner.is_stopping_now


def test_pulse_outlives_whatever_a_beat_meets(monkeypatch, settings):
    settings.HEARTBEAT_SECONDS = 0.01
    beats = []

    def beat(self):
        beats.append(1)
        raise [OperationalError("gone"), ValueError("write to closed file"), KeyError("any")][len(beats) % 3]

    monkeypatch.setattr(Pulse, "_beat", beat)
    thread = Pulse(WorkerFactory.build(pk=1))
    thread.start()
    deadline = time.monotonic() + 10
    while len(beats) < 6 and time.monotonic() < deadline:
        time.sleep(0.01)
    thread.stop()
    thread.join(5)
    assert len(beats) >= 6


@pytest.mark.django_db
def test_persist_tries_until_the_database_takes_it(monkeypatch):
    monkeypatch.setattr(pulse.time, "sleep", lambda seconds: None)
    answers = iter([OperationalError("down"), OperationalError("down"), "taken"])

    def write():
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    assert persist(write) == "taken"


@pytest.mark.django_db
def test_pulse_loses_a_job_that_somebody_else_has(supervisor):
    job = JobFactory(status="running", attempt=2)
    thread = Pulse(WorkerFactory())
    held = Held(job.pk, 1)
    thread.hold(held)
    thread._beat()
    assert held.is_lost
    held = Held(job.pk, 2)
    thread.hold(held)
    thread._beat()
    assert not held.is_lost and not held.is_cancel_requested
    transitions.cancel(job.pk, by=job.user)
    thread._beat()
    assert held.is_cancel_requested


@pytest.mark.django_db
def test_worker_that_was_taken_for_gone_is_there_again():
    row = WorkerFactory(state=Worker.State.STOPPED, stopped_at=Now())
    thread = Pulse(row)
    thread._beat()
    row.refresh_from_db()
    assert (row.state, row.stopped_at) == ("idle", None)
    Worker.objects.update(state=Worker.State.STOPPED, drain_requested_at=Now())
    thread.stop()
    thread._beat()
    row.refresh_from_db()
    assert (row.state, thread.drain_requested.is_set()) == ("stopped", True)
