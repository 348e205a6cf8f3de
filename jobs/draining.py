"""Stopping this machine's workers from outside, for an upgrade: after their job in hand, or now."""

import os
import signal
import socket
import time
from datetime import timedelta
from pathlib import Path

from django.conf import settings
from django.db.models import QuerySet
from django.db.models.functions import Now

from jobs.models import Worker


def local_workers() -> QuerySet[Worker]:
    """Workers of this machine that were heard of within a lease."""
    heard = Now() - timedelta(seconds=settings.LEASE_SECONDS)
    return Worker.objects.filter(hostname=socket.gethostname(), stopped_at=None, heartbeat_at__gt=heard)


def drain(*, now: bool, wait_seconds: float) -> tuple[list[Worker], list[Worker]]:
    """Tell this machine's workers to stop: (those that did within `wait_seconds`, those that still run).

    `now` has them give their job back instead of finishing it; it costs nobody anything and runs again elsewhere.
    """
    workers = [worker for worker in local_workers() if is_worker(worker.pid)]
    for repetition in range(2 if now else 1):
        if repetition:
            time.sleep(0.5)  # the second signal must not melt into the first
        for worker in workers:
            _terminate(worker.pid)
    deadline = time.monotonic() + wait_seconds
    while time.monotonic() < deadline and any(is_worker(worker.pid) for worker in workers):
        time.sleep(0.2)
    left = [worker for worker in workers if is_worker(worker.pid)]
    return [worker for worker in workers if worker not in left], left


def is_worker(pid: int) -> bool:
    """Whether the process is one of ours: a number alone may be anybody's by now."""
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z" and b"worker" in command and any(word.endswith(b"manage.py") for word in command)


def _terminate(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGTERM)
    except ProcessLookupError:
        pass  # it has stopped meanwhile, which is what was wanted
