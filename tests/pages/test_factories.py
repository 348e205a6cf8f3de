"""The factories satisfy the database's constraints in every status."""

import pytest

from accounts.tests.factories import ApiTokenFactory
from jobs.models import Status
from jobs.tests.factories import JobAttemptFactory, JobFactory, LogChunkFactory
from leaderboards.queries import Ranking
from leaderboards.selection import Selection
from leaderboards.tests.factories import EntryFactory, LeaderboardFactory

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize("status", Status.values)
def test_a_job_of_each_status_can_be_made(status):
    job = JobFactory(status=status)
    job.refresh_from_db()
    assert job.status == status
    assert (job.user, job.leaderboard) == (job.submission.user, job.submission.leaderboard)


def test_an_entry_stands_on_its_board():
    board = LeaderboardFactory()
    entries = [EntryFactory(leaderboard=board, score=score) for score in (0.5, 0.9)]
    assert [entry.pk for entry in Ranking(Selection(board, board.ranking_metric)).page().rows] == [
        entries[1].pk,
        entries[0].pk,
    ]
    assert entries[0].job.score == 0.5


def test_the_rest_can_be_made():
    job = JobAttemptFactory().job
    assert LogChunkFactory(job=job).attempt == 1
    assert ApiTokenFactory(secret="lb_x").digest == ApiTokenFactory.build(secret="lb_x").digest
