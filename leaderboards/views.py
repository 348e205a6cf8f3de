"""The pages of a leaderboard: who stands where, how that changed, the same as a file, and a badge."""

import hashlib
from dataclasses import replace
from typing import Any

from django.conf import settings
from django.contrib.auth.models import AnonymousUser
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase, QueryDict, StreamingHttpResponse
from django.shortcuts import get_object_or_404, render
from django.urls import reverse
from django.utils import timezone
from django.utils.cache import get_conditional_response, patch_vary_headers
from django.views.decorators.http import require_safe

from accounts.permissions import sees_all_jobs
from accounts.refusals import InvalidInput
from leaderboards.badge import badge_svg, badge_text
from leaderboards.changes import changes, records, steps_of
from leaderboards.charts import cost_chart, progress_chart
from leaderboards.digits import places_of
from leaderboards.export import FORMATS, export
from leaderboards.models import Leaderboard
from leaderboards.queries import PAGE_SIZE, Page, Ranking
from leaderboards.run_counts import run_counts
from leaderboards.selection import MOST_COLUMNS, Selection, selection, today
from leaderboards.services import opening_of

CHARTED = 100
CHARTED_PEOPLE = 8
BADGE_SECONDS = 300
# What another choice of columns starts anew.
NOT_KEPT = {"column", "after", "before", "near"}


def board_of(request: HttpRequest, slug: str) -> Leaderboard:
    boards = (
        Leaderboard.objects.visible_to(request.user)
        .select_related("pause", "score_version")
        .prefetch_related("metrics")
    )
    return get_object_or_404(boards, slug=slug)


@require_safe
def leaderboard(request: HttpRequest, slug: str) -> HttpResponse:
    """The board; for htmx only the part that a changed filter, order or page changes."""
    board = board_of(request, slug)
    is_part = bool(getattr(request, "htmx", False))
    context: dict[str, Any] = {
        "board": board,
        "paused": getattr(board, "pause", None),
        "sees_all": sees_all_jobs(request.user),
        "is_open": Leaderboard.objects.open().filter(pk=board.pk).exists(),
        "opens_at": opening_of(board),
        "badge": settings.SITE_URL.rstrip("/") + reverse("leaderboard_badge", args=[board.slug]),
        "address": settings.SITE_URL.rstrip("/") + board.get_absolute_url(),
        "today": today(),
        "site_zone": settings.TIME_ZONE,
        "most_columns": MOST_COLUMNS,
        "kept": [(name, value) for name, value in request.GET.items() if value and name not in NOT_KEPT],
    }
    status = 200
    try:
        selected = selection(board, request.GET)
    except InvalidInput as refused:
        # The form keeps what was typed, and says what is wrong with it.
        selected = selection(board, QueryDict())
        context |= {"selected": selected, "metric": selected.metric, "wrong": refused.message}
        status = 400
    else:
        context |= ranking_context(request, selected)
    template = "leaderboards/_ranking.html" if is_part else "leaderboards/leaderboard.html"
    response = render(request, template, context, status=status)
    patch_vary_headers(response, ["HX-Request"])
    return response


def ranking_context(request: HttpRequest, selected: Selection) -> dict[str, Any]:
    """The rows of a page with the user's own, which stays in sight wherever it stands."""
    ranking = Ranking(selected)
    mine = None
    if request.user.is_authenticated and request.GET.get("near") == "me" and (mine := ranking.row_of(request.user.pk)):
        selected = replace(selected, search="", least=None, most=None, before=None, after=ranking.place_above(mine))
        ranking.selected = selected
    page = ranking.page()
    if request.user.is_authenticated and mine is None:
        here = [row for row in page.rows if row.user_id == request.user.pk]
        mine = here[0] if here else ranking.row_of(request.user.pk)
    return {
        "selected": selected,
        "metric": selected.metric,
        "page": page,
        "mine": mine,
        "is_mine_here": mine is not None and any(row.user_id == mine.user_id for row in page.rows),
        "places": {
            column.name: places_of(
                [row.metrics.get(column.name) for row in page.rows], tell_apart=column == selected.metric
            )
            for column in selected.columns
        },
        # A past board shows jobs that may stand on no board any more: they are not for everybody to compare.
        "can_pick": request.user.is_authenticated and not ranking.is_past,
        "runs": None if ranking.is_past else run_counts(selected.board, [row.user_id for row in page.rows]),
        "has_unsafe": any(row.is_unsafe for row in page.rows),
        "has_pages": bool(page.previous or page.following),
        "first_rank": next((row.rank for row in page.rows if row.rank), None),
        "last_rank": next((row.rank for row in reversed(page.rows) if row.rank), None),
    }


@require_safe
def leaderboard_history(request: HttpRequest, slug: str) -> HttpResponse:
    """What changed this week and the charts, which the board's page fetches when they come into sight."""
    board = board_of(request, slug)
    selected = selection(board, request.GET)
    selected = Selection(board, selected.metric)
    ranking = Ranking(selected)
    page = ranking.page(CHARTED)
    context = {"board": board, "metric": selected.metric, "changes": changes(board)}
    if selected.metric is not None:
        context |= charts_context(request, ranking, page)
    template = "leaderboards/_history.html" if getattr(request, "htmx", False) else "leaderboards/history.html"
    response = render(request, template, context)
    patch_vary_headers(response, ["HX-Request"])
    return response


def charts_context(request: HttpRequest, ranking: Ranking, page: Page) -> dict[str, Any]:
    board, metric = ranking.selected.board, ranking.selected.metric
    best = [row for row in page.rows if not row.is_baseline]
    if metric != board.ranking_metric:
        best = [
            row for row in Ranking(Selection(board, board.ranking_metric)).page(PAGE_SIZE).rows if not row.is_baseline
        ]
    people = [row.user_id for row in best[:CHARTED_PEOPLE]]
    if request.user.is_authenticated and request.user.pk not in (*people, *ranking.labels):
        people.append(request.user.pk)
    steps = steps_of(board, people)
    references = page.baselines if metric == board.ranking_metric else []
    return {
        "ranking_metric": board.ranking_metric,
        "progress": progress_chart(records(board), steps, references, timezone.now()),
        "cost": cost_chart(page.rows, metric) if metric else None,
    }


@require_safe
def leaderboard_export(request: HttpRequest, slug: str, kind: str) -> HttpResponseBase:
    """The rows of this address of the board's page as a file: filtered, ordered and dated as there, all pages."""
    board = board_of(request, slug)
    if kind not in FORMATS:
        raise Http404
    selected = selection(board, request.GET)
    name = f"{board.slug}-{selected.as_of}" if selected.as_of else board.slug
    headers = {"Content-Disposition": f'attachment; filename="{name}.{kind}"', "Cache-Control": "no-store"}
    return StreamingHttpResponse(
        export(selected, kind, viewer=request.user), content_type=FORMATS[kind], headers=headers
    )


@require_safe
def leaderboard_badge(request: HttpRequest, slug: str) -> HttpResponseBase:
    """A small SVG to embed elsewhere: the leader, or with `?user=` where that person stands."""
    boards = Leaderboard.objects.prefetch_related("metrics").filter(slug=slug)
    # A public board's badge is the same for everybody: its session is not even looked at, so that caches may keep it.
    board = boards.visible_to(AnonymousUser()).first()
    is_public = board is not None
    if board is None:
        board = get_object_or_404(boards.visible_to(request.user))
    text = badge_text(board, request.GET.get("user") or None)
    if text is None:
        raise Http404
    content = badge_svg(board.title, text)
    etag = f'"{hashlib.sha256(content.encode()).hexdigest()[:32]}"'
    scope = "public" if is_public else "private"
    headers = {
        "ETag": etag,
        "Cache-Control": f"{scope}, max-age={BADGE_SECONDS}",
        # A picture of a public board may stand on any site.
        "Cross-Origin-Resource-Policy": "cross-origin" if is_public else "same-origin",
    }
    response = HttpResponse(content, content_type="image/svg+xml; charset=utf-8", headers=headers)
    return get_conditional_response(request, etag=etag, response=response) or response
