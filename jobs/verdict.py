"""What a run's end means for its job: completed with which result, or failed with which code and sentence."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jobs.execution.metrics import BadMetrics, parse_metrics
from jobs.execution.spec import Result
from jobs.execution.told import Told as _
from jobs.models import ErrorCode
from leaderboards.models import Leaderboard

_LIMITS = {
    "timeout": ErrorCode.TIMEOUT,
    "cpu_limit": ErrorCode.TIMEOUT,
    "out_of_memory": ErrorCode.OUT_OF_MEMORY,
    "log_limit": ErrorCode.LOG_LIMIT,
    "disk_limit": ErrorCode.DISK_LIMIT,
}


@dataclass(frozen=True)
class Failure:
    """The user's fault: a code of the closed list and a sentence for them, `Told` so that it is read in any language."""

    code: ErrorCode
    message: str


@dataclass(frozen=True)
class Success:
    params: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)
    score: float | None = None
    # What its owner should know, though it did not fail the run.
    notes: tuple[str, ...] = ()


def judge(result: Result, leaderboard: Leaderboard, *, metrics_file: Path, last_line: str) -> Success | Failure:
    """The verdict on a run that ended by itself or at a limit (not one that the platform ended).

    On a leaderboard with a scorer it is about predictions instead: the run's own numbers may be there, and rank nothing.
    """
    if code := _LIMITS.get(result.reason):
        return Failure(code, result.detail)
    if result.exit_code != 0:
        how = result.detail or _("exit code %(code)d", code=result.exit_code)
        told = _("%(how)s. Its last line: %(line)s", how=how, line=last_line) if last_line else _("%(how)s.", how=how)
        return Failure(ErrorCode.EXIT_NONZERO, told)
    if leaderboard.is_scored and (failure := _about_predictions(result)) is not None:
        return failure
    if leaderboard.is_scored and result.metrics_error == "missing":
        return Success()
    if result.metrics_error and result.output_full:
        return Failure(
            ErrorCode.DISK_LIMIT,
            _("The output folder was full, and metrics.json in it is %(state)s.", state=result.metrics_error),
        )
    if result.metrics_error == "missing":
        return Failure(
            ErrorCode.MISSING_METRICS, _("The run ended well but left no metrics.json in its --output folder.")
        )
    if result.metrics_error:
        return Failure(ErrorCode.BAD_METRICS, _("metrics.json: %(why)s.", why=result.metrics_error))
    try:
        params, metrics = parse_metrics(metrics_file.read_bytes())
    except BadMetrics as error:
        told = _("metrics.json: %(why)s. The output folder was full.", why=error.message)
        return Failure(
            ErrorCode.BAD_METRICS, told if result.output_full else _("metrics.json: %(why)s.", why=error.message)
        )
    if leaderboard.is_scored:
        return Success(params, metrics)
    return _ranked(params, metrics, leaderboard)


def _about_predictions(result: Result) -> Failure | None:
    found = result.predictions_error
    if found is None:
        return None
    if result.output_full:
        told = _("The output folder was full, and predictions/ in it is incomplete: %(why)s.", why=found)
        return Failure(ErrorCode.DISK_LIMIT, told)
    if found == "missing":
        told = _("The run ended well but left no folder predictions/ in its --output folder.")
        return Failure(ErrorCode.BAD_PREDICTIONS, told)
    return Failure(ErrorCode.BAD_PREDICTIONS, _("predictions/: %(why)s.", why=found))


def _ranked(params: dict[str, Any], metrics: dict[str, float], leaderboard: Leaderboard) -> Success | Failure:
    for metric in leaderboard.metric_list:
        value = metrics.get(metric.name)
        if value is None:
            continue
        if metric.minimum is not None and value < metric.minimum:
            return _out_of_range(metric.name, value, _("at least %(bound)s", bound=f"{metric.minimum:g}"), leaderboard)
        if metric.maximum is not None and value > metric.maximum:
            return _out_of_range(metric.name, value, _("at most %(bound)s", bound=f"{metric.maximum:g}"), leaderboard)
    ranking = leaderboard.ranking_metric
    score = metrics.get(ranking.name) if ranking else None
    if ranking and score is None and leaderboard.requires_score:
        found = ", ".join(list(metrics)[:10])
        message = _(
            "metrics.json: metrics.%(name)s is missing, by which this leaderboard ranks; it has %(found)s.",
            name=ranking.name, found=found,
        )  # fmt: skip
        return Failure(ErrorCode.BAD_METRICS, message)
    return Success(params, metrics, score)


def _out_of_range(name: str, value: float, rule: str, leaderboard: Leaderboard) -> Failure:
    told = _(
        "metrics.json: metrics.%(name)s must be %(rule)s on %(board)s, not %(value)s.",
        name=name, rule=rule, board=leaderboard.slug, value=f"{value:g}",
    )  # fmt: skip
    return Failure(ErrorCode.BAD_METRICS, told)
