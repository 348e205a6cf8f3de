"""The worker: woken by RQ messages, it claims from PostgreSQL whatever is next, and runs it.

A django-rq worker in how it is started and listed, with its own loop: RQ's would execute what a message names, keep its
state in Redis and quit when Redis is away. Here a message is a nudge and is never executed; without any Redis the worker
looks by itself every POLL_SECONDS.
"""

import contextlib
import gc
import logging
import math
import os
import secrets
import signal
import socket
import time
from datetime import datetime
from typing import Any, cast

import redis.exceptions
from django.conf import settings
from django.db import connection
from django.db.models.functions import Now
from redis import Redis
from rq import Queue, SimpleWorker
from rq.serializers import JSONSerializer

from accounts import log_context
from jobs import claiming, queue
from jobs.draining import is_worker
from jobs.gpus import HeldGpus
from jobs.inventory import Inventory
from jobs.machine import machine_state
from jobs.models import Job, Worker
from jobs.pulse import DATABASE_ERRORS, Pulse, forget_connection, persist
from jobs.running import Runner

logger = logging.getLogger(__name__)

REGISTER_SECONDS = 30.0


class WakeUpWorker(SimpleWorker):
    """One process, one job at a time. SIGTERM: finish the job in hand, take no more. Again: give it back now."""

    def __init__(self, queues: Any, *args: Any, gpus: HeldGpus | None = None, **kwargs: Any) -> None:
        kwargs.setdefault("name", f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(3)}")
        kwargs.setdefault("serializer", JSONSerializer)
        kwargs["prepare_for_work"] = False
        super().__init__(queues, *args, **kwargs)
        self._gpus = gpus or HeldGpus([], [])
        self._is_draining = False
        self._is_waiting = False
        self._is_shown_idle = True
        self._registered_at = 0.0
        # Claimed with the end of the one before, and about to be run.
        self._claimed: Job | None = None
        self._done, self._max_jobs = 0, math.inf
        self._claims = 0
        self.row: Worker
        self.pulse: Pulse
        self.inventory: Inventory | None = None
        self.runner: Runner

    def work(self, burst: bool = False, max_jobs: int | None = None, **_: Any) -> bool:  # type: ignore[override]
        """Run jobs until told to stop; with `burst` until none is due. Whether any job was run."""
        self.row = persist(self._appear)
        pulse = self.pulse = Pulse(self.row)
        inventory = self.inventory = Inventory(self.row.pk, self._call_myself)
        self.runner = Runner(pulse, gpus=self._gpus, inventory=inventory)
        pulse.on_stop = self.runner.stop_now
        pulse.start()
        persist(inventory.refresh_what_is_quick)
        if not burst:
            inventory.start()
        # What is loaded by now stays: collections need not look through it between jobs.
        gc.collect()
        gc.freeze()
        self._done, self._max_jobs = 0, math.inf if max_jobs is None else max_jobs
        try:
            self._work_until_stopped(burst)
        finally:
            self.runner.close()
            inventory.stop()
            pulse.stop()
            pulse.join(2)  # a beat after the sign-off would call this worker back
            self._leave()
            self._gpus.release()
        return self._done > 0

    def _work_until_stopped(self, burst: bool) -> None:
        # A job that is claimed is run, whatever came meanwhile.
        while self._claimed is not None or (not self._must_stop() and self._done < self._max_jobs):
            self.runner.prepare()
            if self._claimed is None and not self._gpus_are_free():
                with contextlib.suppress(_Stopped):
                    self._wait()
            elif self._run_next():
                self._done += 1
            elif self.inventory is not None and self.inventory.look():
                continue
            elif burst:
                break
            else:
                with contextlib.suppress(_Stopped):  # a signal between the wait and its end
                    self._wait()

    def _appear(self) -> Worker:
        """Who sees the row may send a signal: one that comes before we listen waits, and ends us where no row was made.

        Held back from this thread alone: there is no other yet.
        """
        signals = (signal.SIGTERM, signal.SIGINT)
        signal.pthread_sigmask(signal.SIG_BLOCK, signals)
        try:
            row = self._make_row()
            for one in signals:
                signal.signal(one, self._on_stop)
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, signals)
        return row

    def _make_row(self) -> Worker:
        return Worker.objects.create(
            name=self.name,
            hostname=socket.gethostname(),
            pid=os.getpid(),
            state=Worker.State.IDLE,
            resource_classes=self.queue_names(),
            executor=settings.EXECUTOR,
            sandbox_report=self.sandbox_report,
            limits=self.limits,
            gpus=[gpu.as_json() for gpu in self._gpus.gpus],
            disabled_at=self._was_disabled_at(),
            machine=machine_state(),
        )

    def _was_disabled_at(self) -> datetime | None:
        """A worker that is started in the place of a disabled one, with its machine, GPUs and classes, is disabled too."""
        own = {gpu.uuid for gpu in self._gpus.gpus}
        for row in Worker.objects.filter(hostname=socket.gethostname()).order_by("-pk")[:20]:
            is_same = {card.get("uuid") for card in row.gpus} == own and row.resource_classes == self.queue_names()
            is_alive = row.stopped_at is None and row.pid != os.getpid() and is_worker(row.pid)
            if is_same and not is_alive:
                return row.disabled_at
        return None

    sandbox_report: list[dict[str, Any]] = []
    limits: dict[str, str] = {}

    def _must_stop(self) -> bool:
        if self.runner.has_leftovers:
            logger.error("something of the last run could not be killed: this worker takes no further job")
            return True
        return self._is_draining or self.pulse.drain_requested.is_set()

    def _gpus_are_free(self) -> bool:
        """Asked before each job: a run of before, or somebody at the machine, may still be on them."""
        if not self._gpus.gpus:
            return True
        is_free = self._gpus.are_free()
        try:
            Worker.objects.filter(pk=self.row.pk).update(gpus=[gpu.as_json() for gpu in self._gpus.gpus])
        except DATABASE_ERRORS:
            forget_connection()  # only shown
        return is_free

    def _run_next(self) -> bool:
        try:
            job = self._claimed or self._claim()
        except DATABASE_ERRORS as error:
            logger.warning("the database is away: %s", str(error).strip())
            forget_connection()
            return False
        if job is None:
            if not self._is_shown_idle:
                self._set_row_state(Worker.State.IDLE)
            return False
        self._is_shown_idle = False  # the claim said so
        self._claimed = None
        with log_context.bound(request_id=job.request_id, job_id=str(job.pk)):
            self._claimed = self.runner.run(job, self._claim_along)
        if self._is_draining:
            self._set_row_state(Worker.State.DRAINING)
        return True

    def _claim(self) -> Job | None:
        self._claims += 1
        if self._claims % settings.PLANS_KEPT_FOR == 0:
            with connection.cursor() as cursor:
                cursor.execute("DISCARD PLANS")
        return claiming.claim_next(
            worker_id=self.row.pk,
            worker_name=self.name,
            resource_classes=self.queue_names(),
            boards=self.inventory.boards if self.inventory else None,
            environments=self.inventory.environments.ids() if self.inventory else None,
            gpus=[gpu.as_json() for gpu in self._gpus.gpus],
        )

    def _claim_along(self) -> Job | None:
        """The next job, asked for inside the transaction that ends the one in hand; None where the loop shall look first."""
        if self._must_stop() or self._done + 1 >= self._max_jobs or self._gpus.gpus:
            return None
        if self.inventory is not None and self.inventory.environments.has_changed():
            return None
        return self._claim()

    def _set_row_state(self, state: Worker.State) -> None:
        try:
            Worker.objects.filter(pk=self.row.pk).update(state=state, heartbeat_at=Now())
            self._is_shown_idle = state == Worker.State.IDLE
        except DATABASE_ERRORS:
            forget_connection()  # only shown; the next change writes it again

    def _wait(self) -> None:
        """Sleep until a message comes, or POLL_SECONDS; whatever the message says, it is dropped unread."""
        try:
            self._is_waiting = True
            if self._is_draining:
                return
            self._register()
            self._drop_next_message()
        except _Stopped:
            pass
        except redis.exceptions.RedisError as error:
            logger.warning("redis is away: %s", error)
            self._sleep(settings.POLL_SECONDS)
        finally:
            self._is_waiting = False

    @property
    def _own_key(self) -> str:
        """The list on which this worker alone is called."""
        return f"leadersboard:worker:{self.name}"

    def _call_myself(self) -> None:
        """Look for a job, for more leaderboards than before; called from the inventory's thread."""
        try:
            with queue.connection().pipeline() as calls:
                calls.delete(self._own_key)
                calls.rpush(self._own_key, "inventory")
                calls.expire(self._own_key, 60)
                calls.execute()
        except redis.exceptions.RedisError as error:
            logger.warning("redis is away: %s", error)  # it looks by itself, every POLL_SECONDS

    def _drop_next_message(self) -> None:
        keys = [*(q.key for q in self.queues), self._own_key]
        found = self._listener().blpop(keys, timeout=settings.POLL_SECONDS)
        if found is not None:
            self._listener().delete(b"rq:job:" + cast(bytes, found[1])[:200])

    def _listener(self) -> Redis:
        """A connection that may block for POLL_SECONDS, but not for ever."""
        if not hasattr(self, "_redis"):
            self._redis = Redis.from_url(
                settings.REDIS_URL,
                socket_timeout=settings.POLL_SECONDS + 5,
                socket_connect_timeout=queue.CONNECT_SECONDS,
                retry=None,
            )
        return self._redis

    def _register(self) -> None:
        """Stand in RQ's list of workers, so that its tools see us; renewed because a flush forgets it."""
        if time.monotonic() - self._registered_at < REGISTER_SECONDS and self._registered_at:
            return
        listener = self._listener()
        listener.sadd("rq:workers", self.key)
        now = time.strftime("%Y-%m-%dT%H:%M:%S.000000Z", time.gmtime())
        birth: dict[Any, Any] = {
            "birth": now,
            "last_heartbeat": now,
            "queues": ",".join(self.queue_names()),
            "state": "idle",
        }
        listener.hset(self.key, mapping={**birth, "hostname": socket.gethostname(), "pid": os.getpid()})
        listener.expire(self.key, int(REGISTER_SECONDS * 3))
        self._registered_at = time.monotonic()

    def _sleep(self, seconds: float) -> None:
        try:
            time.sleep(seconds)
        except _Stopped:
            pass

    def _on_stop(self, signum: int, frame: Any) -> None:
        if self._is_draining:
            logger.warning("stopping now: the job in hand is given back")
            self.runner.stop_now()
            return
        self._is_draining = True
        logger.warning("draining: the job in hand is finished, no more are taken")
        if self._is_waiting:
            raise _Stopped

    def _leave(self) -> None:
        try:
            Worker.objects.filter(pk=self.row.pk).update(state=Worker.State.STOPPED, stopped_at=Now())
            self._listener().srem("rq:workers", self.key)
            self._listener().delete(self.key, self._own_key)
        except (*DATABASE_ERRORS, redis.exceptions.RedisError) as error:
            logger.warning("could not sign off: %s", error)


class _Stopped(Exception):
    """A signal came while the worker was waiting."""


def make_worker(resource_classes: list[str], **options: Any) -> WakeUpWorker:
    """A worker for these classes; each class is a queue of RQ."""
    connection = Redis.from_url(settings.REDIS_URL, socket_connect_timeout=queue.CONNECT_SECONDS)
    queues = [Queue(name, connection=connection, serializer=JSONSerializer) for name in resource_classes]
    return WakeUpWorker(queues, connection=connection, **options)
