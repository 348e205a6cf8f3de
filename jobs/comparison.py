"""Jobs side by side: which params differ, how far their metrics are apart, their curves, their pictures.

Of another person's job that stands on a board, only what the board shows takes part: its metrics there, and its cost.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from jobs.curves import MOST_TABLES, CurveChart, draw, run_points
from jobs.models import Job
from jobs.queries import progress_of
from leaderboards.models import Metric

# Rows of metrics, of params that differ and of params that are the same. Each row has a cell for each job.
MOST_ROWS = 200
# Params that are compared: each of eight jobs can have thousands.
MOST_PARAMS = 2000
MOST_CHARTS = 12
MOST_PICTURES = 12
# Of each of up to eight lines in a chart.
LINE_POINTS = 48


@dataclass(frozen=True)
class Side:
    """A job that takes part; of one that is not `is_open` only what its board shows."""

    job: Job
    is_open: bool

    @property
    def metrics(self) -> dict[str, float]:
        shown = {metric.name for metric in self.job.leaderboard.metric_list}
        return {name: value for name, value in self.job.metrics.items() if self.is_open or name in shown}

    @property
    def params(self) -> dict[str, Any]:
        if not self.is_open:
            return {}
        return {**self.job.config, **self.job.params, "resource_class": self.job.resource_class}


@dataclass
class ParamRow:
    name: str
    values: list[Any]
    differs: bool


@dataclass
class MetricCell:
    value: float | None
    difference: float | None
    is_best: bool


@dataclass
class MetricRow:
    name: str
    cells: list[MetricCell]


@dataclass
class PictureRow:
    path: str
    jobs: list[Job | None]


@dataclass
class Comparison:
    differing: list[ParamRow]
    same: list[ParamRow]
    same_count: int
    metrics: list[MetricRow]
    more_rows: int
    charts: list[CurveChart]
    more_charts: int
    pictures: list[PictureRow]
    more_pictures: int


MISSING = object()


def compared(sides: Sequence[Side], *, pictures: Sequence[str]) -> Comparison:
    """Two or more jobs; differences are to the first. `pictures` are the endings of what is shown as a picture."""
    curves = _curves(sides)
    rows = _picture_rows(sides, tuple(pictures))
    params, more_params = _param_rows(sides)
    differing, same = [row for row in params if row.differs], [row for row in params if not row.differs]
    metrics = _metric_names(sides)
    return Comparison(
        differing=differing[:MOST_ROWS],
        same=same[:MOST_ROWS],
        same_count=len(same),
        metrics=_metric_rows(sides, metrics[:MOST_ROWS]),
        more_rows=more_params + sum(max(0, len(found) - MOST_ROWS) for found in (differing, same, metrics)),
        charts=_charts(sides, curves),
        more_charts=max(0, len(curves) - MOST_CHARTS),
        pictures=rows[:MOST_PICTURES],
        more_pictures=max(0, len(rows) - MOST_PICTURES),
    )


def _param_rows(sides: Sequence[Side]) -> tuple[list[ParamRow], int]:
    """Return the rows of the first params, and how many more params there are."""
    settings = [side.params for side in sides]
    names = list(dict.fromkeys(name for values in settings for name in values))
    rows = []
    for name in names[:MOST_PARAMS]:
        values = [values.get(name, MISSING) for values in settings]
        shown = [None if value is MISSING else value for value in values]
        known = [value for value, side in zip(values, sides, strict=True) if side.is_open]
        rows.append(ParamRow(name, shown, any(value != known[0] for value in known[1:])))
    return rows, max(0, len(names) - MOST_PARAMS)


def _curves(sides: Sequence[Side]) -> dict[str, dict[int, Any]]:
    """Return the stored curves by name, and by the place of their job among the sides."""
    found: dict[str, dict[int, Any]] = {}
    for number, side in enumerate(sides):
        progress = progress_of(side.job) if side.is_open else None
        for curve in progress.curves if progress else []:
            if curve["points"]:
                found.setdefault(curve["name"], {})[number] = curve
    return found


def _charts(sides: Sequence[Side], curves: dict[str, dict[int, Any]]) -> list[CurveChart]:
    """Draw a chart for each of the first names, with a line for each job; a job has the same colour in all."""
    return [
        draw(
            name,
            {str(sides[number].job.pk)[:8]: run_points(curve) for number, curve in lines.items()},
            most=LINE_POINTS,
            numbers=list(lines),
            # Many charts, and each job's own page and file have the numbers.
            has_table=len(curves) <= MOST_TABLES,
        )
        for name, lines in itertools.islice(curves.items(), MOST_CHARTS)
    ]


def _picture_rows(sides: Sequence[Side], endings: tuple[str, ...]) -> list[PictureRow]:
    """The pictures that two jobs or more have under one name."""
    found: dict[str, set[int]] = {}
    for number, side in enumerate(sides):
        for item in side.job.artifacts if side.is_open else []:
            if item["path"].lower().endswith(endings):
                found.setdefault(item["path"], set()).add(number)
    return [
        PictureRow(path, [side.job if number in numbers else None for number, side in enumerate(sides)])
        for path, numbers in found.items()
        if len(numbers) > 1
    ]


def _known_metrics(sides: Sequence[Side]) -> dict[str, Metric]:
    return {metric.name: metric for side in sides for metric in side.job.leaderboard.metric_list}


def _metric_names(sides: Sequence[Side]) -> list[str]:
    """List the measured metrics, the leaderboards' own first."""
    known = _known_metrics(sides)
    measured = dict.fromkeys(name for side in sides for name in side.metrics)
    return [name for name in known if name in measured] + [name for name in measured if name not in known]


def _metric_rows(sides: Sequence[Side], names: Sequence[str]) -> list[MetricRow]:
    known = _known_metrics(sides)
    measured = [side.metrics for side in sides]
    rows = []
    for name in names:
        values = [metrics.get(name) for metrics in measured]
        present = [value for value in values if value is not None]
        best = None
        if name in known and len(set(present)) > 1:
            best = max(present) if known[name].higher_is_better else min(present)
        first = values[0]
        cells = [
            MetricCell(
                value=value,
                difference=value - first if index and value is not None and first is not None else None,
                is_best=best is not None and value == best,
            )
            for index, value in enumerate(values)
        ]
        rows.append(MetricRow(str(known.get(name, name)), cells))
    return rows
