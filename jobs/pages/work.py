"""My work: a person's jobs, submissions and runs in MLflow, newest first, page by page, by status and leaderboard."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeVar
from urllib.parse import urlencode
from uuid import UUID

from django.conf import settings
from django.contrib.auth.decorators import login_required
from django.db.models import Count, Model, Prefetch, Q, QuerySet
from django.http import Http404, HttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.utils.dateparse import parse_datetime
from django.views.decorators.http import require_safe

from accounts.permissions import sees_all_jobs
from accounts.requests import SignedInRequest
from jobs.models import Job, Status
from leaderboards.models import Leaderboard
from submissions.models import Submission

PAGE_SIZE = 30
RUNS_SHOWN = 5
OF_JOBS = ("artifacts", "params", "metrics", "detail_metrics", "config", "limits_applied", "notes", "request_digest")
UNSEEN = (*OF_JOBS, "submission__manifest", "submission__metadata")
M = TypeVar("M", bound=Model)


def parse_cursor(text: str) -> tuple[datetime, UUID] | None:
    """Where the last page ended: `<created_at>_<id>`."""
    if not text:
        return None
    try:
        moment, _separator, job_id = text.rpartition("_")
        parsed = parse_datetime(moment)
        if parsed is None or parsed.tzinfo is None:
            raise Http404
        # Near the years 1 and 9999, a time may not exist in another zone.
        return parsed.astimezone(UTC), UUID(job_id)
    except (ValueError, OverflowError) as error:
        raise Http404 from error


@dataclass(frozen=True)
class Filters:
    """What a list is kept to, as its address says; 404 for what no list can be kept to."""

    status: str
    board: str
    before: tuple[datetime, UUID] | None
    before_text: str

    @classmethod
    def of(cls, request: SignedInRequest) -> "Filters":
        status, board = request.GET.get("status", ""), request.GET.get("leaderboard", "")
        if status and status not in Status.values:
            raise Http404
        text = request.GET.get("before", "")
        return cls(status, board, parse_cursor(text), text)

    def query(self, before: str = "") -> str:
        """The address of this list, from another place on."""
        values = {"status": self.status, "leaderboard": self.board, "before": before}
        return urlencode({name: value for name, value in values.items() if value})

    def page(self, rows: "QuerySet[M]") -> tuple[list[M], str]:
        """A page of the rows, newest first, and the address of the next ("" when there is none)."""
        if self.before:
            moment, row_id = self.before
            rows = rows.filter(Q(created_at__lt=moment) | Q(created_at=moment, pk__lt=row_id))
        found = list(rows.order_by("-created_at", "-id")[: PAGE_SIZE + 1])
        shown: list[Any] = found[:PAGE_SIZE]
        is_last = len(found) <= PAGE_SIZE
        return shown, "" if is_last else self.query(f"{shown[-1].created_at.isoformat()}_{shown[-1].pk}")


def _context(request: SignedInRequest, filters: Filters, older: str, *, is_moving: bool) -> dict[str, Any]:
    return {
        "statuses": Status.choices,
        "status": filters.status,
        "board": filters.board,
        "boards": Leaderboard.objects.filter(submissions__user=request.user).distinct(),
        "older": older,
        "newest": filters.query(),
        "again": filters.query(filters.before_text),
        "is_first_page": filters.before is None,
        "is_moving": is_moving,
    }


def _rendered(request: SignedInRequest, page: str, part: str, context: dict[str, Any]) -> HttpResponse:
    """The list alone for htmx, which asks every few seconds while something moves."""
    return render(request, part if request.htmx else page, context)


@login_required
@require_safe
def jobs(request: SignedInRequest) -> HttpResponse:
    """My jobs."""
    filters = Filters.of(request)
    mine = Job.objects.filter(user=request.user).select_related("leaderboard", "progress", "submission")
    mine = mine.defer(*UNSEEN, "progress__curves")
    mine = mine.filter(status=filters.status) if filters.status else mine
    mine = mine.filter(leaderboard__slug=filters.board) if filters.board else mine
    shown, older = filters.page(mine)
    context = _context(request, filters, older, is_moving=any(not job.is_final for job in shown))
    context |= {"jobs": shown, "chosen": request.GET.getlist("job")}
    return _rendered(request, "jobs/jobs.html", "jobs/_jobs.html", context)


@login_required
@require_safe
def submissions(request: SignedInRequest) -> HttpResponse:
    """My submissions, each with its jobs; by status those of which a job has it."""
    filters = Filters.of(request)
    mine = Submission.objects.filter(user=request.user).select_related("leaderboard").defer("manifest", "metadata")
    mine = mine.filter(deleted_at=None)
    if filters.status:
        mine = mine.filter(pk__in=Job.objects.filter(user=request.user, status=filters.status).values("submission"))
    mine = mine.filter(leaderboard__slug=filters.board) if filters.board else mine
    runs = Job.objects.defer(*OF_JOBS, "error_message", "error_told").newest_first()[:RUNS_SHOWN]
    mine = mine.annotate(run_count=Count("jobs"))
    shown, older = filters.page(mine.prefetch_related(Prefetch("jobs", queryset=runs, to_attr="runs")))
    moving = any(not job.is_final for submission in shown for job in submission.runs)  # type: ignore[attr-defined]
    context = _context(request, filters, older, is_moving=moving) | {"submissions": shown}
    return _rendered(request, "jobs/submissions.html", "jobs/_submissions.html", context)


@login_required
@require_safe
def runs(request: SignedInRequest) -> HttpResponse:
    """My runs in MLflow, in place of MLflow's own lists, which hold everybody's and are for operators alone."""
    filters = Filters.of(request)
    mine = Job.objects.filter(user=request.user).exclude(run_id="").select_related("leaderboard", "submission")
    mine = mine.defer(*UNSEEN)
    mine = mine.filter(leaderboard__slug=filters.board) if filters.board else mine
    shown, older = filters.page(mine)
    is_ours = f"{settings.SITE_URL.rstrip('/')}/mlflow" == settings.MLFLOW_PUBLIC_URL
    sees_all = sees_all_jobs(request.user)
    whole = settings.MLFLOW_PUBLIC_URL
    if is_ours:
        whole = reverse("mlflow") if sees_all else ""
    context = _context(request, filters, older, is_moving=False)
    context |= {"runs": shown, "statuses": [], "is_ours": is_ours, "sees_all": sees_all, "whole_mlflow": whole}
    return render(request, "jobs/runs.html", context)
