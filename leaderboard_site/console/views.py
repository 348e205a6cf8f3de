"""The console's pages. The status page reads records; what it changes goes through services, and is recorded."""

from typing import Any
from uuid import UUID

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from accounts.models import Operation
from accounts.operations import ACTIONS, AT_ONCE, Action, ReasonForm, confirm
from accounts.operations import plan as plan_operation
from accounts.refusals import RequestRefused
from accounts.requests import SignedInRequest
from accounts.services import record_action
from jobs.models import Job
from jobs.stuck import mend as mend_stuck
from leaderboard_site.console.status import status_page
from leaderboards.models import Pause
from leaderboards.services import pause, resume

EXAMPLES = 10


def _may(request: SignedInRequest, permission: str) -> None:
    if not request.user.has_perm(permission):
        raise PermissionDenied


def _page(
    request: SignedInRequest, template: str, title: str, context: dict[str, Any], status: int = 200
) -> HttpResponse:
    shared = admin.site.each_context(request)
    return render(request, template, {**shared, "title": title, **context}, status=status)


def _status_context(request: SignedInRequest) -> dict[str, Any]:
    _may(request, "jobs.view_job")
    user = request.user
    return {
        **status_page(),
        "can_mend": user.has_perm("jobs.change_job"),
        "can_steer": user.has_perm("jobs.change_worker"),
        "can_pause": user.has_perm("leaderboards.change_pause"),
        "reason_form": ReasonForm(),
    }


@require_safe
def status(request: SignedInRequest) -> HttpResponse:
    return _page(request, "admin/console/status.html", _("Status of the site"), _status_context(request))


@require_safe
def status_part(request: SignedInRequest) -> HttpResponse:
    """What moves on the page, for htmx."""
    return render(request, "admin/console/_status.html", _status_context(request))


@require_POST
def mend(request: SignedInRequest) -> HttpResponse:
    """The one click beside a stuck job."""
    _may(request, "jobs.change_job")
    try:
        job = get_object_or_404(
            Job.objects.select_related("worker", "leaderboard"), pk=UUID(request.POST.get("job", ""))
        )
        mend_stuck(request.POST.get("kind", ""), job, by=request.user)
    except ValueError as error:
        raise Http404 from error
    except RequestRefused as refusal:
        messages.error(request, refusal.message)
    else:
        messages.success(request, _("Done and recorded."))
    return redirect("admin:status")


@require_http_methods(["GET", "HEAD", "POST"])
def queue_switch(request: SignedInRequest) -> HttpResponse:
    """Pause the whole queue, or let it run again."""
    _may(request, "leaderboards.change_pause")
    standing = Pause.objects.filter(leaderboard=None).select_related("by").first()
    form = ReasonForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        reason, wanted = form.cleaned_data["reason"], request.POST.get("wanted", "")
        try:
            if wanted == "pause":
                made = pause(None, reason=reason, by=request.user)
                record_action(request.user, "pause_queue", [made], reason=reason)
            elif wanted == "resume":
                was = standing or Pause(leaderboard=None)
                resume(None)
                record_action(request.user, "resume_queue", [was], reason=reason)
            else:
                raise Http404
        except RequestRefused as refusal:
            messages.error(request, refusal.message)
        return redirect("admin:status")
    title = _("Let the queue run again") if standing else _("Pause the whole queue")
    return _page(
        request, "admin/console/queue.html", title, {"standing": standing, "form": form}, 400 if form.errors else 200
    )


@require_POST
def plan(request: SignedInRequest) -> HttpResponse:
    """Plan an action on the object that is named, from its own page."""
    try:
        made = plan_operation(request.POST.get("action", ""), request.POST.getlist("object")[:1], by=request.user)
    except RequestRefused as refusal:
        return _refused(request, refusal)
    return redirect("admin:operation", made.pk)


def _refused(request: SignedInRequest, refusal: RequestRefused) -> HttpResponse:
    if refusal.status == 403:
        raise PermissionDenied
    messages.error(request, refusal.message)
    return redirect("admin:index")


def _own_operation(request: SignedInRequest, operation_id: UUID) -> tuple[Operation, Action]:
    """The operator's own, or anybody's for a superuser; its action's permission is asked for each time."""
    found = get_object_or_404(Operation.objects.select_related("user"), pk=operation_id)
    if found.user_id != request.user.pk and not request.user.is_superuser:
        raise Http404
    action = ACTIONS.get(found.action)
    if action is None:
        raise Http404
    _may(request, action.permission)
    return found, action


def _is_there(action: Action, object_id: str) -> bool:
    return bool(action.objects().filter(pk=object_id).exists())


def _operation_context(operation: Operation, action: Action) -> dict[str, Any]:
    app, _dot, model = action.model.partition(".")
    lists = f"admin:{app}_{model}"
    # Of one object the way back is to its page; what was planned by another key than its own has none.
    is_one = operation.total == 1 and action.chosen_field == "pk" and _is_there(action, operation.object_ids[0])
    back = reverse(f"{lists}_change", args=operation.object_ids) if is_one else reverse(f"{lists}_changelist")
    return {"operation": operation, "action": action, "is_large": operation.total > AT_ONCE, "back": back}


@require_http_methods(["GET", "HEAD", "POST"])
def operation(request: SignedInRequest, operation_id: UUID) -> HttpResponse:
    """First the preview with its form, then the progress, then what came of it."""
    found, action = _own_operation(request, operation_id)
    context = _operation_context(found, action)
    if found.state != Operation.State.PLANNED:
        return _page(request, "admin/console/operation.html", str(action.label), context)
    is_sent = request.method == "POST"
    form = action.form_class(request.POST if is_sent else None, initial=action.initial(found.object_ids))
    if is_sent and form.is_valid():
        try:
            confirm(found, by=request.user, reason=form.cleaned_data["reason"], parameters=form.parameters())
        except RequestRefused as refusal:
            if refusal.status == 403:
                raise PermissionDenied from refusal
            messages.error(request, refusal.message)
        return redirect("admin:operation", found.pk)
    examples = list(action.objects().filter(pk__in=found.object_ids[:EXAMPLES]))
    context |= {
        "form": form,
        "examples": [{"name": str(one), "more": _more(one)} for one in examples],
        "rest": max(0, found.total - len(examples)),
        "effects": action.effects(found.object_ids),
    }
    return _page(request, "admin/console/operation.html", str(action.label), context, 400 if form.errors else 200)


def _more(obj: Any) -> str:
    """What tells a job apart beside its id."""
    if isinstance(obj, Job):
        return f"{obj.get_status_display()} · {obj.user.full_label} · {obj.leaderboard}"
    return ""


@require_safe
def operation_part(request: SignedInRequest, operation_id: UUID) -> HttpResponse:
    """The progress, for htmx; it asks no more when all is done."""
    found, action = _own_operation(request, operation_id)
    return render(request, "admin/console/_progress.html", _operation_context(found, action))
