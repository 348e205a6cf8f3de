"""/api/jobs: queueing a run, quotas on both sides, the same request twice, and cancelling."""

import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from uuid import UUID, uuid4

import pytest
from django.db import connection
from django.utils import timezone
from rq import Queue
from rq.serializers import JSONSerializer

from accounts.tests.factories import UserFactory
from jobs import queue
from jobs.models import PLATFORM_FAULTS, Job, Status
from jobs.services import rerun_job
from jobs.tests.factories import JobFactory
from leaderboards.tests.factories import LeaderboardFactory
from submissions.tests.factories import SubmissionFactory
from tests.api.conftest import Api, refusal

NOT_THERE = (404, {"code": "not_found", "message": "No such object, or it is not yours."})
pytestmark = pytest.mark.django_db


def told(response):
    return response.status_code, response.json()


def as_json(moment):
    return moment.isoformat().replace("+00:00", "Z")


@pytest.fixture
def submission(user):
    return SubmissionFactory(user=user)


def earlier(user, minutes, status="completed", **fields):
    return JobFactory(user=user, status=status, created_at=timezone.now() - timedelta(minutes=minutes), **fields)


# --- POST /api/jobs ------------------------------------------------------------------------------------------------


def test_a_job_is_queued_and_a_worker_called(api, submission, django_capture_on_commit_callbacks):
    with django_capture_on_commit_callbacks(execute=True):
        answer = api.enqueue(submission, {"lr": 0.1, "名": "𠮷"})
    job = Job.objects.get()
    assert told(answer) == (202, {"job_id": str(job.pk), "status": "pending", "created_at": as_json(job.created_at)})
    assert (job.submission, job.config, job.resource_class) == (submission, {"lr": 0.1, "名": "𠮷"}, "small")
    assert (job.leaderboard, job.user, job.status) == (submission.leaderboard, api.user, Status.PENDING)
    call = Queue("small", connection=queue.connection(), serializer=JSONSerializer).fetch_job(str(job.pk))
    assert (call.func_name, call.args) == ("jobs.tasks.run_job", [str(job.pk)])


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({}, "invalid"),
        ({"submission_id": "1"}, "invalid"),
        ({"submission_id": None}, "invalid"),
        ({"submission_id": ["x"]}, "invalid"),
        ({"config": []}, "invalid"),
        ({"config": "a"}, "invalid"),
        ({"config": {"a": "\0"}}, "invalid"),
        ({"config": {"a": ["\ud800"]}}, "invalid"),
        ({"config": {"a": "x" * 64 * 1024}}, "bad_config"),
        ({"resource_class": "huge"}, "bad_resource_class"),
        ({"resource_class": ""}, "invalid"),
        ({"resource_class": "a\0"}, "invalid"),
    ],
)
def test_wrong_input_is_400(api, submission, body, code):
    sent = {"submission_id": str(submission.pk), **body} if body else {}
    assert refusal(api.post("/api/jobs", sent)) == (400, code)
    assert Job.objects.count() == 0


@pytest.mark.parametrize(
    "body", [b"{", b"[]", b"null", b'"a"', b"\xff", b"[" * 200_000, b'{"a":' * 200_000, b'{"config": {"a": NaN}}']
)
def test_a_body_that_is_no_json_object_is_400(api, body):
    answer = api.client.generic("POST", "/api/jobs", body, content_type="application/json")
    assert refusal(answer) == (400, "invalid")


def test_an_infinite_number_is_400(api, submission):
    body = f'{{"submission_id": "{submission.pk}", "config": {{"a": 1e999}}}}'
    answer = api.client.generic("POST", "/api/jobs", body, content_type="application/json")
    assert refusal(answer) == (400, "bad_config")


def test_a_json_body_of_a_mebibyte_is_read_and_one_byte_more_is_413(api):
    for size, expected in ((1024 * 1024, (400, "invalid")), (1024 * 1024 + 1, (413, "too_large"))):
        body = b"{}".ljust(size)
        assert refusal(api.client.generic("POST", "/api/jobs", body, content_type="application/json")) == expected


def test_another_media_type_is_415(api):
    assert refusal(api.client.post("/api/jobs", {"a": 1})) == (415, "unsupported_media_type")


def test_a_foreign_submission_is_404(api):
    foreign = SubmissionFactory()
    expected = f"submission_id: no submission {foreign.pk}, or it is not yours."
    assert told(api.enqueue(foreign)) == (404, {"code": "not_found", "message": expected})
    assert refusal(api.enqueue(uuid4())) == (404, "not_found")


def test_a_closed_leaderboard_is_409(api, user):
    board = LeaderboardFactory(closes_at=timezone.now() - timedelta(seconds=1))
    assert refusal(api.enqueue(SubmissionFactory(user=user, leaderboard=board))) == (409, "leaderboard_closed")


# --- Quotas --------------------------------------------------------------------------------------------------------


def test_the_fourth_job_at_once_is_429(api, user, submission):
    active = [earlier(user, 1, status) for status in ("pending", "running")]
    earlier(user, 1, "failed")
    assert api.enqueue(submission).status_code == 202
    answer = api.enqueue(submission)
    assert told(answer) == (
        429,
        {
            "code": "too_many_jobs",
            "message": "You have 3 jobs pending or running; at most 3 at once. Wait for one to end or cancel one.",
        },
    )
    assert int(answer.headers["Retry-After"]) == 60
    assert api.post(f"/api/jobs/{active[0].pk}/cancel").status_code == 202
    assert api.enqueue(submission).status_code == 202


def test_the_eleventh_job_within_an_hour_is_429(api, user, submission):
    for minutes in range(5, 50, 5):
        earlier(user, minutes)
    earlier(user, 61)
    assert api.enqueue(submission).status_code == 202
    Job.objects.filter(status="pending").delete()
    earlier(user, 50)
    answer = api.enqueue(submission)
    assert refusal(answer) == (429, "hourly_limit")
    assert 9 * 60 < int(answer.headers["Retry-After"]) <= 10 * 60
    Job.objects.filter(created_at__lt=timezone.now() - timedelta(minutes=49)).delete()
    assert api.enqueue(submission).status_code == 202


def test_a_leaderboard_that_is_not_open_yet_says_when_it_opens(api, user):
    board = LeaderboardFactory(slug="soon", opens_at="2099-01-02T03:04Z")
    answer = api.enqueue(SubmissionFactory(user=user, leaderboard=board))
    expected = "leaderboard: soon is not open yet. It opens on 2099-01-02 03:04:00 UTC."
    assert (answer.status_code, answer.json()["message"]) == (409, expected)


@pytest.mark.parametrize(
    ("error_code", "status"),
    [*((code, 202) for code in PLATFORM_FAULTS), ("timeout", 429), ("exit_nonzero", 429)],
)
def test_a_job_that_the_platform_failed_gives_its_quota_back(api, user, submission, error_code, status):
    for _ in range(9):
        earlier(user, 1)
    earlier(user, 1, "failed", error_code=error_code)
    assert api.enqueue(submission).status_code == status


def test_jobs_that_are_cancelled_while_pending_cost_nothing_up_to_a_bound(api, user, submission):
    for _ in range(9):
        earlier(user, 1)
    for _ in range(21):
        made = api.enqueue(submission)
        assert made.status_code == 202
        assert api.post(f"/api/jobs/{made.json()['job_id']}/cancel").status_code == 202
    answer = api.enqueue(submission)
    assert refusal(answer) == (429, "hourly_limit")
    assert answer.json()["message"] == "You started 30 jobs within the last hour, which is the limit."


def test_runs_that_an_operator_repeats_cost_nothing(api, user, submission):
    done = [earlier(user, 1) for _ in range(9)]
    operator = UserFactory(is_staff=True, is_superuser=True)
    for job in done[:4]:
        rerun_job(job, by=operator)
    assert api.enqueue(submission).status_code == 202
    assert refusal(api.enqueue(submission)) == (429, "hourly_limit")


def test_a_person_may_have_a_quota_of_their_own(api, user, submission):
    user.concurrent_jobs = 1
    user.save(update_fields=["concurrent_jobs"])
    assert api.enqueue(submission).status_code == 202
    assert refusal(api.enqueue(submission)) == (429, "too_many_jobs")


# --- Idempotency-Key -----------------------------------------------------------------------------------------------


def test_the_same_key_and_request_is_the_same_job(api, submission):
    first = api.enqueue(submission, {"a": 1, "b": 2}, Idempotency_Key="k")
    again = api.enqueue(submission, {"b": 2, "a": 1}, Idempotency_Key="k")
    assert told(again) == told(first) == (202, first.json())
    assert api.enqueue(submission, {"a": 1, "b": 2}, Idempotency_Key="other").json() != first.json()
    assert Job.objects.count() == 2


def test_the_same_key_answers_also_when_the_quota_is_used_up(api, user, submission):
    first = api.enqueue(submission, Idempotency_Key="k")
    for _ in range(10):
        earlier(user, 1)
    assert told(api.enqueue(submission, Idempotency_Key="k")) == (202, first.json())


def test_the_same_key_for_another_request_is_409(api, user, submission):
    api.enqueue(submission, {"a": 1}, Idempotency_Key="k")
    expected = {"code": "idempotency_conflict", "message": "Idempotency-Key was used before for another request."}
    assert told(api.enqueue(submission, {"a": 2}, Idempotency_Key="k")) == (409, expected)
    assert told(api.enqueue(SubmissionFactory(user=user), {"a": 1}, Idempotency_Key="k")) == (409, expected)


def test_a_key_is_a_persons_own(api, submission):
    other = Api(UserFactory())
    mine = api.enqueue(submission, Idempotency_Key="k")
    theirs = other.enqueue(SubmissionFactory(user=other.user), Idempotency_Key="k")
    assert (theirs.status_code, theirs.json()["job_id"] != mine.json()["job_id"]) == (202, True)


@pytest.mark.parametrize("key", ["", "k" * 201, "tab\tkey", "é"])
def test_a_key_that_is_no_key_is_400(api, submission, key):
    assert refusal(api.enqueue(submission, Idempotency_Key=key)) == (400, "bad_idempotency_key")


def test_a_key_of_the_very_length_is_taken(api, submission):
    assert api.enqueue(submission, Idempotency_Key="k" * 200).status_code == 202


def at_once(count, call):
    """The answers of `count` threads that start together, each with a connection of its own."""
    start = threading.Barrier(count)

    def one(number):
        start.wait()
        try:
            return call(number)
        finally:
            connection.close()

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(one, range(count)))


@pytest.mark.slow
@pytest.mark.django_db(transaction=True)
def test_twenty_same_requests_at_once_make_one_job(api, submission):
    answers = at_once(20, lambda _: Api.enqueue(api, submission, {"a": 1}, Idempotency_Key="k"))
    assert [answer.status_code for answer in answers] == [202] * 20
    assert {answer.json()["job_id"] for answer in answers} == {str(Job.objects.get().pk)}


@pytest.mark.slow
@pytest.mark.django_db(transaction=True)
def test_forty_requests_at_once_pass_the_quota_three_times(api, submission):
    answers = at_once(40, lambda _: api.enqueue(submission))
    assert sorted(answer.status_code for answer in answers) == [202] * 3 + [429] * 37
    assert Job.objects.count() == 3


# --- Redis away ----------------------------------------------------------------------------------------------------


@pytest.fixture
def listener():
    """A port that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@pytest.fixture
def redis_at(settings, monkeypatch):
    def at(port):
        settings.REDIS_URL = f"redis://127.0.0.1:{port}/0"
        monkeypatch.setattr(queue, "_connection", None)
        monkeypatch.setattr(queue, "_broken_until", 0.0)

    return at


@pytest.mark.parametrize("kind", ["refused", "silent"])
def test_a_job_is_taken_within_two_seconds_while_redis_is_away(
    api, submission, redis_at, listener, kind, django_capture_on_commit_callbacks
):
    redis_at(listener if kind == "silent" else 1)
    took = []
    for _ in range(2):
        began = time.monotonic()
        with django_capture_on_commit_callbacks(execute=True) as calls:
            assert api.enqueue(submission).status_code == 202
        took.append(time.monotonic() - began)
        assert len(calls) == 1
    assert max(took) < 2
    assert took[1] < 0.4  # the second does not wait for what the first has learned
    assert queue._broken_until > time.monotonic()


# --- Cancel --------------------------------------------------------------------------------------------------------


def test_a_waiting_job_is_cancelled_at_once_and_only_once(api, user):
    job = JobFactory(user=user)
    answer = api.post(f"/api/jobs/{job.pk}/cancel")
    assert told(answer) == (
        202, {"job_id": str(job.pk), "status": "cancelled", "created_at": as_json(job.created_at)},
    )  # fmt: skip
    expected = {"code": "already_final", "message": "The job has already ended as cancelled."}
    assert told(api.post(f"/api/jobs/{job.pk}/cancel")) == (409, expected)


def test_a_running_job_is_asked_to_stop(api, user):
    job = JobFactory(user=user, status="running")
    assert [api.post(f"/api/jobs/{job.pk}/cancel").json()["status"] for _ in range(2)] == ["running"] * 2
    status = api.get(f"/api/jobs/{job.pk}/status").json()
    job.refresh_from_db()
    assert (status["status"], status["cancel_requested_at"]) == ("running", as_json(job.cancel_requested_at))


# --- Foreign ids ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["", "/status", "/logs", "/progress", "/results", "/artifacts/a.txt"])
def test_a_foreign_job_is_not_there(api, path):
    artifacts = [{"path": "a.txt", "name": "a", "bytes": 1, "sha256": "0" * 64}]
    foreign = JobFactory(status="completed", artifacts=artifacts)
    for pk in (foreign.pk, UUID(int=1)):
        assert told(api.get(f"/api/jobs/{pk}{path}")) == NOT_THERE


def test_a_foreign_job_cannot_be_cancelled(api):
    foreign = JobFactory()
    assert told(api.post(f"/api/jobs/{foreign.pk}/cancel")) == NOT_THERE
    foreign.refresh_from_db()
    assert foreign.status == Status.PENDING


def test_retry_after_is_a_whole_number(api, user, submission):
    for _ in range(10):
        earlier(user, 59.5)
    answer = api.enqueue(submission)
    assert (answer.status_code, answer.headers["Retry-After"].isdigit()) == (429, True)
    assert 1 <= int(answer.headers["Retry-After"]) <= 30
