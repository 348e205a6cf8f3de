"""What goes after the retention, and what never does."""

import json
import os
import time
from datetime import timedelta
from io import StringIO
from pathlib import Path

import pytest
from django.core.files.base import ContentFile
from django.core.files.storage import storages
from django.core.management import call_command
from django.utils import timezone

from jobs import reconciler
from jobs.models import Job, TrackingOutbox
from jobs.retention import Pruned, prune_jobs, sweep_orphans
from jobs.tests.factories import JobFactory
from leaderboards.models import ScoreVersion
from leaderboards.tests.factories import EntryFactory, LeaderboardFactory, ScoreVersionFactory
from submissions.models import Submission

pytestmark = pytest.mark.django_db
OLD = timezone.now() - timedelta(days=91)


@pytest.fixture(autouse=True)
def files(settings, tmp_path):
    """Storages of the test's own."""
    settings.STORAGES = settings.STORAGES | {
        name: {"BACKEND": "submissions.storage.DurableFileSystemStorage", "OPTIONS": {"location": str(tmp_path / name)}}
        for name in ("submissions", "artifacts")
    }
    for name in ("submissions", "artifacts"):
        (tmp_path / name).mkdir()
    return tmp_path


def stored(files):
    return {str(path.relative_to(files)) for path in files.rglob("*") if path.is_file()}


def old_job(**fields):
    job = JobFactory(status="completed", created_at=OLD, **fields)
    Submission.objects.filter(pk=job.submission_id).update(created_at=OLD)
    storages["submissions"].save(job.submission.object_name, ContentFile(b"code"))
    name = storages["artifacts"].save(f"results/{job.pk}/1/log.txt", ContentFile(b"log"))
    Job.objects.filter(pk=job.pk).update(log_name=name)
    return Job.objects.get(pk=job.pk)


def test_prune_takes_old_jobs_with_their_files(files):
    old_job()
    assert prune_jobs(dry_run=True) == Pruned(1, 1)
    assert Job.objects.count() == 1 and len(stored(files)) == 2
    assert prune_jobs() == Pruned(1, 1)
    assert (Job.objects.count(), Submission.objects.count(), stored(files)) == (0, 0, set())


def test_prune_keeps_entries_unpublished_young_and_unfinished_ones(files):
    EntryFactory(job=old_job())
    TrackingOutbox.objects.create(job=old_job())
    JobFactory(status="completed")
    JobFactory(status="pending", created_at=OLD)
    JobFactory(status="running", created_at=OLD)
    assert prune_jobs(dry_run=True) == prune_jobs() == Pruned()
    assert Job.objects.count() == 5 and len(stored(files)) == 4


def test_prune_keeps_a_submission_that_gets_a_job_in_this_moment(files, monkeypatch):
    job = old_job()
    delete, board = Submission.delete, job.leaderboard

    def used_meanwhile(submission):
        JobFactory(submission=submission, user=submission.user, leaderboard=board)
        return delete(submission)

    monkeypatch.setattr(Submission, "delete", used_meanwhile)
    prune_jobs()
    assert Submission.objects.count() == 1
    assert stored(files) == {f"submissions/{job.submission.object_name}"}


def age(path: Path):
    then = time.time() - 25 * 3600
    os.utime(path, (then, then))


def test_sweep_takes_old_files_that_nothing_names(files):
    job = old_job()
    strays = [
        "submissions/stray.tar",
        f"artifacts/results/{job.pk}/2/log.txt",
        "artifacts/results/36-characters-that-are-no-uuid-------/1/x",
        "artifacts/results/00000000-0000-0000-0000-000000000000/1/artifacts/deep/x",
    ]
    for name in strays:
        (files / name).parent.mkdir(parents=True, exist_ok=True)
        (files / name).write_text("x")
    assert sweep_orphans() == 0  # a run under way has files that no row names yet
    for path in files.rglob("*"):
        age(path)
    assert sweep_orphans(dry_run=True) == 4 and set(strays) < stored(files)
    assert sweep_orphans() == 4
    assert stored(files) == {f"submissions/{job.submission.object_name}", f"artifacts/{job.log_name}"}


def test_prune_jobs_command_says_what_would_go(files):
    old_job()
    out = StringIO()
    call_command("prune_jobs", "--dry-run", "--json", stdout=out)
    assert json.loads(out.getvalue()) == {"jobs": 1, "submissions": 1, "objects": 0, "dry_run": True}
    call_command("prune_jobs", "--days", "92", stdout=out)
    assert Job.objects.count() == 1
    call_command("prune_jobs", stdout=out)
    assert Job.objects.count() == 0


def test_reconciler_outlives_a_storage_that_is_down(monkeypatch):
    def down():
        raise OSError("storage is down")

    monkeypatch.setattr(reconciler, "prune_jobs", down)
    one = reconciler.Reconciler()
    one.is_leader = True
    monkeypatch.setattr(one.stopping, "wait", lambda seconds: one.stopping.set())
    one._every(1.0, reconciler._prune)  # raises nothing
    assert one.stopping.is_set()


def test_a_withdrawn_run_stays_as_long_after_its_withdrawal():
    for withdrawn_at in (OLD, OLD + timedelta(days=2)):
        JobFactory(status="completed", created_at=OLD - timedelta(days=9), withdrawn_at=withdrawn_at)
    assert prune_jobs().jobs == 1
    assert Job.objects.get().withdrawn_at == OLD + timedelta(days=2)


def test_scores_of_another_version_stay_as_long_after_the_change_of_version():
    board = LeaderboardFactory(scorer="regression", ground_truth="labels")
    earlier = ScoreVersionFactory(leaderboard=board)
    current = ScoreVersionFactory(leaderboard=board, number=2)
    job = JobFactory(leaderboard=board, status="completed", created_at=OLD, score_version=earlier)
    JobFactory(leaderboard=board, status="completed", created_at=OLD, score_version=current)
    JobFactory(leaderboard=board, status="failed", created_at=OLD)
    assert prune_jobs().jobs == 2
    assert Job.objects.get() == job
    ScoreVersion.objects.filter(pk=current.pk).update(chosen_at=OLD)
    assert prune_jobs().jobs == 1
