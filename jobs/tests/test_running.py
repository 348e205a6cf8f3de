"""Storing what a run left, and trying again what could not be read, while the storage is away."""

from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import pytest
from django.core.files.storage import storages
from django.utils import timezone

from jobs import running, transitions
from jobs.models import Job
from jobs.pulse import Held
from jobs.running import STORAGE_DELAYS, Runner
from jobs.tests.factories import JobFactory, WorkerFactory
from jobs.workspace import StorageDown


class NoPulse:
    def hold(self, held):
        pass


@pytest.fixture
def runner():
    return Runner(NoPulse(), executor="bubblewrap")


@pytest.fixture
def clock(monkeypatch):
    """A clock that only sleeping moves."""
    now = [0.0]
    monkeypatch.setattr(running.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(running.time, "sleep", lambda seconds: now.__setitem__(0, now[0] + seconds))
    return now


@pytest.fixture
def away(monkeypatch, clock, settings, tmp_path):
    """The storage is away until the clock says so."""
    until = [0.0]
    artifacts = storages["artifacts"]
    save = type(artifacts).save

    def refuse(self, name, content):
        if clock[0] < until[0]:
            raise OSError("storage is away")
        return save(self, name, content)

    monkeypatch.setattr(type(artifacts), "save", refuse)
    return until


@pytest.mark.parametrize("seconds", [0, 240])
def test_store_waits_for_a_storage_that_comes_back(runner, away, clock, tmp_path, seconds):
    away[0] = seconds
    (tmp_path / "log.txt").write_text("hello")
    name = runner._store("results/x/1/log.txt", tmp_path / "log.txt")
    assert Path(storages["artifacts"].path(name)).read_text() == "hello"
    assert runner._store("results/x/1/log.txt", tmp_path / "log.txt") == name  # replaced, not beside it
    assert clock[0] <= seconds + 15


def test_store_gives_up_in_the_end_and_at_once_when_told_to_stop(runner, away, clock, tmp_path):
    away[0] = 10_000
    (tmp_path / "log.txt").write_text("hello")
    with pytest.raises(StorageDown):
        runner._store("results/x/1/log.txt", tmp_path / "log.txt")
    assert running.STORE_SECONDS - 20 < clock[0] <= running.STORE_SECONDS
    for stop in ("stopping", "lost"):
        began = clock[0]
        runner.is_stopping_now = stop == "stopping"
        runner._held = Held(None, 1, is_lost=stop == "lost")
        with pytest.raises(StorageDown):
            runner._store("results/x/1/log.txt", tmp_path / "log.txt")
        assert clock[0] == began


@pytest.mark.django_db
def test_job_outlasts_an_hour_without_storage(runner, monkeypatch, settings):
    @contextmanager
    def away(job, folder):
        raise StorageDown("away")
        yield

    monkeypatch.setattr(running, "workspace", away)
    job, worker, waited = JobFactory(), WorkerFactory(), timedelta()
    for _ in range(settings.MAX_RELEASES):
        Job.objects.filter(pk=job.pk).update(available_at=timezone.now())
        runner.run(transitions.claim(job.pk, worker_id=worker.pk, worker_name="w"))
        job.refresh_from_db()
        if job.status == "pending":
            waited += job.available_at - job.updated_at
    assert (job.status, job.error_code, job.is_platform_fault) == ("failed", "storage_unavailable", True)
    assert waited == timedelta(seconds=sum(STORAGE_DELAYS)) > timedelta(hours=1)
    assert len(STORAGE_DELAYS) == settings.MAX_RELEASES - 1


@pytest.mark.django_db
def test_run_that_the_platform_breaks_fails_as_the_platforms_fault(runner, monkeypatch):
    def broken(job, folder):
        raise ZeroDivisionError

    monkeypatch.setattr(running, "workspace", broken)
    job = JobFactory()
    runner.run(transitions.claim(job.pk, worker_id=WorkerFactory().pk, worker_name="w"))
    job.refresh_from_db()
    assert (job.status, job.error_code, job.is_platform_fault) == ("failed", "internal", True)
