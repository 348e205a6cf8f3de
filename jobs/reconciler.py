"""What brings every job to its end, whoever died: one leader at a time, standbys take over.

Each function does one bounded pass and is safe to run beside itself; the guards lie in jobs/transitions.py.
"""

import logging
import threading
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from django.conf import settings
from django.db import connection
from django.db.models import Q
from django.db.models.functions import Now
from django.utils import timezone

import jobs.operations  # noqa: F401 - the actions that operations.run_due carries out
from accounts import operations
from jobs import queue, tracking, transitions
from jobs.deleting import remove_deleted_files
from jobs.dependencies import CHECKS, check, count_ends, record_outage
from jobs.models import FINAL, Job, JobLogChunk, Status, Worker
from jobs.pulse import DATABASE_ERRORS
from jobs.retention import prune_jobs, sweep_orphans
from jobs.tally import tally_endings
from leaderboards.versioning import settle

logger = logging.getLogger(__name__)

LEADER_LOCK = 0x6C656164  # "lead"
BATCH = 500
PRUNE_SECONDS = 3600.0
PUBLISH_SECONDS = 1.0
TALLY_SECONDS = 5.0
COUNT_SECONDS = 15.0
DELETE_SECONDS = 5.0
VERSION_SECONDS = 10.0
CHECK_SECONDS = 10.0
OPERATE_SECONDS = 0.5
RETRY_SECONDS = 60.0


def requeue_lost_jobs() -> dict[str, int]:
    """Jobs whose lease is over: how many became pending, failed, cancelled."""
    lost = Job.objects.filter(status=Status.RUNNING, lease_until__lt=Now()).order_by("lease_until")
    outcome: dict[str, int] = {}
    for job_id, attempt in list(lost.values_list("pk", "attempt")[:BATCH]):
        status = transitions.requeue_lost(job_id, attempt=attempt)
        if status is not None:
            logger.warning("job %s attempt %s: its worker was lost, now %s", job_id, attempt, status)
            outcome[status] = outcome.get(status, 0) + 1
    return outcome


def push_again() -> int:
    """Wake workers for due jobs whose call was never sent or is long ago; how many were called for."""
    old = Now() - timedelta(seconds=settings.REPUSH_SECONDS)
    due = Job.objects.filter(status=Status.PENDING, available_at__lte=Now()).filter(
        Q(pushed_at=None) | Q(pushed_at__lt=old)
    )
    pushed = []
    for job_id, resource_class in list(due.order_by("created_at").values_list("pk", "resource_class")[:BATCH]):
        if not queue.push(job_id, resource_class):
            break
        pushed.append(job_id)
    if pushed:
        transitions.mark_pushed(pushed)
    return len(pushed)


def clear_stale_rows() -> None:
    """Log pieces that a zombie wrote after the end, and workers that left without a word."""
    JobLogChunk.objects.filter(job__status__in=FINAL).delete()
    gone = Now() - timedelta(seconds=settings.LEASE_SECONDS * 2)
    silent = Worker.objects.filter(heartbeat_at__lt=gone).exclude(state=Worker.State.STOPPED)
    silent.update(state=Worker.State.STOPPED, stopped_at=Now())


def reconcile_once() -> dict[str, Any]:
    """One pass of everything but MLflow and retention; what was done."""
    done = {"lost": requeue_lost_jobs(), "pushed": push_again()}
    clear_stale_rows()
    return done


def database_uptime() -> float:
    """Seconds since PostgreSQL started."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT extract(epoch FROM clock_timestamp() - pg_postmaster_start_time())")
        return float(cursor.fetchone()[0])


def leads() -> bool:
    """Whether this database connection holds the leader's lock; takes it when it is free. It goes with the connection."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT EXISTS (SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND classid = 0 AND objid = %s "
            "AND database = (SELECT oid FROM pg_database WHERE datname = current_database()) "
            "AND pid = pg_backend_pid()) OR pg_try_advisory_lock(%s)",
            [LEADER_LOCK, LEADER_LOCK],
        )
        return bool(cursor.fetchone()[0])


def has_leader() -> bool:
    """Whether any reconciler holds the leader's lock."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT EXISTS (SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND classid = 0 AND objid = %s "
            "AND database = (SELECT oid FROM pg_database WHERE datname = current_database()) AND granted)",
            [LEADER_LOCK],
        )
        return bool(cursor.fetchone()[0])


class Reconciler:
    """The loop of `manage.py reconcile`."""

    def __init__(self) -> None:
        self.stopping = threading.Event()
        self.is_leader = False
        self._watching_since: float | None = None
        self._last_pass = 0.0
        self._away_since: datetime | None = None
        # MLflow may hang and a sweep of all stored files takes its time: each has a thread and a connection of its own.
        self._threads = [
            threading.Thread(target=self._every, args=(PUBLISH_SECONDS, tracking.publish_due), daemon=True),
            threading.Thread(target=self._every, args=(PRUNE_SECONDS, _prune), daemon=True),
            threading.Thread(target=self._every, args=(DELETE_SECONDS, remove_deleted_files), daemon=True),
            threading.Thread(target=self._every, args=(TALLY_SECONDS, tally_endings), daemon=True),
            threading.Thread(target=self._every, args=(COUNT_SECONDS, count_ends), daemon=True),
            threading.Thread(target=self._every, args=(VERSION_SECONDS, settle), daemon=True),
            threading.Thread(target=self._every, args=(OPERATE_SECONDS, operations.run_due), daemon=True),
            # One that hangs must not keep the others from being seen.
            *(
                threading.Thread(target=self._every, args=(CHECK_SECONDS, partial(check, name)), daemon=True)
                for name in CHECKS
            ),
        ]

    def run(self) -> None:
        for thread in self._threads:
            thread.start()
        while not self.stopping.is_set():
            try:
                self._pass()
                if self.is_leader and self._away_since is not None:
                    record_outage(self._away_since)
                    self._away_since = None
            except DATABASE_ERRORS as error:
                logger.warning("the database is away: %s", str(error).strip())
                self.is_leader = False
                self._watching_since = None
                self._away_since = self._away_since or timezone.now()
                connection.close()
            except Exception:  # the outermost edge: jobs hang on this loop, and the next pass tries again
                logger.exception("reconciling")
            self.stopping.wait(settings.RECONCILE_SECONDS if self.is_leader else min(2.0, settings.RECONCILE_SECONDS))
        for thread in self._threads:
            thread.join(5)
        connection.close()

    def _pass(self) -> None:
        was_leader, self.is_leader = self.is_leader, leads()
        if not self.is_leader:
            self._watching_since = None
            return
        if not was_leader:
            logger.info("this reconciler leads now")
        now = time.monotonic()
        # After a gap (frozen, database stalled) the holders need the time to beat again before they are judged.
        if self._watching_since is None or now - self._last_pass > settings.RECONCILE_SECONDS * 3:
            self._watching_since = now
        push_again()
        clear_stale_rows()
        settled = min(now - self._watching_since, database_uptime())
        if settled >= settings.SETTLE_SECONDS:
            requeue_lost_jobs()
        self._last_pass = time.monotonic()

    def _every(self, seconds: float, act: Callable[[], Any]) -> None:
        """Do something that often while this one leads."""
        next_time = 0.0
        while not self.stopping.is_set():
            try:
                if self.is_leader and time.monotonic() >= next_time:
                    act()
                    next_time = time.monotonic() + seconds
            except DATABASE_ERRORS:
                connection.close()
            except Exception:  # the thread's outermost edge: it is tried again
                logger.exception("reconciling beside the loop")
                next_time = time.monotonic() + min(seconds, RETRY_SECONDS)
            self.stopping.wait(min(1.0, seconds))
        connection.close()


def _prune() -> None:
    prune_jobs()
    operations.sweep_old()
    sweep_orphans()
