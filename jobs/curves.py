"""Curves as plain geometry, drawn by a template as SVG: no library, no script; the numbers stand beside.

Several lines of one chart differ in colour and in dashes, so that nobody needs to tell colours apart.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from leaderboards.charts import nice_ticks

WIDTH, HEIGHT = 360, 190
LEFT, RIGHT, TOP, BOTTOM = 50, 10, 10, 24
# As many as pixels can tell apart; with many charts on a page fewer, which bounds its weight.
DRAWN_POINTS, FEWER_POINTS, MANY_CHARTS = 120, 60, 12
MOST_LINES = 8
# Of one run; its file has all curves.
MOST_RUN_CHARTS = 48
# With more charts on a page than this, the numbers are left to the file.
MOST_TABLES = 4
# Rows of the table beside a chart, of one line and of several together: enough to hear how it goes, the rest is in the file.
TABLE_ROWS, ROWS_TOGETHER = 24, 16

Points = Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Line:
    """One line: `number` chooses its colour and dashes, `path` draws it; the rest is told in words."""

    name: str
    number: int
    path: str
    end_x: float
    end_y: float
    first: tuple[float, float]
    last: tuple[float, float]
    lowest: float
    highest: float
    count: int
    table: Points = ()


@dataclass(frozen=True)
class Tick:
    at: float
    value: float


@dataclass(frozen=True)
class CurveChart:
    name: str
    lines: list[Line]
    x_ticks: list[Tick]
    y_ticks: list[Tick]
    width: int = WIDTH
    height: int = HEIGHT
    left: int = LEFT
    right: int = WIDTH - RIGHT
    label_x: int = LEFT - 6
    label_y: int = HEIGHT - 6

    @property
    def line(self) -> Line:
        return self.lines[0]


def thinned(points: Points, most: int = DRAWN_POINTS) -> Points:
    """At most `most` of the points, spread evenly, the first and the last among them."""
    if len(points) <= most:
        return points
    step = (len(points) - 1) / (most - 1)
    return [points[round(index * step)] for index in range(most)]


def draw(
    name: str,
    series: Mapping[str, Points],
    *,
    most: int = DRAWN_POINTS,
    numbers: Sequence[int] = (),
    has_table: bool = True,
    extremes: tuple[float, float] | None = None,
) -> CurveChart:
    """The series laid over each other. `numbers` chooses each line's colour (else by order); none may be empty.
    Without a table its numbers stand elsewhere. `extremes` are the lowest and highest value of a single series whose points are only some of all."""
    everything = [point for points in series.values() for point in points]
    xs, ys = [x for x, _ in everything], [y for _, y in everything]
    low, high = min(ys), max(ys)
    margin = (high - low) * 0.06 or abs(high) * 0.05 or 1.0
    bottom, top = low - margin, high + margin
    across = _Scale(min(xs), max(xs), LEFT, WIDTH - RIGHT)
    up = _Scale(bottom, top, HEIGHT - BOTTOM, TOP)
    lines = []
    rows = TABLE_ROWS if len(series) == 1 else max(2, ROWS_TOGETHER // min(len(series), MOST_LINES))
    for index, (label, points) in enumerate(list(series.items())[:MOST_LINES]):
        shown = [(across(x), up(y)) for x, y in thinned(points, most)]
        path = "M" + "L".join(f"{x:g} {y:g}" for x, y in shown)
        values = [y for _, y in points]
        number = numbers[index] if numbers else index
        lines.append(
            Line(
                label,
                number,
                path,
                *shown[-1],
                points[0],
                points[-1],
                *(extremes or (min(values), max(values))),
                len(points),
                thinned(points, rows) if has_table else (),
            )
        )
    x_ticks = [Tick(across(value), value) for value in nice_ticks(min(xs), max(xs), 4)]
    y_ticks = [Tick(up(value), value) for value in nice_ticks(bottom, top, 3)]
    return CurveChart(name, lines, x_ticks, y_ticks)


@dataclass(frozen=True)
class _Scale:
    """Maps low..high to start..end; everything to the middle when there is no spread."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        spread = self.high - self.low
        if not math.isfinite(spread) or spread <= 0:
            return (self.start + self.end) / 2
        return round(self.start + (value - self.low) / spread * (self.end - self.start), 1)


def run_charts(curves: Sequence[Mapping[str, object]]) -> tuple[list[CurveChart], int]:
    """Return a chart for each of the first curves that a run reported (jobs/progress.py), and how many more there are."""
    most = DRAWN_POINTS if len(curves) <= MANY_CHARTS else FEWER_POINTS
    drawn = [curve for curve in curves if curve["points"]]
    has_table = min(len(drawn), MOST_RUN_CHARTS) <= MOST_TABLES
    charts = [
        draw(name, {name: run_points(curve)}, most=most, has_table=has_table, extremes=_extremes(curve))
        for name, curve in ((str(curve["name"]), curve) for curve in drawn[:MOST_RUN_CHARTS])
    ]
    return charts, max(0, len(drawn) - MOST_RUN_CHARTS)


def _extremes(curve: Mapping[str, Any]) -> tuple[float, float] | None:
    """Return the lowest and highest value that a run reported; None for a curve of an earlier version, which has only its points."""
    return (curve["lowest"], curve["highest"]) if "lowest" in curve else None


def run_points(curve: Mapping[str, object]) -> Points:
    """(step, value) of a stored curve."""
    points = curve["points"]
    assert isinstance(points, list)
    return [(float(step), float(value)) for step, value, *_seconds in points]
