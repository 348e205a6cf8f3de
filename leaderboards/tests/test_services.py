"""Who stands where: the better job stays, ties go to the earlier submission, also when two jobs complete at once."""

import threading
from datetime import timedelta

import pytest
from django.db import connection
from django.utils import timezone

from accounts.tests.factories import UserFactory
from jobs.tests.factories import JobFactory
from leaderboards.models import Entry, Standing
from leaderboards.queries import Ranking
from leaderboards.selection import Selection
from leaderboards.services import create_leaderboard, rebuild_entries, record_score
from leaderboards.tests.factories import EntryFactory, LeaderboardFactory

pytestmark = pytest.mark.django_db
NOW = timezone.now()


def record(board, user, score, minutes=0):
    """A completed job submitted so many minutes ago: the job, and whether it became the entry."""
    submitted_at = NOW - timedelta(minutes=minutes)
    job = JobFactory(user=user, leaderboard=board, status="completed", score=score, submission__created_at=submitted_at)
    return job, record_score(job.pk)


@pytest.mark.parametrize(
    ("direction", "scores", "best"),
    [
        ("higher", [0.5, 0.7, 0.6], 0.7),
        ("lower", [0.5, 0.3, 0.4], 0.3),
        ("higher", [-1.0, 0.0], 0.0),
        ("lower", [0.0, -1.0], -1.0),
    ],
)
def test_a_persons_best_job_is_their_entry(direction, scores, best):
    board, user = LeaderboardFactory(metrics=[{"name": "m", "direction": direction}]), UserFactory()
    for score in scores:
        record(board, user, score)
    assert list(Entry.objects.values_list("user", "score")) == [(user.pk, best)]


@pytest.mark.parametrize(("minutes", "wins"), [(1, True), (0, False), (-1, False)])
def test_at_equal_scores_the_earlier_submission_stands(minutes, wins):
    board, user = LeaderboardFactory(), UserFactory()
    first, _ = record(board, user, 0.5)
    second, became = record(board, user, 0.5, minutes)
    assert (became, Entry.objects.get().job) == (wins, second if wins else first)


def test_a_board_without_metrics_ranks_nobody():
    board, user = LeaderboardFactory(metrics=[]), UserFactory()
    assert (record(board, user, 0.5)[1], Entry.objects.count()) == (False, 0)
    assert rebuild_entries(board) == 0


def test_ranks_are_shared_and_the_next_one_skipped():
    board = LeaderboardFactory()
    for score in (0.9, 0.5, 0.9, 0.1):
        EntryFactory(leaderboard=board, score=score)
    EntryFactory(score=1.0)
    assert [(row.rank, row.score) for row in Ranking(Selection(board, board.ranking_metric)).page().rows] == [
        (1, 0.9),
        (1, 0.9),
        (3, 0.5),
        (4, 0.1),
    ]


@pytest.mark.parametrize("direction", ["higher", "lower"])
def test_rebuilding_gives_the_same_entries(direction):
    board = LeaderboardFactory(metrics=[{"name": "m", "direction": direction}])
    users = [UserFactory() for _ in range(3)]
    for number, score in enumerate([0.3, 0.3, 0.9, 0.1, 0.5, 0.5, 0.2]):
        record(board, users[number % 3], score, minutes=number)
    kept = sorted(Entry.objects.values_list("user", "job", "score", "submitted_at"))
    Entry.objects.filter(user=users[0]).delete()
    assert rebuild_entries(board, user_id=users[0].pk) == 1
    assert sorted(Entry.objects.values_list("user", "job", "score", "submitted_at")) == kept
    assert rebuild_entries(board) == 3
    assert sorted(Entry.objects.values_list("user", "job", "score", "submitted_at")) == kept


def test_a_leaderboard_keeps_the_order_of_its_metrics():
    board = create_leaderboard(slug="b", title="B", metrics=[{"name": "z"}, {"name": "a", "direction": "lower"}])
    assert [metric.name for metric in board.metric_list] == ["z", "a"]
    assert board.ranking_metric.name == "z"


@pytest.mark.slow
@pytest.mark.django_db(transaction=True)
def test_jobs_that_complete_at_once_leave_the_best_one():
    board, user = LeaderboardFactory(), UserFactory()
    scores = [number / 10 for number in range(8)]
    jobs = [JobFactory(user=user, leaderboard=board, status="completed", score=score) for score in scores]
    start = threading.Barrier(8)

    def one(job):
        start.wait()
        record_score(job.pk)
        connection.close()

    threads = [threading.Thread(target=one, args=[job]) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert Entry.objects.get().job == jobs[-1]
    assert Standing.objects.get(ended_at=None).job == jobs[-1]
