"""What operators do to leaderboards."""

from collections.abc import Sequence
from typing import Any

from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from accounts.models import User
from accounts.operations import NAMES, Action, register
from accounts.services import record_action
from leaderboards import services
from leaderboards.models import Baseline, Entry, Pause

NAMES.update({
    "create_leaderboard": gettext_lazy("Make a leaderboard"),
    "import_leaderboard": gettext_lazy("Take a leaderboard in from a file"),
    "pause_queue": gettext_lazy("Pause the whole queue"),
    "resume_queue": gettext_lazy("Let the queue run again"),
})  # fmt: skip


@register
class PauseLeaderboard(Action):
    code = "pause_leaderboard"
    label = gettext_lazy("Pause")
    model = "leaderboards.leaderboard"
    permission = "leaderboards.change_leaderboard"

    def suits(self, obj: Any) -> bool:
        return not Pause.objects.filter(leaderboard=obj).exists()

    def effects(self, ids: Sequence[Any]) -> list[str]:
        return [
            _("New submissions and jobs are refused, waiting jobs wait, running ones end as they would."),
            _("The reason is shown on the leaderboard's page and to those who are refused."),
        ]

    def apply(self, obj: Any, *, by: User, reason: str, parameters: dict[str, Any]) -> None:
        services.pause(obj, reason=reason, by=by)
        record_action(by, self.code, [obj], reason=reason)


@register
class ResumeLeaderboard(Action):
    code = "resume_leaderboard"
    label = gettext_lazy("Resume")
    model = "leaderboards.leaderboard"
    permission = "leaderboards.change_leaderboard"

    def suits(self, obj: Any) -> bool:
        return Pause.objects.filter(leaderboard=obj).exists()

    def effects(self, ids: Sequence[Any]) -> list[str]:
        return [_("Submissions are taken again, and waiting jobs start within seconds.")]

    def apply(self, obj: Any, *, by: User, reason: str, parameters: dict[str, Any]) -> None:
        services.resume(obj)
        record_action(by, self.code, [obj], reason=reason)


@register
class RebuildEntries(Action):
    code = "rebuild_entries"
    label = gettext_lazy("Rebuild entries from the completed jobs")
    model = "leaderboards.leaderboard"
    permission = "leaderboards.change_leaderboard"

    def effects(self, ids: Sequence[Any]) -> list[str]:
        standing = Entry.objects.filter(leaderboard__in=list(ids)[:100])[:10_000].count()
        return [
            ngettext(
                "%(count)d entry stands now; it is computed again from the completed jobs.",
                "%(count)d entries stand now; they are computed again from the completed jobs.",
                standing,
            )
            % {"count": standing}
        ]

    def apply(self, obj: Any, *, by: User, reason: str, parameters: dict[str, Any]) -> None:
        count = services.rebuild_entries(obj)
        record_action(by, self.code, [obj], reason=reason, details={"entries": count})


@register
class CopyLeaderboard(Action):
    code = "copy_leaderboard"
    label = gettext_lazy("Copy as a draft")
    model = "leaderboards.leaderboard"
    permission = "leaderboards.add_leaderboard"

    def effects(self, ids: Sequence[Any]) -> list[str]:
        return [_("Everything that defines it is copied; jobs and entries are not. Publish the copy when it is ready.")]

    def apply(self, obj: Any, *, by: User, reason: str, parameters: dict[str, Any]) -> None:
        made = services.copy_leaderboard(obj)
        record_action(by, self.code, [obj, made], reason=reason, details={"from": obj.slug, "to": made.slug})


def _is_baseline(entry: Entry) -> bool:
    return Baseline.objects.filter(leaderboard=entry.leaderboard_id, user=entry.user_id).exists()


@register
class MarkBaseline(Action):
    code = "mark_baseline"
    label = gettext_lazy("Mark as baseline")
    model = "leaderboards.entry"
    permission = "leaderboards.change_leaderboard"

    def suits(self, obj: Any) -> bool:
        return not _is_baseline(obj)

    def effects(self, ids: Sequence[Any]) -> list[str]:
        return [_("It stays in its place, marked and without a rank; those behind it move up by one.")]

    def apply(self, obj: Any, *, by: User, reason: str, parameters: dict[str, Any]) -> None:
        services.mark_baseline(obj.leaderboard, user_id=obj.user_id)
        record_action(by, self.code, [obj], reason=reason)


@register
class UnmarkBaseline(Action):
    code = "unmark_baseline"
    label = gettext_lazy("Baseline no more")
    model = "leaderboards.entry"
    permission = "leaderboards.change_leaderboard"

    def suits(self, obj: Any) -> bool:
        return _is_baseline(obj)

    def effects(self, ids: Sequence[Any]) -> list[str]:
        return [_("It takes a rank again.")]

    def apply(self, obj: Any, *, by: User, reason: str, parameters: dict[str, Any]) -> None:
        services.unmark_baseline(obj.leaderboard, user_id=obj.user_id)
        record_action(by, self.code, [obj], reason=reason)
