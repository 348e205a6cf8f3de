"""Which job an address means, to whom."""

from uuid import UUID

from django.http import HttpRequest
from django.shortcuts import get_object_or_404

from jobs.models import Job
from submissions.contents import refuse_deleted


def visible_job(request: HttpRequest, job_id: UUID, *related: str) -> Job:
    """The job with what its pages need of other tables; 404 for whoever may not see it, 410 if its submission is deleted."""
    found = Job.objects.visible_to(request.user).select_related(
        "leaderboard", "user", "submission", "disqualification", "score_version", *related
    )
    job = get_object_or_404(found, pk=job_id)
    refuse_deleted(job.submission)
    return job
