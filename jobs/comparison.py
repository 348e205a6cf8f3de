"""Jobs side by side: which params differ, how far their metrics are apart, their curves, their pictures.

Of another person's job that stands on a board, only what the board shows takes part: its metrics there, and its cost. What
may not be seen is said to be not public, and never counts as the same.
"""

import itertools
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from jobs.curves import MOST_TABLES, CurveChart, draw, run_points
from jobs.models import Job
from jobs.queries import progress_of
from leaderboards.models import Metric
from leaderboards.ranking_state import kept_off

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
    # What it is called where several stand side by side (`told_apart`).
    name: str = ""

    @property
    def metrics(self) -> dict[str, float]:
        shown = {metric.name for metric in self.job.leaderboard.metric_list}
        return {name: value for name, value in self.job.metrics.items() if self.is_open or name in shown}

    @property
    def scored_as(self) -> tuple[object, ...]:
        """Metrics that were not measured in the same way on the same board are not better or worse than each other."""
        job = self.job
        return job.leaderboard_id, job.score_version_id, job.scorer, job.ground_truth

    @property
    def may_be_best(self) -> bool:
        return not self.is_open or kept_off(self.job) is None

    def shows(self, metric: str) -> bool:
        return self.is_open or any(metric == shown.name for shown in self.job.leaderboard.metric_list)

    @property
    def params(self) -> dict[str, Any]:
        if not self.is_open:
            return {}
        return {**self.job.config, **self.job.params, "resource_class": self.job.resource_class}


@dataclass
class ParamCell:
    value: Any = None
    is_missing: bool = False
    is_public: bool = True


@dataclass
class ParamRow:
    name: str
    cells: list[ParamCell]
    differs: bool

    @property
    def value(self) -> Any:
        """The value of a row that does not differ."""
        return next(cell.value for cell in self.cells if cell.is_public)


@dataclass
class MetricCell:
    value: float | None
    # To the baseline; `is_better` is None where the direction is not known, or nothing differs.
    difference: float | None
    is_better: bool | None
    is_best: bool
    is_public: bool


@dataclass
class MetricRow:
    name: str
    cells: list[MetricCell]


@dataclass
class PictureRow:
    path: str
    sides: list[Side | None]


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
    # Params can be compared of two jobs or more whose params may be seen.
    has_params: bool
    # All were measured in the same way on the same board.
    is_comparable: bool


def told_apart(sides: Sequence[Side]) -> list[Side]:
    """Give each side its name: its submission's, of another person's job the person's; with the job's id where two are alike."""
    plain = [side.job.submission.label if side.is_open else side.job.user.display_name for side in sides]
    names = [
        name if plain.count(name) == 1 else f"{name} ({str(side.job.pk)[:8]})"
        for name, side in zip(plain, sides, strict=True)
    ]
    return [replace(side, name=name) for side, name in zip(sides, names, strict=True)]


def oldest(sides: Sequence[Side]) -> Side:
    return min(sides, key=lambda side: (side.job.created_at, side.job.pk))


def _is_comparable(sides: Sequence[Side]) -> bool:
    """Return whether all that have metrics were scored alike; the others have nothing to compare."""
    return len({side.scored_as for side in sides if side.metrics}) <= 1


def compared(sides: Sequence[Side], baseline: Side, *, pictures: Sequence[str]) -> Comparison:
    """Two or more jobs; differences are to the baseline. `pictures` are the endings of what is shown as a picture."""
    curves = _curves(sides)
    rows = _picture_rows(sides, tuple(pictures))
    params, more_params = _param_rows(sides)
    differing, same = [row for row in params if row.differs], [row for row in params if not row.differs]
    has_params = sum(side.is_open for side in sides) > 1
    metrics = _metric_names(sides)
    return Comparison(
        differing=differing[:MOST_ROWS],
        same=same[:MOST_ROWS],
        same_count=len(same),
        metrics=_metric_rows(sides, baseline, metrics[:MOST_ROWS]),
        more_rows=more_params + sum(max(0, len(found) - MOST_ROWS) for found in (differing, same, metrics)),
        charts=_charts(sides, curves),
        more_charts=max(0, len(curves) - MOST_CHARTS),
        pictures=rows[:MOST_PICTURES],
        more_pictures=max(0, len(rows) - MOST_PICTURES),
        has_params=has_params,
        is_comparable=_is_comparable(sides),
    )


def _param_rows(sides: Sequence[Side]) -> tuple[list[ParamRow], int]:
    """Return the rows of the first params, and how many more params there are; none where fewer than two jobs show theirs."""
    settings = [side.params for side in sides]
    if sum(side.is_open for side in sides) < 2:
        return [], 0
    names = list(dict.fromkeys(name for values in settings for name in values))
    rows = []
    for name in names[:MOST_PARAMS]:
        cells = [
            ParamCell(values.get(name), is_missing=side.is_open and name not in values, is_public=side.is_open)
            for values, side in zip(settings, sides, strict=True)
        ]
        # As JSON: 1 equals true, and null what is missing.
        known = {(cell.is_missing, json.dumps(cell.value, sort_keys=True)) for cell in cells if cell.is_public}
        rows.append(ParamRow(name, cells, differs=len(known) > 1))
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
            {sides[number].name: run_points(curve) for number, curve in lines.items()},
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
        PictureRow(path, [side if number in numbers else None for number, side in enumerate(sides)])
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


def _metric_rows(sides: Sequence[Side], baseline: Side, names: Sequence[str]) -> list[MetricRow]:
    known = _known_metrics(sides)
    measured = [side.metrics for side in sides]
    is_comparable = _is_comparable(sides)
    rows = []
    for name in names:
        values = [metrics.get(name) for metrics in measured]
        metric = known.get(name)
        best = _best(sides, values, metric) if is_comparable and metric else None
        first = baseline.metrics.get(name)
        cells = []
        for side, value in zip(sides, values, strict=True):
            can_differ = side is not baseline and side.scored_as == baseline.scored_as
            difference = value - first if can_differ and value is not None and first is not None else None
            cells.append(
                MetricCell(
                    value=value,
                    difference=difference,
                    is_better=(difference > 0) == metric.higher_is_better if difference and metric else None,
                    is_best=best is not None and value == best and side.may_be_best,
                    is_public=side.shows(name),
                )
            )
        rows.append(MetricRow(str(known.get(name, name)), cells))
    return rows


def _best(sides: Sequence[Side], values: Sequence[float | None], metric: Metric) -> float | None:
    """The best of values that differ; trials and withdrawn runs do not take part."""
    present = [value for side, value in zip(sides, values, strict=True) if value is not None and side.may_be_best]
    if len(set(present)) < 2:
        return None
    return max(present) if metric.higher_is_better else min(present)
