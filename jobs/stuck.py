"""Jobs that do not move though they should: the list must be empty, and each kind can be mended by one call.

Each query reads a partial index or the newest jobs alone, so that it costs the same however many jobs there are.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.db import connection
from django.db.models import Q, QuerySet
from django.db.models.functions import Now
from django.utils.translation import gettext_lazy as _

from accounts.models import User
from accounts.operations import NAMES
from accounts.refusals import InvalidInput
from accounts.services import record_action
from jobs import queue, steering, transitions
from jobs.models import Job, Status, TrackingOutbox
from leaderboards.history import COUNTS, RANKING
from leaderboards.services import rebuild_entries

SHOWN = 20
# How many of the newest completed jobs are looked at for a missing entry or run.
LOOKED_AT = 1000


@dataclass(frozen=True)
class Stuck:
    """One job that does not move, since when, and what kind of trouble it is."""

    kind: "Kind"
    job: Job
    since: datetime | None

    @property
    def reason(self) -> str:
        """The answer of MLflow or its client, where that is the trouble."""
        return self.job.tracking.last_error if self.kind.code in ("behind", "refused") else ""


@dataclass(frozen=True)
class Kind:
    """A way to be stuck: how it is found, what mends it, and what the button says."""

    code: str
    label: Any
    remedy: Any
    find: Callable[[], QuerySet[Job]]
    since: str
    mend: Callable[[Job, User], None]


def _ago(seconds: float) -> Any:
    return Now() - timedelta(seconds=seconds)


def _lease_over() -> QuerySet[Job]:
    grace = settings.RECONCILE_SECONDS * 6 + settings.SETTLE_SECONDS
    return Job.objects.filter(status=Status.RUNNING, lease_until__lt=_ago(grace)).order_by("lease_until")


def _uncalled() -> QuerySet[Job]:
    late = settings.REPUSH_SECONDS * 3
    due = Job.objects.filter(status=Status.PENDING, available_at__lt=_ago(late))
    return due.filter(Q(pushed_at=None) | Q(pushed_at__lt=_ago(late))).order_by("pushed_at")


def _not_stopping() -> QuerySet[Job]:
    late = settings.HEARTBEAT_SECONDS * 3 + 60
    running = Job.objects.filter(status=Status.RUNNING, lease_until__isnull=False)
    return running.filter(cancel_requested_at__lt=_ago(late)).order_by("cancel_requested_at")


def _behind() -> QuerySet[Job]:
    return _oldest(TrackingOutbox.objects.waiting().filter(created_at__lt=_ago(settings.TRACKING_STUCK_SECONDS)))


def _refused() -> QuerySet[Job]:
    return _oldest(TrackingOutbox.objects.refused())


def _oldest(rows: QuerySet[TrackingOutbox]) -> QuerySet[Job]:
    return Job.objects.filter(pk__in=list(rows.order_by("created_at").values_list("pk", flat=True)[:SHOWN]))


_LOST = """
SELECT job.id FROM (
    SELECT * FROM jobs_job WHERE status = 'completed' ORDER BY created_at DESC, id DESC LIMIT %(looked_at)s
) job {ranking} WHERE {condition} LIMIT %(shown)s
"""
_WITHOUT_ENTRY = f"""
{COUNTS}
AND NOT EXISTS (SELECT FROM leaderboards_entry entry
                WHERE entry.leaderboard_id = job.leaderboard_id AND entry.user_id = job.user_id)
"""
_WITHOUT_RUN = """
job.run_id = '' AND NOT EXISTS (SELECT FROM jobs_trackingoutbox waiting WHERE waiting.job_id = job.id)
AND EXISTS (SELECT FROM submissions_submission WHERE id = job.submission_id AND deleted_at IS NULL)
"""


def _newest_completed(condition: str, ranking: str = "") -> QuerySet[Job]:
    with connection.cursor() as cursor:
        cursor.execute(_LOST.format(condition=condition, ranking=ranking), {"looked_at": LOOKED_AT, "shown": SHOWN})
        return Job.objects.filter(pk__in=[row[0] for row in cursor.fetchall()]).order_by("finished_at")


def _requeue(job: Job, by: User) -> None:
    transitions.requeue_lost(job.pk, attempt=job.attempt)


def _call(job: Job, by: User) -> None:
    if queue.push(job.pk, job.resource_class):
        transitions.mark_pushed([job.pk])


def _stop_its_worker(job: Job, by: User) -> None:
    if job.worker is not None:
        steering.stop(job.worker)


def _rebuild(job: Job, by: User) -> None:
    rebuild_entries(job.leaderboard, user_id=job.user_id)


def _send_now(job: Job, by: User) -> None:
    TrackingOutbox.objects.filter(pk=job.pk).update(next_try_at=Now())


def _send_again(job: Job, by: User) -> None:
    TrackingOutbox.objects.get_or_create(job=job)


KINDS = {
    kind.code: kind
    for kind in (
        Kind("lease_over", _("runs, though its lease is over"), _("Take it back"), _lease_over, "lease_until", _requeue),
        Kind("uncalled", _("waits, and no worker was called"), _("Call a worker"), _uncalled, "created_at", _call),
        Kind(
            "not_stopping", _("was cancelled, and still runs"), _("Stop its worker"), _not_stopping,
            "cancel_requested_at", _stop_its_worker,
        ),
        Kind(
            "without_entry", _("completed, and its person stands nowhere"), _("Rebuild the entry"),
            lambda: _newest_completed(_WITHOUT_ENTRY, RANKING), "finished_at", _rebuild,
        ),
        Kind(
            "without_run", _("completed, and nobody sends it to MLflow"), _("Send it"),
            lambda: _newest_completed(_WITHOUT_RUN), "finished_at", _send_again,
        ),
        Kind("behind", _("MLflow does not have it for long"), _("Try now"), _behind, "finished_at", _send_now),
        Kind("refused", _("MLflow does not take it"), _("Try now"), _refused, "finished_at", _send_now),
    )
}  # fmt: skip
NAMES.update({f"mend_{code}": kind.remedy for code, kind in KINDS.items()})


def stuck_jobs() -> list[Stuck]:
    """Everything that is stuck, at most SHOWN of a kind."""
    return [
        Stuck(kind, job, getattr(job, kind.since))
        for kind in KINDS.values()
        for job in kind.find().select_related("user", "leaderboard", "worker", "tracking").defer(*HEAVY)[:SHOWN]
    ]


HEAVY = (
    *("config", "params", "metrics", "detail_metrics", "artifacts", "error_message", "error_told", "limits_applied"),
    "notes",
)


def mend(code: str, job: Job, *, by: User) -> None:
    """Do what the kind's button says, and record it. What is not stuck any more is left as it is by the guards."""
    kind = KINDS.get(code)
    if kind is None:
        raise InvalidInput("unknown_kind", _("There is no such kind of trouble."))
    kind.mend(job, by)
    record_action(by, f"mend_{code}", [job], reason=f"{kind.label} → {kind.remedy}")
