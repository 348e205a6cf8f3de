"""The page of a submission: what was sent in, and what became of it. And what the submit page asks while one types."""

from uuid import UUID, uuid4

from django.conf import settings
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import get_object_or_404, render
from django.views.decorators.http import require_POST, require_safe

from submissions.contents import read_config_file
from submissions.forms import CONFIG_MAX_CHARACTERS, config_problem
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
        "run_key": uuid4().hex,
    }
    return render(request, "submissions/submission.html", context)


@login_required
@require_safe
def submission_config(request: HttpRequest, submission_id: UUID) -> HttpResponse:
    """The text of the config file of one of one's own submissions, to begin another with; 204 when there is none."""
    found = get_object_or_404(Submission.objects.filter(user=request.user), pk=submission_id)
    text = read_config_file(found)
    if text is None:
        return HttpResponse(status=204)
    return HttpResponse(text, content_type="text/plain; charset=utf-8")


@login_required
@require_POST
def check_config(request: HttpRequest) -> JsonResponse:
    """What is wrong with a config file that is being edited: `{"problem": ""}` when nothing is."""
    text, name = request.POST.get("text", ""), request.POST.get("name", "")
    return JsonResponse({"problem": config_problem(text[:CONFIG_MAX_CHARACTERS], name)})
