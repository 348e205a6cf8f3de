"""Reading who stands where: one bounded query a page, from `Entry` alone and the jobs of the rows shown."""

from django.db.models import F, FloatField, QuerySet, Window
from django.db.models.fields.json import KeyTextTransform
from django.db.models.functions import Cast, Rank

from leaderboards.models import Entry, Leaderboard, Metric

PAGE_SIZE = 50
LARGEST_PAGE = 1000


def ranked_entries(leaderboard: Leaderboard, metric: Metric | None = None) -> QuerySet[Entry]:
    """Entries best first by the metric (default: the ranking one), with `rank` (shared at equal values) and `value`.

    By another metric than the ranking one, each person still stands with their entry's job; people whose job lacks it
    are left out. Slice it: the whole of a large board is never needed.
    """
    metric = metric or leaderboard.ranking_metric
    entries = Entry.objects.filter(leaderboard=leaderboard).select_related("user", "job")
    if metric is None:
        return entries.none()
    if metric == leaderboard.ranking_metric:
        entries = entries.annotate(value=F("score"))
    else:
        stored = Cast(KeyTextTransform(metric.name, "job__metrics"), FloatField())
        entries = entries.filter(job__metrics__has_key=metric.name).annotate(value=stored)
    order = F("value").desc() if metric.higher_is_better else F("value").asc()
    return entries.annotate(rank=Window(Rank(), order_by=order)).order_by(order, "submitted_at", "id")
