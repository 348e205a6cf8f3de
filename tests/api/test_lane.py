"""The lane answers as the whole site does, byte for byte, and leaves to it what is not plain."""

import json
from datetime import timedelta
from pathlib import Path

import psycopg
import pytest
from django.db import OperationalError, connection
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models.functions import Now
from django.utils import timezone

from accounts.services import create_token, revoke_token, shut_out
from accounts.tests.factories import UserFactory
from jobs.models import Job
from jobs.tests.factories import JobFactory, WorkerFactory
from leaderboard_site.lane import enqueue, status, submit
from leaderboard_site.lane.calls import ENQUEUE, recognise
from leaderboard_site.lane.desk import answer_all
from leaderboard_site.polling import tag_of
from leaderboards.services import pause
from leaderboards.tests.factories import LeaderboardFactory
from submissions.tests.factories import SubmissionFactory
from tests.api.conftest import Api

pytestmark = pytest.mark.django_db
STATUSES = ["pending", "running", "completed", "failed", "cancelled"]
# What differs from one request to the next.
OWN = "X-Request-ID"


def told(response):
    headers = [(name, value) for name, value in response.headers.items() if name != OWN]
    assert response.headers[OWN]
    return response.status_code, sorted(headers), response.content


def status_of(job):
    return f"/api/jobs/{job.pk}/status"


@pytest.mark.parametrize("status", STATUSES)
def test_a_status_is_the_sites_byte_for_byte(api, site, user, status):
    job = JobFactory(user=user, status=status)
    Job.objects.filter(pk=job.pk).update(run_id="run" if status == "completed" else "")
    assert told(api.get(status_of(job))) == told(site.get(status_of(job)))
    assert api.client.answered == 1


def test_a_message_with_any_character_is_the_sites(api, site, user):
    job = JobFactory(user=user, status="failed", error_code="exit_nonzero")
    Job.objects.filter(pk=job.pk).update(error_message='é 名 \u2028 " \\ \n \0'.replace("\0", ""))
    assert told(api.get(status_of(job))) == told(site.get(status_of(job)))
    assert api.client.answered == 1


def test_why_a_job_ended_is_told_in_the_sites_words(api, site, user):
    job = JobFactory(user=user, status="failed", error_code="timeout")
    told_of = {"text": "It ran %(seconds)s seconds.", "values": {"seconds": 5}}
    Job.objects.filter(pk=job.pk).update(error_message="-", error_told=told_of)
    assert told(api.get(status_of(job))) == told(site.get(status_of(job)))
    assert api.get(status_of(job)).json()["error_message"] == "It ran 5 seconds."
    assert api.client.answered == 2


def test_a_job_that_is_being_scored_says_so_until_it_ends(api, site, user):
    job = JobFactory(user=user, status="running")
    assert "scoring_started_at" not in api.get(status_of(job)).json()
    Job.objects.filter(pk=job.pk).update(scoring_started_at=Now())
    assert told(api.get(status_of(job))) == told(site.get(status_of(job)))
    assert api.get(status_of(job)).json()["scoring_started_at"]
    ended = JobFactory(user=user, status="completed")
    Job.objects.filter(pk=ended.pk).update(scoring_started_at=Now())
    assert told(api.get(status_of(ended))) == told(site.get(status_of(ended)))
    assert "scoring_started_at" not in api.get(status_of(ended)).json()


def test_a_job_that_is_to_be_cancelled_says_so(api, site, user):
    job = JobFactory(user=user, status="running")
    Job.objects.filter(pk=job.pk).update(cancel_requested_at=Now())
    assert told(api.get(status_of(job))) == told(site.get(status_of(job)))
    assert b"cancel_requested_at" in api.get(status_of(job)).content


def test_why_a_job_waits_is_the_sites(api, site, user):
    job = JobFactory(user=user)
    for change in (lambda: WorkerFactory(state="idle"), lambda: pause(job.leaderboard, reason="moved", by=None)):
        change()
        assert told(api.get(status_of(job))) == told(site.get(status_of(job)))
    assert api.client.answered == 2


@pytest.mark.parametrize("status", STATUSES)
def test_who_has_the_same_status_already_gets_304_of_either(api, site, user, status):
    job = JobFactory(user=user, status=status)
    first = api.get(status_of(job))
    tag = first.headers["ETag"]
    assert first.headers["Cache-Control"] == "private, no-cache"
    assert first.headers["Vary"] == "Accept-Language, Authorization, Origin"
    # Weak or strong, alone or among others: compared as weak ones.
    for given in (tag, tag.removeprefix("W/"), f'"other", {tag}', "*"):
        asked = {"If_None_Match": given}
        assert told(api.get(status_of(job), **asked)) == told(site.get(status_of(job), **asked))
        answer = api.get(status_of(job), **asked)
        assert (answer.status_code, answer.content, answer.headers["ETag"]) == (304, b"", tag)
        assert not {"Content-Length", "Content-Type"} & set(answer.headers)
    for given in ('"other"', "other", "", "W/", '"'):
        answers = [one.get(status_of(job), If_None_Match=given) for one in (api, site)]
        assert told(answers[0]) == told(answers[1])
        assert answers[0].status_code == 200
    Job.objects.filter(pk=job.pk).update(cancel_requested_at=Now())
    changed = api.get(status_of(job), If_None_Match=tag)
    assert (changed.status_code, changed.headers["ETag"] == tag) == (200, False)
    assert api.client.answered == 1 + 4 * 2 + 5 + 1


def test_a_tag_lets_nobody_in(api, user):
    job = JobFactory(user=user, status="running")
    tag = api.get(status_of(job)).headers["ETag"]
    assert Api(UserFactory()).get(status_of(job), If_None_Match=tag).status_code == 404
    assert Api(UserFactory()).get(status_of(job), If_None_Match="*").status_code == 404
    revoke_token(user.api_tokens.get())
    assert api.get(status_of(job), If_None_Match=tag).status_code == 401


def test_an_estimate_that_moves_by_seconds_is_the_same_answer():
    body = b'{"waiting":{"position":1,"reason":"x","expected_start":"2026-11-26T10:%s"}}'
    tags = [tag_of(body % end) for end in (b"00:01.1Z", b"00:59.9Z", b"01:00.0Z")]
    assert (tags[0] == tags[1], tags[1] == tags[2]) == (True, False)
    assert tag_of(body.replace(b'"x"', b'"y"') % b"00:01.1Z") != tags[0]


def test_a_request_id_that_was_given_comes_back(api, user):
    job = JobFactory(user=user)
    assert api.get(status_of(job), X_Request_ID="mine-1").headers[OWN] == "mine-1"
    assert api.client.answered == 1


REFUSED = {
    "another's job": lambda api: status_of(JobFactory()),
    "no such job": lambda api: "/api/jobs/6c4a3c9e-0000-4000-8000-000000000000/status",
    "a revoked token": lambda api: (revoke_token(api.user.api_tokens.get()), status_of(JobFactory(user=api.user)))[1],
    "an expired token": lambda api: (
        api.user.api_tokens.update(expires_at=timezone.now() - timedelta(seconds=1)),
        status_of(JobFactory(user=api.user)),
    )[1],
    "a person shut out": lambda api: (shut_out(api.user), status_of(JobFactory(user=api.user)))[1],
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_refusal_is_the_sites_own(api, site, case):
    path = REFUSED[case](api)
    assert told(api.get(path)) == told(site.get(path))
    assert api.get(path).status_code in (401, 404)
    assert api.client.answered == 0


UNUSUAL = {
    "Japanese": {"Accept-Language": "ja"},
    "a cookie": {"Cookie": "django_language=ja"},
    "a page of another site": {"Origin": "https://elsewhere.invalid"},
    "another form": {"Accept": "application/json; indent=4"},
    "a header it does not know": {"X-Something": "1"},
    "two words for a token": {"Authorization": "Bearer a b"},
    "another scheme": {"Authorization": "Basic YTpi"},
    "small letters": {"Authorization": "bearer x"},
}


@pytest.mark.parametrize("case", UNUSUAL)
def test_what_is_unusual_is_left_to_the_site(api, site, user, case):
    job = JobFactory(user=user)
    answers = [told(one.client.get(status_of(job), headers=UNUSUAL[case])) for one in (api, site)]
    assert answers[0] == answers[1]
    assert api.client.answered == 0


def test_a_token_is_worth_nothing_the_moment_it_is_revoked(api, user):
    job = JobFactory(user=user)
    token, secret = create_token(user, name="other")
    asked = {"Authorization": f"Bearer {secret}"}
    assert api.client.get(status_of(job), headers=asked).status_code == 200
    revoke_token(token)
    assert api.client.get(status_of(job), headers=asked).status_code == 401
    assert api.client.answered == 1


def test_maintenance_and_the_switch_close_the_lane(api, site, user, settings, tmp_path):
    job = JobFactory(user=user)
    settings.MAINTENANCE_FILE = Path(tmp_path, "maintenance")
    settings.MAINTENANCE_FILE.write_text("Back at noon.")
    assert told(api.get(status_of(job))) == told(site.get(status_of(job)))
    assert api.get(status_of(job)).status_code == 503
    settings.MAINTENANCE_FILE.unlink()
    settings.LANE = False
    assert api.get(status_of(job)).status_code == 200
    assert api.client.answered == 0


@pytest.fixture
def statements(monkeypatch):
    """The first words of what goes to PostgreSQL: the lane's statements and the ORM's."""
    sent, execute = [], psycopg.Cursor.execute

    def counted(self, query, *values, **options):
        sent.append(str(query).split(None, 1)[0])
        return execute(self, query, *values, **options)

    monkeypatch.setattr(psycopg.Cursor, "execute", counted)
    return sent


@pytest.mark.parametrize("status", ["running", "completed", "failed"])
def test_a_status_is_one_statement(api, user, statements, status):
    job = JobFactory(user=user, status=status)
    statements.clear()
    assert api.get(status_of(job)).status_code == 200
    assert (api.client.answered, statements) == (1, ["SELECT"])


def test_a_new_job_is_two_statements_and_a_commit(api, user, statements):
    submission = SubmissionFactory(user=user)
    statements.clear()
    assert api.enqueue(submission).status_code == 202
    assert (api.client.answered, [word for word in statements if word not in ("SAVEPOINT", "RELEASE")]) == (
        1,
        ["SELECT", "INSERT"],
    )


def test_a_submission_is_three_statements_and_a_commit(api, statements):
    statements.clear()
    assert api.submit().status_code == 201
    assert (api.client.answered, [word for word in statements if word not in ("SAVEPOINT", "RELEASE")]) == (
        1,
        ["SELECT", "SELECT", "INSERT"],
    )


@pytest.mark.django_db(transaction=True)
def test_where_thirty_jobs_wait_is_one_reading_of_the_queue(user, settings, django_assert_num_queries):
    settings.WAITING_VIEW_SECONDS = 3600
    jobs = [JobFactory(user=user) for _ in range(30)]
    secret = create_token(user, name="x")[1]
    calls = [
        recognise("GET", status_of(job), {"host": "localhost", "authorization": f"Bearer {secret}"}, b"")
        for job in jobs
    ]
    with django_assert_num_queries(6):  # the queue, workers, pauses, images, recent ends, running jobs
        answers = answer_all(calls[0].route, calls)
    assert sorted(json.loads(answer.body)["waiting"]["position"] for answer in answers) == list(range(1, 31))
    # A newer one has it read again; those before are told from the new reading.
    newer = recognise(
        "GET", status_of(JobFactory(user=user)), {"host": "localhost", "authorization": f"Bearer {secret}"}, b""
    )
    with django_assert_num_queries(6):
        assert json.loads(answer_all(newer.route, [newer])[0].body)["waiting"]["position"] == 31
    with django_assert_num_queries(0):
        assert json.loads(answer_all(newer.route, calls)[0].body)["waiting"]["position"] == 1


def test_behind_tls_the_lane_is_strict_about_it(api, site, user, settings):
    settings.SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
    settings.SECURE_SSL_REDIRECT = True
    job = JobFactory(user=user)
    over_tls, plain = ({"X-Forwarded-Proto": "https"}, {})
    for headers, expected in ((over_tls, 200), (plain, 301)):
        answers = [one.client.get(status_of(job), headers=headers) for one in (api, site)]
        assert told(answers[0]) == told(answers[1])
        assert answers[0].status_code == expected
    assert api.client.answered == 1


def test_another_persons_token_in_the_same_batch_changes_nothing(user):
    people = [user, UserFactory(), UserFactory()]
    jobs = [JobFactory(user=one, status="running") for one in people]
    secrets = [create_token(one, name="x")[1] for one in people]

    def call(secret, job):
        return recognise("GET", status_of(job), {"host": "localhost", "authorization": f"Bearer {secret}"}, b"")

    calls = [call(secret, job) for secret in secrets for job in jobs]
    answers = answer_all(calls[0].route, calls)
    assert [answer is not None for answer in answers] == [row == column for row in range(3) for column in range(3)]
    assert [str(job.pk).encode() in answers[number * 4].body for number, job in enumerate(jobs)] == [True] * 3


# --- POST /api/jobs ------------------------------------------------------------------------------------------------
LIKE = ("id", "created_at", "updated_at", "available_at", "pushed_at", "request_id", "submission_id")


def row_of(answer):
    return Job.objects.filter(pk=answer.json()["job_id"]).values().get()


@pytest.mark.parametrize(
    ("config", "headers"),
    [(None, {}), ({"lr": 0.1, "名": ["𠮷", None, {"a": 1}]}, {}), ({"b": 1}, {"Idempotency_Key": "k"})],
)
def test_a_new_job_is_the_sites_in_every_column(api, site, user, config, headers):
    answers = [one.enqueue(SubmissionFactory(user=user), config, **headers) for one in (api,)]
    headers = {name: value + "2" for name, value in headers.items()}
    answers.append(site.enqueue(SubmissionFactory(user=user), config, **headers))
    assert api.client.answered == 1
    ours, theirs = (row_of(answer) for answer in answers)
    different = {name for name in ours if ours[name] != theirs[name]}
    assert different <= {*LIKE, "idempotency_key", "request_digest", "leaderboard_id"}
    assert ours["pushed_at"] is not None
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
    """The site makes again what the lane does not answer."""
    secret, submission = create_token(user, name="x")[1], SubmissionFactory(user=user)
    insert, times = enqueue._insert, []

    def fails_the_second_time(locked):
        times.append(1)
        if len(times) == 2:
            raise TypeError("unforeseen")
        return insert(locked)

    monkeypatch.setattr(enqueue, "_insert", fails_the_second_time)
    answers = answer_all(ENQUEUE, jobs_wanted(*[(secret, submission)] * 3))
    assert [answer is not None for answer in answers] == [True, False, False]
    assert Job.objects.filter(user=user).count() == 1


def test_who_is_refused_once_holds_nobody_up(user, monkeypatch):
    """The rest of a refused person's calls are the site's at once: a round each would be a transaction for nothing."""
    other = UserFactory()
    secrets = [create_token(one, name="x")[1] for one in (user, other)]
    closed = SubmissionFactory(user=user, leaderboard=LeaderboardFactory(takes_submissions=False))
    wanted = [(secrets[0], closed)] * 60 + [(secrets[1], SubmissionFactory(user=other))]
    rounds, made = [], enqueue._enqueue
    monkeypatch.setattr(enqueue, "_enqueue", lambda wishes: (rounds.append(len(wishes)), made(wishes))[1])
    answers = answer_all(ENQUEUE, jobs_wanted(*wanted))
    assert [answer is not None for answer in answers] == [False] * 60 + [True]
    assert rounds == [2]


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


@pytest.mark.django_db(transaction=True)
def test_what_the_database_refuses_the_lane_is_asked_again_by_the_site(user, monkeypatch):
    api = Api(user)
    submission, job = SubmissionFactory(user=user), JobFactory(user=user)
    for module, name in ((status, "_STATUS"), (enqueue, "_LOCK"), (submit, "_ADMIT")):
        monkeypatch.setattr(module, name, "SELECT 1 / 0")
    files = [api.get(status_of(job)), api.enqueue(submission), api.submit()]
    assert [answer.status_code for answer in files] == [200, 202, 201]
    assert api.client.answered == 0


@pytest.mark.django_db(transaction=True)
def test_a_connection_that_was_cut_is_made_anew(user):
    api = Api(user)
    job = JobFactory(user=user)
    assert api.get(status_of(job)).status_code == 200
    with psycopg.connect(**connection.get_connection_params() | {"cursor_factory": psycopg.Cursor}) as outside:
        outside.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid = %s",
            [connection.connection.info.backend_pid],
        )
    assert [api.get(status_of(job)).status_code for _ in range(2)] == [200, 200]
    assert api.client.answered >= 2


@pytest.mark.parametrize("host", ["evil.example", "localhost.evil.example", "localhost:80:80", "local host", ""])
def test_a_name_that_the_site_does_not_answer_to_is_left_to_the_site(host):
    headers = {"host": host, "authorization": "Bearer lb_x"}
    path = "/api/jobs/6c4a3c9e-0000-4000-8000-000000000000/status"
    assert recognise("GET", path, headers, b"") is None
    assert recognise("GET", path, headers | {"host": "LocalHost:8010"}, b"") is not None
