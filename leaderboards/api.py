"""/api/leaderboards"""

import csv
import io
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

from accounts.refusals import InvalidInput
from accounts.schema import refusals
from leaderboards.models import Leaderboard, Metric
from leaderboards.queries import LARGEST_PAGE, PAGE_SIZE, ranked_entries
from leaderboards.serializers import EntriesShown, EntryShown, LeaderboardShown


class CsvRenderer(BaseRenderer):
    """Chosen by `?format=csv` or `Accept: text/csv`; the view hands over rows."""

    media_type = "text/csv"
    format = "csv"
    charset = "utf-8"

    def render(self, data: Any, accepted_media_type: str | None = None, renderer_context: Any = None) -> bytes:
        names = list(dict.fromkeys(name for row in data["entries"] for name in row["metrics"]))
        out = io.StringIO()
        writer = csv.writer(out)
        writer.writerow(["rank", "user_id", "score", *map(inert_cell, names), "job_id", "submitted_at", "wall_seconds"])
        for row in data["entries"]:
            values = [row["metrics"].get(name, "") for name in names]
            cells = [row["rank"], row["user_id"], row["score"], *values, row["job_id"], row["submitted_at"]]
            writer.writerow([inert_cell(cell) for cell in [*cells, row["wall_seconds"]]])
        return out.getvalue().encode()


def inert_cell(value: Any) -> Any:
    """Text that a spreadsheet would take for a formula gets an apostrophe before it."""
    return f"'{value}" if isinstance(value, str) and value[:1] in "=+-@\t\r" and value else value


class LeaderboardsView(APIView):
    permission_classes = [AllowAny]

    @extend_schema(responses={200: LeaderboardShown(many=True), **refusals(401, 503)}, operation_id="list_leaderboards")
    def get(self, request: Request) -> Response:
        """Every leaderboard that you can see."""
        boards = Leaderboard.objects.visible_to(request.user).prefetch_related("metrics")
        return Response(LeaderboardShown(boards[:LARGEST_PAGE], many=True).data)


class LeaderboardView(APIView):
    permission_classes = [AllowAny]

    @extend_schema(responses={200: LeaderboardShown, **refusals(401, 404, 503)}, operation_id="get_leaderboard")
    def get(self, request: Request, slug: str) -> Response:
        """One leaderboard with its metrics; the first one ranks."""
        boards = Leaderboard.objects.visible_to(request.user).prefetch_related("metrics")
        return Response(LeaderboardShown(get_object_or_404(boards, slug=slug)).data)


class EntriesView(APIView):
    permission_classes = [AllowAny]
    renderer_classes = [JSONRenderer, CsvRenderer]

    @extend_schema(
        parameters=[
            OpenApiParameter(
                "metric", OpenApiTypes.STR, description="Order by this metric; the ranking one if left out."
            ),
            OpenApiParameter(
                "limit", OpenApiTypes.INT, description=f"At most {LARGEST_PAGE}; {PAGE_SIZE} if left out."
            ),
            OpenApiParameter("format", OpenApiTypes.STR, enum=["json", "csv"]),
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
        boards = Leaderboard.objects.visible_to(request.user).prefetch_related("metrics")
        board = get_object_or_404(boards, slug=slug)
        metric = chosen_metric(board, request.query_params.get("metric", ""))
        limit = page_limit(request.query_params.get("limit", ""))
        rows = ranked_entries(board, metric)[:limit]
        answer = {
            "leaderboard": board.slug,
            "metric": "",
            "direction": "higher",
            "entries": EntryShown(rows, many=True).data,
        }
        if metric is not None:
            answer |= {"metric": metric.name, "direction": metric.direction}
        return Response(answer)


def chosen_metric(board: Leaderboard, name: str) -> Metric | None:
    """The board's metric of that name, the ranking one for no name; InvalidInput for an unknown name."""
    if not name:
        return board.ranking_metric
    for metric in board.metric_list:
        if metric.name == name:
            return metric
    known = ", ".join(metric.name for metric in board.metric_list)
    raise InvalidInput(
        "bad_metric", _("must be one of %(known)s, not %(name)r."), field="metric", known=known, name=name[:100]
    )


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
