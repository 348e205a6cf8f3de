"""Charts as plain geometry, drawn by templates as SVG: no library, no script, and the numbers stand beside as a table."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from leaderboards.models import Entry, Metric

WIDTH, HEIGHT = 560, 240
LEFT, RIGHT, TOP, BOTTOM = 56, 16, 16, 32
FEWEST_POINTS = 2


@dataclass
class Point:
    x: float
    y: float
    entry: Entry
    is_on_line: bool = False


@dataclass
class Tick:
    at: float
    value: float


@dataclass
class Chart:
    points: list[Point]
    line: str
    y_ticks: list[Tick]
    x_ticks: list[Tick] = field(default_factory=list)
    width: int = WIDTH
    height: int = HEIGHT
    left: int = LEFT
    right: int = WIDTH - RIGHT
    top: int = TOP
    bottom: int = HEIGHT - BOTTOM

    @property
    def middle(self) -> int:
        return (self.left + self.right) // 2

    @property
    def first(self) -> Point:
        return min(self.points, key=lambda point: point.x)

    @property
    def last(self) -> Point:
        return max(self.points, key=lambda point: point.x)


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


def _heights(entries: Sequence[Entry]) -> tuple[Callable[[float], float], list[Tick]]:
    values = [entry.value for entry in entries]
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


def progress_chart(entries: Sequence[Entry], metric: Metric) -> Chart | None:
    """Each person's standing entry by when it was submitted, and the best so far. None for too few to see anything."""
    if len(entries) < FEWEST_POINTS:
        return None
    by_time = sorted(entries, key=lambda entry: entry.submitted_at)
    times = [entry.submitted_at.timestamp() for entry in by_time]
    across = _scale(times[0], times[-1], LEFT, WIDTH - RIGHT - 8)
    height, ticks = _heights(entries)
    best: float | None = None
    points = []
    for entry, time in zip(by_time, times, strict=True):
        is_better = best is None or (entry.value > best if metric.higher_is_better else entry.value < best)
        best = entry.value if is_better else best
        points.append(Point(across(time), height(entry.value), entry, is_better))
    return Chart(points, _steps([point for point in points if point.is_on_line], WIDTH - RIGHT), ticks)


def cost_chart(entries: Sequence[Entry], metric: Metric) -> Chart | None:
    """Score against wall time, on a logarithmic axis, and the front that nobody beats in both."""
    measured = [entry for entry in entries if entry.job.wall_seconds and entry.job.wall_seconds > 0]
    if len(measured) < FEWEST_POINTS:
        return None
    by_cost = sorted(measured, key=lambda entry: entry.job.wall_seconds or 0.0)
    logs = [math.log10(entry.job.wall_seconds or 1.0) for entry in by_cost]
    margin = (logs[-1] - logs[0]) * 0.05 or 0.1
    low, high = logs[0] - margin, logs[-1] + margin
    across = _scale(low, high, LEFT, WIDTH - RIGHT)
    height, ticks = _heights(measured)
    best: float | None = None
    points = []
    for entry, log in zip(by_cost, logs, strict=True):
        is_better = best is None or (entry.value > best if metric.higher_is_better else entry.value < best)
        best = entry.value if is_better else best
        points.append(Point(across(log), height(entry.value), entry, is_better))
    steps = [factor * 10.0**power for power in range(-3, 7) for factor in (1, 2, 5)]
    inside = [step for step in steps if low <= math.log10(step) <= high]
    x_ticks = [Tick(across(math.log10(step)), step) for step in inside[:: max(1, math.ceil(len(inside) / 6))]]
    return Chart(points, _steps([point for point in points if point.is_on_line], WIDTH - RIGHT), ticks, x_ticks)
