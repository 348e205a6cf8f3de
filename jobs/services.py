"""What people ask of jobs: enqueue one, run one again, cancel."""

import hashlib
import json
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import transaction
from django.db.models import QuerySet
from django.db.models.functions import Now

from accounts.models import User
from accounts.quota import HOUR, seconds_until_free
from accounts.refusals import Conflict, InvalidInput, NotFound, QuotaExceeded
from jobs import queue, transitions
from jobs.models import PLATFORM_FAULTS, Job, Status
from leaderboards.models import Leaderboard
from submissions.models import Submission
from submissions.plain_json import plain_json_bytes

WAIT_FOR_A_SLOT_SECONDS = 60
CONFIG_MAX_BYTES = 64 * 1024


def enqueue_job(
    user: User,
    submission_id: UUID,
    *,
    config: dict[str, Any] | None = None,
    resource_class: str = "small",
    idempotency_key: str | None = None,
) -> tuple[Job, bool]:
    """A pending job of the user's submission, and whether it is new.

    The same idempotency key with the same request gives the same job. Quotas are counted under a lock on the user's
    row, so that requests at once cannot pass together. The wake-up call goes out after the commit, best effort.

    Raises NotFound, InvalidInput, Conflict (key used for another request, leaderboard closed), QuotaExceeded.
    """
    config = config or {}
    _check(config, resource_class, idempotency_key)
    digest = _digest(submission_id, config, resource_class) if idempotency_key else ""
    with transaction.atomic():
        User.objects.select_for_update().only("pk").get(pk=user.pk)
        if idempotency_key and (earlier := Job.objects.filter(user=user, idempotency_key=idempotency_key).first()):
            if earlier.request_digest != digest:
                raise Conflict("idempotency_conflict", "Idempotency-Key was used before for another request.")
            return earlier, False
        submission = Submission.objects.filter(user=user, pk=submission_id).first()
        if submission is None:
            raise NotFound("not_found", f"submission_id: no submission {submission_id}, or it is not yours.")
        if not Leaderboard.objects.open().filter(pk=submission.leaderboard_id).exists():
            raise Conflict("leaderboard_closed", "leaderboard: it takes no submissions now.")
        _check_quotas(user)
        job = Job.objects.create(
            submission=submission,
            user=user,
            leaderboard_id=submission.leaderboard_id,
            config=config,
            resource_class=resource_class,
            idempotency_key=idempotency_key,
            request_digest=digest,
            pushed_at=Now(),
        )
        queue.push_after_commit(job.pk, resource_class)
    job.refresh_from_db(fields=["created_at", "updated_at", "available_at"])
    return job, True


def _check(config: Any, resource_class: str, idempotency_key: str | None) -> None:
    if not isinstance(config, dict):
        raise InvalidInput("bad_config", f"config: must be an object, not {type(config).__name__}.")
    try:
        size = plain_json_bytes(config)
    except ValueError as error:
        raise InvalidInput("bad_config", f"config: must be plain JSON with finite numbers ({error}).") from error
    if size > CONFIG_MAX_BYTES:
        raise InvalidInput("bad_config", f"config: at most {CONFIG_MAX_BYTES} bytes as JSON, not {size}.")
    if resource_class not in settings.RESOURCE_CLASSES:
        known = ", ".join(settings.RESOURCE_CLASSES)
        raise InvalidInput("bad_resource_class", f"resource_class: must be one of {known}, not {resource_class!r}.")
    if idempotency_key is not None and not (
        0 < len(idempotency_key) <= 200 and idempotency_key.isascii() and idempotency_key.isprintable()
    ):
        raise InvalidInput("bad_idempotency_key", "Idempotency-Key: 1 to 200 printable ASCII characters.")


def _digest(submission_id: UUID, config: dict[str, Any], resource_class: str) -> str:
    request = json.dumps([str(submission_id), config, resource_class], sort_keys=True)
    return hashlib.sha256(request.encode()).hexdigest()


def jobs_that_count(user: User) -> QuerySet[Job]:
    """The jobs of the last hour that count against the user's quota: not those that the platform failed, nor re-runs."""
    return Job.objects.filter(user=user, created_at__gt=Now() - HOUR, rerun_of=None).exclude(
        error_code__in=PLATFORM_FAULTS
    )


def _check_quotas(user: User) -> None:
    """Refuse beyond the quotas. Call it while the user's row is locked."""
    active = Job.objects.filter(user=user, rerun_of=None).active().count()
    if active >= user.job_quota:
        raise QuotaExceeded(
            "too_many_jobs",
            f"You have {active} jobs pending or running; at most {user.job_quota} at once. Wait for one to end or cancel one.",
            retry_after=WAIT_FOR_A_SLOT_SECONDS,
        )
    recent = jobs_that_count(user)
    if recent.count() >= user.submission_quota:
        raise QuotaExceeded(
            "hourly_limit",
            f"You started {user.submission_quota} jobs within the last hour, which is the limit.",
            retry_after=seconds_until_free(recent, user.submission_quota),
        )


def rerun_job(job: Job, *, by: User) -> Job:
    """A new job like this one, behind all new work; it costs its user no quota."""
    if not job.is_final:
        raise Conflict("not_final", f"The job is {job.status}; only a job that has ended can be run again.")
    with transaction.atomic():
        again = Job.objects.create(
            submission_id=job.submission_id,
            user_id=job.user_id,
            leaderboard_id=job.leaderboard_id,
            config=job.config,
            resource_class=job.resource_class,
            rerun_of=job,
            priority=1,
            pushed_at=Now(),
        )
        queue.push_after_commit(again.pk, again.resource_class)
    again.refresh_from_db(fields=["created_at", "updated_at", "available_at"])
    return again


def cancel_job(job: Job, *, by: User) -> Status:
    """Cancel the job: its status afterwards (`running` when its worker has been asked to). Raises Conflict when final."""
    status = transitions.cancel(job.pk, by=by)
    if status is None:
        raise Conflict("already_final", f"The job has already ended as {Job.objects.get(pk=job.pk).status}.")
    return status
