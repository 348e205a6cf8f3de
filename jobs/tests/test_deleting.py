"""An owner deletes a submission: everything of it goes, whatever is down, and the records stay."""

from datetime import timedelta

import pytest
from django.core.files.base import ContentFile
from django.core.files.storage import storages
from django.db import IntegrityError, transaction
from django.utils import timezone

from accounts.refusals import Conflict, Forbidden, Gone
from accounts.tests.factories import UserFactory
from jobs import tracking
from jobs.deleting import delete_submission, remove_deleted_files
from jobs.models import Job, JobProgress, TrackingOutbox
from jobs.retention import prune_jobs, sweep_orphans
from jobs.services import enqueue_job, rerun_job
from jobs.stuck import stuck_jobs
from jobs.tests.factories import JobAttemptFactory, JobFactory
from jobs.tests.test_races import at_once
from jobs.tests.test_tracking import due, outbox, runs
from jobs.withdrawing import restore_job
from leaderboard_site.backup.files import named_files
from leaderboards.changes import changes
from leaderboards.models import Entry, Standing
from leaderboards.services import disqualify, pause, rebuild_entries, record_score
from leaderboards.tests.factories import LeaderboardFactory
from submissions.models import Submission
from submissions.storage import DurableFileSystemStorage
from submissions.tests.factories import SubmissionFactory

pytestmark = pytest.mark.django_db
EMPTY = {
    "params": {}, "metrics": {}, "score": None, "self_reported": {}, "detail_metrics": {}, "config": {},
    "artifacts": [], "log_name": "", "log_bytes": 0, "scorer_log_name": "", "error_message": "", "error_told": {},
    "run_id": "", "experiment_id": "",
}  # fmt: skip


def completed(score=0.9, **given):
    """A completed job, really stored, on its board."""
    submission = given.pop("submission", None) or SubmissionFactory(
        user=given.pop("user", None) or UserFactory(),
        leaderboard=given.pop("leaderboard", None) or LeaderboardFactory(),
        name="PatchCore",
        metadata={"a": 1},
    )
    job = JobFactory(
        submission=submission, user=submission.user, leaderboard=submission.leaderboard, status="completed", score=score,
        params={"a": 1}, config={"b": 2}, self_reported={"x": 1.0}, run_id="r", experiment_id="1", **given,
    )  # fmt: skip
    stored = {name: f"results/{job.pk}/1/{name}" for name in ("log.txt", "scorer.txt", "artifacts/0")}
    for name in stored.values():
        storages["artifacts"].save(name, ContentFile(b"secret"))
    Job.objects.filter(pk=job.pk).update(
        log_name=stored["log.txt"], scorer_log_name=stored["scorer.txt"],
        artifacts=[{"path": "a.txt", "name": stored["artifacts/0"], "bytes": 6, "sha256": ""}],
    )  # fmt: skip
    if not storages["submissions"].exists(submission.object_name):
        storages["submissions"].save(submission.object_name, ContentFile(b"secret"))
    JobProgress.objects.create(job=job, attempt=1)
    JobAttemptFactory(job=job, outcome="completed", detail="secret", ended_at=job.finished_at)
    record_score(job.pk)
    return job


def left(job):
    names = [f"results/{job.pk}/1/{name}" for name in ("log.txt", "scorer.txt", "artifacts/0")]
    stored = [storages["artifacts"].exists(name) for name in names]
    return [*stored, storages["submissions"].exists(job.submission.object_name)]


def test_everything_of_it_goes_and_the_records_stay():
    job = completed()
    trial = completed(submission=job.submission, trial=True)
    failed = JobFactory(
        submission=job.submission, user=job.user, leaderboard=job.leaderboard, status="failed", error_message="secret"
    )
    kept = {one.pk: (one.status, one.error_code, one.attempt, one.finished_at) for one in (job, trial, failed)}
    delete_submission(job.submission, by=job.user)
    rows = list(Job.objects.order_by("created_at"))
    assert {row.pk: (row.status, row.error_code, row.attempt, row.finished_at) for row in rows} == kept
    for row in rows:
        assert {name: getattr(row, name) for name in EMPTY} == EMPTY
        assert row.notes_in_words == ["Its owner deleted the submission and the results of this run."]
        assert not hasattr(row, "progress")
        assert not row.attempts.exclude(detail="").exists()
    made = Submission.objects.get()
    assert (made.label, made.metadata, made.manifest) == (f"main.py {str(made.pk)[:8]}", {}, [])
    assert set(TrackingOutbox.objects.values_list("job", flat=True)) == {job.pk, trial.pk}
    assert remove_deleted_files() == 1
    assert (left(job), left(trial)[:3]) == ([False] * 4, [False] * 3)
    assert (Submission.objects.get().size_bytes, remove_deleted_files()) == (0, 0)


def test_the_next_best_run_takes_the_place_and_no_rebuild_brings_it_back():
    board, user = LeaderboardFactory(), UserFactory()
    second, best = completed(0.5, leaderboard=board, user=user), completed(0.9, leaderboard=board, user=user)
    delete_submission(best.submission, by=user)
    for _ in range(2):
        assert list(Entry.objects.values_list("job", "score")) == [(second.pk, 0.5)]
        assert list(Standing.objects.values_list("job", "score")) == [(second.pk, 0.5)]
        rebuild_entries(board)
    delete_submission(second.submission, by=user)
    assert (Entry.objects.count(), Standing.objects.count()) == (0, 0)
    assert stuck_jobs() == []  # its runs on their way out, and no entry missing


@pytest.mark.parametrize("status", ["pending", "running"])
def test_a_job_that_has_not_ended_is_cancelled_first(status):
    job = JobFactory(status=status)
    with pytest.raises(Conflict, match=f"{str(job.pk)[:8]}.*Cancel it first") as refused:
        delete_submission(job.submission, by=job.user)
    assert refused.value.code == "job_active"


def close(board):
    type(board).objects.filter(pk=board.pk).update(closes_at=timezone.now() - timedelta(hours=1))


@pytest.mark.parametrize("closing", [close, lambda board: pause(board, reason="x", by=None)])
def test_the_standings_of_a_board_that_is_not_open_stay(closing):
    job = completed()
    void = completed(leaderboard=job.leaderboard)
    disqualify(job.leaderboard, user_id=void.user_id, job_id=void.pk, reason="x", by=None)
    trial = completed(leaderboard=job.leaderboard, trial=True)
    closing(job.leaderboard)
    with pytest.raises(Conflict, match="standings stay") as refused:
        delete_submission(job.submission, by=job.user)
    assert (refused.value.code, Entry.objects.count(), left(job)) == ("leaderboard_closed", 1, [True] * 4)
    for other in (void, trial):
        delete_submission(other.submission, by=other.user)
    assert list(Entry.objects.values_list("job", flat=True)) == [job.pk]


def test_only_its_owner_deletes_it_and_once():
    job = completed()
    with pytest.raises(Forbidden):
        delete_submission(job.submission, by=UserFactory(is_staff=True, is_superuser=True))
    delete_submission(job.submission, by=job.user)
    with pytest.raises(Gone, match="deleted"):
        delete_submission(job.submission, by=job.user)


def test_it_is_not_run_again_or_counted_again():
    job = completed()
    delete_submission(job.submission, by=job.user)
    job.refresh_from_db()
    for again in (
        lambda: enqueue_job(job.user, job.submission_id), lambda: rerun_job(job, by=None), lambda: restore_job(job, by=job.user)
    ):  # fmt: skip
        with pytest.raises(Gone):
            again()
    assert Job.objects.count() == 1


def test_results_of_an_ended_job_change_in_no_other_way():
    job = completed()
    with pytest.raises(IntegrityError, match="is final"), transaction.atomic():
        Job.objects.filter(pk=job.pk).update(metrics={}, params={}, score=None)
    delete_submission(job.submission, by=job.user)
    for change in ({"status": "failed"}, {"metrics": {"a": 1.0}}, {"score": 1.0}, {"params": {"a": 1}}):
        with pytest.raises(IntegrityError, match="is final"), transaction.atomic():
            Job.objects.filter(pk=job.pk).update(**change)


def test_a_storage_that_is_away_delays_only_the_removal_of_the_files(monkeypatch):
    job, other = completed(), completed()
    for one in (job, other):
        delete_submission(one.submission, by=one.user)
    delete = DurableFileSystemStorage.delete

    def away(storage, name):
        if str(job.pk) in name:
            raise OSError("away")
        delete(storage, name)

    monkeypatch.setattr(DurableFileSystemStorage, "delete", away)
    assert (remove_deleted_files(), left(other)) == (1, [False] * 4)
    assert (set(named_files()), left(job)[0]) == (set(), True)  # a backup names none of them
    monkeypatch.undo()
    assert (remove_deleted_files(), left(job)) == (1, [False] * 4)


def test_retention_takes_the_records_too(monkeypatch):
    job = completed()
    delete_submission(job.submission, by=job.user)
    TrackingOutbox.objects.all().delete()
    monkeypatch.setattr("jobs.retention.YOUNG", timedelta(0))
    sweep_orphans()  # if the reconciler never came
    assert left(job) == [False] * 4
    assert prune_jobs(days=-1).submissions == 1


@pytest.mark.django_db(transaction=True)
def test_a_new_job_at_once_is_either_there_first_or_refused():
    submission = SubmissionFactory()

    def tried(act):
        try:
            act()
        except (Conflict, Gone) as refusal:
            return refusal.code
        return "done"

    acts = [
        lambda: tried(lambda: delete_submission(submission, by=submission.user)),
        lambda: tried(lambda: enqueue_job(submission.user, submission.pk)),
    ]
    assert sorted(at_once(*acts)) in (["deleted", "done"], ["done", "job_active"])


@pytest.mark.slow
@pytest.mark.usefixtures("mlflow_url")
def test_its_run_in_mlflow_goes_whenever_mlflow_is_back(monkeypatch):
    job = outbox(submission__name="PatchCore").job
    name = storages["artifacts"].save(f"results/{job.pk}/1/a", ContentFile(b"secret"))
    Job.objects.filter(pk=job.pk).update(artifacts=[{"path": "a.txt", "name": name, "bytes": 6, "sha256": ""}])
    assert tracking.publish_due() == (1, 0)
    client = tracking._client()
    [run] = runs(job)
    assert [item.path for item in client.list_artifacts(run.info.run_id)] == ["a.txt"]
    delete_submission(job.submission, by=job.user)
    with monkeypatch.context() as away:
        away.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
        away.setattr(tracking.settings, "MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
        assert tracking.publish_due() == (0, 1)
    due()
    assert tracking.publish_due() == (1, 0)
    assert (runs(job), client.list_artifacts(run.info.run_id), TrackingOutbox.objects.count()) == ([], [], 0)
    assert client.get_run(run.info.run_id).info.run_name == str(job.pk)


@pytest.mark.slow
@pytest.mark.usefixtures("mlflow_url")
def test_a_submission_deleted_while_its_run_is_sent_leaves_none(monkeypatch):
    job = outbox().job
    fill = tracking._fill

    def deleted_meanwhile(*given):
        delete_submission(Submission.objects.get(), by=job.user)
        return fill(*given)

    monkeypatch.setattr(tracking, "_fill", deleted_meanwhile)
    assert tracking.publish_due() == (1, 0)
    assert (len(runs(job)), Job.objects.get().run_id) == (1, "")
    TrackingOutbox.objects.update(create_sent_at=None)
    due()
    assert tracking.publish_due() == (1, 0)
    assert (runs(job), TrackingOutbox.objects.count()) == ([], 0)


def test_the_board_tells_for_a_week_that_a_run_that_counted_is_gone():
    board = LeaderboardFactory()
    job, trial = completed(leaderboard=board), completed(leaderboard=board, trial=True)
    for one in (job, trial):
        delete_submission(one.submission, by=one.user)
    assert [deletion.name for deletion in changes(board).deletions] == [job.user.username]
    assert changes(board, now=timezone.now() + timedelta(days=8)).deletions == []
