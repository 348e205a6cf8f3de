"""The page of a submission: what was sent in, and what became of it. And what the submit page asks while one types."""

import re
from uuid import UUID, uuid4

from django.conf import settings
from django.contrib.auth.decorators import login_required
from django.core.paginator import Paginator
from django.http import FileResponse, Http404, HttpResponse, JsonResponse
from django.shortcuts import get_object_or_404, render
from django.views.decorators.http import require_POST, require_safe

from accounts.refusals import TooLarge
from accounts.requests import SignedInRequest
from core.downloads import content_disposition
from submissions.contents import as_text, open_archive, read_config_file, read_file, refuse_deleted
from submissions.forms import CONFIG_MAX_CHARACTERS, config_problem
from submissions.models import Submission

JOBS_SHOWN = 100
FILES_PAGE = 200
_SLASHES = re.compile(r"[/\\]")


@login_required
@require_safe
def submission(request: SignedInRequest, submission_id: UUID) -> HttpResponse:
    visible = Submission.objects.visible_to(request.user).select_related("leaderboard", "user")
    found = get_object_or_404(visible, pk=submission_id)
    refuse_deleted(found)
    context = {
        "submission": found,
        "jobs": found.jobs.select_related("leaderboard").newest_first()[:JOBS_SHOWN],
        "is_mine": found.user_id == request.user.pk,
        "resource_classes": list(settings.RESOURCE_CLASSES),
        "run_key": uuid4().hex,
    }
    return render(request, "submissions/submission.html", context)


def _visible(request: SignedInRequest, submission_id: UUID) -> Submission:
    """Return the submission; 404 for whoever may not see it, 410 if its owner has deleted it."""
    found = get_object_or_404(Submission.objects.visible_to(request.user), pk=submission_id)
    refuse_deleted(found)
    return found


@login_required
@require_safe
def files(request: SignedInRequest, submission_id: UUID) -> HttpResponse:
    """Every file of the submission, page by page."""
    found = _visible(request, submission_id)
    number = request.GET.get("page", "1")
    if not (number.isascii() and number.isdigit() and len(number) <= 5):
        raise Http404
    pages = Paginator(found.manifest, FILES_PAGE)
    if not 1 <= int(number) <= pages.num_pages:
        raise Http404
    return render(request, "submissions/files.html", {"submission": found, "page": pages.page(int(number))})


@login_required
@require_safe
def view_file(request: SignedInRequest, submission_id: UUID, path: str) -> HttpResponse:
    """One file as text, or the reason why it is not shown."""
    found = _visible(request, submission_id)
    file = next((item for item in found.manifest if item["path"] == path), None)
    if file is None:
        raise Http404
    context = {"submission": found, "file": file, "text": None}
    try:
        context["text"] = as_text(read_file(found, path))
    except TooLarge as refusal:
        context["refusal"] = refusal.message
    return render(request, "submissions/file.html", context)


@login_required
@require_safe
def archive(request: SignedInRequest, submission_id: UUID) -> FileResponse:
    """The archive as it was stored, to be saved."""
    return archive_response(_visible(request, submission_id))


def archive_response(submission: Submission) -> FileResponse:
    """Stream the stored archive as a download. Raises Gone and Unavailable."""
    response = FileResponse(open_archive(submission), content_type="application/octet-stream")
    response["Content-Disposition"] = content_disposition(_SLASHES.sub("_", f"{submission.label}.{submission.kind}"))
    return response


@login_required
@require_safe
def submission_config(request: SignedInRequest, submission_id: UUID) -> HttpResponse:
    """The text of the config file of one of one's own submissions, to begin another with; 204 when there is none."""
    found = get_object_or_404(Submission.objects.filter(user=request.user), pk=submission_id)
    text = read_config_file(found)
    if text is None:
        return HttpResponse(status=204)
    return HttpResponse(text, content_type="text/plain; charset=utf-8")


@login_required
@require_POST
def check_config(request: SignedInRequest) -> JsonResponse:
    """What is wrong with a config file that is being edited: `{"problem": ""}` when nothing is."""
    text, name = request.POST.get("text", ""), request.POST.get("name", "")
    return JsonResponse({"problem": config_problem(text[:CONFIG_MAX_CHARACTERS], name)})
