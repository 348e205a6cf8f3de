"""Operators' actions on a board's score version: adopt what workers have, begin a new one, go back; and the panel that shows it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from django import forms
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from accounts.models import User
from accounts.operations import Action, ReasonForm, register
from accounts.refusals import Conflict, InvalidInput, RequestRefused
from accounts.services import record_action
from leaderboards.models import Leaderboard, ScoreVersion
from leaderboards.score_contents import WorkerDigests, announced, choose, has_scorer, is_settled
from leaderboards.scoring import BUILT_IN
from leaderboards.versioning import adopted, begin, change, preview

MOST_PREVIEWS = 5
MOST_VERSIONS = 20
SHORT = 12  # characters of a digest, for operators' eyes


@dataclass(frozen=True)
class WorkerState:
    """A live worker compared with the board's version: same, other, missing or open."""

    worker: WorkerDigests
    state: str
    label: Any


def panel(board: Leaderboard) -> dict[str, Any]:
    """Return what the board's page in the console shows of its score version."""
    current = board.score_version
    versions = board.score_versions.select_related("by").order_by("-number")
    return {
        "current": current,
        "workers": [_state(worker, current) for worker in announced(board.scorer, board.ground_truth)],
        "others": (versions.exclude(pk=current.pk) if current else versions)[:MOST_VERSIONS],
    }


def _state(worker: WorkerDigests, version: ScoreVersion | None) -> WorkerState:
    truth, scorer = worker.ground_truth_digest, worker.scorer_digest
    if version is None or not truth:
        return WorkerState(worker, "missing", gettext_lazy("missing: it has no such ground truth"))
    announced_scorer = worker.scorer_versions if version.scorer in BUILT_IN else scorer
    if not announced_scorer:
        return WorkerState(worker, "missing", gettext_lazy("missing: it has no such scorer"))
    if not is_settled(version):
        return WorkerState(worker, "open", gettext_lazy("workers differ: adopt one"))
    if truth != version.ground_truth_digest:
        return WorkerState(worker, "other", gettext_lazy("other: its ground truth differs"))
    if not has_scorer(version, announced_scorer):
        return WorkerState(worker, "other", gettext_lazy("other: its scorer differs"))
    return WorkerState(worker, "same", gettext_lazy("same"))


def _boards(ids: Sequence[Any]) -> list[Leaderboard]:
    return list(Leaderboard.objects.select_related("score_version").filter(pk__in=list(ids)[:MOST_PREVIEWS]))


def _told(board: Leaderboard, write: Any, title: str) -> list[str]:
    """Say what the write would do to the rows of the board, or why it is refused."""
    try:
        return [f"{title}: {sentence}" for sentence in preview(board, write).sentences()]
    except RequestRefused as refusal:
        return [f"{title}: {refusal.message}"]


# --- Adopt what the workers announce ---------------------------------------------------------------------------------
def _options(board: Leaderboard) -> dict[str, str]:
    """Return what live workers announce that the board's version does not have: a key for the form, and the workers' names."""
    found: dict[str, list[str]] = {}
    version = board.score_version
    for worker in announced(board.scorer, board.ground_truth):
        key = f"{worker.ground_truth_digest}:{worker.scorer_digest}"
        held = f"{version.ground_truth_digest}:{version.scorer_digest}" if version else ""
        if worker.ground_truth_digest and key != held:
            found.setdefault(key, []).append(worker.worker)
    return {key: ", ".join(names[:10]) for key, names in found.items()}


def _name(key: str) -> str:
    truth, _colon, scorer = key.partition(":")
    named = _("ground truth %(digest)s") % {"digest": truth[:SHORT]}
    return f"{named}, {_('scorer %(digest)s') % {'digest': scorer[:SHORT]}}" if scorer else named


def _adopt(board: Leaderboard, key: str, *, by: User | None, reason: str) -> ScoreVersion:
    truth, _colon, scorer = key.partition(":")
    contents = adopted(board, ground_truth_digest=truth, scorer_digest=scorer)
    return begin(board, contents, by=by, reason=reason)


class AdoptForm(ReasonForm):
    digests = forms.ChoiceField(label=gettext_lazy("What to adopt"), widget=forms.RadioSelect, required=False)
    field_order = ["digests", "reason"]

    def __init__(self, *args: Any, **fields: Any) -> None:
        super().__init__(*args, **fields)
        field = self.fields["digests"]
        assert isinstance(field, forms.ChoiceField)
        field.choices = [(key, f"{_name(key)} ({names})") for key, names in self.initial.get("options", {}).items()]
        if len(field.choices) == 1:
            field.initial = field.choices[0][0]

    def clean_digests(self) -> str:
        chosen = str(self.cleaned_data["digests"] or self.fields["digests"].initial or "")
        if not chosen:
            raise forms.ValidationError(_("Workers announce different things: choose one."))
        return chosen


@register
class AdoptDigests(Action):
    code = "adopt_digests"
    label = gettext_lazy("Adopt what the workers have")
    model = "leaderboards.leaderboard"
    permission = "leaderboards.change_leaderboard"
    form_class = AdoptForm

    def suits(self, obj: Any) -> bool:
        return bool(obj.scorer and _options(obj))

    def initial(self, ids: Sequence[Any]) -> dict[str, Any]:
        options: dict[str, str] = {}
        for board in _boards(ids):
            options |= _options(board)
        return {"options": options}

    def effects(self, ids: Sequence[Any]) -> list[str]:
        found = [
            _("Only scores that are made with it rank from then on. Going back makes the earlier ones rank again.")
        ]
        for board in _boards(ids):
            for key in list(_options(board))[:MOST_PREVIEWS]:
                found += _told(board, lambda b=board, k=key: _adopt(b, k, by=None, reason=""), _name(key))
        return found

    def apply(self, obj: Any, *, by: User, reason: str, parameters: dict[str, Any]) -> None:
        key = str(parameters.get("digests", ""))
        if key not in _options(obj):
            raise Conflict("not_announced", gettext_lazy("No worker announces this any more."))
        _change(obj, lambda: _adopt(obj, key, by=by, reason=reason), self.code, by=by, reason=reason)


@register
class BeginScoreVersion(Action):
    code = "begin_score_version"
    label = gettext_lazy("Begin a new score version")
    model = "leaderboards.leaderboard"
    permission = "leaderboards.change_leaderboard"

    def suits(self, obj: Any) -> bool:
        return bool(obj.scorer)

    def effects(self, ids: Sequence[Any]) -> list[str]:
        found = [_("It takes the latest version of the scorer, what all workers agree on, and SCORING_DIGITS.")]
        for board in _boards(ids):
            found += _told(board, lambda b=board: begin(b, by=None, reason=""), str(board))
        return found

    def apply(self, obj: Any, *, by: User, reason: str, parameters: dict[str, Any]) -> None:
        _change(obj, lambda: begin(obj, by=by, reason=reason), self.code, by=by, reason=reason)


@register
class UseScoreVersion(Action):
    code = "use_score_version"
    label = gettext_lazy("Make it the current version")
    model = "leaderboards.scoreversion"
    permission = "leaderboards.change_leaderboard"

    def suits(self, obj: Any) -> bool:
        return not Leaderboard.objects.filter(score_version=obj).exists()

    def effects(self, ids: Sequence[Any]) -> list[str]:
        found = [_("The leaderboard takes the scorer, the ground truth and the limits of this version.")]
        for version in ScoreVersion.objects.select_related("leaderboard").filter(pk__in=list(ids)[:MOST_PREVIEWS]):
            board = version.leaderboard
            title = _("Version %(number)d") % {"number": version.number}
            found += _told(board, lambda b=board, v=version: choose(b, v, by=None, reason=""), title)
        return found

    def apply(self, obj: Any, *, by: User, reason: str, parameters: dict[str, Any]) -> None:
        board = obj.leaderboard
        if obj.scorer in BUILT_IN and obj.scorer_version not in BUILT_IN[obj.scorer].versions:
            raise InvalidInput(
                "scorer_version_gone",
                gettext_lazy("This release has no version %(version)d of %(scorer)s any more."),
                version=obj.scorer_version,
                scorer=obj.scorer,
            )
        _change(board, lambda: choose(board, obj, by=by, reason=reason), self.code, by=by, reason=reason)


def _change(board: Leaderboard, write: Any, code: str, *, by: User, reason: str) -> None:
    before = board.score_version.number if board.score_version else None
    count = change(board, write, by=by, reason=reason)
    board.refresh_from_db()
    after = board.score_version.number if board.score_version else None
    record_action(by, code, [board], reason=reason, details={"from": before, "to": after, "entries": count})
