"""Try a leaderboard's scorer on predictions that say nothing, as the first job would: same sandbox, labels and limits.

A mask that does not open or a scorer that does not start is found by `doctor` then, and not by every participant's job.
"""

import csv
import io
from collections.abc import Callable
from pathlib import Path

from django.conf import settings
from PIL import Image

from jobs.execution.client import Supervisor
from jobs.execution.spec import Result
from jobs.sandbox import Images, ImageUnusable
from jobs.scoring import Rejected, ScorerBroke, Scoring, read_scores, scorer_run
from jobs.workspace import make_folder, remove_folder
from leaderboards.models import Leaderboard
from leaderboards.scoring import BUILT_IN

LABELS, TABLE = "labels.csv", "predictions.csv"
# Beyond the scorer's own time limit: for making the sandbox and reading its end.
PATIENCE_SECONDS = 60.0


def what_would_fail(board: Leaderboard, scoring: Scoring) -> str:
    """Return why the leaderboard's jobs would end as `scorer_failed`; empty if the scorer does its part.

    A built-in scorer must measure what the leaderboard requires. An organizer's own gets an empty predictions folder, which
    it should refuse: of its format nothing is known.
    """
    folder = make_folder("scoring-trial")
    try:
        predictions = folder / "run" / "predictions"
        predictions.mkdir()
        if scoring.scorer in BUILT_IN:
            _WRITERS[scoring.scorer](scoring.labels, predictions)
        return _tried(board, scoring, folder, predictions)
    except ImageUnusable as error:
        return str(error)
    except (OSError, UnicodeDecodeError, KeyError, csv.Error) as error:
        return f"{scoring.labels / LABELS} cannot be read: {type(error).__name__}: {error}"
    finally:
        remove_folder(folder)


def _tried(board: Leaderboard, scoring: Scoring, folder: Path, predictions: Path) -> str:
    container = Images().use(settings.SCORING_IMAGE or board.image)
    spec = scorer_run(
        folder,
        "scoring-trial",
        board,
        scoring,
        predictions=predictions,
        executor=settings.EXECUTOR,
        container=container,
    )
    seconds = settings.SCORING_LIMITS["wall_seconds"] + PATIENCE_SECONDS
    with Supervisor.start() as supervisor:
        supervisor.run(spec)
        result = supervisor.wait(seconds) or Result("timeout", detail=f"no end within {seconds:.0f} s")
    try:
        read_scores(result, Path(spec.run_dir, "metrics.json"), board)
    except Rejected as refusal:
        return f"it refuses predictions made from its own labels: {refusal}" if scoring.scorer in BUILT_IN else ""
    except ScorerBroke as error:
        return str(error)
    return ""


def _rows(labels: Path) -> list[dict[str, str]]:
    with (labels / LABELS).open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def _write(folder: Path, heads: list[str], rows: list[list[object]]) -> None:
    with (folder / TABLE).open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([heads, *rows])


def _same_maps(labels: Path, folder: Path) -> None:
    grey = io.BytesIO()
    Image.new("L", (8, 8), 128).save(grey, "PNG")
    names = [row["image"] for row in _rows(labels)]
    _write(folder, ["image", "score"], [[name, 0.5] for name in names])
    for name in names:
        place = folder / "maps" / Path(name).with_suffix(".png")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(grey.getvalue())


def _same_class(labels: Path, folder: Path) -> None:
    rows = _rows(labels)
    _write(folder, ["id", "label", "score"], [[row["id"], rows[0]["label"], 0.5] for row in rows])


def _same_value(labels: Path, folder: Path) -> None:
    _write(folder, ["id", "value"], [[row["id"], 0] for row in _rows(labels)])


_WRITERS: dict[str, Callable[[Path, Path], None]] = {
    "anomaly_detection": _same_maps,
    "classification": _same_class,
    "regression": _same_value,
}
