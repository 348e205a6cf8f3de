"""Score versions: their first one, and the digests that workers announce."""

import json
from typing import Any

from django.conf import settings
from django.db import connection, transaction
from django.db.models import Max, Q

from leaderboards.models import Leaderboard, ScoreVersion
from leaderboards.scoring import BUILT_IN

_ANNOUNCED = """
SELECT inventory FROM jobs_worker
WHERE heartbeat_at > statement_timestamp() - make_interval(secs => %s) AND state IN ('starting', 'idle', 'running')
  AND disabled_at IS NULL
"""


def settle() -> None:
    """Give scored leaderboards without a score version their first one, and a current version without digests those that
    all live workers announce, where they agree. Anything else is for the leaderboard's organizer."""
    boards = Leaderboard.objects.exclude(scorer="").filter(
        Q(score_version=None)
        | Q(score_version__ground_truth_digest="")
        | Q(score_version__scorer_digest="", scorer__startswith="own/")
    )
    if not (found := list(boards.values_list("pk", flat=True))):
        return
    inventories = _announced()
    for board_id in found:
        _settle(board_id, inventories)


@transaction.atomic
def _settle(board_id: int, inventories: list[dict[str, Any]]) -> None:
    board = Leaderboard.objects.select_for_update().get(pk=board_id)
    if board.score_version is None:
        board.score_version = _make(board)
        board.save(update_fields=["score_version"])
    version = ScoreVersion.objects.select_for_update().get(leaderboard_id=board_id, pk=board.score_version.pk)
    if not version.ground_truth_digest:
        version.ground_truth_digest = _agreed(inventories, "ground_truths", version.ground_truth)
    if not version.scorer_digest and version.scorer not in BUILT_IN:
        version.scorer_digest = _agreed(inventories, "scorers", version.scorer)
    version.save(update_fields=["ground_truth_digest", "scorer_digest"])


def _make(board: Leaderboard) -> ScoreVersion:
    last = board.score_versions.aggregate(last=Max("number"))["last"] or 0
    limits = {metric.name: [metric.minimum, metric.maximum] for metric in board.metrics.all()}
    return ScoreVersion.objects.create(
        leaderboard=board,
        number=last + 1,
        scorer=board.scorer,
        scorer_version=BUILT_IN[board.scorer].version if board.scorer in BUILT_IN else None,
        ground_truth=board.ground_truth,
        parameters={"digits": settings.SCORING_DIGITS, "limits": limits},
    )


def _announced() -> list[dict[str, Any]]:
    with connection.cursor() as cursor:
        cursor.execute(_ANNOUNCED, [settings.LEASE_SECONDS])
        return [json.loads(row[0]) if isinstance(row[0], str) else row[0] for row in cursor.fetchall()]


def _agreed(inventories: list[dict[str, Any]], kind: str, name: str) -> str:
    """The digest of the name that all announce who have it; empty when they differ, or none has it."""
    digests = {inventory[kind][name] for inventory in inventories if name in inventory.get(kind, {})}
    return str(digests.pop()) if len(digests) == 1 else ""
