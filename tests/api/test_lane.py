"""The lane answers as the whole site does, byte for byte, and leaves to it what is not plain."""

from datetime import timedelta
from pathlib import Path

import pytest
from django.db.models.functions import Now
from django.test import Client
from django.utils import timezone

from accounts.services import create_token, revoke_token, shut_out
from accounts.tests.factories import UserFactory
from jobs.models import Job
from jobs.tests.factories import JobFactory, WorkerFactory
from leaderboards.services import pause
from tests.api.conftest import Api

pytestmark = pytest.mark.django_db
STATUSES = ["pending", "running", "completed", "failed", "cancelled"]
# What differs from one request to the next.
OWN = "X-Request-ID"


@pytest.fixture
def site(api):
    """The same person, without the lane."""
    whole = Api.__new__(Api)
    whole.user, whole.token = api.user, api.token
    whole.client = Client(headers={"Authorization": f"Bearer {api.token}"})
    return whole


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


@pytest.mark.parametrize("status", ["running", "completed"])
def test_a_status_is_one_query(api, user, django_assert_num_queries, status):
    job = JobFactory(user=user, status=status)
    with django_assert_num_queries(0):  # of the ORM's: the lane's own is not one of them
        assert api.get(status_of(job)).status_code == 200
    assert api.client.answered == 1


def test_behind_tls_the_lane_is_strict_about_it(api, site, user, settings):
    settings.SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
    settings.SECURE_SSL_REDIRECT = True
    job = JobFactory(user=user)
    over_tls, plain = ({"X-Forwarded-Proto": "https"}, {})
    for headers, status in ((over_tls, 200), (plain, 301)):
        answers = [one.client.get(status_of(job), headers=headers) for one in (api, site)]
        assert told(answers[0]) == told(answers[1])
        assert answers[0].status_code == status
    assert api.client.answered == 1


def test_another_persons_token_in_the_same_batch_changes_nothing(user):
    from leaderboard_site.lane.calls import recognise
    from leaderboard_site.lane.desk import answer_all

    people = [user, UserFactory(), UserFactory()]
    jobs = [JobFactory(user=one, status="running") for one in people]
    secrets = [create_token(one, name="x")[1] for one in people]

    def call(secret, job):
        return recognise("GET", status_of(job), {"authorization": f"Bearer {secret}"}, b"")

    calls = [call(secret, job) for secret in secrets for job in jobs]
    answers = answer_all(calls[0].route, calls)
    assert [answer is not None for answer in answers] == [row == column for row in range(3) for column in range(3)]
    assert [str(job.pk).encode() in answers[number * 4].body for number, job in enumerate(jobs)] == [True] * 3
