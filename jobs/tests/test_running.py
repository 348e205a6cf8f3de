"""Storing what a run left, and trying again what could not be read, while the storage is away."""

import resource
import sys
import time
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from threading import Thread
from types import SimpleNamespace

import pytest
from django.core.files.storage import storages
from django.db import connection, transaction
from django.utils import timezone

from accounts.tests.factories import UserFactory
from jobs import claiming, running, storing, transitions
from jobs.execution.spec import Result
from jobs.models import ErrorCode, Job
from jobs.pulse import Held, Pulse
from jobs.running import STORAGE_DELAYS, Runner
from jobs.scoring import ScoreVersionDiffers
from jobs.tests.factories import JobFactory, WorkerFactory
from jobs.tidying import Tidying
from jobs.worker import make_worker
from jobs.workspace import StorageDown, Workspace


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
    monkeypatch.setattr(storing.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(storing.time, "sleep", lambda seconds: now.__setitem__(0, now[0] + seconds))
    return now


@pytest.fixture
def away(monkeypatch, clock, settings, tmp_path):
    """The storage is away until the clock says so."""
    until = [0.0]
    artifacts = storages["artifacts"]
    replace = type(artifacts).replace

    def refuse(self, name, source):
        if clock[0] < until[0]:
            raise OSError("storage is away")
        return replace(self, name, source)

    monkeypatch.setattr(type(artifacts), "replace", refuse)
    return until


@pytest.mark.parametrize("seconds", [0, 240])
def test_store_waits_for_a_storage_that_comes_back(runner, away, clock, tmp_path, seconds):
    away[0] = seconds
    (tmp_path / "log.txt").write_text("hello")
    name = runner._storing.store("results/x/1/log.txt", tmp_path / "log.txt")
    assert Path(storages["artifacts"].path(name)).read_text() == "hello"
    assert runner._storing.store("results/x/1/log.txt", tmp_path / "log.txt") == name  # replaced, not beside it
    assert clock[0] <= seconds + 15


def test_a_log_that_does_not_fit_is_not_called_stored(runner, tmp_path):
    """The kernel takes what fits, and says so only of the next write."""
    (tmp_path / "log.txt").write_bytes(b"x" * 10_000)
    runner.is_stopping_now = True  # so that it is not tried again for minutes
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        with pytest.raises(StorageDown):
            runner._storing.store("results/full/1/log.txt", tmp_path / "log.txt")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_store_gives_up_in_the_end_and_at_once_when_told_to_stop(runner, away, clock, tmp_path):
    away[0] = 10_000
    (tmp_path / "log.txt").write_text("hello")
    with pytest.raises(StorageDown):
        runner._storing.store("results/x/1/log.txt", tmp_path / "log.txt")
    assert storing.STORE_SECONDS - 20 < clock[0] <= storing.STORE_SECONDS
    for stop in ("stopping", "lost"):
        began = clock[0]
        runner.is_stopping_now = stop == "stopping"
        runner._held = Held(None, 1, is_lost=stop == "lost")
        with pytest.raises(StorageDown):
            runner._storing.store("results/x/1/log.txt", tmp_path / "log.txt")
        assert clock[0] == began


@pytest.mark.django_db
def test_job_outlasts_an_hour_without_storage(runner, monkeypatch, settings):
    @contextmanager
    def away(job, folder, remove):
        raise StorageDown("away")
        yield

    monkeypatch.setattr(running, "workspace", away)
    job, worker, waited = JobFactory(), WorkerFactory(), timedelta()
    for _ in range(settings.MAX_RELEASES):
        Job.objects.filter(pk=job.pk).update(available_at=timezone.now())
        runner.run(claiming.claim(job.pk, worker_id=worker.pk, worker_name="w"))
        job.refresh_from_db()
        if job.status == "pending":
            waited += job.available_at - job.updated_at
    assert (job.status, job.error_code, job.is_platform_fault) == ("failed", "storage_unavailable", True)
    assert waited == timedelta(seconds=sum(STORAGE_DELAYS)) > timedelta(hours=1)
    assert len(STORAGE_DELAYS) == settings.MAX_RELEASES - 1


@pytest.mark.django_db
def test_job_waits_while_the_environment_is_changed(runner, settings, tmp_path):
    settings.RUNNER_PYTHON = str(tmp_path / "bin" / "python")
    (tmp_path / ".half-made").touch()
    job, worker = JobFactory(), WorkerFactory()
    runner.run(claiming.claim(job.pk, worker_id=worker.pk, worker_name="w"))
    job.refresh_from_db()
    assert job.status == "pending"
    assert job.attempts.get().detail == "The Python environment of this worker is being changed."


@pytest.mark.django_db
def test_only_operators_read_why_a_sandbox_could_not_be_made(client):
    job, worker = JobFactory(), WorkerFactory()
    claimed = claiming.claim(job.pk, worker_id=worker.pk, worker_name="gpu-7.internal")
    broken = Result("sandbox_error", detail="mounting /srv/work/run-1: no space left")
    assert running._was_ended_by_us(claimed, SimpleNamespace(is_lost=False), broken)
    client.force_login(job.user)
    theirs = client.get(job.get_absolute_url()).content.decode()
    assert "The worker could not make a sandbox. The operators see why." in theirs
    assert [word for word in ("/srv/work", "gpu-7.internal") if word in theirs] == []
    client.force_login(UserFactory(is_staff=True, is_superuser=True))
    console = client.get(f"/admin/jobs/job/{job.pk}/change/").content.decode()
    assert [word for word in ("/srv/work/run-1: no space left", "gpu-7.internal") if word in console] == [
        "/srv/work/run-1: no space left",
        "gpu-7.internal",
    ]


@pytest.mark.django_db
def test_job_outlasts_many_workers_that_find_other_labels_at_once(runner, monkeypatch, settings):
    def differs(*_arguments):
        raise ScoreVersionDiffers("labels")

    monkeypatch.setattr(running, "workspace", differs)
    job, worker = JobFactory(), WorkerFactory()
    for _worker in range(settings.MAX_RELEASES + 1):
        runner.run(claiming.claim(job.pk, worker_id=worker.pk, worker_name="w"))
    job.refresh_from_db()
    assert (job.status, job.releases) == ("pending", 0)


@pytest.mark.django_db
def test_run_that_the_platform_breaks_fails_as_the_platforms_fault(runner, monkeypatch):
    def broken(job, folder, remove):
        raise ZeroDivisionError

    monkeypatch.setattr(running, "workspace", broken)
    job = JobFactory()
    runner.run(claiming.claim(job.pk, worker_id=WorkerFactory().pk, worker_name="w"))
    job.refresh_from_db()
    assert (job.status, job.error_code, job.is_platform_fault) == ("failed", "internal", True)


@pytest.fixture
def ending(runner):
    """A runner that has a job in hand, and the `write` of its end; another job waits."""
    worker = WorkerFactory()
    job = claiming.claim(JobFactory().pk, worker_id=worker.pk, worker_name="w")
    waiting = JobFactory()

    def write():
        return transitions.fail(
            job, attempt=job.attempt, code=ErrorCode.TIMEOUT, message="late", evidence=transitions.Evidence()
        )

    runner._claim = lambda: claiming.claim_next(worker_id=worker.pk, worker_name="w", resource_classes=["small"])
    return runner, job, waiting, write


def statuses(*jobs):
    return [Job.objects.get(pk=job.pk).status for job in jobs]


@pytest.mark.django_db
def test_end_of_a_job_claims_the_next_one(ending):
    runner, job, waiting, write = ending
    assert runner._end(write)
    assert (runner._next, statuses(job, waiting)) == (waiting, ["failed", "running"])


@pytest.mark.django_db
def test_end_of_a_job_that_is_lost_claims_nothing(ending):
    runner, job, waiting, write = ending
    Job.objects.filter(pk=job.pk).update(attempt=7)
    assert not runner._end(write)
    assert (runner._next, statuses(job, waiting)) == (None, ["running", "pending"])


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("statement", ["SELECT 1 / 0", "SELECT no_such_column"])
def test_end_is_written_whatever_is_wrong_with_the_claim(ending, statement):
    runner, job, waiting, write = ending
    claim = runner._claim

    def broken():
        claim()
        with connection.cursor() as cursor:
            cursor.execute(statement)

    runner._claim = broken
    assert runner._end(write)
    assert (runner._next, statuses(job, waiting)) == (None, ["failed", "pending"])


@pytest.mark.django_db(transaction=True)
def test_no_moment_shows_two_jobs_in_hand_or_none(ending):
    """Another connection, which sees what is committed, sees the one before the end is and the other after it."""
    runner, job, waiting, write = ending
    claim, seen = runner._claim, []

    def look():
        seen.append(statuses(job, waiting))
        connection.close()

    def claim_and_look():
        claimed = claim()
        thread = Thread(target=look)
        thread.start()
        thread.join()
        return claimed

    runner._claim = claim_and_look
    assert runner._end(write)
    assert seen == [["running", "pending"]]
    assert statuses(job, waiting) == ["failed", "running"]


@pytest.fixture
def slow_storage(monkeypatch, tmp_path):
    """A log to be stored, and the word for the storage to take it, or the error that it answers."""
    (tmp_path / "log.txt").write_text("hello")
    word = Future()
    artifacts = type(storages["artifacts"])
    replace = artifacts.replace

    def wait_and_replace(self, name, source):
        word.result(20)
        return replace(self, name, source)

    monkeypatch.setattr(artifacts, "replace", wait_and_replace)
    return word


@pytest.mark.django_db(transaction=True)
def test_no_end_stands_before_its_log_is_stored_and_no_row_is_locked_meanwhile(ending, slow_storage, tmp_path):
    runner, job, waiting, write = ending
    name = f"results/{job.pk}/1/log.txt"
    runner._storing.begin(name, tmp_path / "log.txt")
    with ThreadPoolExecutor(1) as beside:
        found = beside.submit(_look_and_let_go, job, waiting, slow_storage)
        assert runner._end(write)
    assert found.result() == ["running", "pending"]
    assert (runner._next, statuses(job, waiting)) == (waiting, ["failed", "running"])
    assert Path(storages["artifacts"].path(name)).read_text() == "hello"


def _look_and_let_go(job, waiting, word):
    """Once the end's first try has been given up: the statuses that are committed, both rows taken by us."""
    try:
        time.sleep(4 * storing.LOCKED_SECONDS)
        with transaction.atomic():
            return list(
                Job.objects.select_for_update(nowait=True)
                .filter(pk__in=[job.pk, waiting.pk])
                .order_by("created_at")
                .values_list("status", flat=True)
            )
    finally:
        connection.close()
        word.set_result(None)


@pytest.mark.django_db(transaction=True)
def test_end_whose_log_cannot_be_stored_is_not_written(ending, slow_storage, tmp_path):
    runner, job, waiting, write = ending
    runner.is_stopping_now = True  # so that it is not tried again for minutes
    runner._storing.begin(f"results/{job.pk}/1/log.txt", tmp_path / "log.txt")
    slow_storage.set_exception(OSError("away"))
    with pytest.raises(StorageDown):
        runner._end(write)
    assert (runner._next, statuses(job, waiting)) == (None, ["running", "pending"])


@pytest.mark.django_db
@pytest.mark.parametrize("why", ["draining", "told to drain", "leftovers", "enough", "gpus"])
def test_nothing_is_claimed_along_where_the_loop_would_claim_nothing(why):
    worker = make_worker(["small"])
    worker.row, worker.runner = WorkerFactory(name=worker.name), Runner(NoPulse(), executor="bubblewrap")
    worker.pulse = Pulse(worker.row)
    job = JobFactory()
    if why == "draining":
        worker._is_draining = True
    elif why == "told to drain":
        worker.pulse.drain_requested.set()
    elif why == "leftovers":
        worker.runner.has_leftovers = True
    elif why == "enough":
        worker._max_jobs = 1
    else:
        worker._gpus.gpus = [object()]
    assert (worker._claim_along(), statuses(job)) == (None, ["pending"])
    worker._is_draining, worker._max_jobs, worker._gpus.gpus = False, 2, []
    worker.runner.has_leftovers = False
    worker.pulse.drain_requested.clear()
    assert (worker._claim_along(), statuses(job)) == (job, ["running"])


def test_folder_of_a_run_is_gone_once_waited_for(tmp_path):
    tidying = Tidying()
    for name in ("one", "two"):
        (tmp_path / name / "inner").mkdir(parents=True)
        tidying.remove(tmp_path / name)
    assert not (tmp_path / "one").exists()
    tidying.wait()
    assert list(tmp_path.iterdir()) == []
    tidying.close()


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(("code", "status"), [(0, "completed"), (3, "failed")])
def test_owner_is_told_of_ignored_reports_however_the_run_ends(settings, monkeypatch, tmp_path, code, status):
    @contextmanager
    def place(job, *_arguments):
        for name in ("code", "run"):
            (tmp_path / name).mkdir(mode=0o700)
        (tmp_path / "code" / "main.py").write_text(
            "import sys\n"
            "sys.stderr.write('\\r 50%|##  |')\n"
            "print('::progress 0.5 half')\n"
            "sys.stderr.write('\\r100%|####|\\n')\n"
            "print('::progess 0.6')\n"
            "open(sys.argv[sys.argv.index('--output') + 1] + '/metrics.json', 'w').write("
            '\'{"params": {}, "metrics": {"image_auc": 0.5}}\')\n'
            f"sys.exit({code})\n"
        )
        (tmp_path / "config.yaml").write_text("")
        yield Workspace(tmp_path, tmp_path / "code", tmp_path / "config.yaml")

    settings.RUNNER_PYTHON = sys.executable
    monkeypatch.setattr(running, "workspace", place)
    job, runner = JobFactory(), Runner(NoPulse(), executor="unsafe-local")
    try:
        runner.run(claiming.claim(job.pk, worker_id=WorkerFactory().pk, worker_name="w"))
    finally:
        runner.close()
    job.refresh_from_db()
    assert job.status == status, (job.error_code, job.error_message)
    assert [note for note in job.notes_in_words if "::progess 0.6" in note and "spelled so" in note]
    assert (job.progress.fraction, job.progress.ignored) == (0.5, 1)
    with storages["artifacts"].open(job.log_name) as log:
        assert sorted(log.read().decode().splitlines()) == ["100%|####|", "::progess 0.6", "::progress 0.5 half"]
