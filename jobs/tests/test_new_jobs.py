"""enqueue_jobs, the database's function: a code for each refusal, exact quotas, one order of locks."""

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from uuid import uuid4

import psycopg
import pytest
from django.db import NotSupportedError, connection, transaction
from django.utils import timezone

from accounts.services import create_token, revoke_token, shut_out
from accounts.tests.factories import UserFactory
from jobs.models import Job
from jobs.new_jobs import enqueue_jobs, job_request
from jobs.services import enqueue_job
from leaderboards.models import Leaderboard
from leaderboards.tests.factories import LeaderboardFactory
from submissions.models import Submission
from submissions.tests.factories import SubmissionFactory

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.slow]


def request(submission, **changes):
    fields = {
        "user_id": submission.user_id,
        "submission_id": submission.pk,
        "config": {},
        "resource_class": "small",
        "trial": False,
        "idempotency_key": None,
        "request_digest": "",
        "request_id": "",
    }
    return job_request(**(fields | changes))


def ask(*requests, waits=True):
    with transaction.atomic(), connection.cursor() as cursor:
        return enqueue_jobs(cursor, requests, waits=waits)


def refusals(*requests, waits=True):
    return [outcome.refusal for outcome in ask(*requests, waits=waits)]


def outside():
    """A connection of another transaction."""
    return psycopg.connect(**connection.get_connection_params() | {"cursor_factory": psycopg.Cursor})


def in_threads(*calls):
    """Let all calls go together, each on a connection of its own."""
    barrier = threading.Barrier(len(calls))

    def run(call):
        try:
            connection.ensure_connection()
            barrier.wait(30)
            return call()
        finally:
            connection.close()

    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(run, calls))


def test_each_refusal_has_its_code():
    submission = SubmissionFactory()
    deleted = SubmissionFactory(user=submission.user, deleted_at=timezone.now())
    closed = SubmissionFactory(user=submission.user, leaderboard=LeaderboardFactory(takes_submissions=False))
    busy = SubmissionFactory(user=UserFactory(concurrent_jobs=0))
    used_up = SubmissionFactory(user=UserFactory(submissions_per_hour=0))
    banned = SubmissionFactory(user=UserFactory(is_active=False))
    key = {"idempotency_key": "k", "request_digest": "a"}
    outcomes = ask(
        request(submission, **key),
        request(submission, **key),
        request(submission, **key | {"request_digest": "b"}),
        request(submission, submission_id=uuid4()),
        request(submission, submission_id=busy.pk),
        request(deleted),
        request(closed),
        request(busy),
        request(used_up),
        request(banned),
        request(submission, token_digest="unknown"),
    )
    assert [(outcome.refusal, outcome.is_new) for outcome in outcomes] == [
        (None, True),
        (None, False),
        ("idempotency_conflict", None),
        ("not_found", None),
        ("not_found", None),
        ("deleted", None),
        ("leaderboard_closed", None),
        ("too_many_jobs", None),
        ("hourly_limit", None),
        ("forbidden", None),
        ("unauthorized", None),
    ]
    assert outcomes[0].job_id == outcomes[1].job_id == Job.objects.get().pk
    assert outcomes[7].details == {"active": 0, "most": 0}
    assert outcomes[8].details == {"reached": 0, "seconds_until_free": 3600}


def test_a_batch_looks_no_further_at_a_person_after_a_refusal_and_a_list_of_single_requests_does():
    submission, other = SubmissionFactory(), SubmissionFactory()
    requests = [request(submission, submission_id=uuid4()), request(submission), request(other)]
    assert refusals(*requests, waits=False) == ["not_found", "not_tried", None]
    assert refusals(*requests) == ["not_found", None, None]


def test_another_isolation_level_is_refused():
    submission = SubmissionFactory()
    refused = pytest.raises(NotSupportedError, match="needs READ COMMITTED, not REPEATABLE READ")
    with refused, transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        enqueue_jobs(cursor, [request(submission)], waits=True)
    assert not Job.objects.exists()


def test_a_quota_is_exact_between_batches_and_single_calls():
    submission = SubmissionFactory(user=UserFactory(concurrent_jobs=7, submissions_per_hour=100))
    others = [SubmissionFactory() for _ in range(3)]

    def single():
        return [outcome.refusal for outcome in ask(request(submission))]

    def batch():
        return refusals(request(submission), request(others[0]), request(submission), waits=False)

    answers = in_threads(*[single, batch] * 6)
    made = sum(answer[0] is None for answer in answers) + sum(
        len(answer) == 3 and answer[2] is None for answer in answers
    )
    assert Job.objects.filter(user=submission.user).count() == made <= 7
    assert refusals(*[request(submission)] * 8) == [None] * (7 - made) + ["too_many_jobs"] * (1 + made)


def test_batches_in_opposite_orders_never_wait_for_each_other():
    quotas = {"concurrent_jobs": 1000, "submissions_per_hour": 1000}
    submissions = [SubmissionFactory(user=UserFactory(**quotas)) for _ in range(4)]
    there = [request(submission) for submission in submissions]

    def many(requests):
        return lambda: [refusals(*requests) for _ in range(10)]

    answers = in_threads(*[many(there), many(there[::-1])] * 2)
    assert answers == [[[None] * 4] * 10] * 4
    assert Job.objects.count() == 160


def test_who_is_locked_is_left_out_of_a_batch():
    held, free = SubmissionFactory(), SubmissionFactory()
    with outside() as other:
        other.execute("SELECT FROM accounts_user WHERE id = %s FOR UPDATE", [held.user_id])
        assert refusals(request(held), request(free), waits=False) == ["locked", None]
    assert refusals(request(held), waits=False) == [None]


def wait_and_change(submission, change, **changes):
    """What becomes of a request that waits for the person's row while the change is made in the holder's transaction."""
    with ThreadPoolExecutor(1) as pool:
        with transaction.atomic():
            with connection.cursor() as cursor:
                cursor.execute("SELECT FROM accounts_user WHERE id = %s FOR UPDATE", [submission.user_id])
            asked = pool.submit(in_threads, lambda: ask(request(submission, **changes)))
            with outside() as other:
                other.autocommit = True
                while not other.execute("SELECT count(*) FROM pg_locks WHERE NOT granted").fetchone()[0]:
                    pass
            change()
        [[outcome]] = asked.result(60)
    return outcome


def test_what_happens_while_a_request_waits_is_seen():
    submission = SubmissionFactory()
    assert wait_and_change(submission, lambda: shut_out(submission.user)).refusal == "forbidden"
    submission = SubmissionFactory()
    token, _ = create_token(submission.user, name="x")
    revoked = wait_and_change(submission, lambda: revoke_token(token), token_digest=token.digest)
    assert revoked.refusal == "forbidden"
    submission = SubmissionFactory()
    gone = wait_and_change(
        submission, lambda: Submission.objects.filter(pk=submission.pk).update(deleted_at=timezone.now())
    )
    assert gone.refusal == "deleted"


def test_the_clock_is_read_after_the_lock():
    """A job that waited is of the time when it was made; a board that closed meanwhile takes it no more."""
    submission = SubmissionFactory()
    ended = []

    def note():
        with connection.cursor() as cursor:
            cursor.execute("SELECT clock_timestamp()")
            ended.append(cursor.fetchone()[0])

    outcome = wait_and_change(submission, note)
    job = Job.objects.get()
    assert outcome.made_at == job.created_at == job.updated_at == job.available_at == job.pushed_at
    assert job.created_at > ended[0]

    def close():
        with connection.cursor() as cursor:
            cursor.execute(
                "UPDATE leaderboards_leaderboard SET closes_at = clock_timestamp() WHERE id = %s",
                [submission.leaderboard_id],
            )

    assert wait_and_change(submission, close).refusal == "leaderboard_closed"
    assert Leaderboard.objects.open().filter(pk=submission.leaderboard_id).count() == 0


def test_the_hour_is_a_sliding_one_and_its_wait_is_told():
    user = UserFactory(submissions_per_hour=2, concurrent_jobs=100)
    submission = SubmissionFactory(user=user)
    first, second = (ask(request(submission))[0].job_id for _ in range(2))
    Job.objects.filter(pk=first).update(created_at=timezone.now() - timedelta(minutes=50))
    [outcome] = ask(request(submission))
    assert (outcome.refusal, outcome.details["reached"]) == ("hourly_limit", 2)
    assert 590 < outcome.details["seconds_until_free"] <= 600
    # Runs that cost nothing leave room, up to three times the quota in all.
    Job.objects.filter(pk__in=[first, second]).update(costs_quota=False)
    for _ in range(4):
        job, _is_new = enqueue_job(user, submission.pk)
        Job.objects.filter(pk=job.pk).update(costs_quota=False)
    [outcome] = ask(request(submission))
    assert (outcome.refusal, outcome.details["reached"]) == ("hourly_limit", 6)
    Job.objects.filter(pk=first).update(created_at=timezone.now() - timedelta(minutes=61))
    assert refusals(request(submission)) == [None]


def test_the_largest_quota_is_no_error():
    """Three times as much is beyond an `integer`."""
    submission = SubmissionFactory(user=UserFactory(submissions_per_hour=2**31 - 1, concurrent_jobs=2**31 - 1))
    assert refusals(request(submission), waits=False) == [None]
