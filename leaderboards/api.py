"""/api/leaderboards"""

from typing import Any

from django.http import HttpResponse
from django.shortcuts import get_object_or_404
from django.utils.translation import gettext_lazy as _
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.permissions import AllowAny
from rest_framework.renderers import BaseRenderer, JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts.http import refuse_unknown_parameters
from accounts.refusals import InvalidInput
from accounts.schema import refusals
from leaderboards.export import csv_lines
from leaderboards.models import Leaderboard, Metric
from leaderboards.queries import LARGEST_PAGE, PAGE_SIZE, Page, Ranking
from leaderboards.run_counts import run_counts
from leaderboards.selection import selection
from leaderboards.serializers import EntriesShown, EntryShown, LeaderboardShown

STR = OpenApiTypes.STR


class CsvRenderer(BaseRenderer):
    """Chosen by `?format=csv` or `Accept: text/csv`; the view hands over rows."""

    media_type = "text/csv"
    format = "csv"
    charset = "utf-8"

    def render(self, data: Any, accepted_media_type: str | None = None, renderer_context: Any = None) -> bytes:
        names = list(dict.fromkeys(name for row in data["entries"] for name in row["metrics"]))
        last = ["wall_seconds", "isolation", "runs", "withdrawn", "display_name", "submission_name"]
        rows = (
            [
                *(row[name] for name in ("rank", "user_id", "score")),
                *(row["metrics"].get(name, "") for name in names),
                *(row[name] for name in ("job_id", "submitted_at", *last)),
            ]
            for row in data["entries"]
        )
        heads = ["rank", "user_id", "score", *names, "job_id", "submitted_at", *last]
        return "".join(csv_lines(heads, rows)).encode()


class LeaderboardsView(APIView):
    permission_classes = [AllowAny]

    @extend_schema(
        responses={200: LeaderboardShown(many=True), **refusals(400, 401, 503)}, operation_id="list_leaderboards"
    )
    def get(self, request: Request) -> Response:
        """Every leaderboard that you can see."""
        refuse_unknown_parameters(request)
        boards = (
            Leaderboard.objects.visible_to(request.user).select_related("score_version").prefetch_related("metrics")
        )
        return Response(LeaderboardShown(boards[:LARGEST_PAGE], many=True).data)


class LeaderboardView(APIView):
    permission_classes = [AllowAny]

    @extend_schema(responses={200: LeaderboardShown, **refusals(401, 404, 503)}, operation_id="get_leaderboard")
    def get(self, request: Request, slug: str) -> Response:
        """One leaderboard with its metrics; the first one ranks."""
        boards = (
            Leaderboard.objects.visible_to(request.user).select_related("score_version").prefetch_related("metrics")
        )
        return Response(LeaderboardShown(get_object_or_404(boards, slug=slug)).data)


class EntriesView(APIView):
    permission_classes = [AllowAny]
    renderer_classes = [JSONRenderer, CsvRenderer]

    @extend_schema(
        parameters=[
            OpenApiParameter("metric", STR, description="Order by this metric; the ranking one if left out."),
            OpenApiParameter("q", STR, description="Only people whose username or display name has this in it."),
            OpenApiParameter("of", STR, description="The metric that `min` and `max` bound; `metric` if left out."),
            OpenApiParameter("min", OpenApiTypes.DOUBLE, description="The least value kept."),
            OpenApiParameter("max", OpenApiTypes.DOUBLE, description="The largest value kept."),
            OpenApiParameter("as_of", OpenApiTypes.DATE, description="The board at the end of this day."),
            OpenApiParameter("after", STR, description="Where to go on: `next` of the answer before."),
            OpenApiParameter(
                "limit", OpenApiTypes.INT, description=f"At most {LARGEST_PAGE}; {PAGE_SIZE} if left out."
            ),
            OpenApiParameter("format", STR, enum=["json", "csv"]),
        ],
        responses={
            (200, "application/json"): EntriesShown,
            (200, "text/csv"): OpenApiTypes.STR,
            **refusals(400, 401, 404, 503),
        },
        operation_id="list_entries",
    )
    def get(self, request: Request, slug: str) -> Response | HttpResponse:
        """Who stands where: each person's best job, best first."""
        # Those of the page's address too, which may be asked for here.
        refuse_unknown_parameters(
            request, "metric", "q", "of", "min", "max", "as_of", "after", "before", "column", "limit"
        )
        boards = Leaderboard.objects.visible_to(request.user).prefetch_related("metrics")
        board = get_object_or_404(boards, slug=slug)
        ranking = Ranking(selection(board, request.query_params))
        page = ranking.page(page_limit(request.query_params.get("limit", "")))
        return Response(told(ranking, page, viewer=request.user))


def told(ranking: Ranking, page: Page, *, viewer: Any = None) -> dict[str, Any]:
    """The rows of a page as programs of this viewer get them; None is the command line."""
    selected, metric = ranking.selected, ranking.selected.metric
    counted = {} if ranking.is_past else run_counts(selected.board, [row.user_id for row in page.rows])
    return {
        "leaderboard": selected.board.slug,
        "metric": metric.name if metric else "",
        "direction": metric.direction if metric else Metric.Direction.HIGHER.value,
        "as_of": selected.as_of,
        "next": str(page.following) if page.following else None,
        "entries": EntryShown(page.rows, many=True, context={"counted": counted, "viewer": viewer}).data,
    }


def page_limit(text: str) -> int:
    """How many rows were asked for, within bounds."""
    if not text:
        return PAGE_SIZE
    if not (text.isascii() and text.isdigit() and len(text) <= 9 and 1 <= int(text) <= LARGEST_PAGE):
        raise InvalidInput(
            "bad_limit", _("must be a number from 1 to %(most)d, not %(text)r."), field="limit", most=LARGEST_PAGE,
            text=text[:20],
        )  # fmt: skip
    return int(text)
