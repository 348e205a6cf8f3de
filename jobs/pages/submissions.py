"""What an owner does to a submission that has runs: rename it, delete it."""

from uuid import UUID

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_http_methods, require_POST

from accounts.refusals import Conflict, RequestRefused
from accounts.requests import SignedInRequest
from jobs.deleting import counting_jobs, delete_submission, refuse_deletion
from jobs.renaming import rename_submission
from submissions.models import Submission


@login_required
@require_POST
def rename(request: SignedInRequest, submission_id: UUID) -> HttpResponse:
    submission = get_object_or_404(Submission.objects.visible_to(request.user), pk=submission_id)
    try:
        rename_submission(submission, by=request.user, name=request.POST.get("name", ""))
    except RequestRefused as refusal:
        messages.error(request, refusal.message)
    else:
        messages.success(request, _("The name is changed."))
    return redirect(submission)


@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def delete(request: SignedInRequest, submission_id: UUID) -> HttpResponse:
    """Say what a deletion takes along, or why it is refused; a POST deletes."""
    visible = Submission.objects.visible_to(request.user).select_related("leaderboard")
    submission = get_object_or_404(visible, pk=submission_id)
    try:
        if request.method == "POST":
            delete_submission(submission, by=request.user)
            messages.success(
                request, _("The submission is deleted. Its files and its runs in MLflow go within a minute.")
            )
            return redirect("submissions")
        refuse_deletion(submission, by=request.user)
    except Conflict as refusal:
        return _page(request, submission, refusal)
    return _page(request, submission)


def _page(request: SignedInRequest, submission: Submission, refusal: Conflict | None = None) -> HttpResponse:
    jobs = submission.jobs.all()
    entry = jobs.filter(entry__isnull=False).only("pk").first()
    context = {
        "submission": submission,
        "refusal": refusal,
        "jobs": jobs.count(),
        "runs": jobs.exclude(run_id="").count(),
        "counting": counting_jobs(submission).count(),
        "is_entry": entry is not None,
    }
    return render(request, "submissions/delete.html", context, status=refusal.status if refusal else 200)
