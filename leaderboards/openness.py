"""When a leaderboard takes submissions, and who may see it: for the ORM, and the same for plain SQL.

leaderboards/tests/test_openness.py compares both.
"""

from typing import TYPE_CHECKING

from django.contrib.auth.models import AbstractUser, AnonymousUser
from django.db import models
from django.db.models import Q
from django.db.models.functions import Now

if TYPE_CHECKING:
    from leaderboards.models import Leaderboard  # noqa: F401 - a type

PUBLIC, MEMBERS, HIDDEN = "public", "members", "hidden"


class LeaderboardQuerySet(models.QuerySet["Leaderboard"]):
    def visible_to(self, user: AbstractUser | AnonymousUser) -> "LeaderboardQuerySet":
        """Public ones for everybody, those for members to people signed in; hidden ones and drafts to operators who may
        view leaderboards."""
        if user.is_staff and user.has_perm("leaderboards.view_leaderboard"):
            return self.all()
        seen = [PUBLIC, MEMBERS] if user.is_authenticated else [PUBLIC]
        return self.filter(visibility__in=seen, is_draft=False)

    def open(self) -> "LeaderboardQuerySet":
        """Those that take submissions now, by the database's clock."""
        started = Q(opens_at=None) | Q(opens_at__lte=Now())
        ongoing = Q(closes_at=None) | Q(closes_at__gt=Now())
        return self.filter(started, ongoing, is_draft=False, takes_submissions=True, pause=None)

    def upcoming(self) -> "LeaderboardQuerySet":
        """Those that will open by themselves, the next one first."""
        return self.filter(opens_at__gt=Now(), is_draft=False, takes_submissions=True).order_by("opens_at", "pk")


def seen_by_members_sql(board: str) -> str:
    """Return `visible_to` for a person who is signed in and no operator, as a condition on the table or alias."""
    return f"({board}.visibility IN ('{PUBLIC}', '{MEMBERS}') AND NOT {board}.is_draft)"


def open_sql(board: str) -> str:
    """Return `open` as a condition on the table or alias."""
    return (
        f"({board}.takes_submissions AND NOT {board}.is_draft"
        f" AND ({board}.opens_at IS NULL OR {board}.opens_at <= statement_timestamp())"
        f" AND ({board}.closes_at IS NULL OR {board}.closes_at > statement_timestamp())"
        f" AND NOT EXISTS (SELECT FROM leaderboards_pause WHERE leaderboard_id = {board}.id))"
    )
