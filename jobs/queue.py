"""The wake-up call: a job's id on a Redis list, through django-rq. Never the record (docs/architecture.md).

Losing any call, or all of Redis, loses nothing: the reconciler calls again and idle workers look by themselves. A call
that comes twice, late, or from somebody else makes a worker look at PostgreSQL, and nothing more.
"""

import logging
import threading
import time
from queue import SimpleQueue
from uuid import UUID

from django.conf import settings
from django.db import transaction
from redis import Redis
from redis.exceptions import RedisError
from rq import Queue
from rq.serializers import JSONSerializer

logger = logging.getLogger(__name__)

FUNCTION = "jobs.tasks.run_job"
CONNECT_SECONDS = 0.5
# After a failure, calls are left to the reconciler that long, so that no request waits for a Redis that is away.
BREAK_SECONDS = 5.0
_broken_until = 0.0
_connection: Redis | None = None
# More calls than that in a queue wake nobody: whoever hears one looks until nothing is left to do.
CALLS_KEPT = 100
_outbox: "SimpleQueue[tuple[UUID, str]] | None" = None


def connection() -> Redis:
    """A connection that fails fast: no retries, half a second to connect or answer."""
    global _connection
    if _connection is None:
        _connection = Redis.from_url(
            settings.REDIS_URL, socket_timeout=CONNECT_SECONDS, socket_connect_timeout=CONNECT_SECONDS, retry=None
        )
    return _connection


def push(job_id: UUID, resource_class: str) -> bool:
    """Call a worker of the class; False when Redis is away. Never raises for Redis, never waits over a second."""
    global _broken_until
    if time.monotonic() < _broken_until:
        return False
    try:
        queue = Queue(resource_class, connection=connection(), serializer=JSONSerializer)
        queue.enqueue_call(
            FUNCTION, args=(str(job_id),), job_id=str(job_id), timeout=-1, result_ttl=0, failure_ttl=60, ttl=3600
        )
    except RedisError as error:
        _broken_until = time.monotonic() + BREAK_SECONDS
        logger.warning("redis is away, job %s waits for the reconciler: %s", job_id, error)
        return False
    return True


def push_after_commit(job_id: UUID, resource_class: str) -> None:
    """Call a worker once this transaction is committed; an error there never reaches the request."""

    transaction.on_commit(lambda: _push_or_post(job_id, resource_class), robust=True)


def _push_or_post(job_id: UUID, resource_class: str) -> None:
    if _outbox is None:
        push(job_id, resource_class)
    else:
        _outbox.put((job_id, resource_class))


def start_posting() -> None:
    """From now on a thread of this process sends the calls, so that no request waits for Redis. Those in hand when the
    process ends are lost, which is harmless."""
    global _outbox
    if _outbox is None:
        _outbox = SimpleQueue()
        threading.Thread(target=_post, args=(_outbox,), name="wake-up calls", daemon=True).start()


def _post(outbox: "SimpleQueue[tuple[UUID, str]]") -> None:
    while True:
        found: dict[str, list[UUID]] = {}
        job_id, resource_class = outbox.get()
        found[resource_class] = [job_id]
        while not outbox.empty():
            job_id, resource_class = outbox.get()
            found.setdefault(resource_class, []).append(job_id)
        for name, ids in found.items():
            for job_id in ids[: _room(name)]:
                push(job_id, name)


def _room(resource_class: str) -> int:
    """How many calls more can wake anybody."""
    if time.monotonic() < _broken_until:
        return 0
    try:
        waiting = connection().llen(f"{Queue.redis_queue_namespace_prefix}{resource_class}")
    except RedisError:
        return 1  # `push` says what is wrong, and begins the break
    return max(0, CALLS_KEPT - int(waiting))
