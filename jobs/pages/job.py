"""A job's page: where it stands, what it says while it runs, what it left; cancelling it and running it again."""

import csv
from collections.abc import Iterator
from typing import Any
from uuid import UUID, uuid4

from django.conf import settings
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpResponse, StreamingHttpResponse
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from accounts.refusals import RequestRefused
from accounts.requests import SignedInRequest
from jobs import services
from jobs.curves import run_charts
from jobs.detail_metrics import category_table, published_categories
from jobs.log_page import FIRST_BYTES, found_in_log, log_part
from jobs.models import Job, Status
from jobs.pages.access import visible_job
from jobs.pages.artifacts import FILES_SHOWN, PICTURES_SHOWN, is_picture, listed
from jobs.queries import mlflow_ui_link, progress_of, seconds_left
from jobs.runtime import runtime_of
from jobs.waiting import waiting
from jobs.withdrawing import may_withdraw, restore_job, withdraw_job
from leaderboards.export import inert_cell
from leaderboards.ranking_state import ranking_state

RELATED = ("progress", "tracking", "score_version", "leaderboard__score_version")
RERUNS_SHOWN = 20
RERUN_SHOWN = ("id", "status", "is_by_operator", "operator_reason", "rerun_of", "created_at")


def _moving(request: SignedInRequest, job: Job) -> dict[str, Any]:
    """What moves while a job runs: the timeline and what the run reports."""
    progress = progress_of(job) if job.status != Status.PENDING else None
    board = job.leaderboard
    charts, more_charts = run_charts(progress.curves) if progress else ([], 0)
    return {
        "job": job,
        "waiting": waiting(job),
        "progress": progress,
        "seconds_left": seconds_left(job, progress) if progress else None,
        # A part that is swapped every few seconds has no table to open: it would close again.
        "is_live": not job.is_final,
        "charts": charts,
        "more_charts": more_charts,
        "ranking_metric": board.ranking_metric if job.score is not None else None,
        "mlflow_link": mlflow_ui_link(job),
        "outbox": getattr(job, "tracking", None),
        "is_mine": job.user_id == request.user.pk,
        "ranking": ranking_state(job, request.user) if job.status == Status.COMPLETED else None,
        "may_withdraw": may_withdraw(job, request.user),
        "can_run_again": job.is_final and services.may_steer(request.user, job),
        "can_cancel": services.may_cancel(request.user, job),
        "is_operators": services.is_operators(request.user, job),
        "reruns": job.reruns.order_by("created_at").only(*RERUN_SHOWN)[:RERUNS_SHOWN] if job.is_final else [],
        "again_key": uuid4().hex,
    }


def _left(job: Job) -> dict[str, Any]:
    """What a run cost and left."""
    columns = job.leaderboard.metric_list
    named = {metric.name for metric in columns}
    pictures = [item for item in job.artifacts if is_picture(item["path"])]
    files = [item for item in job.artifacts if not is_picture(item["path"])]
    return {
        "attempts": job.attempts.all(),
        "main_metrics": [(metric, job.metrics[metric.name]) for metric in columns if metric.name in job.metrics],
        "categories": category_table(job, published_categories(job)),
        "more_metrics": [(name, value) for name, value in job.metrics.items() if name not in named],
        "pictures": pictures[:PICTURES_SHOWN],
        "files": listed(files[:FILES_SHOWN]),
        "more_files": max(0, len(pictures) - PICTURES_SHOWN) + max(0, len(files) - FILES_SHOWN),
        "limits": settings.RESOURCE_CLASSES.get(job.resource_class),
    }


@login_required
@require_safe
def job(request: SignedInRequest, job_id: UUID) -> HttpResponse:
    """The whole page; `?q=` shows the lines of the log that hold it instead of the log."""
    found = visible_job(request, job_id, *RELATED)
    context = {**_moving(request, found), **_left(found), "runtime": runtime_of(found)}
    wanted = request.GET.get("q", "").strip()
    if wanted:
        context["found"] = found_in_log(found, wanted)
    else:
        context["part"] = log_part(found, most=FIRST_BYTES)
    return render(request, "jobs/job.html", context)


@login_required
@require_safe
def job_state(request: SignedInRequest, job_id: UUID) -> HttpResponse:
    """What moves on a job's page, for htmx: until its end, and then until MLflow has it. Whoever has `?ended` already
    shows what the run left."""
    found = visible_job(request, job_id, *RELATED)
    is_whole = not (found.is_final and "ended" in request.GET)
    context = {
        **_moving(request, found),
        **(_left(found) if is_whole else {}),
        "is_partial": is_whole,
        "is_alone": True,
    }
    return render(request, "jobs/_state.html", context)


class _Echo:
    """Hands each line that csv writes straight on."""

    def write(self, line: str) -> str:
        return line


@login_required
@require_safe
def job_curves(request: SignedInRequest, job_id: UUID) -> StreamingHttpResponse:
    """The curves that the run reported as numbers: name, step, value, seconds since its start."""
    progress = progress_of(visible_job(request, job_id, "progress"))
    curves = progress.curves if progress else []

    def rows() -> Iterator[str]:
        writer = csv.writer(_Echo())
        yield writer.writerow(["name", "step", "value", "seconds"])
        for curve in curves:
            for step, value, seconds in curve["points"]:
                yield writer.writerow([inert_cell(curve["name"]), step, value, seconds])

    response = StreamingHttpResponse(rows(), content_type="text/csv; charset=utf-8")
    response["Content-Disposition"] = f'attachment; filename="{job_id}-curves.csv"'
    return response


@login_required
@require_safe
def job_runtime(request: SignedInRequest, job_id: UUID) -> HttpResponse:
    """What the run gets, for htmx: asked for until the run has started."""
    found = visible_job(request, job_id)
    return render(request, "jobs/_runtime.html", {"job": found, "runtime": runtime_of(found)})


@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def cancel(request: SignedInRequest, job_id: UUID) -> HttpResponse:
    """Ask once (GET), then cancel (POST)."""
    found = visible_job(request, job_id)
    if request.method != "POST":
        if found.is_final or not services.may_cancel(request.user, found):
            return redirect(found)
        return render(request, "jobs/cancel.html", {"job": found})
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
def withdraw(request: SignedInRequest, job_id: UUID) -> HttpResponse:
    """Take one's run off the board, or with `restore` count it again."""
    found = visible_job(request, job_id)
    is_restore = "restore" in request.POST
    try:
        (restore_job if is_restore else withdraw_job)(found, by=request.user)
    except RequestRefused as refusal:
        messages.error(request, refusal.message)
    else:
        messages.success(request, _("The run counts again.") if is_restore else _("The run is withdrawn."))
    return redirect(found)


@login_required
@require_POST
def run_again(request: SignedInRequest, job_id: UUID) -> HttpResponse:
    """The same files and config as a new job: within the owner's quota, or by an operator, outside of it.

    A trial runs again as a trial, unless its owner asks for a run that ranks (`ranked`).
    """
    found = visible_job(request, job_id)
    try:
        if found.user_id == request.user.pk:
            key = request.POST.get("key") or uuid4().hex
            again, _is_new = services.enqueue_job(
                request.user,
                found.submission_id,
                config=found.config,
                resource_class=found.resource_class,
                trial=found.trial and "ranked" not in request.POST,
                idempotency_key=key,
            )
        else:
            again = services.rerun_job(found, by=request.user)
    except RequestRefused as refusal:
        messages.error(request, refusal.message)
        return redirect(found)
    return redirect(again)
