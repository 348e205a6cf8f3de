import pytest

from leaderboard_site.tests.operating import signed_in
from leaderboards.tests.factories import LeaderboardFactory


@pytest.fixture
def operator(db):
    return signed_in(is_superuser=True)


@pytest.fixture
def board(db):
    return LeaderboardFactory()
