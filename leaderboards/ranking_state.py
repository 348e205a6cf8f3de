"""Reasons in words why a completed job counts on its board or not: the rule of history.COUNTS, for people.

leaderboards/tests/test_ranking_state.py compares both over every combination of what they look at.
"""

from dataclasses import dataclass
from typing import Any, Protocol
from uuid import UUID

from django.contrib.auth.models import AbstractUser, AnonymousUser
from django.utils.translation import gettext as _

from leaderboards.models import Leaderboard
from leaderboards.queries import Ranking
from leaderboards.score_versions import ScoreVersion
from leaderboards.selection import Selection

SHOWN_OF_ID = 8
Viewer = AbstractUser | AnonymousUser | None


class RankedJob(Protocol):
    """The part of a completed job that decides."""

    @property
    def pk(self) -> UUID: ...
    @property
    def user_id(self) -> int: ...
    @property
    def submission(self) -> Any: ...
    @property
    def leaderboard(self) -> Leaderboard: ...
    @property
    def trial(self) -> bool: ...
    @property
    def withdrawn_at(self) -> Any: ...
    @property
    def metrics(self) -> dict[str, float]: ...
    @property
    def scorer(self) -> str: ...
    @property
    def ground_truth(self) -> str: ...
    @property
    def score_version(self) -> ScoreVersion | None: ...


@dataclass(frozen=True)
class RankingState:
    """A job's place on its board, or that it does not count, with one sentence that says why.

    A job that counts stands on the board only if it is its owner's best: `entry_job_id` is the one that stands.
    """

    code: str
    reason: str
    counts: bool = False
    rank: int | None = None
    entry_job_id: UUID | None = None

    @property
    def is_on_board(self) -> bool:
        return self.code in ("entry", "baseline")


def ranking_state(job: RankedJob, viewer: Viewer) -> RankingState:
    """Return where the completed job stands; its rank only to a viewer who can see the board (None: the command line).

    A handful of queries, however many jobs there are.
    """
    if job.submission.deleted_at is not None:
        return RankingState("deleted", _("Not on the board: its owner deleted it."))
    refusal = kept_off(job) or _scoring(job) or _metrics(job)
    return RankingState(*refusal) if refusal else _place(job, viewer)


def kept_off(job: RankedJob) -> tuple[str, str] | None:
    """Return why the operators, the owner or the request keep the job off the board."""
    void = getattr(job, "disqualification", None)
    if void is not None:
        return "disqualified", _("Not on the board: disqualified by the operators. %(reason)s") % {
            "reason": void.reason
        }
    if job.withdrawn_at is not None:
        return "withdrawn", _("Not on the board: withdrawn by its owner.")
    if job.trial:
        return "trial", _("Not on the board: this is a trial run. To rank, run it again without the trial option.")
    return None


def _scoring(job: RankedJob) -> tuple[str, str] | None:
    """Return why its numbers cannot be compared with those of the board. Sentences name no ground truth."""
    board, version = job.leaderboard, job.score_version
    if job.scorer != board.scorer:
        if not job.scorer:
            return "other_scorer", _("Not on the board: it reported its own metrics; the board now has a scorer.")
        return "other_scorer", _("Not on the board: the board had another scorer when this run was scored.")
    if job.ground_truth != board.ground_truth:
        return "other_labels", _("Not on the board: the board had other labels when this run was scored.")
    if version == board.score_version:
        return None
    numbers = {
        "old": version.number if version else "–",
        "new": board.score_version.number if board.score_version else "–",
    }
    return "other_score_version", (
        _("Not on the board: scored with score version %(old)s; the board ranks version %(new)s.") % numbers
    )


def _metrics(job: RankedJob) -> tuple[str, str] | None:
    """Return which metric is missing."""
    ranking = job.leaderboard.ranking_metric
    if ranking is None:
        return "no_metric", _("Not on the board: the board has no metric to rank by.")
    if job.metrics.get(ranking.name) is None:
        sentence = _("Not on the board: the board ranks by %(metric)s, which this run does not have.")
        return "missing_ranking_metric", sentence % {"metric": ranking}
    if missing := job.leaderboard.lacking_metrics(job.metrics):
        sentence = _("Not on the board: it lacks the required metric %(metric)s.")
        return "missing_required_metric", sentence % {"metric": missing[0]}
    return None


def _place(job: RankedJob, viewer: Viewer) -> RankingState:
    """Return where a job that counts stands: itself, or behind another of the same person."""
    board = job.leaderboard
    ranking = Ranking(Selection(board, board.ranking_metric))
    row = next(iter(ranking.fetch(ranking.everybody().filter(user_id=job.user_id))), None)
    if row is None:
        return RankingState(
            "missing_entry", _("Not on the board: its entry is missing. Operators can rebuild it."), True
        )
    if row.job_id != job.pk:
        is_equal = board.ranking_metric is not None and row.score == job.metrics[board.ranking_metric.name]
        sentence = (
            _("Not on the board: run %(job)s has the same score and came first.")
            if is_equal
            else _("Not on the board: run %(job)s is better.")
        )
        reason = sentence % {"job": str(row.job_id)[:SHOWN_OF_ID]}
        return RankingState("better_run", reason, True, entry_job_id=row.job_id)
    if row.is_baseline:
        return RankingState("baseline", _("On the board as a baseline, without a rank."), True, entry_job_id=job.pk)
    if viewer is not None and not Leaderboard.objects.visible_to(viewer).filter(pk=board.pk).exists():
        return RankingState("entry", _("On the board."), True, entry_job_id=job.pk)
    ranking.rank_each([row])
    return RankingState("entry", _("On the board, rank %(rank)d.") % {"rank": row.rank}, True, row.rank, job.pk)
