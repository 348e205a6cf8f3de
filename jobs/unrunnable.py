"""Pending jobs that no live worker can run, and what its workers lack: for operators."""

from dataclasses import dataclass
from datetime import datetime

from django.db import connection
from django.utils import timezone

from jobs.board_needs import boards_with_needs, in_words, missing
from jobs.waiting import first_lack, live_workers
from leaderboards.models import Leaderboard

# The most pending jobs that are looked at, and the most leaderboards that are named.
CAP = 10_000
SHOWN = 50


_PENDING = """
SELECT leaderboard_id, resource_class, count(*), min(created_at) AS since
FROM (SELECT leaderboard_id, resource_class, created_at FROM jobs_job WHERE status = 'pending' LIMIT %s) pending
GROUP BY leaderboard_id, resource_class ORDER BY since
"""


@dataclass(frozen=True)
class Host:
    """A machine, and what its workers lack in words."""

    hostname: str
    lacks: list[str]


@dataclass(frozen=True)
class Unrunnable:
    """The jobs of a leaderboard and a class that wait though there are workers of the class."""

    board: Leaderboard
    resource_class: str
    jobs: int
    since: datetime
    hosts: list[Host]

    @property
    def age_seconds(self) -> float:
        return max(0.0, (timezone.now() - self.since).total_seconds())


def unrunnable_jobs() -> list[Unrunnable]:
    """The longest waiting first. A class without any live worker is told as such elsewhere."""
    with connection.cursor() as cursor:
        cursor.execute(_PENDING, [CAP])
        waiting = cursor.fetchall()
    if not waiting:
        return []
    workers = live_workers()
    boards = {board.pk: board for board in boards_with_needs().filter(pk__in={row[0] for row in waiting})}
    found = []
    for board_id, name, jobs, since in waiting:
        board = boards.get(board_id)
        if board is None:  # deleted with its jobs since they were counted
            continue
        serving = [worker for worker in workers if name in worker.resource_classes]
        if first_lack(board, serving) is not None:
            hosts = {
                worker.hostname: Host(worker.hostname, lacks_in_words(board, worker.inventory)) for worker in serving
            }
            found.append(Unrunnable(board, name, jobs, since, list(hosts.values())))
    return found[:SHOWN]


def lacks_in_words(board: Leaderboard, inventory: dict[str, object]) -> list[str]:
    return [in_words(lack, board) for lack in missing(board, inventory)]
