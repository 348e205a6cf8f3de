"""/healthz says that the process answers; /readyz that it can do its work."""

import logging
import uuid

from django.core.files.base import ContentFile
from django.core.files.storage import storages
from django.db import connection
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views.decorators.http import require_safe
from redis.exceptions import RedisError

from jobs import queue

logger = logging.getLogger(__name__)


@require_safe
def alive(request: HttpRequest) -> HttpResponse:
    return JsonResponse({"status": "ok"})


def _database() -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")


def _redis() -> None:
    queue.connection().ping()


def _storage() -> None:
    storage = storages["artifacts"]
    name = storage.save(f"ready/{uuid.uuid4()}", ContentFile(b"ready"))
    storage.delete(name)


@require_safe
def ready(request: HttpRequest) -> HttpResponse:
    """200 when database and storage work. Redis may be away: jobs are still taken, and run a few seconds later."""
    parts: dict[str, str] = {}
    for name, check in (("database", _database), ("redis", _redis), ("storage", _storage)):
        try:
            check()
            parts[name] = "ok"
        except RedisError as error:
            logger.warning("%s is down: %s", name, error)
            parts[name] = "down"
        except Exception:  # a probe's whole point: whatever is wrong is the answer
            logger.exception("%s is down", name)
            parts[name] = "down"
    is_ready = parts["database"] == parts["storage"] == "ok"
    status = "ok" if set(parts.values()) == {"ok"} else "degraded" if is_ready else "down"
    return JsonResponse({"status": status, **parts}, status=200 if is_ready else 503)
