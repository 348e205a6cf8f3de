"""Which job an address means, to whom."""

from uuid import UUID

from django.http import HttpRequest
from django.shortcuts import get_object_or_404

from jobs.models import Job


def visible_job(request: HttpRequest, job_id: UUID, *related: str) -> Job:
    """The job with what its pages need of other tables; 404 for whoever may not see it."""
    found = Job.objects.visible_to(request.user).select_related(
        "leaderboard", "user", "submission", "disqualification", "score_version", *related
    )
    return get_object_or_404(found, pk=job_id)
