"""The doors to a job's status: each transition is one guarded UPDATE; 0 rows means that someone else was first.

    pending -> running      claiming.claim_next, claim (attempt + 1: the fencing token of every later write)
    running -> running      heartbeat                  (holder)
    running -> running      begin_scoring              (holder; the run is dead, its predictions are being scored)
    running -> completed    complete                   (holder; result, entry and outbox row in one transaction)
    running -> failed       fail                       (holder; never retried)
    running -> cancelled    finish_cancelled           (holder, or the reconciler when the lease is over)
    running -> pending      give_back                  (holder: drain, storage down)
    running -> pending      requeue_lost               (reconciler: the lease is over)
    running -> failed       requeue_lost               (reconciler: the third loss)
    pending -> cancelled    cancel                     (owner, operator)
    running: a cancel flag  cancel                     (owner, operator; the holder acts on it)

Time is the database's alone. Guards are tested one by one in jobs/tests/test_transitions.py, and in races.
"""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import connection, transaction
from django.db.models import F, Q, QuerySet, Value
from django.db.models.functions import Now
from psycopg.types.json import Jsonb

from accounts.models import User
from jobs.execution.told import Told as _
from jobs.execution.told import kept
from jobs.models import PLATFORM_FAULTS, ErrorCode, Job, JobAttempt, JobLogChunk, Status
from leaderboards.services import record_score

# A job gets its result, as one statement: its row, its attempt's, and the outbox's; the parts of its log go. What follows waits
# for who computes the board's entries again (rebuild_entries), and sees the board as it is then.
MOST_DETAIL = 2000

_COMPLETE = """
WITH won AS (
    UPDATE jobs_job SET status = 'completed', lease_until = NULL, finished_at = statement_timestamp(),
        updated_at = statement_timestamp(), {assignments}
    WHERE id = %(job)s AND status = 'running' AND attempt = %(attempt)s AND cancel_requested_at IS NULL
    RETURNING id, leaderboard_id
), ended AS (
    UPDATE jobs_jobattempt SET outcome = 'completed', ended_at = statement_timestamp()
    WHERE job_id IN (SELECT id FROM won) AND number = %(attempt)s AND outcome = 'running'
), noted AS (
    INSERT INTO jobs_trackingoutbox (job_id, tries, last_error) SELECT id, 0, '' FROM won
), shipped AS (
    DELETE FROM jobs_joblogchunk WHERE job_id IN (SELECT id FROM won)
)
SELECT won.id, pg_advisory_xact_lock_shared(hashtextextended('entries', leaderboard_id)) FROM won
"""


@dataclass(frozen=True)
class Cost:
    """What a run used, as measured: seconds and bytes, None where nothing could be measured."""

    wall_seconds: float | None = None
    cpu_seconds: float | None = None
    peak_memory_bytes: int | None = None


@dataclass(frozen=True)
class Evidence:
    """What stays of a run however it ended."""

    cost: Cost = Cost()
    exit_code: int | None = None
    log_name: str = ""
    log_bytes: int = 0
    isolation: str = ""
    limits_applied: dict[str, str] | None = None
    scoring_seconds: float | None = None
    scorer_log_name: str = ""
    # What its owner should know of how the result was taken over.
    notes: tuple[str, ...] = ()

    @property
    def has_run(self) -> bool:
        """Whether its program began."""
        return bool(self.cost.wall_seconds)

    def fields(self) -> dict[str, Any]:
        return {
            "wall_seconds": self.cost.wall_seconds,
            "cpu_seconds": self.cost.cpu_seconds,
            "peak_memory_bytes": self.cost.peak_memory_bytes,
            "exit_code": self.exit_code,
            "log_name": self.log_name,
            "log_bytes": self.log_bytes,
            "isolation": self.isolation,
            "limits_applied": self.limits_applied or {},
            "scoring_seconds": self.scoring_seconds,
            "scorer_log_name": self.scorer_log_name,
            "notes": [kept(note) or {"text": note, "values": {}} for note in self.notes],
        }


@dataclass(frozen=True)
class Scored:
    """Whose numbers a result's metrics are: a scorer's, on which labels, beside what the submission says of itself."""

    scorer: str = ""
    ground_truth: str = ""
    self_reported: dict[str, float] = field(default_factory=dict)
    score_version_id: int | None = None
    detail_metrics: dict[str, Any] = field(default_factory=dict)


def lease() -> timedelta:
    return timedelta(seconds=settings.LEASE_SECONDS)


def _held(job_id: UUID, attempt: int) -> QuerySet[Job]:
    """The job while this attempt still holds it: the guard of every write of a worker."""
    return Job.objects.filter(pk=job_id, status=Status.RUNNING, attempt=attempt)


def _error(code: ErrorCode, message: str) -> dict[str, Any]:
    """The code, the sentence in English, and what it is said from in the reader's language."""
    return {"error_code": code, "error_message": message, "error_told": kept(message)}


def _free(is_free: bool) -> dict[str, Any]:
    """Return what makes a job cost no quota. Never the reverse: an operator's rerun costs none from the start."""
    return {"costs_quota": False} if is_free else {}


def _end_attempt(job_id: UUID, attempt: int, outcome: str, detail: str = "", told: str = "") -> None:
    JobAttempt.objects.filter(job_id=job_id, number=attempt, outcome=JobAttempt.Outcome.RUNNING).update(
        outcome=outcome, detail=detail[:MOST_DETAIL], detail_told=kept(told or detail), ended_at=Now()
    )


def _seen_by_operators(message: str, cause: str) -> str:
    """Return the cause, or the message where there is none, or where a participant could not be shown it apart."""
    return cause if cause and kept(message) else message


def _final(status: Status) -> dict[str, Any]:
    return {"status": status, "lease_until": None, "finished_at": Now(), "updated_at": Now()}


def heartbeat(job_id: UUID, attempt: int) -> tuple[bool, datetime | None]:
    """Renew the lease: (still mine, when cancelling was asked). (False, None) means: kill the run, write nothing more.

    Beyond the deadline it is not renewed: a worker that hangs while its pulse beats loses the job like a dead one.
    """
    values: list[Any] = [lease(), job_id, attempt]
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE jobs_job SET lease_until = statement_timestamp() + %s, heartbeat_at = statement_timestamp() "
            "WHERE id = %s AND status = 'running' AND attempt = %s "
            "AND (deadline_at IS NULL OR deadline_at > statement_timestamp()) RETURNING cancel_requested_at",
            values,
        )
        row = cursor.fetchone()
    return (True, row[0]) if row else (False, None)


def begin_scoring(job_id: UUID, attempt: int) -> bool:
    """The run is over and its scoring begins: renews the lease, as a heartbeat does. False: not ours, or to be cancelled."""
    mine = _held(job_id, attempt).filter(cancel_requested_at=None)
    return bool(
        mine.update(scoring_started_at=Now(), lease_until=Now() + lease(), heartbeat_at=Now(), updated_at=Now())
    )


@transaction.atomic(savepoint=False)
def complete(
    job: Job,
    *,
    attempt: int,
    params: dict[str, Any],
    metrics: dict[str, float],
    score: float | None,
    artifacts: list[dict[str, Any]],
    evidence: Evidence,
    scored: Scored = Scored(),
) -> bool:
    """running -> completed, with the result, the entry and the outbox row; False when the job is no longer ours."""
    values = {
        "params": params,
        "metrics": metrics,
        "score": score,
        "artifacts": artifacts,
        "self_reported": scored.self_reported,
        "scorer": scored.scorer,
        "ground_truth": scored.ground_truth,
        "score_version_id": scored.score_version_id,
        "detail_metrics": scored.detail_metrics,
        **evidence.fields(),
    }
    statement = _COMPLETE.format(assignments=", ".join(f"{name} = %({name})s" for name in values))
    adapted: dict[str, Any] = {
        name: Jsonb(value) if isinstance(value, dict | list) else value for name, value in values.items()
    }
    with connection.cursor() as cursor:
        cursor.execute(statement, {**adapted, "job": job.pk, "attempt": attempt})
        won = cursor.fetchone() is not None
    # `score` is by the metric that ranked when the job was claimed; another one may rank by now.
    if won and metrics:
        record_score(job.pk)
    return won


@transaction.atomic(savepoint=False)
def fail(job: Job, *, attempt: int, code: ErrorCode, message: str, evidence: Evidence, cause: str = "") -> bool:
    """running -> failed; False when the job is no longer ours. Never retried: that is only for lost workers.

    It costs no quota if the platform was at fault, or if the program never began. Participants read the message, operators
    the cause too, which may name folders of the worker and tell of the labels.
    """
    is_free = code in PLATFORM_FAULTS or not evidence.has_run
    won = _held(job.pk, attempt).update(
        **_final(Status.FAILED), **_error(code, message), **_free(is_free), **evidence.fields()
    )
    if won:
        _end_attempt(
            job.pk, attempt, JobAttempt.Outcome.FAILED, f"{code}: {_seen_by_operators(message, cause)}", told=message
        )
        JobLogChunk.objects.filter(job_id=job.pk).delete()
    return bool(won)


@transaction.atomic
def finish_cancelled(job_id: UUID, *, attempt: int, evidence: Evidence | None = None) -> bool:
    """running -> cancelled by its holder, after everything of the run is dead. It costs no quota if its program never began."""
    evidence = evidence or Evidence()
    won = (
        _held(job_id, attempt)
        .filter(cancel_requested_at__isnull=False)
        .update(
            **_final(Status.CANCELLED),
            **_error(ErrorCode.CANCELLED, _("Cancelled while it ran.")),
            **_free(not evidence.has_run),
            **evidence.fields(),
        )
    )
    if won:
        _end_attempt(job_id, attempt, JobAttempt.Outcome.CANCELLED)
        JobLogChunk.objects.filter(job_id=job_id).delete()
    return bool(won)


@transaction.atomic
def give_back(
    job: Job,
    *,
    attempt: int,
    code: ErrorCode,
    reason: str,
    cause: str = "",
    delay_seconds: float = 0,
    is_counted: bool = True,
) -> bool:
    """running -> pending by its holder (drain, storage down); the sixth time it fails with `code`, the platform's fault.

    Participants read the reason, operators the cause too, which may name folders of the worker.

    It is not counted where the worker claims no such job again and nothing was run: many workers may find the same at once.
    """
    most = settings.MAX_RELEASES - 1
    back = (
        _held(job.pk, attempt)
        .filter(Q(releases__lt=most) if is_counted else Q(), cancel_requested_at=None)
        .update(
            status=Status.PENDING,
            lease_until=None,
            worker=None,
            pushed_at=None,
            releases=F("releases") + int(is_counted),
            available_at=Now() + timedelta(seconds=delay_seconds),
            updated_at=Now(),
        )
    )
    if back:
        _end_attempt(job.pk, attempt, JobAttempt.Outcome.RELEASED, _seen_by_operators(reason, cause), told=reason)
        JobLogChunk.objects.filter(job_id=job.pk).delete()
        return True
    if finish_cancelled(job.pk, attempt=attempt):
        return True
    return fail(job, attempt=attempt, code=code, message=reason, evidence=Evidence(), cause=cause)


@transaction.atomic
def requeue_lost(job_id: UUID, *, attempt: int) -> Status | None:
    """What the reconciler does with a job whose lease is over: the new status, or None when a guard refused.

    Cancel-requested jobs become cancelled; the third loss fails the job as `worker_lost`; else it waits again.
    """
    lost = _held(job_id, attempt).filter(lease_until__lt=Now())
    message = _(
        "The worker was lost %(times)d times while it ran this. It did not cost you quota.", times=settings.MAX_LOSSES
    )
    delay = timedelta(seconds=settings.RETRY_DELAY_SECONDS)
    if lost.filter(cancel_requested_at__isnull=False).update(
        **_final(Status.CANCELLED), **_error(ErrorCode.CANCELLED, _("Cancelled; its worker was lost.")), **_free(True)
    ):
        outcome = Status.CANCELLED
    elif lost.filter(losses__gte=settings.MAX_LOSSES - 1).update(
        **_final(Status.FAILED),
        losses=F("losses") + 1,
        **_error(ErrorCode.WORKER_LOST, message),
        **_free(True),
    ):
        outcome = Status.FAILED
    elif lost.filter(cancel_requested_at=None).update(
        status=Status.PENDING,
        lease_until=None,
        worker=None,
        pushed_at=None,
        losses=F("losses") + 1,
        available_at=Now() + Value(delay) * (F("losses") + 1),
        updated_at=Now(),
    ):
        outcome = Status.PENDING
    else:
        return None
    _end_attempt(job_id, attempt, JobAttempt.Outcome.LOST, _("No heartbeat until the lease was over."))
    JobLogChunk.objects.filter(job_id=job_id).delete()
    return outcome


@transaction.atomic
def cancel(job_id: UUID, *, by: User | None) -> Status | None:
    """Cancel a pending job at once, or ask a running one's holder to: its status afterwards, None when it was final.

    A job that is cancelled while it is pending costs no quota.
    """
    # The lock keeps the status still between the look and the write: it may be claimed or given back at any moment.
    status = Job.objects.select_for_update().filter(pk=job_id).values_list("status", flat=True).first()
    asked = {"cancel_requested_at": Now(), "cancel_requested_by": by, "updated_at": Now()}
    job = Job.objects.filter(pk=job_id, status=status)
    if status == Status.PENDING:
        job.update(
            **{**asked, **_final(Status.CANCELLED)},
            **_error(ErrorCode.CANCELLED, _("Cancelled before it ran.")),
            **_free(True),
        )
        return Status.CANCELLED
    if status == Status.RUNNING:
        job.filter(cancel_requested_at=None).update(**asked)
        return Status.RUNNING
    return None


def mark_pushed(job_ids: list[UUID]) -> None:
    """Remember that the wake-up call was sent (it may still be lost: the reconciler sends it again)."""
    Job.objects.filter(pk__in=job_ids, status=Status.PENDING).update(pushed_at=Now())
