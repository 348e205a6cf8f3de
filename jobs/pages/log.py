"""A job's log: followed, searched, and as plain text."""

from collections.abc import Iterator
from uuid import UUID

from django.contrib.auth.decorators import login_required
from django.http import Http404, HttpRequest, HttpResponse, StreamingHttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe

from jobs.log_page import log_part
from jobs.pages.access import visible_job
from jobs.queries import read_log


@login_required
@require_safe
def job_log(request: HttpRequest, job_id: UUID) -> HttpResponse:
    """The log from an offset on, for htmx; the whole log again when another attempt has begun meanwhile."""
    found = visible_job(request, job_id)
    offset, attempt = request.GET.get("offset", "0"), request.GET.get("attempt", "")
    if not (offset.isascii() and offset.isdigit() and len(offset) <= 15):
        raise Http404
    is_same = attempt == str(found.attempt)
    part = log_part(found, int(offset) if is_same else 0, request.GET.get("style", "") if is_same else "")
    response = render(request, "jobs/_log.html", {"job": found, "part": part})
    # The file's own last newline: in a <pre> each answer would add an empty line below the log.
    response.content = response.content.removesuffix(b"\n")
    if not is_same:
        response["HX-Retarget"], response["HX-Reswap"] = "#log", "innerHTML"
    return response


@login_required
@require_safe
def job_log_text(request: HttpRequest, job_id: UUID) -> StreamingHttpResponse:
    """The whole log as it is, as plain text; `?download` to save it."""
    found = visible_job(request, job_id)

    def parts() -> Iterator[bytes]:
        offset = 0
        while True:
            content, offset = read_log(found, offset)
            if not content:
                return
            yield content

    response = StreamingHttpResponse(parts(), content_type="text/plain; charset=utf-8")
    if "download" in request.GET:
        response["Content-Disposition"] = f'attachment; filename="{found.pk}.log"'
    return response
