"""The wake-up call: a job's id on a Redis list, through django-rq. Never the record (docs/architecture.md).

Losing any call, or all of Redis, loses nothing: the reconciler calls again and idle workers look by themselves. A call
that comes twice, late, or from somebody else makes a worker look at PostgreSQL, and nothing more.
"""

import logging
import time
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

    transaction.on_commit(lambda: push(job_id, resource_class), robust=True)
