"""Leaderboards that are scored on hidden labels: whether this machine can, and whether the labels are hidden."""

import hashlib
import stat
from itertools import islice
from pathlib import Path

from django.conf import settings

from core.folder_digest import FolderDigests, open_without_a_trace
from jobs.board_needs import in_words
from jobs.sandbox import import_problem
from jobs.scoring import Scoring, ScoringUnavailable, scoring_of, verified
from jobs.scoring_trial import what_would_fail
from jobs.waiting import first_lack, live_workers
from leaderboard_site.doctor.findings import WRONG, Found
from leaderboards.hiding import LABELS, leak_of
from leaderboards.metric_defaults import metric_problems
from leaderboards.models import Leaderboard
from leaderboards.scoring import BUILT_IN, overlapping_roots

# Of a huge data set not every file is looked at.
MOST_FILES = 200_000
MOST_COMPARED_BYTES = 64 * 1024 * 1024


def scoring(found: Found, *, is_trying: bool = False) -> None:
    """Look at every leaderboard with a scorer. `is_trying`: run each scorer once, which may take minutes."""
    boards = list(Leaderboard.objects.exclude(scorer="").select_related("score_version").order_by("slug"))
    for sentence in overlapping_roots():
        found.wrong(sentence, "GROUND_TRUTH_ROOT=/srv/ground_truth")
    if not boards:
        found.ok("no leaderboard has a scorer: runs report their own numbers")
        return
    root = Path(settings.GROUND_TRUTH_ROOT)
    if root.is_dir() and stat.S_IMODE(root.stat().st_mode) & 0o077:
        found.wrong(f"others on this machine can enter GROUND_TRUTH_ROOT ({root})", f"chmod 700 {root}")
    for board in boards:
        _metrics(found, board)
        _board(found, board, is_trying=is_trying)


def _metrics(found: Found, board: Leaderboard) -> None:
    """Name metrics that the scorer does not give, and directions against it: earlier versions accepted them."""
    for problem in metric_problems(board.scorer, board.metrics.all()):
        found.warning(f"{board.slug}: {problem}", "the leaderboard's page in the console; nothing, if it is on purpose")


def _board(found: Found, board: Leaderboard, *, is_trying: bool) -> None:
    try:
        scored = scoring_of(board)
    except ScoringUnavailable as error:
        found.warning(
            f"{board.slug}: {error} A worker here does not take its jobs", "copy it there; docs/scoring.md says how"
        )
        return
    assert scored is not None
    before = len(found.findings)
    _version(found, board)
    if board.scorer in BUILT_IN and not (scored.labels / LABELS).is_file():
        found.wrong(f"{board.slug}: {scored.labels} has no {LABELS}", "manage.py hide_labels; docs/scoring.md")
    if board.ranking_metric is None:
        found.warning(f"{board.slug} has a scorer, but no metric to rank by", "add one in the admin")
    if board.dataset and (place := _seen_by_runs(board, scored)):
        found.wrong(f"{board.slug}: runs see the answers: {place}", f"take it out of {settings.DATASET_ROOT}")
    if board.dataset and (leak := leak_of(Path(settings.DATASET_ROOT) / board.dataset, scored.labels)):
        found.wrong(
            f"{board.slug}: file metadata of the data set tells runs the labels: {leak}",
            f"manage.py rewrite_dataset {board.dataset} {board.ground_truth}",
        )
    _program(found, board)
    is_well = all(one.state != WRONG for one in found.findings[before:])
    if is_trying and is_well and (why := what_would_fail(board, scored)):
        found.wrong(
            f"{board.slug}: tried on predictions that say nothing, {board.scorer} fails, and so would every job: {why}",
            f"mend {scored.labels} or the scorer, then run doctor again; docs/scoring.md",
        )
    if len(found.findings) == before:
        found.ok(f"{board.slug}: {board.scorer}, on labels that its data set does not have")


def _version(found: Found, board: Leaderboard) -> None:
    """Check that this machine has what the score version says, and some live worker all that the leaderboard needs."""
    try:
        verified(board, FolderDigests(settings.WORK_ROOT))
    except ScoringUnavailable as error:
        found.warning(
            f"{board.slug}: {error} A worker here does not take its jobs", "docs/scoring.md#labels-of-the-same-version"
        )
    if (workers := live_workers()) and (lack := first_lack(board, workers)) is not None:
        found.wrong(
            f"{board.slug}: no live worker can run its jobs; one lacks {in_words(lack, board)}",
            "the admin's pages of workers say which host has what; docs/scoring.md#labels-of-the-same-version",
        )


def _program(found: Found, board: Leaderboard) -> None:
    """Whether the platform's own scorer finds its modules where it will run; of an organizer's nobody knows them."""
    modules = BUILT_IN[board.scorer].modules if board.scorer in BUILT_IN else ()
    image = settings.SCORING_IMAGE or board.image
    if not modules or not (problem := import_problem(modules, image)):
        return
    if settings.EXECUTOR == "container":
        where = f"the image {image or settings.CONTAINER_IMAGE}"
        mend = "SCORING_IMAGE=an image that has them; docker/runner-image NAME podman python3-numpy python3-opencv"
    else:
        where, mend = f"RUNNER_PYTHON ({settings.RUNNER_PYTHON})", "pip install -r requirements/runner.txt, there"
    found.wrong(f"{board.slug}: {board.scorer} needs {' and '.join(modules)}, and {where} says: {problem}", mend)


def _seen_by_runs(board: Leaderboard, scored: Scoring) -> str:
    """What of the labels lies in the data set, too: masks by the usual name, or a file with the same content."""
    dataset = Path(settings.DATASET_ROOT) / board.dataset
    masks = next((path for path in dataset.glob("*/ground_truth") if path.is_dir()), None)
    if masks is not None:
        return str(masks)
    hidden: dict[int, set[str]] = {}
    for path in islice(scored.labels.rglob("*"), MOST_FILES):
        if path.is_file() and 0 < path.stat().st_size <= MOST_COMPARED_BYTES:
            hidden.setdefault(path.stat().st_size, set()).add(_digest(path))
    for path in islice(dataset.rglob("*"), MOST_FILES):
        if path.is_file() and path.stat().st_size in hidden and _digest(path) in hidden[path.stat().st_size]:
            return str(path)
    return ""


def _digest(path: Path) -> str:
    with open(path, "rb", opener=open_without_a_trace) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
