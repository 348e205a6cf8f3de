"""Jobs that failed by the platform's fault within a day, by leaderboard: for operators.

Participants cannot mend a broken scorer or a machine that loses its jobs, so operators have to hear of it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db import connection

from jobs.models import PLATFORM_FAULTS, JobAttempt
from leaderboards.models import Leaderboard

HOURS = 24
# As often as this within HOURS, it is no accident.
REPEATED = 2
# The newest failures of each code that are looked at, and the most lines that are shown.
CAP = 1000
SHOWN = 50
# A job that ended within HOURS may have waited for long before. Jobs that waited longer are missed.
WAITED_DAYS = 7

# Each lateral part reads the newest rows of one code from the index job_by_error.
_FAULTS = """
SELECT leaderboard_id, error_code, count(*), min(finished_at), max(finished_at),
       (array_agg(id ORDER BY finished_at DESC))[1]
FROM unnest(%(codes)s::text[]) code CROSS JOIN LATERAL (
    SELECT id, leaderboard_id, error_code, finished_at FROM jobs_job
    WHERE error_code = code AND error_code <> '' AND created_at > statement_timestamp() - make_interval(days => %(days)s)
    ORDER BY created_at DESC, id DESC LIMIT %(cap)s
) failed
WHERE finished_at > statement_timestamp() - make_interval(hours => %(hours)s)
GROUP BY leaderboard_id, error_code ORDER BY max(finished_at) DESC LIMIT %(shown)s
"""


@dataclass(frozen=True)
class PlatformFaults:
    """The failures of a leaderboard with one error code. `cause` is that of the last, which may tell of the labels."""

    board: Leaderboard
    code: str
    jobs: int
    first_at: datetime
    last_at: datetime
    last_job: UUID
    cause: str

    @property
    def is_repeated(self) -> bool:
        return self.jobs >= REPEATED


def platform_faults() -> list[PlatformFaults]:
    """Return what failed by the platform's fault, the last first; two bounded queries, one if there is nothing."""
    values: dict[str, Any] = {
        "codes": list(map(str, PLATFORM_FAULTS)), "days": WAITED_DAYS, "cap": CAP, "hours": HOURS, "shown": SHOWN,
    }  # fmt: skip
    with connection.cursor() as cursor:
        cursor.execute(_FAULTS, values)
        rows = cursor.fetchall()
    if not rows:
        return []
    boards = Leaderboard.objects.in_bulk({row[0] for row in rows})
    causes = _causes([row[5] for row in rows])
    return [
        PlatformFaults(boards[board], code, jobs, first, last, job, causes.get(job, ""))
        for board, code, jobs, first, last, job in rows
        if board in boards
    ]


def _causes(jobs: Sequence[UUID]) -> dict[UUID, str]:
    """Return the cause of each job's last attempt: for operators, as the worker wrote it."""
    attempts = JobAttempt.objects.filter(job__in=jobs).order_by("job_id", "-number").distinct("job_id")
    return {one.job_id: one.cause or one.detail_in_words.partition(": ")[2] for one in attempts}
