"""Publishing leaderboards: operators' actions that look at what workers have."""

from collections.abc import Sequence
from typing import Any

from django import forms
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from accounts.models import User
from accounts.operations import Action, ReasonForm, register
from accounts.services import record_action
from jobs.unrunnable import unmet_needs
from jobs.waiting import live_workers
from leaderboards import services
from leaderboards.admin import LeaderboardAdmin
from leaderboards.models import Leaderboard

# Leaderboards of one action whose needs are looked at.
BOARDS_SHOWN = 100

LeaderboardAdmin.notices.append(unmet_needs)


class PublishForm(ReasonForm):
    """Take a reason or none, and ask for consent when jobs of the leaderboards would wait."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["reason"].required = False
        if self.initial.get("unmet_needs"):
            self.fields["is_accepted"] = forms.BooleanField(label=_("Publish although jobs may wait"))

    def parameters(self) -> dict[str, Any]:
        return {}


def _needs_of(ids: Sequence[Any]) -> list[str]:
    boards = Leaderboard.objects.select_related("score_version").filter(pk__in=list(ids)[:BOARDS_SHOWN])
    workers = live_workers()
    return [f"{board}: {need}" for board in boards for need in unmet_needs(board, workers)]


@register
class PublishLeaderboard(Action):
    code = "publish_leaderboard"
    label = gettext_lazy("Publish")
    model = "leaderboards.leaderboard"
    permission = "leaderboards.change_leaderboard"
    form_class = PublishForm

    def suits(self, obj: Any) -> bool:
        return bool(obj.is_draft)

    def initial(self, ids: Sequence[Any]) -> dict[str, Any]:
        return {"unmet_needs": _needs_of(ids)}

    def effects(self, ids: Sequence[Any]) -> list[str]:
        shown = _("Its readers will see it, and it will accept submissions as soon as it is open.")
        return [*_needs_of(ids), shown]

    def apply(self, obj: Any, *, by: User, reason: str, parameters: dict[str, Any]) -> None:
        services.publish(obj)
        record_action(by, self.code, [obj], reason=reason)


@register
class UnpublishLeaderboard(Action):
    code = "unpublish_leaderboard"
    label = gettext_lazy("Make it a draft")
    model = "leaderboards.leaderboard"
    permission = "leaderboards.change_leaderboard"

    def suits(self, obj: Any) -> bool:
        return not obj.is_draft and not obj.submissions.exists()

    def effects(self, ids: Sequence[Any]) -> list[str]:
        return [_("Only operators see it, and it takes no submissions, until it is published again.")]

    def apply(self, obj: Any, *, by: User, reason: str, parameters: dict[str, Any]) -> None:
        services.unpublish(obj)
        record_action(by, self.code, [obj], reason=reason)
