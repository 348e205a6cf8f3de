"""Reading who stands where. A page is a slice of an index from a place on; nothing of it grows with the jobs.

By the ranking metric, unfiltered, the first page reads its own rows alone; a further one also counts the index entries
before it. By another metric, or filtered, the board's people (never its jobs) are passed over once.
"""

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from django.contrib.auth.models import AbstractUser, AnonymousUser
from django.db.models import (
    BooleanField,
    Case,
    Count,
    F,
    FloatField,
    Func,
    IntegerField,
    Q,
    QuerySet,
    TextField,
    Value,
    When,
)
from django.db.models.expressions import Combinable
from django.db.models.functions import Cast
from django.db.models.lookups import IContains

from accounts.names import display_name, display_name_in_sql
from accounts.permissions import sees_all_jobs
from leaderboards.models import Entry, Leaderboard, Metric
from leaderboards.selection import Place, Selection

PAGE_SIZE = 50
LARGEST_PAGE = 1000
# What a job says of its isolation when it had none (jobs/execution/local.py).
UNSAFE = "unsafe-local"
# How many stand above a person whose surroundings are asked for.
ABOVE = 10


@dataclass
class Row:
    """One person's line. A baseline has no rank; a past entry whose job was pruned has no job."""

    place: Place
    user_id: int
    username: str
    display_name: str
    score: float
    metrics: dict[str, float]
    wall_seconds: float | None
    peak_memory_bytes: int | None
    job_id: UUID | None
    # How the run was kept apart; empty where the job is gone.
    isolation: str = ""
    rank: int | None = None
    is_baseline: bool = False
    label: str = ""
    # For the row's person and operators alone.
    submission_name: str = ""
    matches: bool = True

    @property
    def pk(self) -> int:
        return self.place.pk

    @property
    def value(self) -> float:
        return self.place.value

    @property
    def submitted_at(self) -> datetime:
        return self.place.submitted_at

    @property
    def name(self) -> str:
        return self.label or self.display_name

    @property
    def handle(self) -> str:
        """The username, where another name is shown: names that people choose may be alike."""
        return "" if self.name in (self.username, self.label) else self.username

    @property
    def is_unsafe(self) -> bool:
        """Made without a sandbox: the program could have written any result."""
        return self.isolation == UNSAFE


def sees_names(viewer: AbstractUser | AnonymousUser | None, row: Row) -> bool:
    """Return whether the viewer (None: the command line) sees what the row's person calls the submission."""
    return viewer is None or viewer.pk == row.user_id or sees_all_jobs(viewer)


@dataclass
class Page:
    rows: list[Row]
    previous: Place | None = None
    following: Place | None = None
    baselines: list[Row] = field(default_factory=list)


class Ranking:
    """A board by one metric, now or on a past day. At most one query each for labels and rows of the baselines."""

    def __init__(self, selected: Selection, *, until: datetime | None = None) -> None:
        self.selected = selected
        self.until = until or selected.until
        self.is_past = self.until is not None
        self.is_upward = bool(selected.metric and selected.metric.higher_is_better)
        self.labels: dict[int, str] = dict(selected.board.baselines.values_list("user_id", "label"))
        self.baselines: list[Row] = self._baselines() if self.labels else []
        # Ascending with the better ones first, to be searched.
        self._marks = sorted(self._measure(row.value) for row in self.baselines)

    # --- Rows ------------------------------------------------------------------------------------------------------

    def everybody(self) -> QuerySet[Any]:
        """All who have a value, with `value`; no order, no filter."""
        rows = _standing_rows(self.selected.board, self.until)
        metric = self.selected.metric
        if metric is None:
            return rows.none().annotate(value=F("score"))
        if metric != self.selected.board.ranking_metric:
            rows = rows.filter(**{f"{self._path('metrics')}__has_key": metric.name})
        return rows.annotate(value=self._value(metric))

    def ordered(self, rows: QuerySet[Any], *, backward: bool = False) -> QuerySet[Any]:
        down = self.is_upward != backward
        value = F("value").desc() if down else F("value").asc()
        return rows.order_by(value, *(["-submitted_at", "-pk"] if backward else ["submitted_at", "pk"]))

    def matching(self) -> Q:
        """What the selection keeps."""
        kept, selected = Q(), self.selected
        if selected.search:
            labelled = [pk for pk, label in self.labels.items() if selected.search.lower() in label.lower()]
            named = Q(user__username__icontains=selected.search) | Q(user__in=labelled)
            kept &= named | Q(IContains(display_name_in_sql("user__"), selected.search))
        if selected.of is not None:
            value = self._value(selected.of)
            if selected.least is not None:
                kept &= Q(_compare(value, ">=", selected.least))
            if selected.most is not None:
                kept &= Q(_compare(value, "<=", selected.most))
        return kept

    def fetch(self, rows: QuerySet[Any]) -> list[Row]:
        return [self._row(found) for found in rows.values(*self._fields())]

    def stream(self) -> Iterator[Row]:
        """Every row that the selection keeps, best first with its rank, without ever holding all of them."""
        rows = self.everybody()
        names = self._fields()
        if self.selected.is_filtered:
            kept = Case(When(self.matching(), then=Value(True)), default=Value(False), output_field=BooleanField())
            rows, names = rows.annotate(matches=kept), [*names, "matches"]
        found = self.ordered(rows).values(*names).iterator(chunk_size=500)
        return (row for row in self.count_on(map(self._row, found)) if row.matches)

    def page(self, size: int = PAGE_SIZE) -> Page:
        """The rows from the selection's place on, with their ranks."""
        rows, selected = self.everybody(), self.selected
        if selected.is_filtered:
            rows = rows.filter(self.matching())
        if selected.before is not None:
            upward = self.fetch(
                self.ordered(rows.filter(self._beyond(selected.before, False)), backward=True)[: size + 1]
            )
            if len(upward) > size:
                shown = upward[size - 1 :: -1]
                return self._ranked(Page(shown, previous=shown[0].place, following=shown[-1].place))
            # Fewer than a page lie above: that is the first page.
        after = selected.after if selected.before is None else None
        found = self.fetch(self.ordered(rows.filter(self._beyond(after, True)) if after else rows)[: size + 1])
        shown = found[:size]
        previous = shown[0].place if shown and after else None
        following = shown[-1].place if len(found) > size else None
        return self._ranked(Page(shown, previous=previous, following=following), is_first=after is None)

    def row_of(self, user_id: int) -> Row | None:
        """One person's row with its rank, whether the selection keeps it or not."""
        found = self.fetch(self.everybody().filter(user_id=user_id))
        if found and not found[0].is_baseline:
            self.rank_each(found)
        return found[0] if found else None

    def place_above(self, row: Row) -> Place | None:
        """Where a page begins that shows the row with some of those before it; None: the first page does."""
        above = self.ordered(self.everybody().filter(self._beyond(row.place, False)), backward=True)
        found = self.fetch(above[: ABOVE + 1])
        return found[ABOVE].place if len(found) > ABOVE else None

    # --- Ranks -----------------------------------------------------------------------------------------------------

    def _ranked(self, page: Page, *, is_first: bool = False) -> Page:
        page.baselines = self.baselines
        if not page.rows:
            return page
        if self.selected.is_filtered:
            self.rank_each(page.rows)
        elif is_first:
            list(self.count_on(page.rows))
        else:
            first = page.rows[0]
            peers = self.everybody().filter(**{"value__gte" if self.is_upward else "value__lte": first.value})
            strictly = Q(**{"value__gt" if self.is_upward else "value__lt": first.value})
            counted = peers.aggregate(
                better=Count("pk", filter=strictly), before=Count("pk", filter=self._beyond(first.place, False))
            )
            above = sum(self._key(row.place) < self._key(first.place) for row in self.baselines)
            better = counted["better"] - self._baselines_better(first.value)
            list(self.count_on(page.rows, before=counted["before"] - above, better=better))
        return page

    def count_on(self, rows: Iterable[Row], *, before: int = 0, better: int | None = None) -> Iterator[Row]:
        """Give neighbours their ranks: equal values share one. `before` stand above the first row, `better` of them
        with a better value than its."""
        start: float | None = None
        value: float | None = None
        rank = 0
        for row in rows:
            start = row.value if start is None else start
            if not row.is_baseline:
                if row.value != value:
                    value = row.value
                    rank = 1 + (better if better is not None and value == start else before)
                row.rank = rank
                before += 1
            yield row

    def rank_each(self, rows: Sequence[Row]) -> None:
        """Give rows from anywhere on the board their ranks, by one pass over it."""
        better = self.better_than([row.value for row in rows])
        for row in rows:
            row.rank = None if row.is_baseline else better[row.value] + 1

    def better_than(self, values: Sequence[float]) -> dict[float, int]:
        """How many people (without baselines) have a better value than each of these."""
        bounds = sorted({self._measure(value) for value in values})
        if len(bounds) == 1:
            strictly = {"value__gt" if self.is_upward else "value__lt": values[0]}
            return {values[0]: self.everybody().filter(**strictly).count() - self._baselines_better(values[0])}
        measure = F("value") * Value(-1.0) if self.is_upward else F("value")
        # Bucket k holds what lies from bound k - 1 up to, without, bound k.
        bucket = Func(
            measure, Value(bounds), function="width_bucket", template="%(function)s(%(expressions)s::float8[])",
            output_field=IntegerField(),
        )  # fmt: skip
        counts = dict(self.everybody().values_list(bucket.copy()).annotate(people=Count("pk")).order_by())
        total, up_to = 0, []
        for index in range(len(bounds)):
            total += counts.get(index, 0)
            up_to.append(total)
        places = {bound: up_to[index] for index, bound in enumerate(bounds)}
        return {value: places[self._measure(value)] - self._baselines_better(value) for value in values}

    def _baselines_better(self, value: float) -> int:
        return bisect_left(self._marks, self._measure(value))

    # --- How a row lies in its table -------------------------------------------------------------------------------

    def _path(self, name: str) -> str:
        return name if self.is_past else f"job__{name}"

    def _value(self, metric: Metric) -> Combinable:
        if metric == self.selected.board.ranking_metric:
            return F("score")
        # KeyTextTransform would take a name of digits, of any script, for the place in a list.
        name = Cast(Value(metric.name), TextField())
        text = Func(
            F(self._path("metrics")), name, template="(%(expressions)s)", arg_joiner=" ->> ", output_field=TextField()
        )
        return Cast(text, FloatField())

    def _fields(self) -> list[str]:
        costs = [self._path(name) for name in ("metrics", "wall_seconds", "peak_memory_bytes")]
        person = ["user_id", "user__username", "user__first_name", "user__last_name"]
        job = ["job_id", "job__isolation", "job__submission__name"]
        return ["pk", "value", "submitted_at", "score", *person, *job, *costs]

    def _row(self, found: dict[str, Any]) -> Row:
        return Row(
            place=Place(found["value"], found["submitted_at"], found["pk"]),
            user_id=found["user_id"],
            username=found["user__username"],
            display_name=display_name(*(found[f"user__{part}"] for part in ("username", "first_name", "last_name"))),
            score=found["score"],
            metrics=found[self._path("metrics")],
            wall_seconds=found[self._path("wall_seconds")],
            peak_memory_bytes=found[self._path("peak_memory_bytes")],
            job_id=found["job_id"],
            isolation=found["job__isolation"] or "",
            is_baseline=found["user_id"] in self.labels,
            label=self.labels.get(found["user_id"], ""),
            submission_name=found["job__submission__name"] or "",
            matches=found.get("matches", True),
        )

    def _baselines(self) -> list[Row]:
        return self.fetch(self.ordered(self.everybody().filter(user_id__in=self.labels)))

    def _measure(self, value: float) -> float:
        """Smaller is better."""
        return -value if self.is_upward else value

    def _key(self, place: Place) -> tuple[float, datetime, int]:
        return (self._measure(place.value), place.submitted_at, place.pk)

    def _beyond(self, place: Place, is_worse: bool) -> Q:
        """What stands strictly behind the place in the order, or before it. The first condition bounds the index."""
        lower = self.is_upward == is_worse
        bound = Q(**{"value__lte" if lower else "value__gte": place.value})
        strictly = Q(**{"value__lt" if lower else "value__gt": place.value})
        later = "gt" if is_worse else "lt"
        tied = Q(**{f"submitted_at__{later}": place.submitted_at})
        same = Q(submitted_at=place.submitted_at, **{f"pk__{later}": place.pk})
        return bound & (strictly | tied | same)


def _compare(value: Combinable, operator: str, bound: float) -> Func:
    return Func(
        value, Value(bound, FloatField()), template="%(expressions)s", arg_joiner=f" {operator} ",
        output_field=BooleanField(),
    )  # fmt: skip


def _standing_rows(board: Leaderboard, until: datetime | None) -> QuerySet[Any]:
    """The entries of now, or the periods that held the moment before `until`."""
    if until is None:
        return Entry.objects.filter(leaderboard=board)
    held = Q(ended_at=None) | Q(ended_at__gte=until)
    return board.current_standings.filter(held, began_at__lt=until)
