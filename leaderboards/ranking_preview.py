"""The console's form of a leaderboard: a change that would take rows off the board, or reorder them, is shown before it is saved."""

from typing import Any

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils.translation import gettext, ngettext

from accounts.admin_base import OperatedAdmin
from leaderboards.score_contents import fit
from leaderboards.version_operations import panel
from leaderboards.versioning import Preview, RankingChange

CONFIRMED = "_confirmed"


class _MustBeSeen(Exception):
    """Takes the form's writes back: their preview comes first."""

    def __init__(self, preview: Preview) -> None:
        self.preview = preview
        super().__init__()


class PreviewedAdmin(OperatedAdmin):
    def changeform_view(
        self, request: HttpRequest, object_id: Any = None, form_url: str = "", extra_context: Any = None
    ) -> HttpResponse:
        try:
            return super().changeform_view(request, object_id, form_url, extra_context)
        except _MustBeSeen as seen:
            return self._preview(request, object_id, seen.preview)

    def render_change_form(self, request, context, add=False, change=False, form_url="", obj=None):
        if obj is not None and obj.scorer:
            context["score_version"] = panel(obj)
        return super().render_change_form(request, context, add, change, form_url, obj)

    def save_model(self, request, obj, form, change):
        form.ranking_change = RankingChange(obj) if change else None
        super().save_model(request, obj, form, change)

    def save_related(self, request, form, formsets, change):
        super().save_related(request, form, formsets, change)
        if form.ranking_change is None:
            fit(form.instance, by=request.user)
            return
        preview = form.ranking_change.preview()
        if preview.is_needed and request.POST.get(CONFIRMED) != preview.key:
            raise _MustBeSeen(preview)
        count = form.ranking_change.finish(by=request.user)
        if count is not None:
            told = ngettext(
                "The board ranks in another way now: %(count)d entry counts.",
                "The board ranks in another way now: %(count)d entries count.",
                count,
            )
            self.message_user(request, told % {"count": count}, messages.WARNING)

    def _preview(self, request: HttpRequest, object_id: str, preview: Preview) -> HttpResponse:
        sent = [(name, value) for name, values in request.POST.lists() for value in values]
        left_out = {"csrfmiddlewaretoken", CONFIRMED}
        context = {
            **self.admin_site.each_context(request),
            "title": gettext("This changes the ranking"),
            "opts": self.opts,
            "original": self.get_object(request, object_id),
            "preview": preview,
            "sent": [*((name, value) for name, value in sent if name not in left_out), (CONFIRMED, preview.key)],
        }
        return render(request, "admin/console/ranking_preview.html", context)
