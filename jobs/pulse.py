"""The worker's heartbeat: a thread that renews the lease of the job in hand and passes each renewal on to its supervisor.

The supervisor kills the run when no renewal has come for FENCE_SECONDS, whatever has happened to this process: frozen,
cut off, or stuck in a call. So a run ends before its lease does, and nobody else starts it before it ended.
"""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar
from uuid import UUID

from django.conf import settings
from django.db import InterfaceError, NotSupportedError, OperationalError, connection
from django.db.models.functions import Now

from accounts import log_context
from jobs import transitions
from jobs.execution.client import Supervisor
from jobs.machine import machine_state
from jobs.models import Worker

logger = logging.getLogger(__name__)
T = TypeVar("T")
# The database is away, or a migration beside us has changed what a prepared statement answers; a new connection knows.
DATABASE_ERRORS = (OperationalError, InterfaceError, NotSupportedError)


def forget_connection() -> None:
    """After one of these errors: whatever state the connection is in, the next statement gets another."""
    if not connection.in_atomic_block:
        connection.close()


def persist(write: Callable[[], T]) -> T:
    """Try the write until the database takes it. Each is guarded by the attempt, so trying late or twice is harmless."""
    delay = 0.5
    while True:
        try:
            return write()
        except DATABASE_ERRORS as error:
            logger.warning("the database is away, trying again: %s", str(error).strip())
            forget_connection()
            time.sleep(delay)
            delay = min(delay * 2, 5.0)


@dataclass
class Held:
    """A job in hand. `is_lost` means: somebody else has it now; write nothing more."""

    job_id: UUID
    attempt: int
    supervisor: Supervisor | None = None
    is_lost: bool = False
    is_cancel_requested: bool = False
    lock: threading.Lock = field(default_factory=threading.Lock)
    request_id: str = ""

    def begin(self, supervisor: Supervisor) -> None:
        """From now on the supervisor hears of each renewal."""
        with self.lock:
            self.supervisor = supervisor
            if self.is_lost or self.is_cancel_requested:
                supervisor.kill("cancelled")

    def end(self) -> None:
        """The run is over and its supervisor about to go; the lease is still renewed while the end is written."""
        with self.lock:
            self.supervisor = None

    def renewed(self, seconds: float, *, cancel: bool) -> None:
        with self.lock:
            self.is_cancel_requested = self.is_cancel_requested or cancel
            if self.supervisor is not None:
                self.supervisor.extend(seconds)
                if cancel:
                    self.supervisor.kill("cancelled")

    def lose(self) -> None:
        with self.lock:
            self.is_lost = True
            if self.supervisor is not None:
                self.supervisor.kill("cancelled")


class Pulse(threading.Thread):
    """Beats for the worker's row and for the job in hand, on a database connection of its own."""

    def __init__(self, worker: Worker) -> None:
        super().__init__(name="pulse", daemon=True)
        self._worker_id = worker.pk
        self._stopping = threading.Event()
        self._nudge = threading.Event()
        self.held: Held | None = None
        self.drain_requested = threading.Event()
        self.stop_requested = threading.Event()
        self.on_stop: Callable[[], None] = lambda: None  # gives the job in hand back

    def run(self) -> None:
        while not self._stopping.is_set():
            wait = settings.HEARTBEAT_SECONDS
            try:
                held = self.held
                with log_context.bound(
                    request_id=held.request_id if held else "", job_id=str(held.job_id) if held else ""
                ):
                    self._beat()
            except DATABASE_ERRORS as error:
                logger.warning("heartbeat failed, trying again: %s", str(error).strip())
                forget_connection()
                wait = min(1.0, wait)
            except Exception:  # the thread's outermost edge: a pulse that stopped would cost every later job its lease
                logger.exception("heartbeat")
                forget_connection()
            self._nudge.wait(wait)
            self._nudge.clear()
        connection.close()

    def hold(self, held: Held | None) -> None:
        """The job that the beats are for from now on."""
        self.held = held

    def stop(self) -> None:
        self._stopping.set()
        self._nudge.set()

    def _beat(self) -> None:
        held = self.held
        if held is not None and not held.is_lost:
            # The lease counts from when the database got the statement: take off what the answer took.
            sent = time.monotonic()
            is_mine, cancel_requested_at = transitions.heartbeat(held.job_id, held.attempt)
            if is_mine:
                left = settings.FENCE_SECONDS - (time.monotonic() - sent)
                held.renewed(left, cancel=cancel_requested_at is not None)
            elif self.held is held:
                logger.warning("job %s attempt %s is no longer ours", held.job_id, held.attempt)
                held.lose()
        rows = Worker.objects.filter(pk=self._worker_id)
        rows.update(heartbeat_at=Now(), machine=machine_state())
        asked = rows.values_list("state", "drain_requested_at", "stop_requested_at").get()
        state, drain_requested_at, stop_requested_at = asked
        if drain_requested_at is not None:
            self.drain_requested.set()
        if stop_requested_at is not None and not self.stop_requested.is_set():
            self.stop_requested.set()
            self.on_stop()
        if state == Worker.State.STOPPED and not self._stopping.is_set():
            # Silent for so long that it was taken for gone.
            state = Worker.State.RUNNING if held is not None else Worker.State.IDLE
            rows.update(state=state, stopped_at=None)
