"""Why a pending job has not started, and when it is expected to.

The whole queue of a class is read once and looked at for WAITING_VIEW_SECONDS: a hundred people who ask every second where
their job stands cost one reading of the queue a second, not a hundred. A job that is not in the view (it is newer) has the
queue read again; readers at once share one reading.
"""

import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from statistics import median
from typing import Any, Protocol
from uuid import UUID

from django.conf import settings
from django.db import connection
from django.utils import timezone
from django.utils.translation import gettext as _

from jobs.board_needs import REASONS, boards_with_needs, missing
from jobs.models import Job, Status, Worker
from leaderboards.models import Leaderboard, Pause

RECENT_ENDS = 20
# How many pending jobs are looked at to tell a position: beyond, the answer is "more than".
POSITION_CAP = 10_000

# The order of jobs/claiming.py, played forward: each person's n-th waiting job comes in round n.
_POSITIONS = """
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
)
SELECT waiting.id FROM waiting JOIN served ON served.user_id = waiting.user_id
ORDER BY waiting.priority, waiting.round, waiting.served_before, served.started_at NULLS FIRST, waiting.came, waiting.came_id
"""


class PendingJob(Protocol):
    """What is looked at of a job: the model has it, and so has a row that was read without it."""

    @property
    def pk(self) -> UUID: ...
    @property
    def status(self) -> str: ...
    @property
    def leaderboard_id(self) -> int: ...
    @property
    def resource_class(self) -> str: ...
    @property
    def available_at(self) -> datetime: ...
    @property
    def losses(self) -> int: ...


@dataclass(frozen=True)
class Waiting:
    """Why a pending job has not started, and when it is expected to."""

    position: int | None
    reason: str
    expected_start: datetime | None


@dataclass(frozen=True)
class QueueView:
    """The queue of a class as it was when it was read."""

    read_at: float
    positions: dict[UUID, int]
    pauses: dict[int | None, str]
    workers: int
    # Of the leaderboards that none of them can run: what is missing.
    lacks: dict[int, str]
    usual_seconds: float | None
    running: list[datetime]


_views: dict[str, QueueView] = {}
_reading: dict[str, threading.Lock] = {}


def waiting(job: PendingJob) -> Waiting | None:
    """Why the job waits, in the reader's language; None when it is not pending."""
    if job.status != Status.PENDING:
        return None
    view = _view_with(job)
    position = view.positions.get(job.pk)
    lack = view.lacks.get(job.leaderboard_id) if view.workers else None
    if lack is None and job.available_at > timezone.now() and job.losses:
        return Waiting(position, _("Its worker was lost; it runs again shortly."), job.available_at)
    if lack is None and job.available_at > timezone.now():
        return Waiting(position, _("It was given back; it runs again shortly."), job.available_at)
    if job.leaderboard_id in view.pauses:
        reason = _("Its leaderboard is paused: %(reason)s") % {"reason": view.pauses[job.leaderboard_id]}
        return Waiting(position, reason, None)
    if None in view.pauses:
        return Waiting(position, _("The queue is paused: %(reason)s") % {"reason": view.pauses[None]}, None)
    if not view.workers:
        reason = _("No worker for the class %(name)s is there just now.") % {"name": job.resource_class}
        return Waiting(position, reason, None)
    if lack is not None:
        return Waiting(position, str(REASONS[lack]), None)
    start = _expected_start(view, position)
    return Waiting(position, _("It is next.") if position == 1 else _("Other jobs are before it."), start)


def expected_start_of_next(view: QueueView) -> datetime | None:
    """Return when a job behind all that wait now is expected to start; None when nothing tells, or no worker is there."""
    return _expected_start(view, len(view.positions) + 1) if view.workers else None


def queue_view(resource_class: str) -> QueueView:
    """Return a fresh view of the class's queue."""
    return _fresh_view(resource_class, None)


def _view_with(job: PendingJob) -> QueueView:
    """A view of the job's queue that is fresh and has the job in it, if the queue has."""
    return _fresh_view(job.resource_class, job.pk)


def _fresh_view(name: str, job_id: UUID | None) -> QueueView:
    asked_at = time.monotonic()
    view = _views.get(name)
    if view is not None and _is_fresh(view, asked_at) and (job_id is None or job_id in view.positions):
        return view
    with _reading.setdefault(name, threading.Lock()):
        view = _views.get(name)
        if view is None or view.read_at < asked_at:
            view = _read(name)
            # What only this transaction sees is nobody else's.
            if not connection.in_atomic_block:
                _views[name] = view
        return view


def _is_fresh(view: QueueView, now: float) -> bool:
    return now - view.read_at < settings.WAITING_VIEW_SECONDS


def _read(resource_class: str) -> QueueView:
    began = time.monotonic()
    values: dict[str, Any] = {"class": resource_class, "cap": POSITION_CAP}
    with connection.cursor() as cursor:
        cursor.execute(_POSITIONS, values)
        positions = {row[0]: number for number, row in enumerate(cursor.fetchall(), 1)}
    workers = live_workers(resource_class)
    running = Job.objects.filter(status=Status.RUNNING, resource_class=resource_class)
    return QueueView(
        read_at=began,
        positions=positions,
        pauses=dict(Pause.objects.values_list("leaderboard_id", "reason")),
        workers=len(workers),
        lacks={
            board.pk: lack
            for board in boards_with_needs().exclude(dataset="", image="", scorer="")
            if (lack := first_lack(board, workers))
        },
        usual_seconds=usual_seconds(resource_class),
        running=[started for started in running.values_list("started_at", flat=True) if started],
    )


def first_lack(board: Leaderboard, workers: Sequence[Worker]) -> str | None:
    """The first thing missing on the worker that lacks least; None when one of them can run the leaderboard's jobs."""
    lacks = min((missing(board, worker.inventory) for worker in workers), key=len, default=[])
    return lacks[0] if lacks else None


def live_workers(resource_class: str | None = None) -> list[Worker]:
    """Return the live workers (of the class)."""
    found = Worker.objects.live()
    return [worker for worker in found if resource_class is None or resource_class in worker.resource_classes]


def live_workers_by_class() -> Counter[str]:
    """Return how many live workers each resource class has."""
    served = Worker.objects.live().order_by().values_list("resource_classes", flat=True)
    return Counter(name for classes in served for name in classes)


def usual_seconds(resource_class: str) -> float | None:
    """The median run time of the latest ends of the class; None when there were none."""
    ends = Job.objects.filter(resource_class=resource_class, finished_at__isnull=False, started_at__isnull=False)
    times = ends.order_by("-finished_at").values_list("started_at", "finished_at")[:RECENT_ENDS]
    seconds = [(end - start).total_seconds() for start, end in times if start and end and start <= end]
    return median(seconds) if seconds else None


def _expected_start(view: QueueView, position: int | None) -> datetime | None:
    """From the usual run time of the class; None when nobody knows it."""
    usual, now = view.usual_seconds, timezone.now()
    if usual is None or position is None:
        return None
    running = view.running[: view.workers]
    free_at = sorted(max(0.0, usual - (now - started).total_seconds()) for started in running)
    free_at = [0.0] * (view.workers - len(free_at)) + free_at
    # The jobs before this one take the workers as they become free.
    rounds, place = divmod(position - 1, view.workers)
    return now + timedelta(seconds=free_at[place] + rounds * usual)
