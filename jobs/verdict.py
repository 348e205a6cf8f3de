"""What a run's end means for its job: completed with which result, or failed with which code and sentence."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jobs.execution.metrics import BadMetrics, Parsed, parse_metrics
from jobs.execution.spec import Result
from jobs.execution.told import COMMA, first_ones, together
from jobs.execution.told import Told as _
from jobs.logs import plain_line
from jobs.models import ErrorCode
from jobs.ranges import within_ranges
from leaderboards.models import Leaderboard

# Of a program's own words in an error message.
MOST_WORDS = 300
MOST_NAMES = 10
_LIMITS = {
    "timeout": ErrorCode.TIMEOUT,
    "cpu_limit": ErrorCode.TIMEOUT,
    "out_of_memory": ErrorCode.OUT_OF_MEMORY,
    "log_limit": ErrorCode.LOG_LIMIT,
    "disk_limit": ErrorCode.DISK_LIMIT,
}


@dataclass(frozen=True)
class Failure:
    """A code of the closed list and a sentence for the participant, `Told` so that it is read in any language.

    `cause` is for operators alone.
    """

    code: ErrorCode
    message: str
    cause: str = ""


@dataclass(frozen=True)
class Success:
    params: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)
    score: float | None = None
    # What its owner should know, though it did not fail the run.
    notes: tuple[str, ...] = ()
    # Numbers that a scorer measured beyond the board's metrics (jobs/detail_metrics.py).
    detail_metrics: dict[str, Any] = field(default_factory=dict)


def judge(result: Result, leaderboard: Leaderboard, *, metrics_file: Path) -> Success | Failure:
    """The verdict on a run that ended by itself or at a limit (not one that the platform ended).

    On a leaderboard with a scorer it is about predictions instead: the run's own numbers may be there, and rank nothing.
    """
    if code := _LIMITS.get(result.reason):
        return Failure(code, result.detail)
    if result.exit_code != 0:
        return Failure(ErrorCode.EXIT_NONZERO, why_it_failed(result))
    if leaderboard.is_scored and (failure := _about_predictions(result)) is not None:
        return failure
    if leaderboard.is_scored:
        return _self_reported(result, metrics_file)
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
        wanted = [metric.name for metric in leaderboard.metric_list]
        return _ranked(parse_metrics(metrics_file.read_bytes(), wanted=wanted), leaderboard)
    except BadMetrics as error:
        told = _("metrics.json: %(why)s. The output folder was full.", why=error.message)
        return Failure(
            ErrorCode.BAD_METRICS, told if result.output_full else _("metrics.json: %(why)s.", why=error.message)
        )


def why_it_failed(result: Result) -> str:
    """The program's own reason, or how it ended and the last that it said."""
    how = result.detail or _("exit code %(code)d", code=result.exit_code)
    if reason := plain_line(result.reason_line)[:MOST_WORDS]:
        return _("%(reason)s (%(how)s)", reason=reason, how=how)
    if line := plain_line(result.last_line)[:MOST_WORDS]:
        return _("%(how)s. Its last line: %(line)s", how=how, line=line)
    return _("%(how)s.", how=how)


def _self_reported(result: Result, metrics_file: Path) -> Success:
    """Read what a run says of itself where a scorer measures: it ranks nothing, so nothing in it fails the run."""
    if result.metrics_error == "missing":
        return Success()
    try:
        if result.metrics_error:
            raise BadMetrics("not_read", result.metrics_error)
        parsed = parse_metrics(metrics_file.read_bytes())
    except BadMetrics as error:
        return Success(notes=(_("metrics.json was not read: %(why)s.", why=error.message),))
    return Success(parsed.params, parsed.metrics, notes=_left_out([fault.sentence for fault in parsed.faults]))


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


def _ranked(parsed: Parsed, leaderboard: Leaderboard) -> Success | Failure:
    """The verdict on the run's own numbers: without what the leaderboard requires it fails or does not rank.

    Raises BadMetrics with every problem of the file in one sentence, the required metrics first.
    """
    valid, broken = within_ranges(leaderboard, parsed.metrics, prefix="metrics.")
    metrics = {name: valid.get(name, value) for name, value in parsed.metrics.items() if name not in broken}
    problems = [*broken.values(), *(fault.sentence for fault in parsed.faults)]
    lacking = [metric.name for metric in leaderboard.lacking_metrics(metrics)]
    # JSON has no NaN and no Infinity: a program that writes one, for whichever metric, has gone wrong.
    is_wrong = any(fault.field == "metrics" and fault.code == "not_finite" for fault in parsed.faults)
    if not metrics or is_wrong or (lacking and leaderboard.requires_score):
        known = broken | {fault.name: fault.sentence for fault in parsed.faults if fault.field == "metrics"}
        first = [known[name] for name in lacking if name in known]
        missing = [name for name in lacking if name not in known]
        if not metrics and not problems:
            first = [_("metrics holds no number: at least one is needed")]
        elif missing and (leaderboard.requires_score or not metrics):
            names, found = (_named([f"metrics.{name}" for name in some]) for some in (missing, metrics))
            first.append(
                _("it lacks %(names)s, required by this leaderboard; it has %(found)s", names=names, found=found)
            )
        raise BadMetrics("required", together(list(dict.fromkeys([*first, *problems]))))
    ranking = leaderboard.ranking_metric
    score = metrics.get(ranking.name) if ranking else None
    return Success(parsed.params, metrics, score, notes=(*unranked_note(lacking), *_left_out(problems)))


def unranked_note(lacking: list[str]) -> tuple[str, ...]:
    """Return the note on a run that completes without what its leaderboard requires; none if it lacks nothing."""
    if not lacking:
        return ()
    return (_("It does not rank: it lacks %(names)s, required by this leaderboard.", names=_named(lacking)),)


def _named(names: list[str]) -> str:
    return together(names[:MOST_NAMES], count=len(names), joint=COMMA) if names else "-"


def _left_out(problems: list[str]) -> tuple[str, ...]:
    return first_ones([_("Left out of metrics.json: %(why)s.", why=problem) for problem in problems])
