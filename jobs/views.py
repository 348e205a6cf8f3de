"""The page that sends a submission in and starts its job; jobs/pages/ shows what becomes of it."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID, uuid4

from django.conf import settings
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.db import connection
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.utils.translation import gettext as _
from django.views.decorators.http import require_http_methods, require_POST

from accounts.models import User
from accounts.refusals import Conflict, RequestRefused
from accounts.requests import SignedInRequest
from core.sizes import human_bytes
from jobs import services
from jobs.models import Job
from jobs.outlook import outlook
from leaderboards.models import Leaderboard
from submissions.forms import RunForm, SubmitForm, earlier_values
from submissions.models import Submission
from submissions.services import create_submission, submissions_this_hour
from submissions.uploads import takes_files

# For another post of the same form.
LONGEST_WAIT_SECONDS = 10.0
CLOSED_SHOWN = 20


@dataclass(frozen=True)
class Quota:
    """What a person has used of this hour, and of what runs at once."""

    left: int
    per_hour: int
    active: int
    at_once: int
    seconds_until_free: int | None  # while none is left
    seconds_until_back: int | None = None  # until the earliest that was used comes back

    @property
    def free_at(self) -> datetime | None:
        """When one more is allowed, while none is left."""
        return None if self.seconds_until_free is None else timezone.now() + timedelta(seconds=self.seconds_until_free)


def quota_used(user: User) -> Quota:
    uses = [services.jobs_this_hour(user), submissions_this_hour(user)]
    left, use = min(((use.left(), use) for use in uses), key=lambda pair: pair[0])
    return Quota(
        left=left,
        per_hour=user.submission_quota,
        active=services.active_jobs_that_count(user),
        at_once=user.job_quota,
        seconds_until_free=None if left else use.seconds_until_free(),
        seconds_until_back=use.seconds_until_back() if left else None,
    )


@contextmanager
def one_at_a_time(user: User, key: str) -> Iterator[None]:
    """Let a second post of one form wait for the first, so that a double click does not store the files twice.

    One post of a person waits at a time, and not for long: each holds a thread that answers pages.

    Raises:
        Conflict: another post waits already, or the first one takes longer.
    """
    with _lock(user, key) as is_first:
        if is_first:
            yield
            return
    with _lock(user, "waiting for another post") as may_wait:
        deadline = time.monotonic() + LONGEST_WAIT_SECONDS
        while may_wait and time.monotonic() < deadline:
            with _lock(user, key) as is_next:
                if is_next:
                    yield
                    return
            time.sleep(0.1)
    raise Conflict(
        "still_storing", _("This form was sent before, and its files are still being stored. Wait a moment.")
    )


@contextmanager
def _lock(user: User, name: str) -> Iterator[bool]:
    """Hold the person's lock of that name, if it is free."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_lock(%s, hashtext(%s))", [user.pk % 2**31, name])
        [is_held] = cursor.fetchone()
        try:
            yield is_held
        finally:
            if is_held:
                cursor.execute("SELECT pg_advisory_unlock(%s, hashtext(%s))", [user.pk % 2**31, name])


@takes_files()
@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def submit(request: SignedInRequest) -> HttpResponse:
    user = request.user
    if request.method != "POST":
        initial = {
            "leaderboard": request.GET.get("leaderboard") or None,
            **earlier_values(user, request.GET.get("from")),
        }
        return _submit_page(request, SubmitForm(user=user, initial=initial))
    form = SubmitForm(request.POST, request.FILES, user=user)
    if any(getattr(handler, "is_over", False) for handler in request.upload_handlers):
        form.errors.clear()
        size = human_bytes(settings.UPLOAD_MAX_BYTES)
        form.add_error("files", _("At most %(size)s in all; nothing was stored.") % {"size": size})
        return _submit_page(request, form, 413)
    if not form.is_valid():
        return _submit_page(request, form, 400)
    with one_at_a_time(user, form.cleaned_data["key"]):
        earlier = Job.objects.filter(user=user, idempotency_key=form.cleaned_data["key"]).first()
        if earlier is not None:
            return redirect(earlier)
        sent = Submission.objects.filter(user=user, form_key=form.cleaned_data["key"]).first()
        if sent is not None:  # its files are stored; only the job is missing
            return _start(request, sent, form)
        try:
            submission = create_submission(
                user,
                files=form.cleaned_data["files"],
                name=form.cleaned_data["name"],
                entrypoint=form.cleaned_data["entrypoint"],
                config_file=form.cleaned_data["config_file"],
                leaderboard=form.cleaned_data["leaderboard"].slug,
                paths=form.cleaned_data["paths"],
                writable_code=form.cleaned_data["writable_code"],
                form_key=form.cleaned_data["key"],
            )
        except RequestRefused as refusal:
            form.add_refusal(refusal)
            return _submit_page(request, form, refusal.status)
        return _start(request, submission, form)


def _submit_page(request: SignedInRequest, form: SubmitForm, status: int = 200) -> HttpResponse:
    user = request.user
    context = {"form": form, "quota": quota_used(user), "max_bytes": settings.UPLOAD_MAX_BYTES}
    boards = context["boards"] = list(form.boards.select_related("score_version"))
    context["closed"] = Leaderboard.objects.visible_to(user).upcoming()[:CLOSED_SHOWN]
    context |= outlook(boards)
    # What concerns other boards is hidden from the start: the page must not jump when its script does so.
    context["chosen"] = form["leaderboard"].value() or (boards[0].slug if boards else "")
    context["can_make"] = not boards and user.is_staff and user.has_perm("leaderboards.add_leaderboard")
    newest = Submission.objects.filter(user=request.user, deleted_at=None).order_by("-created_at")
    context["latest"] = newest.only("pk").first()
    return render(request, "submissions/submit.html", context, status=status)


def _start(request: SignedInRequest, submission: Submission, form: RunForm) -> HttpResponse:
    """Enqueue the submission and go to the job; when that is refused, to the submission, whose files are kept."""
    try:
        job, _is_new = services.enqueue_job(
            request.user,
            submission.pk,
            config=form.cleaned_data["config"],
            resource_class=form.cleaned_data["resource_class"],
            trial=form.cleaned_data["trial"],
            idempotency_key=form.cleaned_data["key"],
        )
    except RequestRefused as refusal:
        messages.error(request, _("Your files are kept, but no job was started. %(why)s") % {"why": refusal.message})
        return redirect(submission)
    return redirect(job)


@login_required
@require_POST
def run_submission(request: SignedInRequest, submission_id: UUID) -> HttpResponse:
    submission = get_object_or_404(Submission.objects.filter(user=request.user), pk=submission_id)
    form = RunForm({"key": uuid4().hex, **request.POST.dict()})
    if form.is_valid():
        return _start(request, submission, form)
    messages.error(request, " ".join(str(message) for errors in form.errors.values() for message in errors))
    return redirect(submission)
