"""What the status page shows: a fixed number of bounded queries, and nothing that asks another machine."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from django.conf import settings
from django.db import connection
from django.utils import timezone
from django.utils.translation import gettext

from jobs.dependencies import SHOWN_HOURS
from jobs.execution.limit_table import lacking
from jobs.models import FINAL, Dependency, HourlyEnds, Job, Status, TrackingOutbox, Worker
from jobs.platform_faults import HOURS, platform_faults
from jobs.reconciler import has_leader
from jobs.stuck import Stuck, stuck_jobs
from jobs.unrunnable import Unrunnable, unrunnable_jobs
from jobs.waiting import live_workers_by_class
from leaderboards.models import Pause

CAP = 10_000
WORKERS_SHOWN = 100
# A record that is older than this was not kept up: nobody watches.
STALE_SECONDS = 60

_QUEUE = """
SELECT class, (SELECT count(*) FROM (
           SELECT FROM jobs_job WHERE status = 'pending' AND resource_class = class LIMIT %(cap)s) capped),
       (SELECT created_at FROM jobs_job WHERE status = 'pending' AND resource_class = class
        ORDER BY created_at LIMIT 1)
FROM unnest(%(classes)s::text[]) class
"""


@dataclass(frozen=True)
class ClassQueue:
    """What waits of a class: how many (at most CAP are counted), since when the oldest does, and who serves it."""

    name: str
    waiting: int
    oldest: datetime | None
    workers: int

    @property
    def is_capped(self) -> bool:
        return self.waiting >= CAP

    @property
    def age_seconds(self) -> float | None:
        return None if self.oldest is None else max(0.0, (timezone.now() - self.oldest).total_seconds())

    @property
    def is_late(self) -> bool:
        return (self.age_seconds or 0.0) > settings.QUEUE_TARGET_SECONDS

    @property
    def is_unserved(self) -> bool:
        return self.waiting > 0 and self.workers == 0


@dataclass(frozen=True)
class WorkerLine:
    worker: Worker
    job: Job | None
    age_seconds: float
    is_silent: bool

    @property
    def open_probes(self) -> list[str]:
        """What its probe of its own sandbox could do, and should not have been able to."""
        return [str(found.get("name")) for found in self.worker.sandbox_report if not found.get("contained")]

    @property
    def not_enforced(self) -> list[str]:
        """The limits that a control group would enforce and that are watched or absent here."""
        return [f"{gettext(limit.label)}: {gettext(limit.words)}" for limit in lacking(self.worker.limits)]


@dataclass(frozen=True)
class Bar:
    """An hour of the chart: its counts, and the heights of its parts stacked, in the chart's units."""

    hour: datetime
    counts: dict[str, int]
    x: float
    parts: list[tuple[str, float, float]]

    @property
    def total(self) -> int:
        return sum(self.counts.values())


@dataclass
class Chart:
    bars: list[Bar]
    top: int
    totals: dict[str, int] = field(default_factory=dict)
    width: int = 720
    height: int = 180


def queues() -> list[ClassQueue]:
    served = live_workers_by_class()
    with connection.cursor() as cursor:
        cursor.execute(_QUEUE, {"classes": list(settings.RESOURCE_CLASSES), "cap": CAP})
        return [ClassQueue(name, count, oldest, served[name]) for name, count, oldest in cursor.fetchall()]


def shown_workers() -> list[Worker]:
    """Those that were heard of within a day, the latest first."""
    recent = timezone.now() - timedelta(days=1)
    return list(Worker.objects.filter(heartbeat_at__gt=recent).order_by("-heartbeat_at")[:WORKERS_SHOWN])


def worker_lines(workers: list[Worker]) -> list[WorkerLine]:
    running = Job.objects.filter(status=Status.RUNNING, worker__in=workers).select_related("user", "leaderboard")
    jobs = {job.worker_id: job for job in running.only("id", "worker", "started_at", "user", "leaderboard")}
    now = timezone.now()
    lines = []
    for worker in workers:
        age = max(0.0, (now - worker.heartbeat_at).total_seconds())
        is_silent = worker.state != Worker.State.STOPPED and age > settings.HEARTBEAT_SECONDS * 3
        lines.append(WorkerLine(worker, jobs.get(worker.pk), age, is_silent))
    # Those that work first, then by name: rows that change places at each heartbeat cannot be clicked.
    return sorted(lines, key=lambda line: (line.worker.state == Worker.State.STOPPED, line.worker.name))


def chart() -> Chart:
    """Ends by the hour, as the reconciler counted them."""
    now = timezone.now().astimezone(UTC)
    first = now.replace(minute=0, second=0, microsecond=0) - timedelta(hours=SHOWN_HOURS - 1)
    counts: dict[datetime, dict[str, int]] = {
        first + timedelta(hours=number): dict.fromkeys(map(str, FINAL), 0) for number in range(SHOWN_HOURS)
    }
    for hour, status, count in HourlyEnds.objects.filter(hour__gte=first).values_list("hour", "status", "count"):
        if hour in counts:
            counts[hour][status] = count
    top = max(1, *(sum(found.values()) for found in counts.values()))
    drawn = Chart([], top, {str(status): sum(found[status] for found in counts.values()) for status in FINAL})
    step, floor = drawn.width / SHOWN_HOURS, drawn.height - 20
    for number, (hour, found) in enumerate(counts.items()):
        parts, bottom = [], float(floor)
        for status, count in found.items():
            height = round(count / top * (floor - 10), 1)
            bottom -= height
            parts.append((status, round(bottom, 1), height))
        drawn.bars.append(Bar(hour, found, round(number * step, 1), parts))
    return drawn


def dependencies() -> list[Dependency]:
    """The record, and the reconciler itself, which keeps it."""
    found = list(Dependency.objects.all())
    for one in found:
        one.is_stale = (timezone.now() - one.checked_at).total_seconds() > STALE_SECONDS  # type: ignore[attr-defined]
    return found


def backlog() -> dict[str, Any]:
    """What MLflow does not have yet: how many (at most CAP are counted), and since when the oldest waits."""
    everything = TrackingOutbox.objects.order_by("created_at")
    # What MLflow does not take is listed by itself, and must not hide that MLflow is behind with the rest, or is not.
    oldest = everything.waiting().values_list("created_at", "last_error").first()
    return {
        "count": everything[:CAP].count(),
        "cap": CAP,
        "refused": TrackingOutbox.objects.refused()[:CAP].count(),
        "oldest": oldest[0] if oldest else None,
        "error": oldest[1] if oldest else "",
        "is_late": oldest is not None
        and (timezone.now() - oldest[0]).total_seconds() > settings.TRACKING_STUCK_SECONDS,
    }


def status_page() -> dict[str, Any]:
    """Everything on the page."""
    workers, stuck, unrunnable, faults = shown_workers(), stuck_jobs(), unrunnable_jobs(), platform_faults()
    classes, parts = queues(), dependencies()
    running = Job.objects.filter(status=Status.RUNNING)[:CAP].count()
    leader = has_leader()
    outbox, lines = backlog(), worker_lines(workers)
    return {
        "queues": classes,
        "target_seconds": settings.QUEUE_TARGET_SECONDS,
        "running": running,
        "workers": lines,
        "dependencies": parts,
        "has_leader": leader,
        "is_leader_silent": leader and bool(parts) and all(one.is_stale for one in parts),  # type: ignore[attr-defined]
        "backlog": outbox,
        "pauses": list(Pause.objects.select_related("leaderboard", "by").order_by("created_at")[:50]),
        "chart": chart(),
        "stuck": stuck,
        "unrunnable": unrunnable,
        "faults": faults,
        "fault_hours": HOURS,
        "troubles": _troubles(classes, parts, stuck, unrunnable, leader, outbox)
        + sum(line.is_silent for line in lines)
        + sum(one.is_repeated for one in faults),
        "now": timezone.now(),
    }


def _troubles(
    classes: list[ClassQueue],
    parts: list[Dependency],
    stuck: list[Stuck],
    unrunnable: list[Unrunnable],
    leader: bool,
    outbox: dict[str, Any],
) -> int:
    """How many things are not as they should be: 0 is the green line at the top."""
    late = sum(one.is_late or one.is_unserved for one in classes)
    down = sum(not one.is_up or one.is_stale for one in parts)  # type: ignore[attr-defined]
    return late + down + len(stuck) + len(unrunnable) + (not leader) + bool(outbox["is_late"])
