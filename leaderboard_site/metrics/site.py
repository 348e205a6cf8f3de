"""The state of the site for Prometheus, read from the database: bounded queries, kept for a few seconds."""

import json
import logging
import threading
import time
from collections.abc import Iterator
from typing import Any

from django.conf import settings
from django.db import DatabaseError, InterfaceError, connection
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from redis.exceptions import RedisError

from jobs import queue
from jobs.models import EndingTally
from jobs.platform_faults import platform_faults
from jobs.reconciler import has_leader
from jobs.tally import DELAY_SECONDS, RUN_SECONDS
from jobs.unrunnable import unrunnable_jobs
from jobs.waiting import live_workers_by_class

logger = logging.getLogger(__name__)

KEPT_SECONDS = 5.0
CAP = 100_000  # rows looked at for a gauge: beyond, the gauge stands at the cap
WORKERS_SHOWN = 500
WORKER_SHOWN_SECONDS = 900  # a worker silent for longer is no longer shown

_QUEUE = """
SELECT resource_class, count(*), coalesce(extract(epoch FROM statement_timestamp() - min(greatest(created_at, available_at))), 0)
FROM (SELECT resource_class, created_at, available_at FROM jobs_job
      WHERE status = 'pending' AND available_at <= statement_timestamp() LIMIT %s) due
GROUP BY resource_class
"""
_RUNNING = """
SELECT resource_class, count(*), count(*) FILTER (WHERE lease_until < statement_timestamp())
FROM (SELECT resource_class, lease_until FROM jobs_job WHERE status = 'running' LIMIT %s) running GROUP BY resource_class
"""
_WORKERS = """
SELECT name, hostname, state, extract(epoch FROM statement_timestamp() - heartbeat_at), gpus
FROM jobs_worker WHERE heartbeat_at > statement_timestamp() - make_interval(secs => %s) AND state <> 'stopped'
ORDER BY heartbeat_at DESC LIMIT %s
"""
_OUTBOX = """
SELECT count(*), coalesce(extract(epoch FROM statement_timestamp() - min(created_at) FILTER (WHERE refusals < %s)), 0),
       count(*) FILTER (WHERE refusals >= %s)
FROM (SELECT created_at, refusals FROM jobs_trackingoutbox LIMIT %s) waiting
"""


class SiteCollector(Collector):
    """Reads at most once in KEPT_SECONDS, however often it is asked; the others wait for that reading."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._metrics: list[Metric] = []
        self._read_at = -KEPT_SECONDS

    def collect(self) -> Iterator[Metric]:
        with self._lock:
            if time.monotonic() - self._read_at >= KEPT_SECONDS:
                self._metrics = read()
                self._read_at = time.monotonic()
            yield from self._metrics


def read() -> list[Metric]:
    """All of it, or what can be told without the database while that is away."""
    up = GaugeMetricFamily("leadersboard_part_up", "1 while the part answers the web process.", labels=["part"])
    metrics: list[Metric] = [up]
    try:
        for each in (_queue, _unrunnable, _faults, _running, _workers, _outbox, _endings, _leader):
            metrics += each()
        up.add_metric(["database"], 1)
    except (DatabaseError, InterfaceError) as error:
        logger.warning("metrics without the database: %s", str(error).strip())
        connection.close()
        up.add_metric(["database"], 0)
    up.add_metric(["redis"], int(_redis_answers()))
    return metrics


def _redis_answers() -> bool:
    try:
        return bool(queue.connection().ping())
    except RedisError:
        return False


def _rows(query: str, *values: Any) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(query, values)
        return cursor.fetchall()


def _queue() -> list[Metric]:
    depth = GaugeMetricFamily("leadersboard_queue_jobs", "Jobs that are due and wait.", labels=["resource_class"])
    oldest = GaugeMetricFamily(
        "leadersboard_queue_oldest_seconds", "How long the first of them has waited.", labels=["resource_class"]
    )
    found = {row[0]: row[1:] for row in _rows(_QUEUE, CAP)}
    for name in {*settings.RESOURCE_CLASSES, *found}:
        jobs, seconds = found.get(name, (0, 0))
        depth.add_metric([name], jobs)
        oldest.add_metric([name], max(0.0, float(seconds)))
    return [depth, oldest]


def _unrunnable() -> list[Metric]:
    jobs = GaugeMetricFamily(
        "leadersboard_unrunnable_jobs", "Jobs that wait, and that no live worker of their class can run.",
        labels=["resource_class"],
    )  # fmt: skip
    count = dict.fromkeys(settings.RESOURCE_CLASSES, 0)
    for one in unrunnable_jobs():
        count[one.resource_class] = count.get(one.resource_class, 0) + one.jobs
    for name, number in count.items():
        jobs.add_metric([name], number)
    return [jobs]


def _faults() -> list[Metric]:
    jobs = GaugeMetricFamily(
        "leadersboard_platform_faults", "Jobs that failed by the platform's fault within a day.",
        labels=["leaderboard", "code"],
    )  # fmt: skip
    for one in platform_faults():
        jobs.add_metric([one.board.slug, one.code], one.jobs)
    return [jobs]


def _running() -> list[Metric]:
    running = GaugeMetricFamily("leadersboard_running_jobs", "Jobs that run.", labels=["resource_class"])
    over = GaugeMetricFamily(
        "leadersboard_leases_over", "Running jobs whose lease is over: the reconciler must take them back.",
        labels=["resource_class"],
    )  # fmt: skip
    found = {row[0]: row[1:] for row in _rows(_RUNNING, CAP)}
    for name in {*settings.RESOURCE_CLASSES, *found}:
        jobs, lost = found.get(name, (0, 0))
        running.add_metric([name], jobs)
        over.add_metric([name], lost)
    return [running, over]


def _workers() -> list[Metric]:
    ages = GaugeMetricFamily(
        "leadersboard_worker_heartbeat_age_seconds", "Since a worker was heard of.", labels=["worker", "host", "state"]
    )
    live = GaugeMetricFamily(
        "leadersboard_workers_live", "Workers that take jobs of the class, heard of within a lease.",
        labels=["resource_class"],
    )  # fmt: skip
    gpus = _GpuFamilies()
    for name, host, state, age, cards in _rows(_WORKERS, WORKER_SHOWN_SECONDS, WORKERS_SHOWN):
        ages.add_metric([name, host, state], max(0.0, float(age)))
        gpus.add(host, _json(cards))
    count = live_workers_by_class()
    for resource_class in {*settings.RESOURCE_CLASSES, *count}:
        live.add_metric([resource_class], count[resource_class])
    return [ages, live, *gpus.families()]


def _json(value: Any) -> list[Any]:
    """A JSON column as a raw cursor gives it."""
    found = json.loads(value) if isinstance(value, str) else value
    return found if isinstance(found, list) else []


class _GpuFamilies:
    """What workers report of their cards; a card is told once, though two workers of a machine may see it."""

    def __init__(self) -> None:
        labels = ["host", "gpu", "name"]
        self._load = GaugeMetricFamily("leadersboard_gpu_utilization_ratio", "Load of a card, 0 to 1.", labels=labels)
        self._used = GaugeMetricFamily("leadersboard_gpu_memory_used_bytes", "Memory in use on a card.", labels=labels)
        self._total = GaugeMetricFamily("leadersboard_gpu_memory_total_bytes", "Memory of a card.", labels=labels)
        self._seen: set[tuple[str, str]] = set()

    def add(self, host: str, cards: list[Any]) -> None:
        for card in cards:
            if not isinstance(card, dict) or (host, str(card.get("index"))) in self._seen:
                continue
            self._seen.add((host, str(card.get("index"))))
            labels = [host, str(card.get("index")), str(card.get("name", ""))]
            for family, value in (
                (self._load, card.get("utilization")),
                (self._used, card.get("memory_used_bytes")),
                (self._total, card.get("memory_total_bytes")),
            ):
                if isinstance(value, int | float):
                    family.add_metric(labels, value)

    def families(self) -> list[Metric]:
        return [self._load, self._used, self._total]


def _outbox() -> list[Metric]:
    (jobs, oldest, refused), *_ = _rows(_OUTBOX, *[max(1, settings.TRACKING_TRIES)] * 2, CAP)
    return [
        GaugeMetricFamily("leadersboard_outbox_jobs", "Completed jobs that MLflow does not have yet.", value=jobs),
        GaugeMetricFamily(
            "leadersboard_outbox_oldest_seconds", "How long the first of them has waited.", value=max(0.0, float(oldest))
        ),
        GaugeMetricFamily(
            "leadersboard_outbox_refused_jobs", "Completed jobs that MLflow does not take; tried again daily.",
            value=refused,
        ),
    ]  # fmt: skip


def _endings() -> list[Metric]:
    ended = CounterMetricFamily(
        "leadersboard_jobs_ended", "Jobs by how they ended.", labels=["resource_class", "status", "error_code"]
    )
    run = HistogramMetricFamily(
        "leadersboard_job_run_seconds", "From a job's claim to its end.", labels=["resource_class", "status"]
    )
    delay = HistogramMetricFamily(
        "leadersboard_job_dispatch_seconds", "From when a job was due to its claim.", labels=["resource_class"]
    )
    for tally in EndingTally.objects.order_by("resource_class"):
        for ending in tally.endings:
            ended.add_metric([tally.resource_class, ending["status"], ending["error_code"]], ending["jobs"])
        for status, counts in tally.run.items():
            run.add_metric([tally.resource_class, status], _buckets(RUN_SECONDS, counts["counts"]), counts["sum"])
        if tally.delay:
            buckets = _buckets(DELAY_SECONDS, tally.delay["counts"])
            delay.add_metric([tally.resource_class], buckets, tally.delay["sum"])
    return [ended, run, delay]


def _buckets(limits: tuple[float, ...], counts: list[int]) -> list[tuple[str, float]]:
    """Prometheus' cumulative buckets of plain counts; the last count is of what exceeds every limit."""
    found, total = [], 0
    for limit, number in zip((*map(str, limits), "+Inf"), counts, strict=True):
        total += number
        found.append((limit, float(total)))
    return found


def _leader() -> list[Metric]:
    value = int(has_leader())
    return [GaugeMetricFamily("leadersboard_reconciler_leads", "1 while a reconciler leads.", value=value)]
