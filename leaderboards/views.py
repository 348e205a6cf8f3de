"""The page of a leaderboard: who stands where. It reads entries alone, never all jobs."""

from dataclasses import dataclass
from typing import Any

from django.db.models import Count
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, render
from django.views.decorators.http import require_safe

from leaderboards.charts import cost_chart, progress_chart
from leaderboards.models import Entry, Leaderboard, Metric
from leaderboards.queries import PAGE_SIZE, ranked_entries

CHARTED = 200
LAST_PAGE = 10_000
# A page of rows must not carry each job's list of a thousand files.
UNSEEN = ("job__artifacts", "job__params", "job__config", "job__limits_applied", "job__error_message")


@dataclass
class Row:
    """One person's line: the entry with its `rank` and `value`, and the cells in the order of the metrics."""

    entry: Entry
    cells: list[tuple[Metric, float | None]]
    tries: int
    is_mine: bool
    can_open: bool


def rows(board: Leaderboard, entries: list[Entry], user: Any) -> list[Row]:
    """The entries as lines, with how many runs each person has completed: one query for all of them."""
    people = [entry.user_id for entry in entries]
    completed = board.jobs.filter(user__in=people, status="completed").values("user_id").order_by()
    tries = {row["user_id"]: row["tries"] for row in completed.annotate(tries=Count("id"))} if people else {}
    sees_all = user.is_staff and user.has_perm("jobs.view_job")
    return [
        Row(
            entry=entry,
            cells=[(metric, entry.job.metrics.get(metric.name)) for metric in board.metric_list],
            tries=tries.get(entry.user_id, 1),
            is_mine=entry.user_id == user.pk,
            can_open=entry.user_id == user.pk or sees_all,
        )
        for entry in entries
    ]


def own_entry(board: Leaderboard, metric: Metric | None, user: Any) -> Entry | None:
    """The user's entry with its rank by the metric: counted, because a filtered window would rank it first."""
    mine = (
        ranked_entries(board, metric).defer(*UNSEEN).filter(user=user).first()
        if user.is_authenticated and metric
        else None
    )
    if mine is not None:
        better = {"value__gt" if metric.higher_is_better else "value__lt": mine.value}
        mine.rank = ranked_entries(board, metric).filter(**better).count() + 1
    return mine


def page_number(text: str) -> int:
    if not text:
        return 1
    if not (text.isascii() and text.isdigit() and len(text) <= 5 and 1 <= int(text) <= LAST_PAGE):
        raise Http404
    return int(text)


@require_safe
def leaderboard(request: HttpRequest, slug: str) -> HttpResponse:
    boards = Leaderboard.objects.visible_to(request.user).prefetch_related("metrics")
    board = get_object_or_404(boards.select_related("pause"), slug=slug)
    by_name = {metric.name: metric for metric in board.metric_list}
    name = request.GET.get("metric", "")
    if name and name not in by_name:
        raise Http404
    metric = by_name.get(name) or board.ranking_metric
    page = page_number(request.GET.get("page", ""))
    start = (page - 1) * PAGE_SIZE
    ranked = ranked_entries(board, metric).defer(*UNSEEN)
    found = list(ranked[start : start + PAGE_SIZE + 1])
    shown = found[:PAGE_SIZE]
    mine = None
    if request.user.is_authenticated and all(entry.user_id != request.user.pk for entry in shown):
        mine = own_entry(board, metric, request.user)
    lines = rows(board, shown + ([mine] if mine else []), request.user)
    charted = shown if page == 1 and len(found) <= PAGE_SIZE else list(ranked[:CHARTED])
    context = {
        "board": board,
        "metric": metric,
        "lines": lines[: len(shown)],
        "mine": lines[len(shown)] if mine else None,
        "page": page,
        "previous_page": page - 1 if page > 1 else None,
        "next_page": page + 1 if len(found) > PAGE_SIZE else None,
        "paused": getattr(board, "pause", None),
        "is_open": Leaderboard.objects.open().filter(pk=board.pk).exists(),
        "progress": progress_chart(charted, metric) if metric else None,
        "cost": cost_chart(charted, metric) if metric else None,
    }
    return render(request, "leaderboards/leaderboard.html", context)
