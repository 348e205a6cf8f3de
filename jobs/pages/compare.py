"""Jobs side by side: the params that differ, the metrics."""

from uuid import UUID

from django.contrib.auth.decorators import login_required
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe

from jobs.comparison import compared
from jobs.models import Job

MOST_COMPARED = 8


@login_required
@require_safe
def compare(request: HttpRequest) -> HttpResponse:
    """Jobs side by side: the params that differ, and the metrics."""
    try:
        wanted = list(dict.fromkeys(UUID(text) for text in request.GET.getlist("job")))
    except ValueError as error:
        raise Http404 from error
    visible = Job.objects.visible_to(request.user).select_related("leaderboard", "user")
    found = visible.prefetch_related("leaderboard__metrics").in_bulk(wanted[:MOST_COMPARED])
    if len(found) < len(wanted[:MOST_COMPARED]):
        raise Http404
    chosen = [found[job_id] for job_id in wanted[:MOST_COMPARED]]
    recent = visible.filter(user=request.user).newest_first()[:20] if len(chosen) < 2 else []
    context = {"jobs": chosen, "table": compared(chosen) if len(chosen) > 1 else None, "recent": recent}
    context |= {"is_cut": len(wanted) > MOST_COMPARED, "most": MOST_COMPARED}
    return render(request, "jobs/compare.html", context)
