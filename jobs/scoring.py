"""The second, trusted step of a run on a leaderboard with a scorer: its predictions against labels that no run ever sees.

When everything of the run is dead, the scorer runs in a sandbox of its own with the predictions and the ground truth,
both read-only: another supervisor, other limits, nothing of the run's environment, config or network. It parses what a
stranger left, so it is trusted with the labels and with nothing else. Only its metrics.json counts.
"""

import json
import logging
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from django.conf import settings

from core.folder_digest import FolderDigests, FolderRefused
from core.untrusted import Bounds, load_json
from jobs.board_needs import is_ready
from jobs.detail_metrics import MOST_NUMBERS, read_categories
from jobs.execution.bubblewrap import let_read
from jobs.execution.metrics import MAX_BYTES, BadMetrics, parse_metrics
from jobs.execution.spec import Container, Limits, Result, RunSpec
from jobs.execution.told import Told as _
from jobs.execution.told import first_ones, together
from jobs.models import Job
from jobs.ranges import within_ranges
from jobs.scorer_faults import refusal
from jobs.verdict import unranked_note, why_it_failed
from jobs.workspace import Workspace
from leaderboards.metric_defaults import unknown_metric
from leaderboards.models import Leaderboard, ScoreVersion
from leaderboards.scoring import BUILT_IN, OWN

logger = logging.getLogger(__name__)

LOG_NOTE = "[leadersboard] "  # begins the platform's own line in a scorer's log
_REJECTION = Bounds(bytes=MAX_BYTES, storable=False)
MOST_PROGRAM_BYTES = 64 * 1024 * 1024
MOST_PROGRAM_FILES = 2000
# Names that are neither copied nor part of a scorer's digest.
NOT_OF_A_SCORER = ("__pycache__",)


class ScoringUnavailable(Exception):
    """This worker cannot score for the leaderboard: the platform's fault. The message names folders, for operators; `told`
    is for the participant."""

    told = _("The leaderboard's scorer is not ready on this worker.")
    # The worker claims no more jobs of the leaderboard, so the job need not rest before another worker takes it.
    was_noticed = False
    # Nothing was run, so that giving the job back is not counted.
    cost_nothing = False


class ScoreVersionDiffers(ScoringUnavailable):
    """The labels or the scorer here are not, or no longer, those of the leaderboard's score version."""

    told = _("The labels or the scorer on this worker are not those of the leaderboard's score version.")
    was_noticed = True
    cost_nothing = True


class ChangedDuringRun(ScoreVersionDiffers):
    cost_nothing = False


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
    # Of a scorer that the platform brings.
    version: int | None = None
    # The state of both folders' files when they were found to be those of the score version.
    signatures: list[str] = field(default_factory=list)

    @property
    def folders(self) -> list[tuple[Path, tuple[str, ...]]]:
        """The folders that a score version holds by digest, each with the names that do not count: the labels, and an own scorer."""
        own = [] if self.scorer in BUILT_IN else [(self.program, NOT_OF_A_SCORER)]
        return [(self.labels, ()), *own]

    def check_unchanged(self, digests: FolderDigests) -> None:
        """Raise ChangedDuringRun when anything was written to the labels or the scorer since `verified`."""
        try:
            now = [digests.signature(folder, ignored) for folder, ignored in self.folders]
        except FolderRefused as error:
            raise ChangedDuringRun(str(error)) from error
        if now != self.signatures:
            raise ChangedDuringRun(f"The labels {self.labels} or the scorer {self.scorer} changed during the run.")


def scoring_of(board: Leaderboard) -> Scoring | None:
    """How the leaderboard's runs are scored here; None where they report their own numbers. Raises ScoringUnavailable.

    Asked before the run begins, so that none is wasted where its predictions could not be scored.
    """
    if not board.is_scored:
        return None
    if settings.EXECUTOR == "unsafe-local":
        raise ScoringUnavailable("EXECUTOR=unsafe-local would show the labels to the run.")
    labels = folder_of_labels(board.ground_truth)
    if board.dataset:
        dataset = (Path(settings.DATASET_ROOT) / board.dataset).resolve()
        if dataset.is_relative_to(labels) or labels.is_relative_to(dataset):
            raise ScoringUnavailable(f"The ground truth {labels} and the data set {dataset} that runs read overlap.")
    return Scoring(board.scorer, board.ground_truth, folder_of_scorer(board.scorer), labels)


def verified(board: Leaderboard, digests: FolderDigests) -> Scoring | None:
    """Return the scoring of `scoring_of`, checked: the labels and the scorer are those of the score version of the claim.

    Raises ScoringUnavailable.
    """
    scoring, version = scoring_of(board), board.score_version
    if scoring is None:
        return None
    if version is None or not is_ready(board, version):
        raise ScoreVersionDiffers(f"{board.slug} has no score version that says what its labels and scorer are.")
    try:
        states = [digests.state(folder, ignored) for folder, ignored in scoring.folders]
    except FolderRefused as error:
        raise ScoreVersionDiffers(str(error)) from error
    wanted = [version.ground_truth_digest, version.scorer_digest]
    for (folder, _ignored), state, digest in zip(scoring.folders, states, wanted, strict=False):
        if state.digest != digest:
            raise ScoreVersionDiffers(f"{folder} differs from score version {version.number} of {board.slug}.")
    if scoring.scorer in BUILT_IN and version.scorer_version not in BUILT_IN[scoring.scorer].versions:
        raise ScoreVersionDiffers(f"This worker does not bring version {version.scorer_version} of {scoring.scorer}.")
    return replace(scoring, version=version.scorer_version, signatures=[state.signature for state in states])


def folder_of_labels(name: str) -> Path:
    """A ground truth's folder on this machine. Raises ScoringUnavailable."""
    return _below(settings.GROUND_TRUTH_ROOT, name, "The ground truth")


def folder_of_scorer(scorer: str) -> Path:
    """A scorer's folder on this machine. Raises ScoringUnavailable."""
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
    return scorer_run(
        place.folder,
        f"{job.pk}-{job.attempt}-scoring",
        job.leaderboard,
        scoring,
        predictions=place.run / "predictions",
        executor=executor,
        container=container,
    )


def scorer_run(
    place: Path,
    run_id: str,
    board: Leaderboard,
    scoring: Scoring,
    *,
    predictions: Path,
    executor: str,
    container: Container | None,
) -> RunSpec:
    """Return a run of the leaderboard's scorer on the predictions, with its files in the folder `place`."""
    program, config, folder = (place / name for name in ("scorer", "scoring.json", "scoring"))
    _copy_program(scoring.program, program)
    asked: dict[str, Any] = {"scorer": scoring.scorer}
    if scoring.version is not None:
        asked["version"] = scoring.version
    asked["metrics"] = [metric.name for metric in board.metric_list]
    config.write_text(json.dumps(asked))
    folder.mkdir(mode=0o700)
    let_read(str(predictions))  # ours by now; a worker that is root steps down for a scorer, too
    limits: Mapping[str, Any] = settings.SCORING_LIMITS
    cpu_seconds = limits["wall_seconds"] * (limits.get("cpus") or 2) + 60
    return RunSpec(
        run_id=run_id,
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
        shutil.copytree(source, target, symlinks=True, ignore=shutil.ignore_patterns(*NOT_OF_A_SCORER))
    except OSError as error:
        raise ScoringUnavailable(f"The scorer {source} cannot be copied: {error}") from error


@dataclass(frozen=True)
class Measured:
    """The board's metrics as a scorer measured them, its other numbers, and notes for the job's owner."""

    metrics: dict[str, float]
    details: dict[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def read_scores(result: Result, metrics_file: Path, board: Leaderboard) -> Measured:
    """The board's metrics as the scorer measured them, rounded as its score version says. Raises Rejected, ScorerBroke.

    Sentences for the participant have the metrics' names and rounded values only: each further digit or number would
    tell more of the labels.
    """
    if result.reason != "exited":
        raise ScorerBroke(f"{result.reason}: {result.detail}")
    if result.exit_code != 0:
        raise ScorerBroke(why_it_failed(result))
    if result.metrics_error:
        raise ScorerBroke(f"metrics.json: {result.metrics_error}")
    raw = metrics_file.read_bytes()
    if (sentence := _rejection(raw)) is not None:
        raise Rejected(sentence)
    names = [metric.name for metric in board.metric_list]
    rounded = _rounding(board.score_version)
    try:
        parsed = parse_metrics(raw, wanted=names, most=MOST_NUMBERS)
    except BadMetrics as error:
        raise ScorerBroke(f"metrics.json: {error.message}") from error
    if parsed.faults:
        logger.warning("the scorer %s left: %s", board.scorer, together([fault.sentence for fault in parsed.faults]))
    categories = read_categories(parsed)
    metrics, broken = within_ranges(board, {**categories.flat, **parsed.metrics}, rounded=rounded)
    lacking = [metric.name for metric in board.lacking_metrics(metrics)]
    if unmeasured := [name for name in lacking if name not in broken and board.requires_score]:
        unknown = unknown_metric(board.scorer, parsed.metrics, unmeasured[0])
        raise ScorerBroke(f"the leaderboard requires {', '.join(unmeasured)}, but {unknown.sentence}")
    if lacking and board.requires_score:
        raise Rejected(together([broken[name] for name in lacking]))
    unusable = [
        _("the scorer gave no valid %(name)s", name=fault.name)
        for fault in parsed.faults
        if fault.field == "metrics" and fault.name in names
    ]
    left_out = [_("Left out of the scores: %(why)s.", why=problem) for problem in (*broken.values(), *unusable)]
    details = categories.details(parsed, known=names, rounded=rounded)
    return Measured(metrics, details, (*unranked_note(lacking), *first_ones(left_out)))


def _rounding(version: ScoreVersion | None) -> Callable[[float], float]:
    digits = version.digits if version is not None else settings.SCORING_DIGITS
    return lambda value: float(f"{value:.{digits}g}")


def _rejection(raw: bytes) -> str | None:
    """The sentence by which a scorer refuses predictions. None: it did not. Raises ScorerBroke."""
    try:
        document = load_json(raw, _REJECTION)
    except ValueError:
        return None
    rejected = document.get("rejected") if isinstance(document, dict) else None
    sentence = refusal(rejected)
    if sentence is None and rejected and isinstance(rejected, list | dict):
        raise ScorerBroke('metrics.json: "rejected" must be a sentence, or a list of sentences and known faults')
    return sentence
