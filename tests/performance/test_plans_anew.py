"""The lane's plans on a site that has just begun to fill: nobody has counted its tables yet."""

import json
from typing import Any

import pytest
from django.db import connection

from accounts.tests.factories import UserFactory
from jobs.models import Job
from submissions.tests.factories import SubmissionFactory
from tests.performance.test_lane_plans import ask


@pytest.mark.django_db(transaction=True)
def test_a_plan_that_was_made_for_an_empty_table_does_not_stay(settings: Any) -> None:
    """By the rows of jobs that are read for five calls, beside two thousand of somebody else's.

    Kept for a million calls, such a plan may read all of them in each call, or not: that depends on when the table was
    counted.
    """
    settings.PLANS_KEPT_FOR = 10
    submission = SubmissionFactory(user=UserFactory(submissions_per_hour=10**6, concurrent_jobs=10**6))
    with connection.cursor() as cursor:
        cursor.execute("VACUUM jobs_job")
    connection.close()  # with its plans

    def call(times: int) -> None:
        body = json.dumps({"submission_id": str(submission.pk)}).encode()
        assert [ask(submission.user, "POST", "/api/jobs", body) for _ in range(times)] == [202] * times

    call(10)
    other = SubmissionFactory()
    values = {"user": other.user, "submission": other, "leaderboard": other.leaderboard}
    Job.objects.bulk_create(Job(**values) for _ in range(2000))
    call(10)
    before = rows_read()
    call(5)
    assert rows_read() - before < 1000


def rows_read() -> int:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_stat_force_next_flush()")
        cursor.execute("SELECT seq_tup_read + idx_tup_fetch FROM pg_stat_user_tables WHERE relname = 'jobs_job'")
        found: int = cursor.fetchone()[0]
    return found
