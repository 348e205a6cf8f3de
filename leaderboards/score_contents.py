"""Contents of score versions, and the version that a leaderboard's fields ask for: the present one, an earlier one, or the next.

Only the digests come from elsewhere: live workers announce those of the folders that they have (`Worker.inventory`).
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from django.apps import apps
from django.conf import settings
from django.db import transaction
from django.db.models import Max
from django.db.models.functions import Now

from accounts.models import User
from leaderboards.models import Leaderboard, Metric, ScoreVersion
from leaderboards.scoring import BUILT_IN

Limits = dict[str, list[float | None]]


@dataclass(frozen=True)
class Contents:
    """The contents that decide which scores can be compared. An empty digest is one that is not known."""

    scorer: str
    scorer_version: int | None
    scorer_digest: str
    ground_truth: str
    ground_truth_digest: str
    digits: int
    limits: Limits

    def matches(self, version: ScoreVersion) -> bool:
        """Return whether the version has these contents. A digest that is not known matches any; so does the limit of a
        metric that the version has never had."""
        return (
            (self.scorer, self.scorer_version) == (version.scorer, version.scorer_version)
            and self.ground_truth == version.ground_truth
            and self.scorer_digest in ("", version.scorer_digest)
            and self.ground_truth_digest in ("", version.ground_truth_digest)
            and self.digits == version.digits
            and all(version.limits.get(name, pair) == pair for name, pair in self.limits.items())
        )


@dataclass(frozen=True)
class WorkerDigests:
    """The announcement of one live worker about a leaderboard's scorer and ground truth; empty where it has no such folder."""

    worker: str
    hostname: str
    scorer_digest: str
    scorer_versions: tuple[int, ...]
    ground_truth_digest: str


def is_settled(version: ScoreVersion | Contents) -> bool:
    """Return whether it says by content what its scorer and ground truth are."""
    has_scorer = version.scorer_version is not None if version.scorer in BUILT_IN else bool(version.scorer_digest)
    return has_scorer and bool(version.ground_truth_digest)


def has_scorer(version: ScoreVersion, announced: Any) -> bool:
    """Return whether a worker has the version's scorer: it announces versions of a built-in one, the digest of another."""
    return version.scorer_version in announced if version.scorer in BUILT_IN else announced == version.scorer_digest


def contents_of(version: ScoreVersion) -> Contents:
    return Contents(
        version.scorer,
        version.scorer_version,
        version.scorer_digest,
        version.ground_truth,
        version.ground_truth_digest,
        version.digits,
        version.limits,
    )


def limits_of(board: Leaderboard) -> Limits:
    rows = Metric.objects.filter(leaderboard=board).values_list("name", "minimum", "maximum")
    return {name: [minimum, maximum] for name, minimum, maximum in rows}


def announced(scorer: str, ground_truth: str) -> list[WorkerDigests]:
    """Return what each live worker that has announced anything has of the scorer and the ground truth."""
    # The model is a later app's: only its name is known here, as in SQL.
    workers = apps.get_model("jobs.Worker").objects.live().exclude(inventory={}).order_by("name")
    return [
        _digests(name, hostname, inventory, scorer, ground_truth)
        for name, hostname, inventory in workers.values_list("name", "hostname", "inventory")
    ]


def _digests(name: str, hostname: str, inventory: Any, scorer: str, ground_truth: str) -> WorkerDigests:
    truths, scorers = (inventory.get(kind) or {} for kind in ("ground_truths", "scorers"))
    of_scorer = scorers.get(scorer)
    return WorkerDigests(
        name,
        hostname,
        of_scorer if isinstance(of_scorer, str) else "",
        tuple(of_scorer) if isinstance(of_scorer, list) else (),
        str(truths.get(ground_truth) or ""),
    )


def agreed(digests: Iterable[str]) -> str:
    """Return the digest that all who have one announce; empty when they differ, or none has one."""
    different = {digest for digest in digests if digest}
    return different.pop() if len(different) == 1 else ""


def fresh_contents(board: Leaderboard) -> Contents:
    """Return what a new version of the board would hold now: the latest scorer, and what the workers agree on."""
    workers = announced(board.scorer, board.ground_truth)
    return Contents(
        scorer=board.scorer,
        scorer_version=BUILT_IN[board.scorer].versions[-1] if board.scorer in BUILT_IN else None,
        scorer_digest=agreed(worker.scorer_digest for worker in workers),
        ground_truth=board.ground_truth,
        ground_truth_digest=agreed(worker.ground_truth_digest for worker in workers),
        digits=settings.SCORING_DIGITS,
        limits=limits_of(board),
    )


def _wanted(board: Leaderboard, current: ScoreVersion | None) -> Contents:
    """Return what the board's fields ask for. Parts that they do not change stay as the current version has them."""
    wanted = fresh_contents(board)
    latest = current or board.score_versions.order_by("-number").first()
    if latest is not None:
        wanted = replace(wanted, digits=latest.digits)
    if current is None:
        return wanted
    if current.scorer == board.scorer:
        known = current.scorer_digest or wanted.scorer_digest
        wanted = replace(wanted, scorer_version=current.scorer_version, scorer_digest=known)
    if current.ground_truth == board.ground_truth and current.ground_truth_digest:
        wanted = replace(wanted, ground_truth_digest=current.ground_truth_digest)
    return wanted


@transaction.atomic
def fit(board: Leaderboard, *, by: User | None = None, reason: str = "") -> ScoreVersion | None:
    """Give the board the score version that its saved fields ask for; None where runs report their own metrics.

    The caller computes the entries again when the version is another one.
    """
    # Not its key: entries refer to it, and need not wait.
    locked = Leaderboard.objects.select_for_update(no_key=True, of=("self",)).select_related("score_version")
    row = locked.get(pk=board.pk)
    current = row.score_version
    version = None
    if row.scorer:
        wanted = _wanted(row, current)
        if current is None or not _fill(current, wanted):
            version = find_or_make(row, wanted, by=by, reason=reason)
        else:
            version = current
        _join(version, wanted.limits)
    if version != current:
        _set_current(row, version, by=by, reason=reason)
    board.score_version = version
    return version


def find_or_make(
    board: Leaderboard, contents: Contents, *, by: User | None = None, reason: str = "", is_anew: bool = False
) -> ScoreVersion:
    """Return the board's latest version with these contents, or make the next one. Call it while the board's row is locked.

    `is_anew`: what is not known of the contents counts as different, so only a known version is found.
    """
    if is_settled(contents) or not is_anew:
        for version in board.score_versions.order_by("-number"):
            if contents.matches(version):
                return version
    number = (board.score_versions.aggregate(Max("number"))["number__max"] or 0) + 1
    made = ScoreVersion.objects.create(
        leaderboard=board,
        number=number,
        scorer=contents.scorer,
        scorer_version=contents.scorer_version,
        scorer_digest=contents.scorer_digest,
        ground_truth=contents.ground_truth,
        ground_truth_digest=contents.ground_truth_digest,
        parameters={"digits": contents.digits, "limits": contents.limits},
        reason=reason,
        by=by,
    )
    made.refresh_from_db()
    return made


@transaction.atomic
def choose(board: Leaderboard, version: ScoreVersion, *, by: User | None, reason: str) -> None:
    """Make the version current, with the scorer, the ground truth and the limits that it holds.

    The caller computes the entries again.
    """
    row = Leaderboard.objects.select_for_update(no_key=True).get(pk=board.pk)
    row.scorer, row.ground_truth = version.scorer, version.ground_truth
    row.save(update_fields=["scorer", "ground_truth"])
    for name, (minimum, maximum) in version.limits.items():
        row.metrics.filter(name=name).update(minimum=minimum, maximum=maximum)
    _join(version, limits_of(row))
    _set_current(row, version, by=by, reason=reason)
    board.scorer, board.ground_truth, board.score_version = version.scorer, version.ground_truth, version


def _set_current(board: Leaderboard, version: ScoreVersion | None, *, by: User | None, reason: str) -> None:
    Leaderboard.objects.filter(pk=board.pk).update(score_version=version)
    if version is not None:
        ScoreVersion.objects.filter(pk=version.pk).update(chosen_at=Now(), by=by, reason=reason)


def _fill(version: ScoreVersion, wanted: Contents) -> bool:
    """Return whether the version has these contents; digests that it lacks become those that the workers agree on."""
    scorer = "" if not version.scorer_digest else wanted.scorer_digest
    truth = "" if not version.ground_truth_digest else wanted.ground_truth_digest
    if not replace(wanted, scorer_digest=scorer, ground_truth_digest=truth).matches(version):
        return False
    if (scorer, truth) != (wanted.scorer_digest, wanted.ground_truth_digest):
        version.scorer_digest = version.scorer_digest or wanted.scorer_digest
        version.ground_truth_digest = version.ground_truth_digest or wanted.ground_truth_digest
        version.save(update_fields=["scorer_digest", "ground_truth_digest"])
    return True


def _join(version: ScoreVersion, limits: Limits) -> None:
    """A metric that the version has never had brings its limits along."""
    new = {name: pair for name, pair in limits.items() if name not in version.limits}
    if new:
        version.parameters = {"digits": version.digits, "limits": version.limits | new}
        version.save(update_fields=["parameters"])
