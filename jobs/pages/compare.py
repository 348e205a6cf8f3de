"""Jobs side by side: params that differ, metrics, curves, pictures; and how their code differs."""

from typing import Any
from uuid import UUID

from django.contrib.auth.decorators import login_required
from django.http import Http404, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe

from accounts.requests import SignedInRequest
from jobs.code_diff import TooLargeToCompare, code_diff
from jobs.comparison import Side, compared, oldest, told_apart
from jobs.models import Job
from jobs.pages.artifacts import PICTURES
from submissions.contents import refuse_deleted
from submissions.models import Submission

MOST_COMPARED = 8
RECENT_JOBS = 20


def _wanted(request: SignedInRequest) -> list[UUID]:
    """The ids of the address in their order, each but once; 404 for what is no id."""
    try:
        return list(dict.fromkeys(UUID(text) for text in request.GET.getlist("job")))
    except ValueError as error:
        raise Http404 from error


def _sides(request: SignedInRequest, wanted: list[UUID]) -> list[Side]:
    """One's own jobs whole; of others' those on a board that one may see, as the board shows them. 404 for any else."""
    related = ("leaderboard", "user")
    own = Job.objects.visible_to(request.user).select_related(*related, "progress", "submission", "disqualification")
    own = own.defer("submission__manifest", "submission__metadata")
    found = own.prefetch_related("leaderboard__metrics").in_bulk(wanted)
    for job in found.values():
        refuse_deleted(job.submission)
    sides = {job_id: Side(job, is_open=True) for job_id, job in found.items()}
    missing = [job_id for job_id in wanted if job_id not in sides]
    if missing:
        others = Job.objects.shown_on_boards(request.user).filter(pk__in=missing)
        entries = others.select_related(None).prefetch_related("user", "leaderboard__metrics")
        sides |= {job.pk: Side(job, is_open=False) for job in entries}
    if any(job_id not in sides for job_id in wanted):
        raise Http404
    return told_apart([sides[job_id] for job_id in wanted])


def _baseline(request: SignedInRequest, sides: list[Side]) -> Side:
    """The job that the address chooses, else the oldest; 404 for one that is not compared."""
    chosen = request.GET.get("baseline")
    if not chosen:
        return oldest(sides)
    found = [side for side in sides if str(side.job.pk) == chosen.lower()]
    if not found:
        raise Http404
    return found[0]


@login_required
@require_safe
def compare(request: SignedInRequest) -> HttpResponse:
    wanted = _wanted(request)
    sides = _sides(request, wanted[:MOST_COMPARED])
    context: dict[str, Any] = {"sides": sides, "is_cut": len(wanted) > MOST_COMPARED, "most": MOST_COMPARED}
    if len(sides) > 1:
        first = _baseline(request, sides)
        others = [side for side in sides if side.is_open and side is not first] if first.is_open else []
        context |= {
            "baseline": first,
            "table": compared(sides, first, pictures=list(PICTURES)),
            "codes": [(side, side.job.submission.sha256 == first.job.submission.sha256) for side in others],
            "has_others": not all(side.is_open for side in sides),
            "width": len(sides) + 1,
        }
    else:
        mine = Job.objects.filter(user=request.user, submission__deleted_at=None)
        mine = mine.select_related("leaderboard", "submission").newest_first()
        mine = mine.defer("submission__manifest", "submission__metadata")
        context |= {"recent": mine[:RECENT_JOBS], "chosen": [str(job_id) for job_id in wanted]}
    return render(request, "jobs/compare.html", context)


@login_required
@require_safe
def compare_code(request: SignedInRequest) -> HttpResponse:
    """How the code of the second job differs from that of the first; both submissions must be the viewer's to read."""
    wanted = _wanted(request)
    if len(wanted) != 2:
        raise Http404
    jobs = Job.objects.visible_to(request.user).in_bulk(wanted)
    readable = Submission.objects.visible_to(request.user).in_bulk([job.submission_id for job in jobs.values()])
    try:
        first, second = (readable[jobs[job_id].submission_id] for job_id in wanted)
    except KeyError as error:
        raise Http404 from error
    names = [f"{code.label} ({str(job_id)[:8]})" for code, job_id in zip((first, second), wanted, strict=True)]
    context: dict[str, Any] = {"jobs": [jobs[job_id] for job_id in wanted], "names": names}
    try:
        context["diff"] = code_diff(first, second)
    except TooLargeToCompare as refusal:
        context["refusal"] = refusal.message
    return render(request, "jobs/_code.html" if request.htmx else "jobs/code.html", context)
