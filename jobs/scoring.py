"""The second, trusted step of a run on a leaderboard with a scorer: its predictions against labels that no run ever sees.

When everything of the run is dead, the scorer runs in a sandbox of its own with the predictions and the ground truth,
both read-only: another supervisor, other limits, nothing of the run's environment, config or network. It parses what a
stranger left, so it is trusted with the labels and with nothing else. Only its metrics.json counts.
"""

import json
import logging
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from django.conf import settings

from core.untrusted import Bounds, load_json
from jobs.execution.bubblewrap import let_read
from jobs.execution.metrics import MAX_BYTES, BadMetrics, parse_metrics
from jobs.execution.spec import Container, Limits, Result, RunSpec
from jobs.execution.told import Told as _
from jobs.models import Job
from jobs.workspace import Workspace
from leaderboards.metric_defaults import unknown_metric
from leaderboards.models import Leaderboard
from leaderboards.scoring import BUILT_IN, OWN

logger = logging.getLogger(__name__)

LONGEST_REJECTION = 200
LOG_NOTE = "[leadersboard] "  # begins the platform's own line in a scorer's log
_REJECTION = Bounds(bytes=MAX_BYTES, storable=False)
MOST_PROGRAM_BYTES = 64 * 1024 * 1024
MOST_PROGRAM_FILES = 2000


class ScoringUnavailable(Exception):
    """This worker cannot score for the leaderboard: the platform's fault. The message names folders, for operators."""


class ScorerBroke(Exception):
    """The scorer did not do its part; the message is for operators alone: it may tell of the labels."""

    def tell_operators(self, job: Job, log: Path) -> None:
        """Write why to the worker's log and to the end of the scorer's."""
        logger.error("job %s: the scorer %s broke: %s", job.pk, job.leaderboard.scorer, self)
        with log.open("a", encoding="utf-8") as file:
            file.write(f"\n{LOG_NOTE}{self}\n")


class Rejected(Exception):
    """The scorer refuses the predictions; the message is for the participant."""


@dataclass(frozen=True)
class Scoring:
    """What scores a leaderboard's runs, found on this machine."""

    scorer: str
    ground_truth: str
    program: Path
    labels: Path


def scoring_of(board: Leaderboard) -> Scoring | None:
    """How the leaderboard's runs are scored here; None where they report their own numbers. Raises ScoringUnavailable.

    Asked before the run begins, so that none is wasted where its predictions could not be scored.
    """
    if not board.is_scored:
        return None
    if settings.EXECUTOR == "unsafe-local":
        raise ScoringUnavailable("EXECUTOR=unsafe-local would show the labels to the run.")
    labels = _below(settings.GROUND_TRUTH_ROOT, board.ground_truth, "The ground truth")
    if board.dataset:
        dataset = (Path(settings.DATASET_ROOT) / board.dataset).resolve()
        if dataset.is_relative_to(labels) or labels.is_relative_to(dataset):
            raise ScoringUnavailable(f"The ground truth {labels} and the data set {dataset} that runs read overlap.")
    return Scoring(board.scorer, board.ground_truth, _program(board.scorer), labels)


def _program(scorer: str) -> Path:
    if scorer in BUILT_IN:
        return Path(settings.BASE_DIR, "scorers")
    folder = _below(settings.SCORER_ROOT, scorer.removeprefix(OWN), "The scorer")
    if not (folder / "main.py").is_file():
        raise ScoringUnavailable(f"The scorer {folder} has no main.py.")
    return folder


def _below(root: Path, name: str, what: str) -> Path:
    folder = (root / name).resolve()
    if not name or not folder.is_relative_to(root.resolve()) or folder == root.resolve() or not folder.is_dir():
        raise ScoringUnavailable(f"{what} {name!r} is not on this machine, below {root}.")
    return folder


def scoring_spec(
    place: Workspace, job: Job, scoring: Scoring, *, executor: str, container: Container | None
) -> RunSpec:
    """The scorer's run. Nothing in it comes from the submission but the predictions."""
    program, config, folder = (place.folder / name for name in ("scorer", "scoring.json", "scoring"))
    _copy_program(scoring.program, program)
    asked = {"scorer": scoring.scorer, "metrics": [metric.name for metric in job.leaderboard.metric_list]}
    config.write_text(json.dumps(asked))
    folder.mkdir(mode=0o700)
    predictions = place.run / "predictions"
    let_read(str(predictions))  # ours by now; a worker that is root steps down for a scorer, too
    limits: Mapping[str, Any] = settings.SCORING_LIMITS
    cpu_seconds = limits["wall_seconds"] * (limits.get("cpus") or 2) + 60
    return RunSpec(
        run_id=f"{job.pk}-{job.attempt}-scoring",
        executor=executor,
        python=settings.RUNNER_PYTHON,
        code_dir=str(program),
        config_path=str(config),
        run_dir=str(folder),
        folders={"predictions": str(predictions), "ground_truth": str(scoring.labels)},
        limits=Limits(**{"cpu_seconds": cpu_seconds, **limits}),
        sandbox_uid=settings.SANDBOX_UID,
        container=container,
    )


def _copy_program(source: Path, target: Path) -> None:
    """A copy of its own for each scoring: what an organizer changes meanwhile is the next one's."""
    files = [path for path in source.rglob("*") if path.is_file()]
    if len(files) > MOST_PROGRAM_FILES or sum(path.stat().st_size for path in files) > MOST_PROGRAM_BYTES:
        raise ScoringUnavailable(f"The scorer {source} is too large to be copied: keep what is large with the labels.")
    try:
        shutil.copytree(source, target, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    except OSError as error:
        raise ScoringUnavailable(f"The scorer {source} cannot be copied: {error}") from error


def read_scores(result: Result, metrics_file: Path, board: Leaderboard) -> dict[str, float]:
    """The board's metrics as the scorer measured them, rounded. Raises Rejected, ScorerBroke.

    Nothing else of what it left is kept: each further number would tell more of the labels.
    """
    if result.reason != "exited" or result.exit_code != 0:
        raise ScorerBroke(f"{result.reason}: {result.detail}")
    if result.metrics_error:
        raise ScorerBroke(f"metrics.json: {result.metrics_error}")
    raw = metrics_file.read_bytes()
    if (sentence := _rejection(raw)) is not None:
        raise Rejected(sentence)
    try:
        measured = parse_metrics(raw)[1]
    except BadMetrics as error:
        raise ScorerBroke(f"metrics.json: {error.message}") from error
    ranking = board.ranking_metric
    if ranking and ranking.name not in measured:
        refusal = unknown_metric(board.scorer, measured, ranking.name)
        raise ScorerBroke(f"the leaderboard ranks by {ranking.name}, but {refusal.sentence}")
    kept = {metric.name: _rounded(measured[metric.name]) for metric in board.metric_list if metric.name in measured}
    for metric in board.metric_list:
        value = kept.get(metric.name)
        if value is not None and metric.minimum is not None and value < metric.minimum:
            raise Rejected(_("%(name)s must be at least %(bound)s", name=metric.name, bound=f"{metric.minimum:g}"))
        if value is not None and metric.maximum is not None and value > metric.maximum:
            raise Rejected(_("%(name)s must be at most %(bound)s", name=metric.name, bound=f"{metric.maximum:g}"))
    return kept


def _rounded(value: float) -> float:
    return float(f"{value:.{settings.SCORING_DIGITS}g}")


def _rejection(raw: bytes) -> str | None:
    """The sentence by which a scorer refuses predictions: one line of plain characters, bounded. None: there is none."""
    try:
        document = load_json(raw, _REJECTION)
    except ValueError:
        return None
    sentence = document.get("rejected") if isinstance(document, dict) else None
    if not isinstance(sentence, str) or not sentence.strip():
        return None
    plain = " ".join("".join(character if character.isprintable() else " " for character in sentence).split())
    return plain if len(plain) <= LONGEST_REJECTION else plain[: LONGEST_REJECTION - 1] + "…"
