"""What people ask of jobs: enqueue one, run one again, cancel."""

import hashlib
import json
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import connection, transaction
from django.db.models.functions import Now
from django.utils.translation import gettext_lazy as _

from accounts import log_context
from accounts.models import User
from accounts.quota import HourlyUse, hourly_use, whole_seconds
from accounts.refusals import Conflict, Forbidden, InvalidInput, NotFound, QuotaExceeded, RequestRefused, reason_of
from accounts.services import banned, lock_person, record_action
from core.config_merge import ConfigRefused, check_replacements
from core.sizes import bytes_beyond, human_bytes
from core.untrusted import storable_json_bytes
from jobs import queue, transitions
from jobs.models import Job, Status
from jobs.new_jobs import Outcome, enqueue_jobs, job_request
from leaderboards.models import Leaderboard
from leaderboards.ranking_state import kept_off
from leaderboards.services import why_closed
from submissions.contents import refuse_deleted, why_deleted
from submissions.models import Submission

WAIT_FOR_A_SLOT_SECONDS = 60
CONFIG_MAX_BYTES = 64 * 1024
OPERATORS_ALONE = _("An operator started this job, and only operators can cancel it.")


def enqueue_job(
    user: User,
    submission_id: UUID,
    *,
    config: dict[str, Any] | None = None,
    resource_class: str = "small",
    trial: bool = False,
    idempotency_key: str | None = None,
) -> tuple[Job, bool]:
    """A pending job of the user's submission, and whether it is new. A trial runs like any other and never ranks.

    The same idempotency key with the same request gives the same job. The database's function enqueue_jobs decides, under
    a lock on the user's row, so that requests at once cannot pass together. The wake-up call goes out after the commit, best
    effort.

    Raises NotFound, Gone, InvalidInput, Conflict (key used for another request, leaderboard closed), QuotaExceeded, and Forbidden for
    who was banned in this moment.
    """
    config = config or {}
    check_request(config, resource_class, idempotency_key)
    digest = request_digest(submission_id, config, resource_class, trial=trial) if idempotency_key else ""
    request = job_request(
        user_id=user.pk,
        submission_id=submission_id,
        config=config,
        resource_class=resource_class,
        trial=trial,
        idempotency_key=idempotency_key,
        request_digest=digest,
        request_id=log_context.request_id(),
    )
    with transaction.atomic():
        with connection.cursor() as cursor:
            [outcome] = enqueue_jobs(cursor, [request], waits=True)
        if outcome.job_id is None:
            raise _refusal(outcome, submission_id)
        job = Job.objects.get(pk=outcome.job_id)
        if outcome.is_new:
            queue.push_after_commit(job.pk, resource_class)
    return job, bool(outcome.is_new)


def _refusal(outcome: Outcome, submission_id: UUID) -> RequestRefused:
    """Return the words for a code of enqueue_jobs."""
    figures = outcome.details
    match outcome.refusal:
        case "idempotency_conflict":
            return Conflict("idempotency_conflict", _("Idempotency-Key was used before for another request."))
        case "not_found":
            return NotFound(
                "not_found", _("no submission %(id)s, or it is not yours."), field="submission_id", id=submission_id
            )
        case "deleted":
            return why_deleted(Submission.objects.get(pk=submission_id))
        case "leaderboard_closed":
            return why_closed(Leaderboard.objects.get(submissions=submission_id))
        case "too_many_jobs":
            return _too_many_jobs(figures["active"], figures["most"])
        case "hourly_limit":
            return _hourly_limit(figures["reached"], whole_seconds(figures["seconds_until_free"]))
        case _:
            return banned()


def check_request(config: Any, resource_class: str, idempotency_key: str | None) -> None:
    """Raise InvalidInput for what is wrong whoever asks, and whatever of."""
    if not isinstance(config, dict):
        raise InvalidInput(
            "bad_config", _("must be an object, not %(kind)s."), field="config", kind=type(config).__name__
        )
    try:
        size = storable_json_bytes(config)
    except ValueError as error:
        raise InvalidInput(
            "bad_config", _("must be plain JSON with finite numbers (%(why)s)."), field="config", why=reason_of(error)
        ) from error
    if size > CONFIG_MAX_BYTES:
        raise InvalidInput(
            "bad_config",
            _("at most %(most)s as JSON, not %(size)s."),
            field="config",
            most=human_bytes(CONFIG_MAX_BYTES),
            size=bytes_beyond(size, CONFIG_MAX_BYTES),
        )
    try:
        check_replacements(config)
    except ConfigRefused as refusal:
        raise InvalidInput("bad_config", _(refusal.sentence), field="config", **refusal.values) from refusal
    if resource_class not in settings.RESOURCE_CLASSES:
        known = ", ".join(settings.RESOURCE_CLASSES)
        raise InvalidInput(
            "bad_resource_class", _("must be one of %(known)s, not %(name)r."), field="resource_class", known=known,
            name=resource_class,
        )  # fmt: skip
    if idempotency_key is not None and not (
        0 < len(idempotency_key) <= 200 and idempotency_key.isascii() and idempotency_key.isprintable()
    ):
        raise InvalidInput("bad_idempotency_key", _("1 to 200 printable ASCII characters."), field="Idempotency-Key")


def request_digest(submission_id: UUID, config: dict[str, Any], resource_class: str, *, trial: bool) -> str:
    """Return the digest by which a second request with the same key is compared.

    Only a trial adds to it, so that the digests stored before there were trials stay valid.
    """
    request = [str(submission_id), config, resource_class, *(["trial"] if trial else [])]
    return hashlib.sha256(json.dumps(request, sort_keys=True).encode()).hexdigest()


def jobs_this_hour(user: User) -> HourlyUse:
    """Return the user's use of the hourly quota of jobs; jobs that operators started are no part of it."""
    return hourly_use("job", user)


def active_jobs_that_count(user: User) -> int:
    """Return how many jobs of the user count against the limit of jobs at once."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT active FROM jobs_at_once(%s, %s)", [user.pk, settings.CONCURRENT_JOBS])
        return int(cursor.fetchone()[0])


def _check_quotas(user: User) -> None:
    """Refuse beyond the quotas. Call it while the user's row is locked."""
    active = active_jobs_that_count(user)
    if active >= user.job_quota:
        raise _too_many_jobs(active, user.job_quota)
    recent = jobs_this_hour(user)
    if recent.left() <= 0:
        raise _hourly_limit(recent.reached, recent.seconds_until_free())


def _too_many_jobs(active: int, most: int) -> QuotaExceeded:
    return QuotaExceeded(
        "too_many_jobs",
        _("You have %(active)d jobs pending or running; at most %(most)d at once. Wait for one to end or cancel one."),
        retry_after=WAIT_FOR_A_SLOT_SECONDS,
        active=active,
        most=most,
    )


def _hourly_limit(count: int, retry_after: int) -> QuotaExceeded:
    return QuotaExceeded(
        "hourly_limit",
        _("You started %(count)d jobs within the last hour, which is the limit."),
        retry_after=retry_after,
        count=count,
    )


def may_steer(user: User | None, job: Job) -> bool:
    """Tell whether the user is its owner, an operator who may change jobs, or None: the command line."""
    return user is None or job.user_id == user.pk or _is_operator(user)


def _refuse_strangers(user: User | None, job: Job) -> None:
    if not may_steer(user, job):
        raise Forbidden("forbidden", _("You may look at this job, but not change it."))


def may_cancel(user: User | None, job: Job) -> bool:
    """Tell whether the user may cancel the job: what an operator started, operators alone."""
    return may_steer(user, job) and not is_operators(user, job)


def is_operators(user: User | None, job: Job) -> bool:
    """Tell whether an operator started the job and the user is none."""
    return job.is_by_operator and not (user is None or _is_operator(user))


def _is_operator(user: User) -> bool:
    return user.is_staff and user.has_perm("jobs.change_job")


@transaction.atomic
def rerun_job(job: Job, *, by: User | None, reason: str = "") -> Job:
    """Make a new job like this one, behind all new work. Recorded, for operators run it.

    An operator's rerun of another person's job costs no quota. An operator's own job is theirs like any other: it counts.
    A rerun of what does not rank (a trial, a withdrawn or disqualified job) is a trial, so that it does not rank either.
    """
    _refuse_strangers(by, job)
    if not job.is_final:
        raise Conflict(
            "not_final",
            _("The job is %(status)s; only a job that has ended can be run again."),
            status=_status_word(job),
        )
    if is_own := by is not None and by.pk == job.user_id:
        lock_person(job.user)
        _check_quotas(job.user)
    # Locked against its deletion.
    refuse_deleted(Submission.objects.select_for_update(no_key=True).only("pk", "deleted_at").get(pk=job.submission_id))
    again = Job.objects.create(
        submission_id=job.submission_id,
        user_id=job.user_id,
        leaderboard_id=job.leaderboard_id,
        config=job.config,
        resource_class=job.resource_class,
        rerun_of=job,
        trial=kept_off(job) is not None,
        is_by_operator=not is_own,
        costs_quota=is_own,
        operator_reason="" if is_own else reason.strip(),
        request_id=log_context.request_id(),
        priority=1,
        pushed_at=Now(),
    )
    record_action(by, "rerun_job", [job], reason=reason, details={"job": str(again.pk)})
    queue.push_after_commit(again.pk, again.resource_class)
    again.refresh_from_db(fields=["created_at", "updated_at", "available_at"])
    return again


@transaction.atomic
def cancel_job(job: Job, *, by: User | None, reason: str = "") -> Status:
    """Cancel the job and return its status afterwards: `running` when its worker has been asked to end it.

    Cancelling another's, or what an operator started, is an operator's action, and recorded. Raises Conflict when the job is
    final, and Forbidden for the owner of a job that an operator started.
    """
    _refuse_strangers(by, job)
    if is_operators(by, job):
        raise Forbidden("operators_job", OPERATORS_ALONE)
    status = transitions.cancel(job.pk, by=by)
    if status is None:
        ended = Job.objects.only("status").get(pk=job.pk)
        raise Conflict("already_final", _("The job has already ended as %(status)s."), status=_status_word(ended))
    if by is None or by.pk != job.user_id or job.is_by_operator:
        record_action(by, "cancel_job", [job], reason=reason)
    return status


def _status_word(job: Job) -> Any:
    """The status in the reader's language; in English it is the API's word."""
    return Status(job.status).label
