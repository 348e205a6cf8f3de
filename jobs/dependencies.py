"""The parts that the site needs, watched by the reconciler: up or down, and since when.

Pages read the record alone, so that a part that hangs never hangs a page.
"""

import logging
import shutil
import time
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.request import urlopen

from django.conf import settings
from django.core.files.base import ContentFile
from django.core.files.storage import storages
from django.db import connection, transaction
from django.db.models import Count
from django.db.models.functions import Now, TruncHour
from django.utils import timezone

from jobs import mlflow_credentials, queue
from jobs.models import FINAL, Dependency, HourlyEnds, Job

logger = logging.getLogger(__name__)

ASK_SECONDS = 3.0
KEPT_CHANGES = 20
KEPT_HOURS = 48
SHOWN_HOURS = 24


def _postgresql() -> dict[str, Any]:
    with connection.cursor() as cursor:
        cursor.execute("SELECT current_setting('server_version'), pg_database_size(current_database())")
        version, size = cursor.fetchone()
    return {"version": version, "bytes": size}


def _redis() -> dict[str, Any]:
    answer = queue.connection()
    answer.ping()
    found: dict[str, Any] = answer.info("server")
    return {"version": str(found.get("valkey_version") or found.get("redis_version", ""))}


def _mlflow() -> dict[str, Any]:
    with urlopen(f"{mlflow_credentials.url()}/health", timeout=ASK_SECONDS) as answer:  # noqa: S310 - a setting
        answer.read(100)
    return {"address": mlflow_credentials.url().rpartition("//")[2]}


def _storage() -> dict[str, Any]:
    storage = storages["artifacts"]
    storage.delete(storage.save(f"ready/{uuid.uuid4()}", ContentFile(b"ready")))
    if settings.STORAGE != "filesystem":
        return {"kind": settings.STORAGE}
    disk = shutil.disk_usage(settings.ARTIFACT_ROOT)
    return {"path": str(settings.ARTIFACT_ROOT), "free_bytes": disk.free, "total_bytes": disk.total}


CHECKS: dict[str, Callable[[], dict[str, Any]]] = {
    "postgresql": _postgresql,
    "redis": _redis,
    "mlflow": _mlflow,
    "storage": _storage,
}


def check(name: str) -> None:
    """Ask the part and record what came of it. Of PostgreSQL this can only tell that it is up (the reconciler says the rest)."""
    began = time.monotonic()
    try:
        detail, is_up = CHECKS[name](), True
    except Exception as error:  # a probe's whole point: whatever is wrong is the answer
        logger.info("%s is down: %s", name, error)
        detail, is_up = {"error": f"{type(error).__name__}: {error}"[:300]}, False
    detail["milliseconds"] = round((time.monotonic() - began) * 1000, 1)
    record(name, is_up=is_up, detail=detail)


@transaction.atomic
def record(name: str, *, is_up: bool, detail: dict[str, Any], at: datetime | None = None) -> None:
    """Keep the state, and when it changed: the latest KEPT_CHANGES of each part."""
    at = at or timezone.now()
    row, is_new = Dependency.objects.select_for_update().get_or_create(
        name=name, defaults={"is_up": is_up, "since": at, "detail": detail}
    )
    changed: dict[str, Any] = {}
    if not is_new and row.is_up != is_up:
        logger.warning("%s is %s", name, "up" if is_up else "down")
        changes = [{"is_up": is_up, "at": at.isoformat()}, *row.changes][:KEPT_CHANGES]
        changed = {"is_up": is_up, "since": at, "changes": changes}
    Dependency.objects.filter(pk=name).update(detail=detail, checked_at=Now(), **changed)


def record_outage(began: datetime) -> None:
    """PostgreSQL was away from then until now: only now can it be written down."""
    record("postgresql", is_up=False, detail={}, at=began)
    check("postgresql")


def count_ends() -> None:
    """How many jobs ended, by the hour and status: this hour and the one before, and those that nobody counted."""
    now = timezone.now().astimezone(UTC)
    this_hour = now.replace(minute=0, second=0, microsecond=0)
    counted = HourlyEnds.objects.order_by("-hour").values_list("hour", flat=True).first()
    oldest = this_hour - timedelta(hours=SHOWN_HOURS)
    since = max(oldest, min(counted or oldest, this_hour) - timedelta(hours=1))
    ended = Job.objects.filter(finished_at__gte=since, status__in=FINAL).values_list(
        TruncHour("finished_at", tzinfo=UTC), "status"
    )
    rows = [
        HourlyEnds(hour=hour, status=status, count=number) for hour, status, number in ended.annotate(n=Count("pk"))
    ]
    # A row for this hour always, so that the next call knows that the hours before were counted.
    if not any(row.hour == this_hour for row in rows):
        rows.append(HourlyEnds(hour=this_hour, status="completed", count=0))
    HourlyEnds.objects.bulk_create(
        rows, update_conflicts=True, unique_fields=["hour", "status"], update_fields=["count"]
    )
    HourlyEnds.objects.filter(hour__lt=this_hour - timedelta(hours=KEPT_HOURS)).delete()
