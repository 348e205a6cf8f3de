"""What moved on a board: the last seven days, and how the best score rose. Read from the history, never from jobs."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from django.db import connection
from django.db.models import F, Max, Min, Q, RowRange, Window
from django.utils import timezone

from accounts.names import display_name
from leaderboards.models import Baseline, Leaderboard
from leaderboards.queries import Ranking
from leaderboards.selection import Selection

WEEK = timedelta(days=7)
MOST_CHANGES = 10
# Of a busy week the latest periods are looked at.
MOST_LATEST = 200
MOST_RECORDS = 300
MOST_STEPS = 1000
# By the index submission_deleted. A run that counted was withdrawn with its submission (jobs/deleting.py).
_DELETIONS = """
SELECT person.id, person.username, person.first_name, person.last_name, max(submission.deleted_at)
FROM submissions_submission submission JOIN accounts_user person ON person.id = submission.user_id
WHERE submission.leaderboard_id = %(board)s AND submission.deleted_at >= %(since)s
    AND EXISTS (SELECT FROM jobs_job WHERE submission_id = submission.id AND withdrawn_at >= submission.deleted_at)
GROUP BY person.id ORDER BY max(submission.deleted_at) DESC LIMIT %(most)s
"""


@dataclass
class Change:
    """What became of one person's entry since a moment: `before` and `rank_before` are empty for who is new."""

    user_id: int
    name: str
    at: datetime
    score: float
    rank: int | None
    before: float | None = None
    rank_before: int | None = None

    @property
    def is_new(self) -> bool:
        return self.before is None

    @property
    def difference(self) -> float | None:
        return None if self.before is None else self.score - self.before

    @property
    def ranks_gained(self) -> int:
        return self.rank_before - self.rank if self.rank and self.rank_before else 0


@dataclass(frozen=True)
class Deletion:
    """A person's latest deletion of a run that counted."""

    user_id: int
    name: str
    at: datetime


@dataclass
class Changes:
    since: datetime
    deletions: list[Deletion] = field(default_factory=list)
    people: list[Change] = field(default_factory=list)
    more: int = 0
    is_capped: bool = False


def changes(board: Leaderboard, *, now: datetime | None = None) -> Changes:
    """Who came, improved, rose or deleted a run in the last seven days, latest first."""
    since = (now or timezone.now()) - WEEK
    found = Changes(since, _deletions(board, since))
    if board.ranking_metric is None:
        return found
    latest = board.current_standings.filter(began_at__gte=since).order_by("-began_at", "-pk")[: MOST_LATEST + 1]
    moments: dict[int, datetime] = {}
    rows = list(latest.values_list("user_id", "began_at"))
    for user_id, began_at in rows[:MOST_LATEST]:
        moments.setdefault(user_id, began_at)
    shown = list(moments)[:MOST_CHANGES]
    found.more, found.is_capped = len(moments) - len(shown), len(rows) > MOST_LATEST
    if not shown:
        return found
    present = Ranking(Selection(board, board.ranking_metric))
    here = {row.user_id: row for row in present.fetch(present.everybody().filter(user_id__in=shown))}
    past = Ranking(Selection(board, board.ranking_metric), until=since)
    there = {row.user_id: row for row in past.fetch(past.everybody().filter(user_id__in=shown))}
    if here:
        present.rank_each(list(here.values()))
    if there:
        past.rank_each(list(there.values()))
    for user_id in shown:
        if (row := here.get(user_id)) is not None:
            change = Change(user_id, row.name, moments[user_id], row.score, row.rank)
            if (earlier := there.get(user_id)) is not None:
                change.before, change.rank_before = earlier.score, earlier.rank
            found.people.append(change)
    return found


def _deletions(board: Leaderboard, since: datetime) -> list[Deletion]:
    with connection.cursor() as cursor:
        cursor.execute(_DELETIONS, {"board": board.pk, "since": since, "most": MOST_CHANGES})
        return [Deletion(row[0], display_name(*row[1:4]), row[4]) for row in cursor.fetchall()]


@dataclass
class Step:
    """A score that somebody's entry rose to, and when."""

    user_id: int
    name: str
    at: datetime
    value: float


_STEP = ("user_id", "user__username", "user__first_name", "user__last_name", "began_at", "score")


def _step(row: tuple[Any, ...]) -> Step:
    return Step(row[0], display_name(*row[1:4]), *row[4:])


def records(board: Leaderboard) -> list[Step]:
    """Each score that was the board's best when it came (baselines aside), oldest first."""
    metric = board.ranking_metric
    if metric is None:
        return []
    best = Max("score") if metric.higher_is_better else Min("score")
    frame = RowRange(start=None, end=-1)
    marked = Baseline.objects.filter(leaderboard=board).values("user_id")
    rows = (
        board.current_standings.exclude(user_id__in=marked)
        .annotate(before=Window(best, order_by=["began_at", "pk"], frame=frame))
        .filter(Q(before=None) | Q(**{"score__gt" if metric.higher_is_better else "score__lt": F("before")}))
        .order_by("-began_at", "-pk")
        .values_list(*_STEP)
    )
    return [_step(row) for row in reversed(list(rows[:MOST_RECORDS]))]


def steps_of(board: Leaderboard, people: list[int]) -> dict[int, list[Step]]:
    """The steps of some people, each oldest first."""
    steps: dict[int, list[Step]] = {user_id: [] for user_id in people}
    rows = board.current_standings.filter(user_id__in=people).order_by("-began_at", "-pk")
    for row in reversed(list(rows.values_list(*_STEP)[:MOST_STEPS])):
        steps[row[0]].append(_step(row))
    return {user_id: found for user_id, found in steps.items() if found}
