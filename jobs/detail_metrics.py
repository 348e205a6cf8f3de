"""Numbers that a scorer measured beyond the board's metrics: {"categories": {CATEGORY: {METRIC: value}}, "other": {NAME: value}}.

Operators see all of them. Participants see categories alone, only of the board's own metrics, rounded, and only where the
board publishes them: each further number tells more of the hidden labels.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Any

from jobs.execution.metrics import BadMetrics, Parsed, checked, number
from jobs.models import Job
from leaderboards.models import Metric

MOST_CATEGORIES = 200
MOST_NUMBERS = 1000
# Of a category of 100 images, one image more or less on the right side is seen, and hardly anything finer.
PUBLISHED_DIGITS = 3


@dataclass(frozen=True)
class Categories:
    """The "categories" that a scorer left, as far as they keep the rules."""

    values: dict[str, dict[str, float]] = field(default_factory=dict)
    left_out: int = 0

    @property
    def flat(self) -> dict[str, float]:
        """The values as CATEGORY_METRIC, the name by which a board ranks or requires a category's own."""
        return {f"{name}_{metric}": value for name, values in self.values.items() for metric, value in values.items()}

    def details(self, parsed: Parsed, *, known: Collection[str], rounded: Callable[[float], float]) -> dict[str, Any]:
        """Return what is stored of a job's scores beyond the known metrics; empty if there is nothing."""
        left_out = self.left_out + len(parsed.faults)
        room = MOST_NUMBERS
        categories: dict[str, dict[str, float]] = {}
        for name, values in self.values.items():
            kept = dict(list(values.items())[:room])
            room -= len(kept)
            left_out += len(values) - len(kept)
            if kept:
                categories[name] = {metric: rounded(value) for metric, value in kept.items()}
        others = {name: value for name, value in parsed.metrics.items() if name not in known}
        other = {name: rounded(value) for name, value in list(others.items())[:room]}
        left_out += len(others) - len(other)
        found = {"categories": categories, "other": other, "left_out": left_out}
        return {name: value for name, value in found.items() if value}


def read_categories(parsed: Parsed) -> Categories:
    """Return the categories of a scorer's metrics.json."""
    if not isinstance(parsed.categories, dict):
        return Categories(left_out=int(parsed.categories is not None))
    left_out = 0

    def numbers(values: Any, place: str) -> dict[str, float]:
        nonlocal left_out
        if not isinstance(values, dict):
            raise BadMetrics("wrong_type", place)
        kept, faults = checked(place, values, number, most=MOST_NUMBERS)
        left_out += len(faults)
        return kept

    found, faults = checked("categories", parsed.categories, numbers, most=MOST_CATEGORIES)
    return Categories(found, left_out + len(faults))


def published_categories(job: Job) -> dict[str, dict[str, float]] | None:
    """Return what participants may see of a job's categories; None where the board publishes none."""
    if not job.leaderboard.publishes_categories:
        return None
    names = [metric.name for metric in job.leaderboard.metric_list]
    found = {
        category: {name: float(f"{values[name]:.{PUBLISHED_DIGITS}g}") for name in names if name in values}
        for category, values in job.detail_metrics.get("categories", {}).items()
    }
    return {category: values for category, values in found.items() if values}


@dataclass(frozen=True)
class CategoryCell:
    """A value, and where it lies in its metric's valid range, from 0 to 100; None where the range has no two ends."""

    value: float | None
    percent: float | None


@dataclass(frozen=True)
class CategoryTable:
    columns: list[Metric | str]
    rows: list[tuple[str, list[CategoryCell]]]


def category_table(job: Job, categories: dict[str, dict[str, float]] | None) -> CategoryTable | None:
    """Return the categories as a table, the board's metrics first; None without any."""
    if not categories:
        return None
    known = {metric.name: metric for metric in job.leaderboard.metric_list}
    measured = dict.fromkeys(name for values in categories.values() for name in values)
    names = [*(name for name in known if name in measured), *(name for name in measured if name not in known)]
    rows = [
        (category, [CategoryCell(values.get(name), _percent(known.get(name), values.get(name))) for name in names])
        for category, values in categories.items()
    ]
    return CategoryTable([known.get(name, name) for name in names], rows)


def _percent(metric: Metric | None, value: float | None) -> float | None:
    if metric is None or value is None or metric.minimum is None or metric.maximum is None:
        return None
    span = metric.maximum - metric.minimum
    return round(100 * min(max((value - metric.minimum) / span, 0), 1), 1) if span > 0 else None
