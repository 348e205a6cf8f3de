"""The page of a submission: what was sent in, and what became of it."""

from uuid import UUID

from django.conf import settings
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, render
from django.views.decorators.http import require_safe

from submissions.models import Submission

JOBS_SHOWN = 100


@login_required
@require_safe
def submission(request: HttpRequest, submission_id: UUID) -> HttpResponse:
    visible = Submission.objects.visible_to(request.user).select_related("leaderboard", "user")
    found = get_object_or_404(visible, pk=submission_id)
    context = {
        "submission": found,
        "jobs": found.jobs.select_related("leaderboard").newest_first()[:JOBS_SHOWN],
        "is_mine": found.user_id == request.user.pk,
        "resource_classes": list(settings.RESOURCE_CLASSES),
    }
    return render(request, "submissions/submission.html", context)
