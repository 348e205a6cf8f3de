"""/healthz says that the process answers; /readyz that it can do its work, part by part."""

import logging
import threading
import time
import uuid
from collections.abc import Callable
from urllib.request import urlopen

from django.core.files.base import ContentFile
from django.core.files.storage import storages
from django.db import connection
from django.db.migrations.loader import MigrationLoader
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views.decorators.http import require_safe

from jobs import mlflow_credentials, queue

logger = logging.getLogger(__name__)

# A part that hangs must not hang the probe: it is down when it does not answer in time.
PATIENCE_SECONDS = 4.0
OK, DOWN = "ok", "down"
ALIVE = {"status": OK}
# Without these nothing can be done. The others may be away: jobs are still taken, and catch up.
NEEDED = ("database", "schema", "storage")


@require_safe
def alive(request: HttpRequest) -> HttpResponse:
    return JsonResponse(ALIVE)


def _database() -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")


class _Schema:
    """Whether the database has every migration of this code; once it has, nobody takes one away."""

    is_known_good = False

    def __call__(self) -> None:
        if self.is_known_good:
            return
        loader = MigrationLoader(connection)
        missing = [node for node in loader.graph.nodes if node not in loader.applied_migrations]
        if missing:
            raise RuntimeError(f"{len(missing)} migrations are not applied; run manage.py migrate")
        self.is_known_good = True


def _redis() -> None:
    queue.connection().ping()


def _storage() -> None:
    for alias in ("submissions", "artifacts"):
        storages[alias].delete(storages[alias].save(f"ready/{uuid.uuid4()}", ContentFile(b"ready")))


def _mlflow() -> None:
    with urlopen(f"{mlflow_credentials.url()}/health", timeout=PATIENCE_SECONDS) as answer:  # noqa: S310 - a setting
        answer.read(100)


class Asking(threading.Thread):
    """One asking of a part; `error` is why it is down."""

    def __init__(self, check: Callable[[], None]) -> None:
        super().__init__(daemon=True)
        self._check = check
        self.error: Exception | None = None

    def run(self) -> None:
        self.error = _try(self._check)

    def result(self, deadline: float) -> Exception | None:
        self.join(max(0.0, deadline - time.monotonic()))
        return TimeoutError("no answer in time") if self.is_alive() else self.error


class Part:
    """Asked in a thread of its own, one at a time: a probe each second must not leave a hanging thread each second."""

    def __init__(self, check: Callable[[], None]) -> None:
        self._check = check
        self._lock = threading.Lock()
        self._asking: Asking | None = None

    def ask(self) -> Asking:
        """A new asking, or the one that is under way."""
        with self._lock:
            if self._asking is None or not self._asking.is_alive():
                self._asking = Asking(self._check)
                self._asking.start()
            return self._asking


_schema = _Schema()
_beside = {"redis": Part(_redis), "storage": Part(_storage), "mlflow": Part(_mlflow)}


@require_safe
def ready(request: HttpRequest) -> HttpResponse:
    """200 when database, schema and storage are well. Redis and MLflow may be away: `degraded`, and it catches up."""
    askings = {name: part.ask() for name, part in _beside.items()}
    deadline = time.monotonic() + PATIENCE_SECONDS
    errors: dict[str, Exception | None] = {"database": _try(_database)}
    errors["schema"] = errors["database"] or _try(_schema)
    errors |= {name: asking.result(deadline) for name, asking in askings.items()}
    for name, error in errors.items():
        if error is not None:
            logger.warning("%s is down: %s: %s", name, type(error).__name__, str(error).strip())
    parts = {name: DOWN if error else OK for name, error in errors.items()}
    is_ready = all(parts[name] == OK for name in NEEDED)
    status = OK if set(parts.values()) == {OK} else "degraded" if is_ready else DOWN
    return JsonResponse({"status": status, **parts}, status=200 if is_ready else 503)


def _try(check: Callable[[], None]) -> Exception | None:
    try:
        check()
    except Exception as error:  # a probe's whole point: whatever is wrong is the answer
        return error
    return None
