"""A site from before score versions: its scores become versions, and its boards rank as they did."""

from importlib import import_module
from types import SimpleNamespace

import pytest
from django.db import connection

from jobs.models import Job
from jobs.tests.factories import JobFactory
from leaderboards.models import Entry, Leaderboard, ScoreVersion, Standing
from leaderboards.services import rebuild_entries
from leaderboards.tests.factories import LeaderboardFactory

first = import_module("jobs.migrations.0014_first_score_versions")
stays = import_module("jobs.migrations.0018_score_version_stays")
NOW = {"scorer": "regression", "ground_truth": "labels"}


def migrate():
    """Do what the two migrations do; the schema is there already."""
    with connection.cursor() as cursor:
        cursor.execute(stays.BEFORE)
        first.make(None, SimpleNamespace(connection=connection))
        cursor.execute(stays.NOW)
        cursor.execute(stays.STANDINGS)


def rows():
    entries = Entry.objects.order_by("leaderboard", "user").values_list("leaderboard", "user", "job", "score")
    standings = Standing.objects.order_by("pk").values_list(
        "leaderboard", "user", "job", "score", "began_at", "ended_at"
    )
    return list(entries), list(standings)


@pytest.mark.django_db
def test_old_scores_become_versions_and_boards_rank_as_before():
    board = LeaderboardFactory(**NOW, metrics=[{"name": "r2", "maximum": 1}, {"name": "rmse"}])
    plain, unused = LeaderboardFactory(), LeaderboardFactory(scorer="own/x", ground_truth="a")
    scored = [JobFactory(leaderboard=board, status="completed", score=score, **NOW) for score in (0.5, 0.9)]
    older = JobFactory(leaderboard=board, status="completed", scorer="own/x", ground_truth="older")
    JobFactory(leaderboard=board, user=scored[0].user, status="completed", score=0.4, **NOW)
    others = [
        JobFactory(leaderboard=plain, status="completed"),
        JobFactory(leaderboard=board, status="failed", score=None),
    ]
    others.append(JobFactory(leaderboard=board, status="completed", score=0.99))  # from before the board had a scorer
    for each in (board, plain):
        rebuild_entries(each)
    before = rows()
    assert len(before[0]) == 3
    migrate()
    assert rows() == before
    versions = list(ScoreVersion.objects.filter(leaderboard=board).values_list("number", "scorer", "scorer_version"))
    assert versions == [(1, "own/x", None), (2, "regression", 1)]
    board, plain, unused = (Leaderboard.objects.get(pk=each.pk) for each in (board, plain, unused))
    assert (board.score_version.number, plain.score_version, unused.score_version.number) == (2, None, 1)
    assert board.score_version.limits == {"r2": [None, 1.0], "rmse": [None, None]}
    assert not ScoreVersion.objects.exclude(is_assumed=True, ground_truth_digest="").exists()
    numbers = dict(Job.objects.values_list("pk", "score_version__number"))
    assert [numbers[job.pk] for job in (*scored, older, *others)] == [2, 2, 1, None, None, None]
    assert not Standing.objects.filter(leaderboard=board).exclude(score_version=board.score_version).exists()
    for each in (board, plain):
        rebuild_entries(each)
    assert rows()[0] == before[0]
