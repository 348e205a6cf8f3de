"""Valid ranges of metrics: the one rule for what runs report and for what scorers measure."""

from collections.abc import Callable, Mapping

from jobs.execution.told import Told as _
from leaderboards.models import Leaderboard, Metric

# As much as float32 may be off: an AUROC of 1 + 1.2e-7 is 1.
TOLERANCE = 1e-6


def within_ranges(
    board: Leaderboard, values: Mapping[str, float], *, rounded: Callable[[float], float] = float, prefix: str = ""
) -> tuple[dict[str, float], dict[str, str]]:
    """Return the board's own metrics among the values, rounded, and what is wrong with those out of range.

    A value beyond a limit by no more than the tolerance, or by no more than the rounding, becomes the limit. A message
    shows no more digits than the rounding leaves.
    """
    valid: dict[str, float] = {}
    broken: dict[str, str] = {}
    for metric in board.metric_list:
        if (value := values.get(metric.name)) is None:
            continue
        kept = rounded(value)
        problem = broken_limit(metric, kept, f"{prefix}{metric.name}")
        if problem and broken_limit(metric, value, metric.name):
            broken[metric.name] = problem
        else:
            valid[metric.name] = _clamped(metric, kept)
    return valid, broken


def broken_limit(metric: Metric, value: float, place: str) -> str:
    """Return the limit that the value exceeds by more than the tolerance, as a sentence; empty if it is valid."""
    low, high = metric.minimum, metric.maximum
    if low is not None and value < low - _tolerance(low, high):
        return _("%(place)s must be at least %(bound)s, not %(value)s", place=place, bound=repr(low), value=repr(value))
    if high is not None and value > high + _tolerance(high, low):
        return _("%(place)s must be at most %(bound)s, not %(value)s", place=place, bound=repr(high), value=repr(value))
    return ""


def _tolerance(limit: float, other: float | None) -> float:
    """Relative to the limit. A limit of 0 has no size of its own: it takes the other limit's, at most 1."""
    return TOLERANCE * (abs(limit) or min(abs(other or 1.0), 1.0))


def _clamped(metric: Metric, value: float) -> float:
    if metric.minimum is not None and value < metric.minimum:
        return metric.minimum
    if metric.maximum is not None and value > metric.maximum:
        return metric.maximum
    return value
