"""POST /api/jobs by the lane: the site's job in every column, many at once, and what goes wrong between them."""

import json
from datetime import timedelta

import psycopg
import pytest
from django.db import OperationalError, connection
from django.db.backends.base.base import BaseDatabaseWrapper
from django.utils import timezone

from accounts.services import create_token
from accounts.tests.factories import UserFactory
from jobs.models import Job
from leaderboard_site.lane import enqueue
from leaderboard_site.lane.calls import ENQUEUE, recognise
from leaderboard_site.lane.desk import answer_all
from leaderboards.services import pause
from leaderboards.tests.factories import LeaderboardFactory
from submissions.tests.factories import SubmissionFactory
from tests.api.test_lane import told

pytestmark = pytest.mark.django_db


LIKE = ("id", "created_at", "updated_at", "available_at", "pushed_at", "request_id", "submission_id")


def row_of(answer):
    return Job.objects.filter(pk=answer.json()["job_id"]).values().get()


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        ({}, {}),
        ({"config": {"lr": 0.1, "名": ["𠮷", None, {"a": 1}]}}, {}),
        ({"config": {"b": 1}}, {"Idempotency_Key": "k"}),
        ({"trial": True}, {"Idempotency_Key": "k"}),
        ({"trial": False}, {}),
    ],
)
def test_a_new_job_is_the_sites_in_every_column(api, site, user, body, headers):
    answers = []
    for number, one in enumerate((api, site)):
        keys = {name: f"{value}{number}" for name, value in headers.items()}
        answers.append(one.post("/api/jobs", {"submission_id": str(SubmissionFactory(user=user).pk), **body}, **keys))
    assert api.client.answered == 1
    ours, theirs = (row_of(answer) for answer in answers)
    different = {name for name in ours if ours[name] != theirs[name]}
    assert different <= {*LIKE, "idempotency_key", "request_digest", "leaderboard_id"}
    assert ours["pushed_at"] is not None
    assert ours["trial"] is body.get("trial", False)
    assert ours["request_id"] == answers[0].headers["X-Request-ID"]
    assert told(answers[0])[:2] == told(answers[1])[:2]
    assert list(answers[0].json()) == list(answers[1].json())


def test_the_same_key_again_is_the_sites_to_find(api, user):
    submission = SubmissionFactory(user=user)
    first = api.enqueue(submission, {"a": 1, "b": 2}, Idempotency_Key="k")
    again = api.enqueue(submission, {"b": 2, "a": 1}, Idempotency_Key="k")
    assert (again.status_code, again.json()) == (202, first.json())
    assert api.client.answered == 1
    assert api.enqueue(submission, {"a": 2}, Idempotency_Key="k").status_code == 409


NO_JOB = {
    "no object": b"[]",
    "no JSON": b"{",
    "no UTF-8": b'{"submission_id": "\xff"}',
    "not a number": b'{"submission_id": "%s", "config": {"a": NaN}}',
    "too large a number": b'{"submission_id": "%s", "config": {"a": 1e999}}',
    "a NUL": b'{"submission_id": "%s", "config": {"a": "\\u0000"}}',
    "no config": b'{"submission_id": "%s", "config": null}',
    "no yes or no": b'{"submission_id": "%s", "trial": "perhaps"}',
    "a trial that is null": b'{"submission_id": "%s", "trial": null}',
    "no such class": b'{"submission_id": "%s", "resource_class": "huge"}',
    "too deep": b'{"submission_id": "%s", "config": ' + b'{"a":' * 9000 + b"1" + b"}" * 9001,
    "no such submission": b'{"submission_id": "6c4a3c9e-0000-4000-8000-000000000000"}',
}


@pytest.mark.parametrize("case", NO_JOB)
def test_a_job_that_is_refused_is_refused_by_the_site(api, site, user, case):
    body = NO_JOB[case].replace(b"%s", str(SubmissionFactory(user=user).pk).encode())
    answers = [one.client.post("/api/jobs", body, content_type="application/json") for one in (api, site)]
    assert told(answers[0]) == told(answers[1])
    assert answers[0].status_code in (400, 404)
    assert (api.client.answered, Job.objects.count()) == (0, 0)


def test_boards_that_take_nothing_are_the_sites_to_refuse(api, user):
    closed = LeaderboardFactory(closes_at=timezone.now() - timedelta(seconds=1))
    early = LeaderboardFactory(opens_at=timezone.now() + timedelta(hours=1))
    shut, paused = LeaderboardFactory(takes_submissions=False), LeaderboardFactory()
    pause(paused, reason="moved", by=None)
    for board in (closed, early, shut, paused):
        assert api.enqueue(SubmissionFactory(user=user, leaderboard=board)).status_code == 409
    pause(None, reason="all of it", by=None)
    assert api.enqueue(SubmissionFactory(user=user)).status_code == 202  # a queue that waits takes jobs
    assert api.client.answered == 1


def jobs_wanted(*wanted):
    return [
        recognise(
            "POST",
            "/api/jobs",
            {"host": "localhost", "authorization": f"Bearer {secret}", "content-type": "application/json"},
            json.dumps({"submission_id": str(submission.pk)}).encode(),
        )
        for secret, submission in wanted
    ]


def test_many_peoples_jobs_are_one_transaction_and_quotas_hold_within_it(user, settings):
    """Ten of one person, with two tokens, among those of two others: three pass, as if they had come one by one."""
    people = [user, UserFactory(), UserFactory()]
    submissions = [SubmissionFactory(user=one) for one in people]
    secrets = [create_token(one, name="x")[1] for one in people]
    second = create_token(user, name="second")[1]
    wanted = [(secrets[0], submissions[0]), (second, submissions[0])] * 5
    wanted[3:3] = [(secrets[1], submissions[1]), (secrets[2], submissions[2])]
    # One whose submission is another's gets nothing of it.
    wanted.append((secrets[1], submissions[2]))
    calls = jobs_wanted(*wanted)
    answers = answer_all(ENQUEUE, calls)
    assert Job.objects.filter(user=user).count() == settings.CONCURRENT_JOBS == 3
    assert sum(answer is not None for answer in answers) == 5
    assert answers[-1] is None
    assert {job.user_id for job in Job.objects.all()} == {one.pk for one in people}
    assert all(job.submission.user_id == job.user_id for job in Job.objects.select_related("submission"))


@pytest.mark.django_db(transaction=True)
def test_whatever_goes_wrong_later_what_is_committed_is_answered_and_made_once(user, monkeypatch):
    """Django makes again what the lane does not answer. The person who is locked is asked for a second time."""
    other = UserFactory()
    calls = jobs_wanted(*[(create_token(one, name="x")[1], SubmissionFactory(user=one)) for one in (user, other)])
    ask, times = enqueue._ask, []

    def fails_the_second_time(wishes):
        times.append(len(wishes))
        if len(times) == 2:
            raise TypeError("unforeseen")
        return ask(wishes)

    monkeypatch.setattr(enqueue, "_ask", fails_the_second_time)
    with psycopg.connect(**connection.get_connection_params() | {"cursor_factory": psycopg.Cursor}) as outside:
        outside.execute("SELECT FROM accounts_user WHERE id = %s FOR UPDATE", [other.pk])
        answers = answer_all(ENQUEUE, calls)
    assert [answer is not None for answer in answers] == [True, False]
    assert (times, list(Job.objects.values_list("user", flat=True))) == ([2, 1], [user.pk])


def test_who_is_refused_once_holds_nobody_up(user, monkeypatch):
    """The rest of a refused person's calls fall through to Django unseen: a look at each would be for nothing."""
    other = UserFactory()
    secrets = [create_token(one, name="x")[1] for one in (user, other)]
    closed = SubmissionFactory(user=user, leaderboard=LeaderboardFactory(takes_submissions=False))
    wanted = [(secrets[0], closed)] * 60 + [(secrets[1], SubmissionFactory(user=other))]
    outcomes, ask = [], enqueue._ask
    monkeypatch.setattr(enqueue, "_ask", lambda wishes: (outcomes.extend(ask(wishes)), outcomes)[1])
    answers = answer_all(ENQUEUE, jobs_wanted(*wanted))
    assert [answer is not None for answer in answers] == [False] * 60 + [True]
    assert [outcome.refusal for outcome in outcomes] == ["leaderboard_closed"] + ["not_tried"] * 59 + [None]


def test_one_key_twice_in_a_batch_makes_one_job(api, user):
    """Of the two that come together one is made; the other finds it, or is told that it asks for something else."""
    submission = SubmissionFactory(user=user)
    headers = {
        "host": "localhost",
        "authorization": f"Bearer {api.token}",
        "content-type": "application/json",
        "idempotency-key": "k",
    }
    bodies = [{"config": {"a": 1}}, {"config": {"a": 1}}, {"config": {"a": 2}}]
    calls = [
        recognise("POST", "/api/jobs", headers, json.dumps({"submission_id": str(submission.pk), **body}).encode())
        for body in bodies
    ]
    answers = answer_all(ENQUEUE, calls)
    assert [answer is not None for answer in answers] == [True, False, False]
    again = api.enqueue(submission, {"a": 1}, Idempotency_Key="k")
    assert (again.status_code, again.json()["job_id"]) == (202, json.loads(answers[0].body)["job_id"])
    assert api.enqueue(submission, {"a": 2}, Idempotency_Key="k").status_code == 409
    assert Job.objects.filter(user=user).count() == 1


def test_a_key_twice_in_an_object_and_odd_letters_are_read_as_the_site_reads_them(api, site, user):
    submission = SubmissionFactory(user=user)
    body = b'{"submission_id": "x", "submission_id": "%s", "config": {"a": 1, "a": "\\ud83d\\ude00"}}'
    body = body.replace(b"%s", str(submission.pk).encode()).replace(b"\\\\", b"\\")
    answers = [one.client.post("/api/jobs", body, content_type="application/json") for one in (api, site)]
    assert [answer.status_code for answer in answers] == [202, 202]
    assert [row_of(answer)["config"] for answer in answers] == [{"a": "\U0001f600"}] * 2
    assert api.client.answered == 1


def test_half_of_a_pair_spoils_nobody_elses_job(user):
    """A lone surrogate: whether the checks or the database refuse it, the neighbours have their answers."""
    other = UserFactory()
    calls = jobs_wanted(*[(create_token(one, name="x")[1], SubmissionFactory(user=one)) for one in (user, other)])
    calls[0].body = calls[0].body[:-1] + b', "config": {"a": "\\ud800"}}'
    assert [answer is not None for answer in answer_all(ENQUEUE, calls)] == [False, True]


def test_a_persons_large_quota_spoils_nobody_elses_job(user):
    """Three times the largest quota is beyond an `integer`."""
    rich = UserFactory(submissions_per_hour=2**31 - 1)
    calls = jobs_wanted(*[(create_token(one, name="x")[1], SubmissionFactory(user=one)) for one in (rich, user)])
    assert [answer is not None for answer in answer_all(ENQUEUE, calls)] == [True, True]


@pytest.mark.django_db(transaction=True)
def test_who_is_locked_by_another_is_left_to_the_site_and_holds_nobody_up(user):
    other = UserFactory()
    calls = jobs_wanted(*[(create_token(one, name="x")[1], SubmissionFactory(user=one)) for one in (user, other)])
    with psycopg.connect(**connection.get_connection_params() | {"cursor_factory": psycopg.Cursor}) as outside:
        outside.execute("SELECT FROM accounts_user WHERE id = %s FOR UPDATE", [user.pk])
        answers = answer_all(ENQUEUE, calls)
        assert [answer is not None for answer in answers] == [False, True]
        outside.rollback()
    assert answer_all(ENQUEUE, calls[:1])[0].status == 202


@pytest.mark.django_db(transaction=True)
def test_a_commit_whose_answer_is_lost_is_never_tried_again(user, monkeypatch):
    """The jobs may stand: the answer is that of the site, and nobody makes them a second time."""
    [call] = jobs_wanted((create_token(user, name="x")[1], SubmissionFactory(user=user)))

    commit = BaseDatabaseWrapper._commit

    def lost(self):
        commit(self)
        raise OperationalError("the connection is lost")

    monkeypatch.setattr(BaseDatabaseWrapper, "_commit", lost)
    [answer] = answer_all(ENQUEUE, [call])
    monkeypatch.undo()
    assert (answer.status, dict(answer.headers)["Retry-After"]) == (503, "10")
    assert json.loads(answer.body)["code"] == "unavailable"
    assert Job.objects.filter(user=user).count() == 1
