"""Every (from, to) pair of the state machine, its guards, and what the database refuses whoever asks."""

from datetime import timedelta

import pytest
from django.db import IntegrityError, connection, transaction
from django.db.models.functions import Now

from jobs import claiming, transitions
from jobs.models import ErrorCode, Job, JobAttempt, JobLogChunk, Status, TrackingOutbox
from jobs.tests.factories import JobFactory, LogChunkFactory, WorkerFactory
from jobs.transitions import Evidence
from leaderboards.models import Entry

pytestmark = pytest.mark.django_db
SECOND = timedelta(seconds=1)


def make(status, **fields):
    """A job in the status, its attempt's row beside it."""
    job = JobFactory(status=status, **fields)
    if job.attempt:
        ended = {} if status == Status.RUNNING else {"outcome": "lost", "ended_at": Now()}
        JobAttempt.objects.create(job=job, number=job.attempt, worker_name="w", **ended)
    return job


def expire(job):
    Job.objects.filter(pk=job.pk).update(lease_until=Now() - SECOND)


def complete(job, attempt=None, score=0.5):
    return transitions.complete(
        job,
        attempt=job.attempt if attempt is None else attempt,
        params={},
        metrics={"image_auc": score},
        score=score,
        artifacts=[],
        evidence=Evidence(),
    )


def fail(job, attempt=None):
    attempt = job.attempt if attempt is None else attempt
    return transitions.fail(
        job, attempt=attempt, code=ErrorCode.TIMEOUT, message="late", evidence=Evidence(exit_code=1)
    )


def give_back(job, attempt=None):
    attempt = job.attempt if attempt is None else attempt
    return transitions.give_back(job, attempt=attempt, code=ErrorCode.INTERNAL, reason="drained")


def claim(job, attempt=None):
    return claiming.claim(job.pk, worker_id=WorkerFactory().pk, worker_name="w")


def claim_next(job, attempt=None):
    return claiming.claim_next(worker_id=WorkerFactory().pk, worker_name="w", resource_classes=[job.resource_class])


def beat(job, attempt=None):
    return transitions.heartbeat(job.pk, job.attempt if attempt is None else attempt)[0]


def finish_cancelled(job, attempt=None):
    return transitions.finish_cancelled(job.pk, attempt=job.attempt if attempt is None else attempt)


def requeue_lost(job, attempt=None):
    return transitions.requeue_lost(job.pk, attempt=job.attempt if attempt is None else attempt)


def cancel(job, attempt=None):
    return transitions.cancel(job.pk, by=job.user)


# Each verb from each status: what the status is afterwards. Whatever is not listed must stay as it was.
MOVES = {
    (claim, "pending"): "running",
    (claim_next, "pending"): "running",
    (beat, "running"): "running",
    (complete, "running"): "completed",
    (fail, "running"): "failed",
    (give_back, "running"): "pending",
    (cancel, "pending"): "cancelled",
    (cancel, "running"): "running",
}
VERBS = [claim, claim_next, beat, complete, fail, give_back, finish_cancelled, requeue_lost, cancel]


@pytest.mark.parametrize("status", Status.values)
@pytest.mark.parametrize("verb", VERBS, ids=lambda verb: verb.__name__)
def test_verb_moves_only_from_where_it_may(verb, status):
    job = make(status)
    before = Job.objects.filter(pk=job.pk).values().get()
    answer = verb(job)
    after = Job.objects.filter(pk=job.pk).values().get()
    assert after["status"] == MOVES.get((verb, status), status)
    assert bool(answer) == ((verb, status) in MOVES)
    if (verb, status) not in MOVES:
        assert after == before
        assert TrackingOutbox.objects.count() == Entry.objects.count() == 0


@pytest.mark.parametrize("verb", [beat, complete, fail, give_back, finish_cancelled, requeue_lost])
@pytest.mark.parametrize("attempt", [1, 3])
def test_verb_of_another_attempt_changes_nothing(verb, attempt):
    job = make("running", attempt=2, cancel_requested_at=Now() if verb is finish_cancelled else None)
    expire(job)
    before = Job.objects.filter(pk=job.pk).values().get()
    assert not verb(job, attempt)
    assert Job.objects.filter(pk=job.pk).values().get() == before
    assert JobAttempt.objects.get(job=job).outcome == "running"
    assert TrackingOutbox.objects.count() == Entry.objects.count() == 0


def test_claim_sets_lease_deadline_and_attempt(settings):
    job = make("pending")
    claimed = claim(job)
    assert (claimed.attempt, claimed.status) == (1, "running")
    job.refresh_from_db()
    assert job.lease_until - job.heartbeat_at == timedelta(seconds=settings.LEASE_SECONDS)
    assert job.deadline_at - job.started_at > timedelta(seconds=settings.RESOURCE_CLASSES["small"]["wall_seconds"])
    assert list(job.attempts.values_list("number", "outcome")) == [(1, "running")]


def test_claim_leaves_a_job_that_is_not_due_yet():
    job = make("pending", available_at=Now() + timedelta(hours=1))
    assert claim(job) is None
    assert claim_next(job) is None


def test_claim_next_takes_only_its_classes():
    make("pending", resource_class="medium")
    assert claiming.claim_next(worker_id=WorkerFactory().pk, worker_name="w", resource_classes=["small"]) is None


def test_complete_writes_result_entry_and_outbox_and_drops_log_chunks():
    job = make("running")
    LogChunkFactory(job=job)
    assert complete(job, score=0.75)
    job.refresh_from_db()
    assert (job.status, job.score, job.metrics, job.lease_until) == ("completed", 0.75, {"image_auc": 0.75}, None)
    assert list(Entry.objects.values_list("job_id", "score")) == [(job.pk, 0.75)]
    assert list(TrackingOutbox.objects.values_list("job_id", flat=True)) == [job.pk]
    assert JobLogChunk.objects.count() == 0
    assert job.attempts.get().outcome == "completed"


def test_complete_without_a_score_makes_no_entry():
    job = make("running")
    assert complete(job, score=None)
    assert Entry.objects.count() == 0
    assert TrackingOutbox.objects.count() == 1


def test_complete_ranks_by_the_metric_that_ranks_at_the_end():
    job = make("running")
    job.leaderboard.metrics.filter(name="image_auc").update(position=9)
    metrics = {"seconds": 3.0}
    assert transitions.complete(
        job, attempt=1, params={}, metrics=metrics, score=None, artifacts=[], evidence=Evidence()
    )
    assert list(Entry.objects.values_list("job_id", "score")) == [(job.pk, 3.0)]


def test_complete_refuses_once_cancel_was_asked():
    job = make("running")
    assert cancel(job) == "running"
    assert not complete(job)
    assert TrackingOutbox.objects.count() == Entry.objects.count() == 0
    assert finish_cancelled(job)
    job.refresh_from_db()
    assert (job.status, job.error_code, job.metrics, job.cancel_requested_by) == (
        "cancelled",
        "cancelled",
        {},
        job.user,
    )


def test_heartbeat_renews_and_tells_of_a_cancel(settings):
    job = make("running")
    expire(job)
    assert transitions.heartbeat(job.pk, job.attempt) == (True, None)
    cancel(job)
    is_mine, asked = transitions.heartbeat(job.pk, job.attempt)
    assert is_mine and asked
    job.refresh_from_db()
    assert job.lease_until - job.heartbeat_at == timedelta(seconds=settings.LEASE_SECONDS)


def test_heartbeat_does_not_renew_beyond_the_deadline():
    """A worker that hangs with a beating pulse must not hold its job for ever."""
    job = make("running", deadline_at=Now() - SECOND)
    assert transitions.heartbeat(job.pk, job.attempt) == (False, None)


def test_requeue_lost_leaves_a_lease_that_still_runs():
    assert requeue_lost(make("running")) is None


def test_requeue_lost_waits_again_later_each_time(settings):
    settings.RETRY_DELAY_SECONDS = 30
    for losses in (0, 1):
        job = make("running", losses=losses)
        expire(job)
        assert requeue_lost(job) == "pending"
        job.refresh_from_db()
        assert (job.losses, job.worker, job.lease_until, job.pushed_at) == (losses + 1, None, None, None)
        assert job.available_at - job.updated_at == timedelta(seconds=30 * (losses + 1))
        assert job.attempts.get().outcome == "lost"


def test_requeue_lost_fails_at_the_third_loss():
    job = make("running", losses=2)
    expire(job)
    assert requeue_lost(job) == "failed"
    job.refresh_from_db()
    assert (job.error_code, job.losses, job.is_platform_fault) == ("worker_lost", 3, True)


def test_requeue_lost_cancels_what_was_to_be_cancelled():
    job = make("running", losses=2)
    cancel(job)
    expire(job)
    assert requeue_lost(job) == "cancelled"


def test_give_back_is_no_loss_and_fails_at_the_sixth(settings):
    job = make("running", releases=settings.MAX_RELEASES - 2)
    assert give_back(job)
    job.refresh_from_db()
    assert (job.status, job.losses, job.releases) == ("pending", 0, settings.MAX_RELEASES - 1)
    again = claim(job)
    assert give_back(again)
    job.refresh_from_db()
    assert (job.status, job.error_code) == ("failed", "internal")
    assert list(job.attempts.values_list("outcome", flat=True)) == ["released", "failed"]


def test_give_back_of_what_many_workers_may_find_at_once_is_not_counted(settings):
    job = make("running", releases=settings.MAX_RELEASES - 1)
    told = {"code": ErrorCode.SCORING_UNAVAILABLE, "reason": "other labels"}
    assert transitions.give_back(job, attempt=1, is_counted=False, **told)
    job.refresh_from_db()
    assert (job.status, job.releases) == ("pending", settings.MAX_RELEASES - 1)


def test_give_back_of_a_cancelled_job_cancels_it():
    job = make("running")
    cancel(job)
    assert give_back(job)
    job.refresh_from_db()
    assert job.status == "cancelled"


# --- what the database refuses by itself -----------------------------------------------------------------------------
REFUSED = {
    "job_final_stays": ("completed", "UPDATE jobs_job SET status = 'pending', finished_at = NULL, score = NULL"),
    "job_final_stays ": ("completed", "UPDATE jobs_job SET score = 0.1"),
    "job_final_stays  ": ("failed", "UPDATE jobs_job SET status = 'cancelled'"),
    "job_final_stays   ": ("cancelled", "UPDATE jobs_job SET status = 'completed', error_code = ''"),
    "job_attempt_never_falls": ("running", "UPDATE jobs_job SET attempt = 0"),
    "job_claim_raises_attempt": ("pending", "UPDATE jobs_job SET status = 'running', lease_until = now()"),
    "job_running_has_lease": ("running", "UPDATE jobs_job SET lease_until = NULL"),
    "job_running_has_lease ": ("pending", "UPDATE jobs_job SET lease_until = now()"),
    "job_ends_by_running": ("pending", "UPDATE jobs_job SET status = 'completed', finished_at = now()"),
    "job_ends_by_running ": (
        "pending", "UPDATE jobs_job SET status = 'failed', error_code = 'internal', finished_at = now()"
    ),
    "job_final_has_end": ("running", "UPDATE jobs_job SET status = 'completed', lease_until = NULL"),
    "job_failed_has_error": (
        "running", "UPDATE jobs_job SET status = 'failed', lease_until = NULL, finished_at = now()"
    ),
    "job_error_only_if_not_completed": ("running", "UPDATE jobs_job SET error_code = 'internal'"),
    "job_score_only_if_completed": ("running", "UPDATE jobs_job SET score = 0.5"),
    "job_status_known": ("pending", "UPDATE jobs_job SET status = 'queued'"),
    "job_error_code_known": (
        "running",
        "UPDATE jobs_job SET status = 'failed', error_code = 'x', lease_until = NULL, finished_at = now()",
    ),
}  # fmt: skip
for _n, _score in enumerate(["NaN", "Infinity", "-Infinity"]):
    _set = f"status = 'completed', lease_until = NULL, finished_at = now(), score = '{_score}'"
    REFUSED["job_score_finite" + " " * _n] = ("running", f"UPDATE jobs_job SET {_set}")


@pytest.mark.parametrize("name", REFUSED)
def test_database_refuses(name):
    status, statement = REFUSED[name]
    job = make(status)
    with pytest.raises(IntegrityError) as refusal, transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(f"{statement} WHERE id = %s", [job.pk])
    assert refusal.value.__cause__.diag.constraint_name == name.strip()


def test_database_takes_one_attempt_of_a_number_and_one_job_of_a_key():
    job = make("running")
    with pytest.raises(IntegrityError), transaction.atomic():
        JobAttempt.objects.create(job=job, number=1, worker_name="other")
    JobFactory(user=job.user, idempotency_key="k")
    with pytest.raises(IntegrityError), transaction.atomic():
        JobFactory(user=job.user, idempotency_key="k")
    JobFactory(idempotency_key="k")  # another person's


def test_mark_pushed_remembers_only_pending_ones():
    pending, running = make("pending"), make("running")
    transitions.mark_pushed([pending.pk, running.pk])
    assert list(Job.objects.exclude(pushed_at=None).values_list("pk", flat=True)) == [pending.pk]


def test_completing_a_job_takes_few_statements(django_assert_max_num_queries):
    job = make(Status.RUNNING)
    # The job, the entry, its standing, and one for all the rest.
    with django_assert_max_num_queries(4):
        assert complete(job)


@pytest.mark.parametrize(
    ("code", "seconds", "costs"),
    [("exit_nonzero", 3.0, True), ("bad_archive", None, False), ("scorer_failed", 3.0, False), ("timeout", 9.0, True)],
)
def test_a_failure_costs_quota_only_once_its_program_began(code, seconds, costs):
    job = JobFactory(status="running")
    evidence = Evidence(transitions.Cost(wall_seconds=seconds))
    assert transitions.fail(job, attempt=1, code=ErrorCode(code), message="x", evidence=evidence)
    job.refresh_from_db()
    assert job.costs_quota == costs


@pytest.mark.parametrize(("seconds", "costs"), [(None, False), (4.0, True)])
def test_a_cancelled_run_costs_quota_once_its_program_began(seconds, costs):
    job = JobFactory(status="running", cancel_requested_at=Now())
    evidence = Evidence(transitions.Cost(wall_seconds=seconds))
    assert transitions.finish_cancelled(job.pk, attempt=1, evidence=evidence)
    job.refresh_from_db()
    assert job.costs_quota == costs
