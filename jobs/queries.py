"""Reading jobs: why one waits, its log, its run in MLflow."""

import logging
from dataclasses import dataclass
from datetime import datetime, timedelta
from statistics import median
from urllib.parse import urlencode

from django.conf import settings
from django.core.files.base import File
from django.core.files.storage import storages
from django.db import connection
from django.db.models import Q
from django.db.models.functions import Now
from django.utils import timezone
from django.utils.translation import gettext as _

from accounts.refusals import Unavailable
from jobs.models import Job, JobLogChunk, JobProgress, Status, Worker
from leaderboards.models import Pause
from submissions.storage import STORAGE_ERRORS

logger = logging.getLogger(__name__)

# The first seconds of a run say little about the others.
SOONEST_ESTIMATE_SECONDS = 2.0
LOG_PART_BYTES = 256 * 1024
RECENT_ENDS = 20
# How many pending jobs are looked at to tell a position: beyond, the answer is "more than".
POSITION_CAP = 10_000

# The order of jobs/transitions.py's claim, played forward: each person's n-th waiting job comes in round n.
_POSITION = """
WITH waiting AS (
    SELECT id, user_id, priority, created_at,
           row_number() OVER (PARTITION BY user_id, priority ORDER BY created_at, id) AS round,
           count(*) OVER (PARTITION BY user_id ORDER BY priority GROUPS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS served_before,
           first_value(created_at) OVER (PARTITION BY user_id ORDER BY priority, created_at, id) AS came,
           first_value(id) OVER (PARTITION BY user_id ORDER BY priority, created_at, id) AS came_id
    FROM (SELECT id, user_id, priority, created_at FROM jobs_job
          WHERE status = 'pending' AND resource_class = %(class)s ORDER BY created_at LIMIT %(cap)s) capped
), served AS (
    SELECT people.user_id, (
        SELECT started_at FROM jobs_job job WHERE job.user_id = people.user_id AND job.started_at IS NOT NULL
        ORDER BY started_at DESC LIMIT 1
    ) AS started_at FROM (SELECT DISTINCT user_id FROM waiting) people
), ordered AS (
    SELECT waiting.id, row_number() OVER (
        ORDER BY waiting.priority, waiting.round, waiting.served_before, served.started_at NULLS FIRST, waiting.came, waiting.came_id
    ) AS position
    FROM waiting JOIN served ON served.user_id = waiting.user_id
)
SELECT position FROM ordered WHERE id = %(id)s
"""


@dataclass(frozen=True)
class Waiting:
    """Why a pending job has not started, and when it is expected to."""

    position: int | None
    reason: str
    expected_start: datetime | None


def live_workers(resource_class: str) -> list[Worker]:
    """Workers of the class that take jobs and were heard of within a lease."""
    heard = Now() - timedelta(seconds=settings.LEASE_SECONDS)
    states = [Worker.State.STARTING, Worker.State.IDLE, Worker.State.RUNNING]
    return [
        worker
        for worker in Worker.objects.filter(heartbeat_at__gt=heard, state__in=states, disabled_at=None)
        if resource_class in worker.resource_classes
    ]


def waiting(job: Job) -> Waiting | None:
    """Why the job waits, in the reader's language; None when it is not pending."""
    if job.status != Status.PENDING:
        return None
    position = _position(job)
    if job.available_at > timezone.now() and job.losses:
        return Waiting(position, _("Its worker was lost; it runs again shortly."), job.available_at)
    if job.available_at > timezone.now():
        return Waiting(position, _("It was given back; it runs again shortly."), job.available_at)
    paused = (
        Pause.objects.filter(Q(leaderboard=None) | Q(leaderboard=job.leaderboard_id)).order_by("leaderboard").first()
    )
    if paused is not None:
        is_board = paused.leaderboard_id is not None
        why = _("Its leaderboard is paused: %(reason)s") if is_board else _("The queue is paused: %(reason)s")
        return Waiting(position, why % {"reason": paused.reason}, None)
    workers = live_workers(job.resource_class)
    if not workers:
        reason = _("No worker for the class %(name)s is there just now.") % {"name": job.resource_class}
        return Waiting(position, reason, None)
    if job.leaderboard.image and not any(worker.executor == "container" for worker in workers):
        reason = _("Its leaderboard needs a worker that runs containers, and none is there just now.")
        return Waiting(position, reason, None)
    start = _expected_start(job.resource_class, position, len(workers))
    if position == 1:
        return Waiting(position, _("It is next."), start)
    return Waiting(position, _("Other jobs are before it."), start)


def _position(job: Job) -> int | None:
    with connection.cursor() as cursor:
        cursor.execute(_POSITION, {"class": job.resource_class, "id": job.pk, "cap": POSITION_CAP})
        row = cursor.fetchone()
    return int(row[0]) if row else None


def usual_seconds(resource_class: str) -> float | None:
    """The median run time of the latest ends of the class; None when there were none."""
    ends = Job.objects.filter(resource_class=resource_class, finished_at__isnull=False, started_at__isnull=False)
    times = ends.order_by("-finished_at").values_list("started_at", "finished_at")[:RECENT_ENDS]
    seconds = [(end - start).total_seconds() for start, end in times if start and end and start <= end]
    return median(seconds) if seconds else None


def _expected_start(resource_class: str, position: int | None, workers: int) -> datetime | None:
    """From the usual run time of the class; None when nobody knows it."""
    usual, now = usual_seconds(resource_class), timezone.now()
    if usual is None or position is None:
        return None
    running = Job.objects.filter(status=Status.RUNNING, resource_class=resource_class).values_list(
        "started_at", flat=True
    )
    free_at = sorted(max(0.0, usual - (now - started).total_seconds()) for started in running[:workers] if started)
    free_at = [0.0] * (workers - len(free_at)) + free_at
    # The jobs before this one take the workers as they become free.
    rounds, place = divmod(position - 1, workers)
    return now + timedelta(seconds=free_at[place] + rounds * usual)


def progress_of(job: Job) -> JobProgress | None:
    """What the job's latest attempt has said about itself; None when it has said nothing. Free with `progress` selected."""
    found = getattr(job, "progress", None)
    return found if found is not None and found.attempt == job.attempt else None


def seconds_left(job: Job, progress: JobProgress) -> float | None:
    """How long the run will take on, if it goes on as it has so far; None when that cannot be told."""
    fraction, at = progress.fraction, progress.fraction_at
    if job.status != Status.RUNNING or not job.started_at or not at or not fraction or fraction >= 1:
        return None
    elapsed = (at - job.started_at).total_seconds()
    if elapsed < SOONEST_ESTIMATE_SECONDS:
        return None
    since = max(0.0, (timezone.now() - at).total_seconds())
    return max(0.0, elapsed * (1 - fraction) / fraction - since)


def open_artifact(name: str) -> File:
    """What a run left, open for reading; raises Unavailable while the storage is away."""
    try:
        return storages["artifacts"].open(name)
    except STORAGE_ERRORS as error:
        raise _unreadable(name) from error


def _unreadable(name: str) -> Unavailable:
    logger.exception("reading %s", name)
    return Unavailable("storage_unavailable", _("Stored files cannot be read just now. Try again in a minute."))


def read_log(job: Job, offset: int = 0) -> tuple[bytes, int]:
    """A part of the job's log (cleaned UTF-8) from a byte offset, and the offset of the next part."""
    if job.log_name:
        with open_artifact(job.log_name) as stored:
            try:
                stored.seek(offset)
                content = stored.read(LOG_PART_BYTES)
            except STORAGE_ERRORS as error:
                raise _unreadable(job.log_name) from error
        return content, offset + len(content)
    chunks = JobLogChunk.objects.filter(job=job, attempt=job.attempt).order_by("offset")
    parts: list[bytes] = []
    position, total = offset, 0
    for start, raw in chunks.filter(offset__gt=offset - LOG_PART_BYTES).values_list("offset", "content"):
        piece = bytes(raw)
        if start + len(piece) <= position or start > position:
            continue
        part = piece[position - start :]
        parts.append(part)
        position += len(part)
        total += len(part)
        if total >= LOG_PART_BYTES:
            break
    return b"".join(parts), position


def mlflow_ui_link(job: Job) -> str:
    """Opens the job's run in MLflow; empty until MLflow has it."""
    if not job.run_id:
        return ""
    return f"{settings.MLFLOW_PUBLIC_URL}/#/experiments/{job.experiment_id}/runs/{job.run_id}"


def mlflow_rest_link(job: Job) -> str:
    """The run as JSON; empty until MLflow has it."""
    if not job.run_id:
        return ""
    return f"{settings.MLFLOW_PUBLIC_URL}/api/2.0/mlflow/runs/get?{urlencode({'run_id': job.run_id})}"
