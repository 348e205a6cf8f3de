"""What an owner does to a submission that has runs: rename it."""

from uuid import UUID

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.utils.translation import gettext as _
from django.views.decorators.http import require_POST

from accounts.refusals import RequestRefused
from jobs.renaming import rename_submission
from submissions.models import Submission


@login_required
@require_POST
def rename(request: HttpRequest, submission_id: UUID) -> HttpResponse:
    submission = get_object_or_404(Submission.objects.visible_to(request.user), pk=submission_id)
    try:
        rename_submission(submission, by=request.user, name=request.POST.get("name", ""))
    except RequestRefused as refusal:
        messages.error(request, refusal.message)
    else:
        messages.success(request, _("The name is changed."))
    return redirect(submission)
