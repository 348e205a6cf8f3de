"""Charts as plain geometry, drawn by templates as SVG: no library, no script, and the numbers stand beside as a table."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from leaderboards.changes import Step
from leaderboards.models import Metric
from leaderboards.queries import Row

WIDTH, HEIGHT = 560, 260
LEFT, RIGHT, TOP, BOTTOM = 56, 16, 16, 32
FEWEST_POINTS = 2
HUES = 8
FEW_DAYS = timedelta(days=3)


@dataclass
class Point:
    x: float
    y: float
    name: str
    value: float
    user_id: int
    at: datetime | None = None
    wall_seconds: float | None = None
    is_on_line: bool = False
    is_baseline: bool = False


@dataclass
class Tick:
    at: float
    value: float


@dataclass
class Reference:
    """A baseline's value as a line across."""

    y: float
    name: str
    value: float


@dataclass
class Series:
    """One person's steps."""

    name: str
    user_id: int
    hue: int
    path: str
    points: list[Point]


@dataclass
class Chart:
    points: list[Point]
    line: str
    y_ticks: list[Tick]
    x_ticks: list[Tick] = field(default_factory=list)
    people: list[Series] = field(default_factory=list)
    references: list[Reference] = field(default_factory=list)
    since: datetime | None = None
    until: datetime | None = None
    width: int = WIDTH
    height: int = HEIGHT
    left: int = LEFT
    right: int = WIDTH - RIGHT
    top: int = TOP
    bottom: int = HEIGHT - BOTTOM

    @property
    def moments(self) -> str:
        """How its ends are written: within a few days, a day says too little."""
        is_short = self.since and self.until and self.until - self.since < FEW_DAYS
        return "Y-m-d H:i T" if is_short else "Y-m-d"

    @property
    def under(self) -> int:
        """Where the words of the lower axis stand."""
        return self.height - 8


def nice_ticks(low: float, high: float, count: int = 4) -> list[float]:
    """Round numbers that span the range."""
    if not math.isfinite(high - low) or high - low <= abs(high) * 1e-12:
        return [low]
    raw = (high - low) / count
    magnitude = 10.0 ** math.floor(math.log10(raw))
    step = next(magnitude * factor for factor in (1, 2, 2.5, 5, 10) if magnitude * factor >= raw)
    first = math.ceil(low / step)
    return [index * step for index in range(first, math.floor(high / step + 1e-9) + 1)]


def _scale(low: float, high: float, start: float, end: float) -> Callable[[float], float]:
    spread = high - low
    if not math.isfinite(spread) or spread <= 0:
        return lambda value: (start + end) / 2
    return lambda value: round(start + (value - low) / spread * (end - start), 1)


def _heights(values: Sequence[float]) -> tuple[Callable[[float], float], list[Tick]]:
    low, high = min(values), max(values)
    margin = (high - low) * 0.08 or abs(high) * 0.05 or 1.0
    low, high = low - margin, high + margin
    scale = _scale(low, high, HEIGHT - BOTTOM, TOP)
    return scale, [Tick(scale(value), value) for value in nice_ticks(low, high)]


def _steps(points: Sequence[Point], end: float) -> str:
    """A staircase through the points, drawn on to `end`."""
    path = f"M{points[0].x} {points[0].y}"
    for point in points[1:]:
        path += f"H{point.x}V{point.y}"
    return path + f"H{end}"


def progress_chart(
    records: Sequence[Step], people: dict[int, list[Step]], baselines: Sequence[Row], now: datetime
) -> Chart | None:
    """The best score over time, the steps of some people below it, and the baselines; None without any score."""
    if not records:
        return None
    steps = [*records, *(step for found in people.values() for step in found)]
    since = min(step.at for step in steps).astimezone(UTC)
    end = WIDTH - RIGHT
    across = _scale(since.timestamp(), max(now, since).timestamp(), LEFT, end)
    height, ticks = _heights([*(step.value for step in steps), *(row.score for row in baselines)])

    def drawn(found: Sequence[Step]) -> list[Point]:
        return [
            Point(across(step.at.timestamp()), height(step.value), step.name, step.value, step.user_id, at=step.at)
            for step in found
        ]

    series = [
        Series(found[0].name, user_id, index % HUES, _steps(points, end), points)
        for index, (user_id, found) in enumerate(people.items())
        if (points := drawn(found))
    ]
    best = drawn(records)
    for point in best:
        point.is_on_line = True
    lines = [Reference(height(row.score), row.name, row.score) for row in baselines]
    return Chart(best, _steps(best, end), ticks, people=series, references=lines, since=since, until=now)


def cost_chart(rows: Sequence[Row], metric: Metric) -> Chart | None:
    """Score against wall time, on a logarithmic axis, and the Pareto front: those whom nobody beats in both."""
    measured = [row for row in rows if row.wall_seconds and row.wall_seconds > 0]
    if len(measured) < FEWEST_POINTS:
        return None
    # Of those who took equally long, the best comes first: the others are beaten by it.
    by_cost = sorted(
        measured, key=lambda row: (row.wall_seconds or 0.0, -row.value if metric.higher_is_better else row.value)
    )
    logs = [math.log10(row.wall_seconds or 1.0) for row in by_cost]
    margin = (logs[-1] - logs[0]) * 0.05 or 0.1
    low, high = logs[0] - margin, logs[-1] + margin
    across = _scale(low, high, LEFT, WIDTH - RIGHT)
    height, ticks = _heights([row.value for row in measured])
    best: float | None = None
    points = []
    for row, log in zip(by_cost, logs, strict=True):
        is_better = best is None or (row.value > best if metric.higher_is_better else row.value < best)
        best = row.value if is_better else best
        point = Point(across(log), height(row.value), row.name, row.value, row.user_id, wall_seconds=row.wall_seconds)
        point.is_on_line, point.is_baseline = is_better, row.is_baseline
        points.append(point)
    steps = [factor * 10.0**power for power in range(-3, 7) for factor in (1, 2, 5)]
    inside = [step for step in steps if low <= math.log10(step) <= high]
    x_ticks = [Tick(across(math.log10(step)), step) for step in inside[:: max(1, math.ceil(len(inside) / 6))]]
    return Chart(points, _steps([point for point in points if point.is_on_line], WIDTH - RIGHT), ticks, x_ticks)
