"""The files that a run left: pictures shown, series of numbers drawn, all of them to be saved."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from django.contrib.auth.decorators import login_required
from django.core.files.base import File
from django.core.paginator import Paginator
from django.http import FileResponse, Http404, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe

from accounts.refusals import Unavailable
from accounts.requests import SignedInRequest
from core.downloads import content_disposition
from jobs.models import Job
from jobs.pages.access import visible_job
from jobs.queries import open_artifact
from jobs.series_files import MAX_BYTES, can_be_drawn, charts_of

# On the job's own page; the page of files has them all.
PICTURES_SHOWN, FILES_SHOWN = 24, 40
FILES_PAGE = 100
# Shown in the page; anything else of a run is only ever downloaded, SVG too: it can hold scripts.
PICTURES = {
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".gif": "image/gif",
    ".webp": "image/webp",
}


def _picture_type(path: str) -> str:
    dot = path.rfind(".")
    return PICTURES.get(path[dot:].lower(), "") if dot >= 0 else ""


def is_picture(path: str) -> bool:
    """Whether a file is shown as a picture, by its name."""
    return bool(_picture_type(path))


def listed(items: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The artifacts with what can be done with each: `is_picture`, `can_be_drawn`."""
    return [
        {**item, "is_picture": is_picture(item["path"]), "can_be_drawn": can_be_drawn(item["path"], item["bytes"])}
        for item in items
    ]


def _item(job: Job, path: str) -> dict[str, Any]:
    """What the job says of one of its files; 404 for anything that it did not leave."""
    found = next((item for item in job.artifacts if item["path"] == path), None)
    if found is None:
        raise Http404
    return found


def _opened(item: dict[str, Any]) -> File:
    """The stored file: 404 when retention took it, 503 while the storage is away."""
    try:
        return open_artifact(item["name"])
    except Unavailable as error:
        if isinstance(error.__cause__, FileNotFoundError):
            raise Http404 from error
        raise


@login_required
@require_safe
def files(request: SignedInRequest, job_id: UUID) -> HttpResponse:
    """Every file that the run left, page by page."""
    found = visible_job(request, job_id)
    number = request.GET.get("page", "1")
    if not (number.isascii() and number.isdigit() and len(number) <= 5):
        raise Http404
    pages = Paginator(found.artifacts, FILES_PAGE)
    if not 1 <= int(number) <= pages.num_pages:
        raise Http404
    page = pages.page(int(number))
    return render(request, "jobs/files.html", {"job": found, "page": page, "files": listed(list(page))})


@login_required
@require_safe
def view_file(request: SignedInRequest, job_id: UUID, path: str) -> HttpResponse:
    """One file in a page of its own: a picture large, with the one before and after it; numbers as curves."""
    found = visible_job(request, job_id)
    item = _item(found, path)
    context: dict[str, Any] = {"job": found, "file": listed([item])[0]}
    if is_picture(path):
        pictures = [one["path"] for one in found.artifacts if is_picture(one["path"])]
        place = pictures.index(path)
        context["previous"] = pictures[place - 1] if place else ""
        context["next"] = pictures[place + 1] if place + 1 < len(pictures) else ""
        context["place"], context["count"] = place + 1, len(pictures)
    elif can_be_drawn(path, item["bytes"]):
        with _opened(item) as stored:
            context["drawn"] = charts_of(path, stored.read(MAX_BYTES))
    return render(request, "jobs/_drawn.html" if request.htmx else "jobs/file.html", context)


@login_required
@require_safe
def artifact(request: SignedInRequest, job_id: UUID, path: str) -> FileResponse:
    """One file as it is: pictures to be shown, all else to be saved; nothing of it can run in the page."""
    found = visible_job(request, job_id)
    item = _item(found, path)
    picture = _picture_type(path)
    response = FileResponse(_opened(item), content_type=picture or "application/octet-stream")
    is_shown = bool(picture) and "download" not in request.GET
    response["Content-Disposition"] = content_disposition(path.rpartition("/")[2], is_inline=is_shown)
    response["Content-Security-Policy"] = "default-src 'none'; sandbox"
    response["Cache-Control"] = "private, max-age=3600"
    return response
