"""The pages of jobs: send in, watch, compare. Every job comes through `visible_to`: another's is 404."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import urlencode
from uuid import UUID, uuid4

from django.conf import settings
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.db import connection
from django.db.models import Q
from django.http import FileResponse, Http404, HttpRequest, HttpResponse, StreamingHttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.dateparse import parse_datetime
from django.utils.translation import gettext as _
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from accounts.models import User
from accounts.refusals import RequestRefused, Unavailable
from jobs import services
from jobs.comparison import compared
from jobs.log_page import log_part
from jobs.models import Job, Status
from jobs.queries import mlflow_ui_link, open_artifact, read_log, waiting
from leaderboards.models import Leaderboard
from submissions.forms import RunForm, SubmitForm
from submissions.models import Submission
from submissions.services import create_submission, submissions_that_count

PAGE_SIZE = 30
MOST_COMPARED = 8
# Shown in the page; anything else of a run is only ever downloaded, SVG too: it can hold scripts.
PICTURES = {
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".gif": "image/gif",
    ".webp": "image/webp",
}


@dataclass(frozen=True)
class Quota:
    """What a person has used of this hour, and of what runs at once."""

    submissions: int
    jobs: int
    per_hour: int
    active: int
    at_once: int
    seconds_until_free: int | None

    @property
    def left(self) -> int:
        return max(0, self.per_hour - max(self.submissions, self.jobs))


def quota_used(user: User) -> Quota:
    submitted = submissions_that_count(user)
    started = services.jobs_that_count(user)
    counts = (submitted.count(), started.count())
    fuller = started if counts[1] >= counts[0] else submitted
    is_full = max(counts) >= user.submission_quota
    return Quota(
        submissions=counts[0],
        jobs=counts[1],
        per_hour=user.submission_quota,
        active=Job.objects.filter(user=user).active().count(),
        at_once=user.job_quota,
        seconds_until_free=services.seconds_until_free(fuller, user.submission_quota) if is_full else None,
    )


@contextmanager
def one_at_a_time(user: User, key: str) -> Iterator[None]:
    """Two posts of one form wait for each other, so that a double click does not store the files twice."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_lock(%s, hashtext(%s))", [user.pk % 2**31, key])
        try:
            yield
        finally:
            cursor.execute("SELECT pg_advisory_unlock(%s, hashtext(%s))", [user.pk % 2**31, key])


@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def submit(request: HttpRequest) -> HttpResponse:
    user = request.user
    if request.method != "POST":
        initial = {"leaderboard": request.GET.get("leaderboard") or None}
        return _submit_page(request, SubmitForm(user=user, initial=initial))
    form = SubmitForm(request.POST, request.FILES, user=user)
    if any(getattr(handler, "is_over", False) for handler in request.upload_handlers):
        form.errors.clear()
        size = settings.UPLOAD_MAX_BYTES // 1024**2
        form.add_error("files", _("At most %(size)d MB in all; nothing was stored.") % {"size": size})
        return _submit_page(request, form, 413)
    if not form.is_valid():
        return _submit_page(request, form, 400)
    with one_at_a_time(user, form.cleaned_data["key"]):
        earlier = Job.objects.filter(user=user, idempotency_key=form.cleaned_data["key"]).first()
        if earlier is not None:
            return redirect(earlier)
        try:
            submission = create_submission(
                user,
                files=form.cleaned_data["files"],
                entrypoint=form.cleaned_data["entrypoint"],
                config_file=form.cleaned_data["config_file"],
                leaderboard=form.cleaned_data["leaderboard"].slug,
            )
        except RequestRefused as refusal:
            form.add_refusal(refusal)
            return _submit_page(request, form, refusal.status)
        return _start(request, submission, form)


def _submit_page(request: HttpRequest, form: SubmitForm, status: int = 200) -> HttpResponse:
    context = {"form": form, "quota": quota_used(request.user), "max_bytes": settings.UPLOAD_MAX_BYTES}
    return render(request, "submissions/submit.html", context, status=status)


def _start(request: HttpRequest, submission: Submission, form: RunForm) -> HttpResponse:
    """Enqueue the submission and go to the job; when that is refused, to the submission, whose files are kept."""
    try:
        job, _is_new = services.enqueue_job(
            request.user,
            submission.pk,
            config=form.cleaned_data["config"],
            resource_class=form.cleaned_data["resource_class"],
            idempotency_key=form.cleaned_data["key"],
        )
    except RequestRefused as refusal:
        messages.error(request, _("Your files are kept, but no job was started. %(why)s") % {"why": refusal.message})
        return redirect(submission)
    return redirect(job)


@login_required
@require_POST
def run_submission(request: HttpRequest, submission_id: UUID) -> HttpResponse:
    submission = get_object_or_404(Submission.objects.filter(user=request.user), pk=submission_id)
    form = RunForm({"key": uuid4().hex, **request.POST.dict()})
    if form.is_valid():
        return _start(request, submission, form)
    messages.error(request, " ".join(message for errors in form.errors.values() for message in errors))
    return redirect(submission)


def parse_cursor(text: str) -> tuple[datetime, UUID] | None:
    """Where the last page ended: `<created_at>_<id>`."""
    if not text:
        return None
    try:
        moment, _separator, job_id = text.rpartition("_")
        parsed = parse_datetime(moment)
        if parsed is None or parsed.tzinfo is None:
            raise Http404
        return parsed, UUID(job_id)
    except ValueError as error:
        raise Http404 from error


@login_required
@require_safe
def jobs(request: HttpRequest) -> HttpResponse:
    """My jobs, newest first; htmx asks for the list alone, every few seconds while something moves."""
    mine = Job.objects.filter(user=request.user).select_related("leaderboard").newest_first()
    mine = mine.defer("artifacts", "params", "metrics", "config", "limits_applied")
    status, board = request.GET.get("status", ""), request.GET.get("leaderboard", "")
    if status and status not in Status.values:
        raise Http404
    found = mine.filter(status=status) if status else mine
    found = found.filter(leaderboard__slug=board) if board else found
    before = parse_cursor(request.GET.get("before", ""))
    if before:
        moment, job_id = before
        found = found.filter(Q(created_at__lt=moment) | Q(created_at=moment, id__lt=job_id))
    listed = list(found[: PAGE_SIZE + 1])
    shown = listed[:PAGE_SIZE]
    kept = {name: value for name, value in (("status", status), ("leaderboard", board)) if value}
    older = ""
    if len(listed) > PAGE_SIZE:
        older = urlencode({**kept, "before": f"{shown[-1].created_at.isoformat()}_{shown[-1].pk}"})
    context = {
        "jobs": shown,
        "statuses": Status.choices,
        "status": status,
        "board": board,
        "boards": Leaderboard.objects.visible_to(request.user).filter(jobs__user=request.user).distinct(),
        "older": older,
        "newest": urlencode(kept),
        "again": urlencode({**kept, **({"before": request.GET["before"]} if before else {})}),
        "is_first_page": before is None,
        "is_moving": any(not job.is_final for job in shown),
        "chosen": request.GET.getlist("job"),
    }
    return render(request, "jobs/_jobs.html" if request.htmx else "jobs/jobs.html", context)


def visible_job(request: HttpRequest, job_id: UUID) -> Job:
    related = Job.objects.visible_to(request.user).select_related(
        "leaderboard", "user", "submission", "disqualification"
    )
    return get_object_or_404(related, pk=job_id)


def _state(request: HttpRequest, job: Job) -> dict[str, Any]:
    board = job.leaderboard
    columns = board.metric_list
    named = {metric.name for metric in columns}
    pictures = [item for item in job.artifacts if _picture_type(item["path"])]
    return {
        "job": job,
        "waiting": waiting(job),
        "attempts": job.attempts.all(),
        "main_metrics": [(metric, job.metrics[metric.name]) for metric in columns if metric.name in job.metrics],
        "more_metrics": [(name, value) for name, value in job.metrics.items() if name not in named],
        "pictures": pictures,
        "files": [item for item in job.artifacts if item not in pictures],
        "mlflow_link": mlflow_ui_link(job),
        "is_mine": job.user_id == request.user.pk,
        "can_run_again": job.is_final and services.may_steer(request.user, job),
        "can_steer": services.may_steer(request.user, job),
        "limits": settings.RESOURCE_CLASSES.get(job.resource_class),
    }


@login_required
@require_safe
def job(request: HttpRequest, job_id: UUID) -> HttpResponse:
    found = visible_job(request, job_id)
    context = {**_state(request, found), "part": log_part(found), "again_key": uuid4().hex}
    return render(request, "jobs/job.html", context)


@login_required
@require_safe
def job_state(request: HttpRequest, job_id: UUID) -> HttpResponse:
    """What moves on a job's page, for htmx; it asks no more when the status is final."""
    found = visible_job(request, job_id)
    context = {**_state(request, found), "again_key": uuid4().hex, "is_partial": True}
    return render(request, "jobs/_state.html", context)


@login_required
@require_safe
def job_log(request: HttpRequest, job_id: UUID) -> HttpResponse:
    """The log from an offset on, for htmx; the whole log again when another attempt has begun meanwhile."""
    found = visible_job(request, job_id)
    offset, attempt = request.GET.get("offset", "0"), request.GET.get("attempt", "")
    if not (offset.isascii() and offset.isdigit() and len(offset) <= 15):
        raise Http404
    is_same = attempt == str(found.attempt)
    part = log_part(found, int(offset) if is_same else 0, request.GET.get("style", "") if is_same else "")
    response = render(request, "jobs/_log.html", {"job": found, "part": part})
    if not is_same:
        response["HX-Retarget"], response["HX-Reswap"] = "#log", "innerHTML"
    return response


@login_required
@require_safe
def job_log_text(request: HttpRequest, job_id: UUID) -> StreamingHttpResponse:
    """The whole log as it is, as plain text."""
    found = visible_job(request, job_id)

    def parts() -> Iterator[bytes]:
        offset = 0
        while True:
            content, offset = read_log(found, offset)
            if not content:
                return
            yield content

    return StreamingHttpResponse(parts(), content_type="text/plain; charset=utf-8")


@login_required
@require_POST
def cancel(request: HttpRequest, job_id: UUID) -> HttpResponse:
    found = visible_job(request, job_id)
    try:
        status = services.cancel_job(found, by=request.user)
    except RequestRefused as refusal:
        messages.error(request, refusal.message)
    else:
        is_over = status == Status.CANCELLED
        messages.success(request, _("The job is cancelled.") if is_over else _("The job is being stopped."))
    return redirect(found)


@login_required
@require_POST
def run_again(request: HttpRequest, job_id: UUID) -> HttpResponse:
    """The same files and config as a new job: within the owner's quota, or by an operator, outside of it."""
    found = visible_job(request, job_id)
    try:
        if found.user_id == request.user.pk:
            key = request.POST.get("key") or uuid4().hex
            again, _is_new = services.enqueue_job(
                request.user,
                found.submission_id,
                config=found.config,
                resource_class=found.resource_class,
                idempotency_key=key,
            )
        else:
            again = services.rerun_job(found, by=request.user)
    except RequestRefused as refusal:
        messages.error(request, refusal.message)
        return redirect(found)
    return redirect(again)


def _picture_type(path: str) -> str:
    dot = path.rfind(".")
    return PICTURES.get(path[dot:].lower(), "") if dot >= 0 else ""


@login_required
@require_safe
def artifact(request: HttpRequest, job_id: UUID, path: str) -> FileResponse:
    """One file that the run left: pictures to be shown, all else to be saved; nothing of it can run in the page."""
    found = visible_job(request, job_id)
    item = next((item for item in found.artifacts if item["path"] == path), None)
    if item is None:
        raise Http404
    try:
        content = open_artifact(item["name"])
    except Unavailable as error:
        if isinstance(error.__cause__, FileNotFoundError):
            raise Http404 from error
        raise
    picture = _picture_type(path)
    response = FileResponse(
        content,
        as_attachment=not picture or "download" in request.GET,
        filename=path.rsplit("/", 1)[-1],
        content_type=picture or "application/octet-stream",
    )
    response["Content-Security-Policy"] = "default-src 'none'; sandbox"
    response["Cache-Control"] = "private, max-age=3600"
    return response


@login_required
@require_safe
def compare(request: HttpRequest) -> HttpResponse:
    """Jobs side by side: the params that differ, and the metrics."""
    try:
        wanted = list(dict.fromkeys(UUID(text) for text in request.GET.getlist("job")))
    except ValueError as error:
        raise Http404 from error
    visible = Job.objects.visible_to(request.user).select_related("leaderboard", "user")
    found = visible.prefetch_related("leaderboard__metrics").in_bulk(wanted[:MOST_COMPARED])
    if len(found) < len(wanted[:MOST_COMPARED]):
        raise Http404
    chosen = [found[job_id] for job_id in wanted[:MOST_COMPARED]]
    recent = visible.filter(user=request.user).newest_first()[:20] if len(chosen) < 2 else []
    context = {"jobs": chosen, "table": compared(chosen) if len(chosen) > 1 else None, "recent": recent}
    context |= {"is_cut": len(wanted) > MOST_COMPARED, "most": MOST_COMPARED}
    return render(request, "jobs/compare.html", context)
