"""Score versions of boards: brought in line with the boards' fields, changed by organizers, previewed before a change.

A board ranks only scores of its current version. Everything that changes what ranks, or how, runs through `RankingChange`:
it gives the board its version, computes the entries again, or counts beforehand what would become of them.
"""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

from django.db import OperationalError, connection, transaction
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from accounts.models import User
from accounts.refusals import Conflict
from leaderboards.models import Leaderboard, Metric, ScoreVersion
from leaderboards.score_contents import Contents, choose, contents_of, find_or_make, fit, fresh_contents
from leaderboards.services import best_jobs, rebuild_entries

PREVIEW_MILLISECONDS = 10_000

# Boards whose version does not fit: none, one too many, another scorer or ground truth, limits that changed or joined, or a
# digest that workers may have announced by now.
_UNSETTLED = """
SELECT board.id FROM leaderboards_leaderboard board
LEFT JOIN leaderboards_scoreversion version ON version.id = board.score_version_id
WHERE (board.scorer = '') <> (version.id IS NULL)
   OR (board.scorer, board.ground_truth) <> (version.scorer, version.ground_truth)
   OR version.ground_truth_digest = '' OR (version.scorer_digest = '' AND version.scorer LIKE 'own/%')
   OR (board.scorer <> '' AND EXISTS (
        SELECT FROM leaderboards_metric metric WHERE metric.leaderboard_id = board.id
        AND version.parameters -> 'limits' -> metric.name
            IS DISTINCT FROM jsonb_build_array(metric.minimum, metric.maximum)))
ORDER BY board.id
"""

# The rows of a board now and as they would be: how many there are, stay, and stand in another place among those that stay.
_COMPARE = """
WITH new AS ({best}),
old AS (SELECT user_id, score, submitted_at FROM leaderboards_entry WHERE leaderboard_id = %(board)s),
compared AS (
    SELECT row_number() OVER (ORDER BY old.score {was}, old.submitted_at, old.user_id) AS before,
           row_number() OVER (ORDER BY new.score {order}, new.submitted_at, old.user_id) AS after
    FROM old JOIN new ON new.user_id = old.user_id
)
SELECT (SELECT count(*) FROM old), (SELECT count(*) FROM new), count(*), count(*) FILTER (WHERE before <> after) FROM compared
"""


@dataclass(frozen=True)
class Rule:
    """The facts that decide which jobs count on a board, and how they rank."""

    metric: str = ""
    direction: str = ""
    required: frozenset[str] = frozenset()
    scorer: str = ""
    ground_truth: str = ""
    version_id: int | None = None
    version: int | None = None

    @property
    def order(self) -> str:
        return "DESC" if self.direction == Metric.Direction.HIGHER else "ASC"


@dataclass(frozen=True)
class Preview:
    """The effect of a change on the rows of a board. `is_counted` is false where counting took too long."""

    before: Rule
    after: Rule
    rows: int = 0
    stay: int = 0
    moved: int = 0
    joined: int = 0
    is_counted: bool = True

    @property
    def dropped(self) -> int:
        return self.rows - self.stay

    @property
    def is_needed(self) -> bool:
        """The change must be looked at first: rows would leave, or their order would change."""
        if not self.is_counted:
            return self.before != self.after
        is_reordered = (self.before.metric, self.before.direction) != (self.after.metric, self.after.direction)
        return bool(self.dropped or self.moved or (self.rows and is_reordered))

    @property
    def key(self) -> str:
        """The change that was looked at, in text, so that a confirmation holds for this change alone."""
        after = self.after
        required = ",".join(sorted(after.required))
        return "|".join([after.metric, after.direction, required, after.scorer, after.ground_truth, str(after.version)])

    def sentences(self) -> list[str]:
        if not self.is_counted:
            return [_("The board has too many runs to count beforehand what would change."), *self.reasons()]
        why = "; ".join(self.reasons())
        shown = {"rows": self.rows, "dropped": self.dropped, "moved": self.moved, "joined": self.joined, "why": why}
        found = []
        if self.dropped:
            found.append(_("%(dropped)d of %(rows)d rows would leave the board, because %(why)s.") % shown)
        if self.moved:
            found.append(
                _("%(moved)d of %(rows)d rows would change places.") % shown
                if self.dropped
                else _("%(moved)d of %(rows)d rows would change places, because %(why)s.") % shown
            )
        if self.joined:
            found.append(ngettext("%(joined)d row would join.", "%(joined)d rows would join.", self.joined) % shown)
        if not found:
            found.append(_("All %(rows)d rows would stay in their places, though %(why)s.") % shown)
        return found

    def reasons(self) -> list[str]:
        """Why the ranking would change, each a clause."""
        old, new = self.before, self.after
        found = []
        if old.metric != new.metric and not new.metric:
            found.append(_("no metric would rank"))
        elif old.metric != new.metric:
            found.append(_("%(new)s would rank instead of %(old)s") % {"new": new.metric, "old": old.metric or "-"})
        if old.direction != new.direction and new.metric and old.metric:
            found.append(
                _("a higher %(metric)s would be better") % {"metric": new.metric}
                if new.direction == Metric.Direction.HIGHER
                else _("a lower %(metric)s would be better") % {"metric": new.metric}
            )
        if added := sorted(new.required - old.required):
            found.append(_("runs without %(metrics)s would not rank") % {"metrics": ", ".join(added)})
        if removed := sorted(old.required - new.required):
            found.append(_("%(metrics)s would no longer be required") % {"metrics": ", ".join(removed)})
        if old.version_id != new.version_id:
            found.append(_version_clause(old, new))
        return found


def _version_clause(old: Rule, new: Rule) -> str:
    if new.version is None:
        return _("runs would report their own metrics, and scores of the platform would not rank")
    if old.version is None:
        return _("the platform would score runs, and metrics that runs report would not rank")
    return _("only scores of version %(new)d would rank, not those of version %(old)d") % {
        "new": new.version, "old": old.version,
    }  # fmt: skip


def rule_of(board: Leaderboard) -> Rule:
    """Return what decides now, as the database has it."""
    fields = ("scorer", "ground_truth", "score_version_id", "score_version__number")
    scorer, ground_truth, version_id, number = Leaderboard.objects.values_list(*fields).get(pk=board.pk)
    metrics = list(Metric.objects.filter(leaderboard=board).order_by("position", "id"))
    required = frozenset(metric.name for metric in metrics if metric.is_required)
    name, direction = (metrics[0].name, metrics[0].direction) if metrics else ("", "")
    return Rule(name, direction, required, scorer, ground_truth, version_id, number)


@dataclass
class RankingChange:
    """One change of a board's fields or metrics: made before they are written, asked afterwards, in one transaction."""

    board: Leaderboard
    before: Rule = field(init=False)

    def __post_init__(self) -> None:
        # Of two changes at once the second compares with what the first left. Not the key: entries need not wait.
        list(
            Leaderboard.objects.select_for_update(no_key=True, of=("self",)).filter(pk=self.board.pk).values_list("pk")
        )
        self.before = rule_of(self.board)

    def preview(self) -> Preview:
        """Count what the written change does to the rows. The caller takes its transaction back."""
        fit(self.board)
        after = rule_of(self.board)
        if after == self.before:
            return Preview(self.before, after)
        statement = _COMPARE.format(best=best_jobs(after.order), was=self.before.order, order=after.order)
        try:
            with transaction.atomic(), connection.cursor() as cursor:
                cursor.execute("SELECT set_config('statement_timeout', %s, true)", [str(PREVIEW_MILLISECONDS)])
                cursor.execute(statement, {"board": self.board.pk, "user": None})
                rows, would_be, stay, moved = cursor.fetchone()
                cursor.execute("SET LOCAL statement_timeout TO DEFAULT")
        except OperationalError:
            return Preview(self.before, after, is_counted=False)
        return Preview(self.before, after, rows=rows, stay=stay, moved=moved, joined=would_be - stay)

    def finish(self, *, by: User | None = None, reason: str = "") -> int | None:
        """Give the board its version and compute its entries again: how many there are, None when nothing changed."""
        fit(self.board, by=by, reason=reason)
        return rebuild_entries(self.board) if rule_of(self.board) != self.before else None


class _Undo(Exception):
    """Takes back what was written for a preview."""


def preview(board: Leaderboard, write: Callable[[], Any]) -> Preview:
    """Count what `write` would do to the rows of the board. Nothing of it stays."""
    found: list[Preview] = []
    with suppress(_Undo), transaction.atomic():
        change = RankingChange(board)
        write()
        found.append(change.preview())
        raise _Undo
    board.refresh_from_db()
    return found[0]


@transaction.atomic
def change(board: Leaderboard, write: Callable[[], Any], *, by: User | None, reason: str = "") -> int | None:
    """Write, give the board its version, and rank anew if that changed: how many entries there are, None if it did not."""
    made = RankingChange(board)
    write()
    return made.finish(by=by, reason=reason)


def settle() -> int:
    """Give every board the score version that it needs, and versions the digests that workers agree on; how many changed.

    Idempotent: one query when nothing is to do.
    """
    with connection.cursor() as cursor:
        cursor.execute(_UNSETTLED)
        found = [row[0] for row in cursor.fetchall()]
    return sum(_settle(pk) for pk in found)


@transaction.atomic
def _settle(board_id: int) -> bool:
    board = Leaderboard.objects.select_related("score_version").filter(pk=board_id).first()
    if board is None:
        return False
    before = contents_of(board.score_version) if board.score_version else None
    RankingChange(board).finish()
    after = contents_of(board.score_version) if board.score_version else None
    return before != after


# --- What organizers choose ------------------------------------------------------------------------------------------
def adopted(board: Leaderboard, *, scorer_digest: str = "", ground_truth_digest: str = "") -> Contents:
    """Return the current contents with other digests; those that are not given stay."""
    current = _current(board)
    contents = contents_of(current)
    return replace(
        contents,
        scorer_digest=scorer_digest or contents.scorer_digest,
        ground_truth_digest=ground_truth_digest or contents.ground_truth_digest,
    )


def begin(board: Leaderboard, contents: Contents | None = None, *, by: User | None, reason: str) -> ScoreVersion:
    """Make the version with these contents current, found or made; the latest ones if none are given."""
    current = _current(board)
    version = find_or_make(board, contents or fresh_contents(board), by=by, reason=reason, is_anew=contents is None)
    if version.pk == current.pk:
        sentence = gettext_lazy("Nothing would change: the current version %(number)d has the same contents.")
        raise Conflict("same_score_version", sentence, number=version.number)
    choose(board, version, by=by, reason=reason)
    return version


def _current(board: Leaderboard) -> ScoreVersion:
    """The board's version, with its row locked; Conflict where runs report their own metrics."""
    locked = Leaderboard.objects.select_for_update(no_key=True, of=("self",)).select_related("score_version")
    with transaction.atomic():
        row = locked.get(pk=board.pk)
        current = row.score_version or fit(row)
    if current is None:
        raise Conflict("not_scored", gettext_lazy("Runs report their own metrics here; there is no score version."))
    return current
