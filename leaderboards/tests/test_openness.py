"""A draft and a closed board: who sees it, by the ORM and by the plain SQL of the lane, and when it is open."""

from datetime import timedelta

import pytest
from django.contrib.auth.models import AnonymousUser
from django.core.exceptions import ValidationError
from django.db import connection
from django.utils import timezone

from accounts.refusals import Conflict
from accounts.tests.factories import UserFactory
from leaderboards.models import Leaderboard
from leaderboards.openness import seen_by_members_sql
from leaderboards.services import create_leaderboard, pause, publish, refuse_closed, unpublish
from leaderboards.tests.factories import LeaderboardFactory
from submissions.tests.factories import SubmissionFactory

pytestmark = pytest.mark.django_db
HOUR = timedelta(hours=1)


@pytest.fixture
def boards():
    now = timezone.now()
    for visibility in Leaderboard.Visibility.values:
        for is_draft in (False, True):
            LeaderboardFactory(visibility=visibility, is_draft=is_draft)
    for times in (
        {"opens_at": now - HOUR},
        {"opens_at": now + HOUR},
        {"closes_at": now - HOUR},
        {"closes_at": now + HOUR},
    ):
        LeaderboardFactory(**times)
    LeaderboardFactory(takes_submissions=False)
    pause(LeaderboardFactory(), reason="x", by=None)


def matching(condition):
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT id FROM leaderboards_leaderboard board WHERE {condition}")
        return {row[0] for row in cursor.fetchall()}


OPEN = {
    "plain": ({}, True),
    "hidden": ({"visibility": "hidden"}, True),
    "opened": ({"opens_at": -HOUR}, True),
    "opens later": ({"opens_at": HOUR}, False),
    "closed": ({"closes_at": -HOUR}, False),
    "closes later": ({"closes_at": HOUR}, True),
    "between both": ({"opens_at": -HOUR, "closes_at": HOUR}, True),
    "draft": ({"is_draft": True}, False),
    "switched off": ({"takes_submissions": False}, False),
}


@pytest.mark.parametrize("name", OPEN)
def test_a_board_is_open_when_it_takes_submissions(name):
    fields, is_open = OPEN[name]
    now = timezone.now()
    board = LeaderboardFactory(
        **{key: now + value if isinstance(value, timedelta) else value for key, value in fields.items()}
    )
    assert Leaderboard.objects.open().filter(pk=board.pk).exists() is is_open


def test_a_paused_board_is_not_open_and_a_pause_of_all_queues_closes_none():
    paused, other = LeaderboardFactory(), LeaderboardFactory()
    pause(paused, reason="x", by=None)
    pause(None, reason="x", by=None)
    assert list(Leaderboard.objects.open().filter(pk__in=[paused.pk, other.pk])) == [other]


def test_plain_sql_and_the_orm_agree_on_who_sees_a_board(boards):
    seen = Leaderboard.objects.visible_to(UserFactory()).values_list("pk", flat=True)
    assert matching(seen_by_members_sql("board")) == set(seen)


def test_only_operators_see_a_draft_and_nobody_submits_to_it():
    draft = LeaderboardFactory(is_draft=True)
    for user, sees in (
        (AnonymousUser(), False),
        (UserFactory(), False),
        (UserFactory(is_staff=True, is_superuser=True), True),
    ):
        assert Leaderboard.objects.visible_to(user).filter(pk=draft.pk).exists() is sees
    assert not Leaderboard.objects.open().filter(pk=draft.pk).exists()
    with pytest.raises(Conflict, match="is a draft"):
        refuse_closed(draft)
    publish(draft)
    refuse_closed(draft)
    with pytest.raises(Conflict, match="published already"):
        publish(draft)


def test_a_leaderboard_with_submissions_stays_published():
    board = LeaderboardFactory()
    unpublish(board)
    assert Leaderboard.objects.get(pk=board.pk).is_draft
    with pytest.raises(Conflict, match="draft already"):
        unpublish(board)
    publish(board)
    SubmissionFactory(leaderboard=board)
    with pytest.raises(Conflict, match="has submissions"):
        unpublish(board)


def test_a_closing_before_the_opening_is_refused_by_its_field():
    now = timezone.now()
    with pytest.raises(ValidationError) as refused:
        create_leaderboard(slug="x", title="x", metrics=[{"name": "m"}], opens_at=now, closes_at=now)
    assert refused.value.message_dict == {"closes_at": ["Must be after the opening."]}
