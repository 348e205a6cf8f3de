"""Pending jobs that no live worker can run, and what workers lack for a leaderboard: for operators."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from django.db import connection
from django.utils import timezone
from django.utils.translation import gettext as _

from jobs.board_needs import UNSETTLED, boards_with_needs, in_words, missing
from jobs.models import Worker
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


def unmet_needs(board: Leaderboard, workers: Sequence[Worker] | None = None) -> list[str]:
    """Return sentences on what no live worker has of what the leaderboard's jobs need; empty when one can run them.

    `workers` are the live ones, where the caller has them. A score version that is not settled yet is left out: workers
    settle it by themselves.
    """
    if not (board.dataset or board.image or board.is_scored):
        return []
    workers = live_workers() if workers is None else workers
    if not workers:
        return [_("No worker is running, so it is not known whether one has what the leaderboard needs.")]
    lacks = min((missing(board, worker.inventory) for worker in workers), key=len)
    needs = [in_words(lack, board) for lack in lacks if lack != UNSETTLED]
    return [_("No running worker has %(need)s: its jobs would wait.") % {"need": need} for need in needs]
