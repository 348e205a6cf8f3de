"""Leaderboards as YAML files in the console: one is fetched, one is taken in, after a look at what it would change."""

import difflib
from typing import Any, cast

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.http import Http404, HttpRequest, HttpResponse, StreamingHttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_http_methods, require_safe

from accounts.models import User
from accounts.operations import ReasonForm
from accounts.permissions import sees_all_jobs
from accounts.services import record_action
from core.sizes import human_bytes
from jobs.runs_export import export_runs
from jobs.unrunnable import unmet_needs
from leaderboards.export import FORMATS
from leaderboards.models import Leaderboard
from leaderboards.yaml_file import (
    LARGEST_BYTES,
    AlreadyThere,
    WrongFile,
    export_leaderboard,
    import_leaderboard,
    read_file,
    write_leaderboard,
)
from submissions.uploads import takes_files


@require_safe
def export(request: HttpRequest, leaderboard_id: int) -> HttpResponse:
    if not request.user.has_perm("leaderboards.view_leaderboard"):
        raise PermissionDenied
    leaderboard = get_object_or_404(Leaderboard, pk=leaderboard_id)
    name = f'attachment; filename="{leaderboard.slug}.yaml"'
    text = export_leaderboard(leaderboard)
    return HttpResponse(text, content_type="application/yaml; charset=utf-8", headers={"Content-Disposition": name})


@require_safe
def runs(request: HttpRequest, leaderboard_id: int, kind: str) -> StreamingHttpResponse:
    """All runs of the leaderboard, for operators who see all jobs."""
    if not (request.user.has_perm("leaderboards.view_leaderboard") and sees_all_jobs(request.user)):
        raise PermissionDenied
    if kind not in FORMATS:
        raise Http404
    leaderboard = get_object_or_404(Leaderboard, pk=leaderboard_id)
    name = f'attachment; filename="{leaderboard.slug}-runs.{kind}"'
    pieces = export_runs(leaderboard, kind)
    return StreamingHttpResponse(pieces, content_type=FORMATS[kind], headers={"Content-Disposition": name})


class FileForm(forms.Form):
    """A file, or its text as it was looked at; under its own name or another."""

    file = forms.FileField(label=gettext_lazy("YAML file"), required=False, max_length=255)
    text = forms.CharField(
        label=gettext_lazy("or its text"),
        required=False,
        max_length=LARGEST_BYTES,
        strip=False,
        widget=forms.Textarea(attrs={"rows": 12, "cols": 80, "spellcheck": "false"}),
    )
    slug = forms.SlugField(
        label=gettext_lazy("Under another name"),
        required=False,
        help_text=gettext_lazy("Empty: the name that the file says. Another makes a copy."),
    )
    replace = forms.BooleanField(
        label=gettext_lazy("Replace the one that is there"),
        required=False,
        help_text=gettext_lazy("Entries are computed again when it ranks in another way."),
    )

    def clean(self) -> dict[str, Any]:
        given = super().clean() or {}
        if file := given.get("file"):
            if file.size > LARGEST_BYTES:
                raise forms.ValidationError(
                    _("The file has more than %(most)s.") % {"most": human_bytes(LARGEST_BYTES)}
                )
            try:
                given["text"] = file.read().decode("utf-8-sig")
            except UnicodeDecodeError as error:
                raise forms.ValidationError(_("The file is not UTF-8.")) from error
        if not given.get("text", "").strip():
            raise forms.ValidationError(_("Choose a file, or paste its text."))
        return given


class _OnlyALook(Exception):
    """Takes back what was tried."""


def _changes(given: dict[str, Any]) -> dict[str, Any]:
    """The leaderboard as it would be, whether it is new, the lines that differ, and what it does to the rows; tried and taken
    back. WrongFile, AlreadyThere."""
    found: dict[str, Any] = {}
    try:
        with transaction.atomic():
            before = Leaderboard.objects.filter(slug=given["slug"] or _slug(given["text"])).first()
            old = export_leaderboard(before).splitlines() if before else []
            made, change = write_leaderboard(given["text"], slug=given["slug"], replace=given["replace"])
            new = export_leaderboard(made).splitlines()
            lines = list(difflib.unified_diff(old, new, lineterm="", n=2))[2:]
            found = {"board": made, "is_new": change is None, "lines": lines, "needs": unmet_needs(made)}
            if change is not None and (preview := change.preview()).is_needed:
                found["ranking"] = preview.sentences()
            raise _OnlyALook
    except _OnlyALook:
        return found


def _slug(text: str) -> str:
    return str(read_file(text)[0]["slug"])


@takes_files(most_bytes=LARGEST_BYTES, is_for_staff=True)
@require_http_methods(["GET", "HEAD", "POST"])
def take_in(request: HttpRequest) -> HttpResponse:
    """A form, then what the file would change with a question for the reason, then the leaderboard."""
    if not request.user.has_perm("leaderboards.add_leaderboard"):
        raise PermissionDenied
    form = FileForm(request.POST or None, request.FILES or None)
    context: dict[str, Any] = {}
    if request.method == "POST" and form.is_valid():
        given = form.cleaned_data
        if given["replace"] and not request.user.has_perm("leaderboards.change_leaderboard"):
            raise PermissionDenied
        is_confirmed = "reason" in request.POST
        reason = ReasonForm(request.POST if is_confirmed else None)
        try:
            if is_confirmed and reason.is_valid():
                return _done(request, given, reason.cleaned_data["reason"])
            context = {**_changes(given), "reason_form": reason, "given": given}
        except WrongFile as refusal:
            for problem in refusal.problems:
                form.add_error(None, problem)
        except AlreadyThere as refusal:
            form.add_error("replace", refusal.message)
    shared = {**admin.site.each_context(request), "title": _("A leaderboard from a YAML file"), "form": form}
    status = 400 if form.errors else 200
    return render(request, "admin/console/leaderboard_file.html", {**shared, **context}, status=status)


def _done(request: HttpRequest, given: dict[str, Any], reason: str) -> HttpResponse:
    with transaction.atomic():
        by = cast(User, request.user)
        board, is_new = import_leaderboard(
            given["text"], slug=given["slug"], replace=given["replace"], by=by, reason=reason
        )
        record_action(by, "import_leaderboard", [board], reason=reason, details={"is_new": is_new})
    messages.success(request, _("Done and recorded."))
    return redirect("admin:leaderboards_leaderboard_change", board.pk)
