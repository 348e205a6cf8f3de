"""The needs of leaderboards, and which of them a worker lacks.

`missing` is the one rule: workers claim by it, and jobs, the console, /metrics and the doctor say by it why a job waits.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from django.db.models import QuerySet
from django.utils.translation import gettext_lazy as _

from leaderboards.models import Leaderboard, ScoreVersion
from leaderboards.score_contents import has_scorer, is_settled

DATASET, IMAGE, GROUND_TRUTH, SCORER = "dataset", "image", "ground_truth", "scorer"
OTHER_GROUND_TRUTH, OTHER_SCORER, UNSETTLED = "other_ground_truth", "other_scorer", "unsettled"

# For participants: no digest, no host, no path.
REASONS = {
    DATASET: _("No worker has the data set that this leaderboard needs just now. The operators see it."),
    IMAGE: _("No worker has the container image that this leaderboard needs just now. The operators see it."),
    GROUND_TRUTH: _("No worker has the hidden labels that this leaderboard needs just now. The operators see it."),
    SCORER: _("No worker has the scorer that this leaderboard needs just now. The operators see it."),
    OTHER_GROUND_TRUTH: _(
        "The labels on the workers differ from the leaderboard's score version. The operators see it."
    ),
    OTHER_SCORER: _("The scorer on the workers differs from the leaderboard's score version. The operators see it."),
    UNSETTLED: _("The leaderboard's score version is not settled yet. The operators see it."),
}


def boards_with_needs() -> QuerySet[Leaderboard]:
    """Return every leaderboard with what `missing` reads of it and of its score version."""
    version = ("number", "scorer", "scorer_version", "scorer_digest", "ground_truth", "ground_truth_digest")
    return Leaderboard.objects.select_related("score_version").only(
        "slug",
        "title",
        "dataset",
        "image",
        "scorer",
        "ground_truth",
        *(f"score_version__{name}" for name in version),
    )


def missing(board: Leaderboard, inventory: Mapping[str, Any]) -> list[str]:
    """Return what a worker with the inventory lacks to run and score the leaderboard's jobs; empty when it lacks nothing."""
    lacks = []
    if board.dataset and board.dataset not in inventory.get("datasets", ()):
        lacks.append(DATASET)
    if board.image and board.image not in inventory.get("images", ()):
        lacks.append(IMAGE)
    if board.is_scored:
        lacks += _missing_for_scoring(board, inventory.get("ground_truths", {}), inventory.get("scorers", {}))
    return lacks


def _missing_for_scoring(board: Leaderboard, ground_truths: Mapping[str, str], scorers: Mapping[str, Any]) -> list[str]:
    lacks = []
    if board.scorer not in scorers:
        lacks.append(SCORER)
    if board.ground_truth not in ground_truths:
        lacks.append(GROUND_TRUTH)
    version = board.score_version
    if lacks or version is None or not is_ready(board, version):
        return lacks or [UNSETTLED]
    if ground_truths[board.ground_truth] != version.ground_truth_digest:
        lacks.append(OTHER_GROUND_TRUTH)
    if not has_scorer(version, scorers[board.scorer]):
        lacks.append(OTHER_SCORER)
    return lacks


def is_ready(board: Leaderboard, version: ScoreVersion) -> bool:
    """Return whether the version says by content what the leaderboard's present scorer and labels are."""
    is_of_board = (version.scorer, version.ground_truth) == (board.scorer, board.ground_truth)
    return is_of_board and is_settled(version)


def runnable(boards: Iterable[Leaderboard], inventory: Mapping[str, Any]) -> dict[int, int]:
    """Return the leaderboards whose jobs a worker with the inventory can run, each with its score version's id (0 for none)."""
    return {board.pk: board.score_version_id or 0 for board in boards if not missing(board, inventory)}


def in_words(lack: str, board: Leaderboard) -> str:
    """Name what is missing, for operators."""
    words = {
        DATASET: _("the data set %(dataset)s"),
        IMAGE: _("the image %(image)s"),
        GROUND_TRUTH: _("the ground truth %(ground_truth)s"),
        SCORER: _("the scorer %(scorer)s"),
        OTHER_GROUND_TRUTH: _("the score version's labels: its copy of %(ground_truth)s differs"),
        OTHER_SCORER: _("the score version's scorer: its %(scorer)s differs"),
        UNSETTLED: _("a settled score version: workers differ, or have not announced digests yet"),
    }
    values = {name: getattr(board, name) for name in ("dataset", "image", "ground_truth", "scorer")}
    return str(words[lack]) % values
