"""The pages that stand above all apps: home and account."""

from dataclasses import dataclass
from datetime import datetime

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.contrib.auth.models import AnonymousUser
from django.db import connection
from django.db.models import Count, Exists, OuterRef, Subquery
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_POST, require_safe

from accounts.forms import TokenForm
from accounts.models import User
from accounts.requests import SignedInRequest
from jobs.models import Job, Status
from jobs.views import quota_used
from leaderboard_site.time_zones import choose_zone, zone_named, zone_names
from leaderboards.models import Baseline, Entry, Leaderboard, Standing

BOARDS_SHOWN = 100
# People of a board are counted up to here: the page costs the same however many there are.
PEOPLE_COUNTED = 500

_PEOPLE = """
SELECT board.id, (SELECT count(*) FROM (
    SELECT FROM leaderboards_entry entry WHERE entry.leaderboard_id = board.id AND NOT EXISTS (
        SELECT FROM leaderboards_baseline mark WHERE mark.leaderboard_id = board.id AND mark.user_id = entry.user_id)
    LIMIT %(most)s) capped)
FROM leaderboards_leaderboard board WHERE board.id = ANY(%(boards)s)
"""


@dataclass
class BoardCard:
    """What the home page says of one leaderboard."""

    board: Leaderboard
    leader: Entry | None
    people: int
    has_more_people: bool
    latest: datetime | None
    running: int
    pending: int


def board_cards(user: User | AnonymousUser) -> list[BoardCard]:
    """Every leaderboard that the user can see, in five queries however many there are. Baselines lead none."""
    marked = Baseline.objects.filter(leaderboard=OuterRef("leaderboard_id"), user=OuterRef("user_id"))
    entries = Entry.objects.filter(~Exists(marked), leaderboard=OuterRef("pk"))
    highest = entries.order_by("-score", "submitted_at", "id").values("pk")[:1]
    lowest = entries.order_by("score", "submitted_at", "id").values("pk")[:1]
    latest = Standing.objects.filter(leaderboard=OuterRef("pk")).order_by("-began_at").values("began_at")[:1]
    boards = list(
        Leaderboard.objects.visible_to(user)
        .prefetch_related("metrics")
        .annotate(highest=Subquery(highest), lowest=Subquery(lowest), latest=Subquery(latest))[:BOARDS_SHOWN]
    )
    leading = {
        board.pk: board.highest if board.ranking_metric.higher_is_better else board.lowest
        for board in boards
        if board.ranking_metric
    }
    leaders = Entry.objects.select_related("user").in_bulk([pk for pk in leading.values() if pk])
    with connection.cursor() as cursor:
        cursor.execute(_PEOPLE, {"boards": [board.pk for board in boards], "most": PEOPLE_COUNTED + 1})
        people = dict(cursor.fetchall())
    active = Job.objects.filter(leaderboard__in=boards).active().values("leaderboard_id", "status").order_by()
    at_work = {(row["leaderboard_id"], row["status"]): row["jobs"] for row in active.annotate(jobs=Count("id"))}
    return [
        BoardCard(
            board=board,
            leader=leaders.get(leading.get(board.pk)),
            people=min(people.get(board.pk, 0), PEOPLE_COUNTED),
            has_more_people=people.get(board.pk, 0) > PEOPLE_COUNTED,
            latest=board.latest,
            running=at_work.get((board.pk, Status.RUNNING), 0),
            pending=at_work.get((board.pk, Status.PENDING), 0),
        )
        for board in boards
    ]


@require_safe
def home(request: HttpRequest) -> HttpResponse:
    cards = board_cards(request.user)
    context = {
        "cards": cards,
        "is_moving": any(card.running or card.pending for card in cards),
        "can_make": not cards and request.user.is_staff and request.user.has_perm("leaderboards.add_leaderboard"),
    }
    return render(request, "home.html", context)


@login_required
@require_safe
def account(request: SignedInRequest) -> HttpResponse:
    tokens = request.user.api_tokens.active()
    context = {
        "tokens": tokens,
        "form": TokenForm(),
        "quota": quota_used(request.user),
        "zones": zone_names(),
    }
    return render(request, "accounts/account.html", context)


@login_required
@require_POST
def set_time_zone(request: SignedInRequest) -> HttpResponse:
    name = request.POST.get("time_zone", "")
    response = redirect("account")
    if name and zone_named(name) is None:
        messages.error(request, _("There is no such time zone."))
        return response
    choose_zone(response, name)
    messages.success(request, _("Times are shown in the zone that you chose."))
    return response
