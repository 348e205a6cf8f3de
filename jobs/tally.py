"""How jobs have ended since the site began, for metrics: counts that only rise, also when retention deletes the jobs.

The reconciler adds what has ended since its last pass; nobody who runs or asks for a job pays for it, and whoever shows
the numbers reads a handful of rows.
"""

from bisect import bisect_left
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import connection, transaction

from jobs.models import EndingTally

# Upper limits of the buckets in seconds; one more bucket takes what exceeds them.
RUN_SECONDS = (1.0, 5.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1200.0, 1800.0, 3600.0, 7200.0)
DELAY_SECONDS = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0, 14400.0)
BATCH = 5000
# A transaction that ends a job may commit after a later one did: nothing younger than this is counted yet.
SETTLED_SECONDS = 20

# By the index job_recent_ends. Jobs that never ran have no times.
_ENDED = """
SELECT id, finished_at, status, error_code, extract(epoch FROM finished_at - started_at),
       extract(epoch FROM started_at - greatest(available_at, created_at))
FROM jobs_job
WHERE resource_class = %(class)s AND finished_at IS NOT NULL AND finished_at >= %(until)s::timestamptz
  AND (finished_at, id) > (%(until)s::timestamptz, %(last)s::uuid)
  AND finished_at < statement_timestamp() - make_interval(secs => %(settled)s)
ORDER BY finished_at, id LIMIT %(batch)s
"""


def tally_endings(*, settled_seconds: float = SETTLED_SECONDS) -> int:
    """Add the jobs that ended since the last time, at most BATCH a class; how many those were."""
    return sum(_tally(name, settled_seconds) for name in settings.RESOURCE_CLASSES)


@transaction.atomic
def _tally(resource_class: str, settled_seconds: float) -> int:
    EndingTally.objects.get_or_create(resource_class=resource_class)
    tally = EndingTally.objects.select_for_update().get(resource_class=resource_class)
    values = {
        "class": resource_class,
        "until": tally.until or "-infinity",
        "last": tally.last_id or UUID(int=0),
        "settled": settled_seconds,
        "batch": BATCH,
    }
    with connection.cursor() as cursor:
        cursor.execute(_ENDED, values)
        rows = cursor.fetchall()
    if not rows:
        return 0
    endings = {(ending["status"], ending["error_code"]): ending["jobs"] for ending in tally.endings}
    for _, _, status, error_code, ran, waited in rows:
        endings[status, error_code] = endings.get((status, error_code), 0) + 1
        if ran is not None:
            _observe(tally.run.setdefault(status, {}), RUN_SECONDS, max(0.0, float(ran)))
            _observe(tally.delay, DELAY_SECONDS, max(0.0, float(waited)))
    tally.endings = [{"status": key[0], "error_code": key[1], "jobs": jobs} for key, jobs in sorted(endings.items())]
    tally.last_id, tally.until = rows[-1][:2]
    tally.save(update_fields=["endings", "run", "delay", "last_id", "until"])
    return len(rows)


def _observe(histogram: dict[str, Any], limits: tuple[float, ...], value: float) -> None:
    """Add a value to {"sum": ..., "counts": [one a bucket, and one beyond]}."""
    counts = histogram.setdefault("counts", [0] * (len(limits) + 1))
    counts[bisect_left(limits, value)] += 1
    histogram["sum"] = histogram.get("sum", 0.0) + value
