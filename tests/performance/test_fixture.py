"""The benchmark's history is made by SQL of its own: it must go through the schema as it is now."""

import pytest
from django.db import connection

from accounts.models import User
from benchmarks.fixture import BOARDS, fill_rows
from jobs.models import Job, JobAttempt, Status
from leaderboards.models import Entry, Leaderboard, Standing
from leaderboards.services import rebuild_entries
from submissions.models import Submission

pytestmark = pytest.mark.django_db


def test_fixture_fits_the_schema():
    with connection.cursor() as cursor:
        fill_rows(cursor, 400)
    assert Job.objects.count() == Submission.objects.count() == 400
    assert set(Job.objects.values_list("status", flat=True)) == set(Status.values)
    assert JobAttempt.objects.count() == Job.objects.exclude(status="pending").count()
    assert User.objects.filter(username__startswith="person").count() == 4
    assert Leaderboard.objects.filter(slug__startswith="board").count() == BOARDS


def test_fixture_has_the_entries_and_standings_that_its_jobs_make():
    with connection.cursor() as cursor:
        fill_rows(cursor, 400)
    made = set(Entry.objects.values_list("leaderboard", "user", "job", "score"))
    opened = set(Standing.objects.filter(ended_at=None).values_list("leaderboard", "user", "job", "score"))
    for board in Leaderboard.objects.filter(slug__startswith="board"):
        rebuild_entries(board)
    assert made
    assert made == set(Entry.objects.values_list("leaderboard", "user", "job", "score")) == opened
