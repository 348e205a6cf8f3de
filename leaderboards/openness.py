"""When a leaderboard takes submissions, and who may see it.

The database's view open_leaderboard says the first, for the ORM and for raw SQL. The second is written for both here, and
leaderboards/tests/test_openness.py compares them.
"""

from typing import TYPE_CHECKING

from django.contrib.auth.models import AbstractUser, AnonymousUser
from django.db import models
from django.db.models.expressions import RawSQL
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
        """Those that take submissions now (leaderboards/migrations/0014_open_leaderboard.sql)."""
        return self.filter(pk__in=RawSQL("SELECT id FROM open_leaderboard", ()))

    def upcoming(self) -> "LeaderboardQuerySet":
        """Those that will open by themselves, the next one first."""
        return self.filter(opens_at__gt=Now(), is_draft=False, takes_submissions=True).order_by("opens_at", "pk")


def seen_by_members_sql(board: str) -> str:
    """Return `visible_to` for a person who is signed in and no operator, as a condition on the table or alias."""
    return f"({board}.visibility IN ('{PUBLIC}', '{MEMBERS}') AND NOT {board}.is_draft)"
