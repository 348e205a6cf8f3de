"""Jobs side by side: which params differ, and how far their metrics are apart."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from jobs.models import Job


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
class Comparison:
    differing: list[ParamRow]
    same: list[ParamRow]
    metrics: list[MetricRow]


MISSING = object()


def compared(jobs: Sequence[Job]) -> Comparison:
    """Params and metrics of two or more jobs; differences are to the first job."""
    settings = [{**job.config, **job.params, "resource_class": job.resource_class} for job in jobs]
    names = list(dict.fromkeys(name for values in settings for name in values))
    rows = []
    for name in names:
        values = [values.get(name, MISSING) for values in settings]
        shown = [None if value is MISSING else value for value in values]
        rows.append(ParamRow(name, shown, any(value != values[0] for value in values[1:])))
    return Comparison(
        differing=[row for row in rows if row.differs],
        same=[row for row in rows if not row.differs],
        metrics=_metric_rows(jobs),
    )


def _metric_rows(jobs: Sequence[Job]) -> list[MetricRow]:
    known = {metric.name: metric for job in jobs for metric in job.leaderboard.metric_list}
    measured = dict.fromkeys(name for job in jobs for name in job.metrics)
    names = [name for name in known if name in measured] + [name for name in measured if name not in known]
    rows = []
    for name in names:
        values = [job.metrics.get(name) for job in jobs]
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
