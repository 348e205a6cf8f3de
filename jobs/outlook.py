"""What the submit page tells of the boards' runs before anything is sent: the queue, and what a run gets."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.utils import timezone

from jobs.board_needs import REASONS
from jobs.runtime import Runtime, class_limits, runtimes
from jobs.waiting import expected_start_of_next, first_lack, live_workers, queue_view
from leaderboards.models import Leaderboard

SOON = timedelta(minutes=1)


@dataclass(frozen=True)
class ClassOutlook:
    """A resource class: its limits, its queue, and when a job sent now is expected to start."""

    name: str
    limits: dict[str, Any]
    waiting: int
    workers: int
    expected_start: datetime | None

    @property
    def starts_soon(self) -> bool:
        """Whether a job that is sent now is expected to start within a minute."""
        if self.expected_start is None:
            return self.waiting == 0
        return self.expected_start - timezone.now() < SOON


def outlook(boards: Sequence[Leaderboard]) -> dict[str, Any]:
    """Return the classes, the pause of the whole queue, what no worker can run, and the runtimes of the boards."""
    workers = live_workers()
    classes, paused = [], None
    for name in settings.RESOURCE_CLASSES:
        view = queue_view(name)
        paused = view.pauses.get(None, paused)
        start = None if None in view.pauses else expected_start_of_next(view)
        classes.append(ClassOutlook(name, class_limits(name), len(view.positions), view.workers, start))
    offered = runtimes(boards, workers)
    return {
        "classes": classes,
        "queue_paused": paused,
        "lacking": [(board, REASONS[lack]) for board in boards if (lack := first_lack(board, workers))],
        "runtimes": offered,
        "differing": _differing(offered),
    }


def _differing(offered: Sequence[Runtime]) -> list[Leaderboard]:
    """Return the boards whose runs of one class may get different environments or GPUs."""
    served: dict[tuple[int, str], int] = {}
    boards = {}
    for runtime in offered:
        for board in runtime.boards:
            boards[board.pk] = board
            for name in runtime.resource_classes:
                served[board.pk, name] = served.get((board.pk, name), 0) + 1
    return [board for pk, board in boards.items() if any(n > 1 for (of, _), n in served.items() if of == pk)]
