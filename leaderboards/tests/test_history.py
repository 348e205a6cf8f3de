"""The history of entries: written with them, the same when it is computed again, and kept when jobs are pruned."""

from datetime import UTC, datetime, timedelta
from importlib import import_module

import pytest
from django.apps import apps
from django.db import IntegrityError, connection, transaction

from accounts.refusals import Conflict
from accounts.tests.factories import UserFactory
from jobs.tests.factories import JobFactory
from leaderboards.models import Baseline, Entry, Metric, Standing
from leaderboards.services import mark_baseline, rebuild_entries, record_score, unmark_baseline
from leaderboards.tests.factories import EntryFactory, LeaderboardFactory, StandingFactory

pytestmark = pytest.mark.django_db
START = datetime(2026, 11, 1, tzinfo=UTC)


def record(board, user, score, minute, *, submitted=None):
    """A job that completed in that minute, recorded as its transition does."""
    submitted_at = START + timedelta(minutes=minute if submitted is None else submitted)
    job = JobFactory(
        user=user, leaderboard=board, status="completed", score=score, submission__created_at=submitted_at,
        created_at=submitted_at, finished_at=START + timedelta(minutes=minute), wall_seconds=float(minute),
    )  # fmt: skip
    record_score(job.pk)
    return job


def periods(board):
    """(person, score, began, ended) in minutes, in order."""

    def minutes(moment):
        return moment and (moment - START).total_seconds() / 60

    rows = Standing.objects.filter(leaderboard=board).order_by("user", "began_at", "id")
    return [(row.user_id, row.score, minutes(row.began_at), minutes(row.ended_at)) for row in rows]


@pytest.mark.parametrize(
    ("direction", "scores", "expected"),
    [
        ("higher", [0.5, 0.4, 0.7, 0.6], [(0.5, 0, 2), (0.7, 2, None)]),
        ("lower", [0.5, 0.4, 0.7, 0.3], [(0.5, 0, 1), (0.4, 1, 3), (0.3, 3, None)]),
        ("higher", [-1.0, 0.0, 0.0], [(-1.0, 0, 1), (0.0, 1, None)]),
    ],
    ids=["higher", "lower", "equal"],
)
def test_a_period_lasts_until_a_better_job_completes(direction, scores, expected):
    board, user = LeaderboardFactory(metrics=[{"name": "m", "direction": direction}]), UserFactory()
    for minute, score in enumerate(scores):
        record(board, user, score, minute)
    assert periods(board) == [(user.pk, *row) for row in expected]
    rebuild_entries(board)
    assert periods(board) == [(user.pk, *row) for row in expected]


def test_a_period_keeps_what_the_board_showed():
    board, user = LeaderboardFactory(), UserFactory()
    job = record(board, user, 0.5, 7)
    row = Standing.objects.get()
    assert (row.job, row.metrics, row.wall_seconds) == (job, {"image_auc": 0.5, "seconds": 10.0}, 7.0)
    assert (row.submitted_at, row.leaderboard) == (START + timedelta(minutes=7), board)


def test_at_equal_scores_an_earlier_submission_takes_the_place():
    board, user = LeaderboardFactory(), UserFactory()
    record(board, user, 0.5, 10, submitted=5)
    record(board, user, 0.5, 20, submitted=3)
    record(board, user, 0.5, 30, submitted=4)
    expected = [(user.pk, 0.5, 10, 20), (user.pk, 0.5, 20, None)]
    assert periods(board) == expected
    rebuild_entries(board)
    assert (periods(board), Entry.objects.get().submitted_at) == (expected, START + timedelta(minutes=3))


def test_of_two_runs_of_one_submission_the_first_that_completed_stands():
    board, user = LeaderboardFactory(), UserFactory()
    second = record(board, user, 0.5, 10, submitted=1)
    record(board, user, 0.5, 20, submitted=1)
    assert Entry.objects.get().job == second
    rebuild_entries(board)
    assert (Entry.objects.get().job, periods(board)) == (second, [(user.pk, 0.5, 10, None)])


def test_rebuilding_one_person_leaves_the_others():
    board, users = LeaderboardFactory(), [UserFactory(), UserFactory()]
    for minute, score in enumerate([0.1, 0.2, 0.3, 0.4, 0.3]):
        record(board, users[minute % 2], score, minute)
    expected = periods(board)
    kept = set(Standing.objects.filter(user=users[1]).values_list("pk", flat=True))
    assert rebuild_entries(board, user_id=users[0].pk) == 1
    assert periods(board) == expected
    assert set(Standing.objects.filter(user=users[1]).values_list("pk", flat=True)) == kept


def test_history_outlives_pruned_jobs_also_when_it_is_computed_again():
    board, user = LeaderboardFactory(), UserFactory()
    old = record(board, user, 0.5, 1)
    record(board, user, 0.7, 2)
    expected = [(user.pk, 0.5, 1, 2), (user.pk, 0.7, 2, None)]
    old.delete()
    assert periods(board) == expected
    rebuild_entries(board)
    rebuild_entries(board)
    assert periods(board) == expected
    first = Standing.objects.get(score=0.5)
    assert (first.job, first.metrics, first.wall_seconds) == (None, {"image_auc": 0.5, "seconds": 10.0}, 1.0)


def test_when_the_best_is_gone_the_entrys_period_begins_now():
    board, user = LeaderboardFactory(), UserFactory()
    best = record(board, user, 0.7, 1)
    left = record(board, user, 0.5, 2)
    best.delete()
    rebuild_entries(board, user_id=user.pk)
    closed, opened = Standing.objects.order_by("began_at")
    assert (Entry.objects.get().job, opened.job, opened.ended_at) == (left, left, None)
    assert (closed.job, closed.ended_at) == (None, opened.began_at)
    rebuild_entries(board)
    assert Standing.objects.filter(ended_at=None).get().job == left


def test_a_board_without_metrics_has_no_history():
    board = LeaderboardFactory()
    EntryFactory(leaderboard=board)
    other = EntryFactory()
    Metric.objects.filter(leaderboard=board).delete()
    assert rebuild_entries(board) == 0
    assert list(Standing.objects.values_list("leaderboard", flat=True)) == [other.leaderboard_id]


def test_the_migration_writes_the_same_history():
    boards = [LeaderboardFactory(metrics=[{"name": "m", "direction": each}]) for each in ("higher", "lower")]
    for board in boards:
        users = [UserFactory(), UserFactory()]
        for minute, score in enumerate([0.5, 0.6, 0.5, 0.2, 0.9, 0.2, 0.1]):
            record(board, users[minute % 2], score, minute, submitted=-minute)
    LeaderboardFactory(metrics=[])
    expected = [periods(board) for board in boards]
    Standing.objects.all().delete()
    with connection.schema_editor() as editor:
        import_module("leaderboards.migrations.0004_standings_of_the_past").fill(apps, editor)
    assert [periods(board) for board in boards] == expected


@pytest.mark.parametrize(
    "wrong", [{"score": float("nan")}, {"score": float("inf")}, {"ended_at": START - timedelta(days=999)}], ids=str
)
def test_the_database_refuses_a_period_that_cannot_be(wrong):
    row = StandingFactory()
    with pytest.raises(IntegrityError), transaction.atomic():
        Standing.objects.filter(pk=row.pk).update(**wrong)


def test_a_person_has_one_open_period_on_a_board():
    row = StandingFactory()
    with pytest.raises(IntegrityError, match="standing_one_open_a_person"), transaction.atomic():
        StandingFactory(leaderboard=row.leaderboard, job__user=row.user)


def test_a_board_has_a_bounded_number_of_baselines():
    board = LeaderboardFactory()
    users = [UserFactory() for _ in range(Baseline.MOST)]
    for user in users:
        mark_baseline(board, user_id=user.pk)
    assert str(mark_baseline(board, user_id=users[0].pk, label="PaDiM")) == "PaDiM"
    mark_baseline(board, user_id=users[0].pk)
    with pytest.raises(Conflict, match="At most 20"):
        mark_baseline(board, user_id=UserFactory().pk)
    assert (unmark_baseline(board, user_id=users[0].pk), unmark_baseline(board, user_id=users[0].pk)) == (True, False)
    assert board.baselines.count() == Baseline.MOST - 1
