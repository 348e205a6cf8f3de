"""The lane answers as the whole site does, byte for byte, and leaves to it what is not plain."""

import json
from datetime import timedelta
from pathlib import Path

import psycopg
import pytest
from django.db import connection
from django.db.models.functions import Now
from django.utils import timezone

from accounts.services import create_token, revoke_token, shut_out
from accounts.tests.factories import UserFactory
from jobs.models import Job
from jobs.tests.factories import JobFactory, WorkerFactory
from leaderboard_site.lane import enqueue, status, submit
from leaderboard_site.lane.calls import recognise
from leaderboard_site.lane.desk import answer_all
from leaderboard_site.polling import tag_of
from leaderboards.services import pause
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


def test_a_new_job_is_one_statement_and_a_commit(api, user, statements):
    submission = SubmissionFactory(user=user)
    statements.clear()
    assert api.enqueue(submission).status_code == 202
    assert (api.client.answered, [word for word in statements if word not in ("SAVEPOINT", "RELEASE")]) == (
        1,
        ["SELECT"],
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


@pytest.mark.django_db(transaction=True)
def test_what_the_database_refuses_the_lane_is_asked_again_by_the_site(user, monkeypatch):
    api = Api(user)
    submission, job = SubmissionFactory(user=user), JobFactory(user=user)
    for module, name in ((status, "_STATUS"), (submit, "_ADMIT")):
        monkeypatch.setattr(module, name, "SELECT 1 / 0")
    monkeypatch.setattr(enqueue, "enqueue_jobs", lambda cursor, *_, **__: cursor.execute("SELECT 1 / 0"))
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
