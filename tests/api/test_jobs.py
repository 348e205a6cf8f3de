"""/api/jobs: queueing a run, quotas on both sides, the same request twice, and reading what became of it."""

import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from uuid import UUID, uuid4

import pytest
from django.core.files.base import ContentFile
from django.core.files.storage import storages
from django.db import connection
from django.utils import timezone
from rq import Queue
from rq.serializers import JSONSerializer

from accounts.tests.factories import UserFactory
from jobs import queue
from jobs.models import PLATFORM_FAULTS, Job, JobProgress, Status
from jobs.services import rerun_job
from jobs.tests.factories import JobAttemptFactory, JobFactory, LogChunkFactory, WorkerFactory
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
        ({"config": {"a": "\0"}}, "bad_config"),
        ({"config": {"a": ["\ud800"]}}, "bad_config"),
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


@pytest.mark.parametrize(
    ("error_code", "status"),
    [*((code, 202) for code in PLATFORM_FAULTS), ("timeout", 429), ("exit_nonzero", 429)],
)
def test_a_job_that_the_platform_failed_gives_its_quota_back(api, user, submission, error_code, status):
    for _ in range(9):
        earlier(user, 1)
    earlier(user, 1, "failed", error_code=error_code)
    assert api.enqueue(submission).status_code == status


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


# --- GET /api/jobs and /api/jobs/{id} ------------------------------------------------------------------------------


def test_own_jobs_newest_first_in_pages_and_by_status(api, user):
    JobFactory()
    made = [earlier(user, minutes, status) for minutes, status in ((1, "pending"), (2, "failed"), (3, "failed"))]
    ids = [str(job.pk) for job in made]
    first = api.get("/api/jobs", {"limit": 2}).json()
    assert [row["job_id"] for row in first["results"]] == ids[:2]
    assert [row["job_id"] for row in api.get(first["next"]).json()["results"]] == ids[2:]
    assert [row["job_id"] for row in api.get("/api/jobs", {"status": "failed"}).json()["results"]] == ids[1:]


def test_a_status_that_is_none_is_400(api):
    assert told(api.get("/api/jobs", {"status": "done"})) == (
        400,
        {
            "code": "bad_status",
            "message": "status: must be one of pending, running, completed, failed, cancelled, not 'done'.",
        },
    )
    assert refusal(api.get("/api/jobs", {"cursor": "cD1ub3RhZGF0ZQ=="})) == (400, "bad_cursor")


def test_a_list_costs_the_same_queries_at_1_and_30_rows(api, user, django_assert_num_queries):
    earlier(user, 1)
    for rows in (1, 30):
        for _ in range(rows - 1):
            earlier(user, 1)
        with django_assert_num_queries(2):  # token, page
            assert len(api.get("/api/jobs").json()["results"]) == rows


def test_one_job_with_its_attempts(api, user):
    job = JobFactory(user=user, status="running", config={"a": 1})
    attempt = JobAttemptFactory(job=job)
    job.refresh_from_db()
    assert told(api.get(f"/api/jobs/{job.pk}")) == (
        200,
        {
            "job_id": str(job.pk), "submission_id": str(job.submission_id), "user_id": user.username,
            "leaderboard": job.leaderboard.slug, "status": "running", "resource_class": "small", "attempt": 1,
            "created_at": as_json(job.created_at), "updated_at": as_json(job.updated_at),
            "started_at": as_json(job.started_at), "finished_at": None, "score": None, "error_code": "",
            "error_message": "", "exit_code": None, "wall_seconds": None, "cpu_seconds": None,
            "peak_memory_bytes": None, "isolation": "", "run_id": None, "config": {"a": 1},
            "attempts": [
                {"number": 1, "worker_name": "worker-0", "outcome": "running", "detail": "",
                 "started_at": as_json(attempt.__class__.objects.get().started_at), "ended_at": None}
            ],
            "disqualified": None, "scorer": "", "scoring_started_at": None, "scoring_seconds": None,
        },
    )  # fmt: skip


def test_the_status_says_why_a_job_waits(api, user):
    job = JobFactory(user=user)
    answer = api.get(f"/api/jobs/{job.pk}/status").json()
    assert answer["waiting"] == {
        "position": 1, "reason": "No worker for the class small is there just now.", "expected_start": None,
    }  # fmt: skip
    WorkerFactory(resource_classes=["small"], state="idle")
    answer = api.get(f"/api/jobs/{job.pk}/status").json()
    assert answer["waiting"] == {"position": 1, "reason": "It is next.", "expected_start": None}
    job.refresh_from_db()
    del answer["waiting"]
    assert answer == {
        "job_id": str(job.pk), "status": "pending", "run_id": None, "created_at": as_json(job.created_at),
        "updated_at": as_json(job.updated_at),
    }  # fmt: skip


def test_the_status_of_a_job_that_ended(api, user):
    job = JobFactory(user=user, status="failed", error_message="Exit code 3.")
    answer = api.get(f"/api/jobs/{job.pk}/status").json()
    assert (answer["status"], answer["error_code"], answer["error_message"]) == (
        "failed",
        "exit_nonzero",
        "Exit code 3.",
    )
    assert "waiting" not in answer


# --- Log -----------------------------------------------------------------------------------------------------------


def read_log(api, job, **query):
    answer = api.get(f"/api/jobs/{job.pk}/logs", query)
    assert answer.status_code == 200
    assert answer.headers["Content-Type"] == "text/plain; charset=utf-8"
    return answer.content, answer.headers["X-Next-Offset"]


def test_a_running_jobs_log_from_any_offset(api, user):
    job = JobFactory(user=user, status="running")
    assert read_log(api, job) == (b"", "0")
    LogChunkFactory(job=job, content="いち\n".encode())
    LogChunkFactory(job=job, offset=7, content=b"two\n")
    assert read_log(api, job) == ("いち\ntwo\n".encode(), "11")
    assert read_log(api, job, offset=7) == (b"two\n", "11")
    assert read_log(api, job, offset=9) == (b"o\n", "11")
    assert read_log(api, job, offset=11) == (b"", "11")
    assert read_log(api, job, offset=999) == (b"", "999")


def test_a_finished_jobs_log_comes_from_its_file_in_parts(api, user):
    content = b"0123456789abcdef" * (300 * 64)
    name = storages["artifacts"].save(f"{uuid4()}.log", ContentFile(content))
    job = JobFactory(user=user, status="completed", log_name=name)
    part, offset = read_log(api, job)
    assert (part, offset) == (content[: 256 * 1024], str(256 * 1024))
    assert read_log(api, job, offset=offset) == (content[256 * 1024 :], str(len(content)))
    assert read_log(api, job, offset=len(content)) == (b"", str(len(content)))


def test_a_log_is_text_also_for_who_asks_for_text(api, user):
    job = JobFactory(user=user, status="running")
    assert api.get(f"/api/jobs/{job.pk}/logs", Accept="text/plain").status_code == 200


@pytest.mark.parametrize("offset", ["-1", "a", "1.5", "٣", "9" * 16, ""])
def test_an_offset_that_is_no_number_is_400(api, user, offset):
    job = JobFactory(user=user, status="running")
    assert refusal(api.get(f"/api/jobs/{job.pk}/logs", {"offset": offset})) == (400, "bad_offset")


def test_a_storage_that_is_away_is_503(api, user):
    artifacts = [{"path": "a.txt", "name": "gone", "bytes": 1, "sha256": "0" * 64}]
    job = JobFactory(user=user, status="completed", log_name="gone.log", artifacts=artifacts)
    assert refusal(api.get(f"/api/jobs/{job.pk}/logs")) == (503, "storage_unavailable")
    assert refusal(api.get(f"/api/jobs/{job.pk}/artifacts/a.txt")) == (503, "storage_unavailable")


# --- Results and artifacts -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", ["pending", "running"])
def test_results_are_409_until_final(api, user, status):
    job = JobFactory(user=user, status=status)
    expected = {"code": "not_final", "message": f"The job is {status}; its results are there when it has ended."}
    assert told(api.get(f"/api/jobs/{job.pk}/results")) == (409, expected)


def test_results_of_a_completed_job(api, user, settings):
    artifacts = [{"path": "図/a.txt", "name": "secret-name", "bytes": 1, "sha256": "0" * 64, "kind": "x"}]
    job = JobFactory(
        user=user, status="completed", params={"k": 1}, artifacts=artifacts, run_id="r1", experiment_id="7"
    )
    assert told(api.get(f"/api/jobs/{job.pk}/results")) == (
        200,
        {
            "job_id": str(job.pk), "status": "completed", "run_id": "r1", "params": {"k": 1},
            "metrics": {"image_auc": 0.9, "seconds": 10.0}, "score": 0.9, "curves": [],
            "scorer": "", "self_reported": {},
            "artifacts": [{"path": "図/a.txt", "bytes": 1, "sha256": "0" * 64}],
            "mlflow_ui_link": f"{settings.MLFLOW_PUBLIC_URL}/#/experiments/7/runs/r1",
            "mlflow_rest_link": f"{settings.MLFLOW_PUBLIC_URL}/api/2.0/mlflow/runs/get?run_id=r1",
        },
    )  # fmt: skip


def test_progress_and_curves_while_it_runs_and_after(api, user):
    started = timezone.now() - timedelta(seconds=100)
    job = JobFactory(user=user, status="running", started_at=started)
    url = f"/api/jobs/{job.pk}/progress"
    nothing = {"fraction": None, "message": "", "reported_at": None, "seconds_left": None, "ignored": 0, "curves": []}
    assert told(api.get(url)) == (200, {"job_id": str(job.pk), "status": "running", **nothing})
    curves = [{"name": "loss", "points": [[0, 1.0, 0.5], [1, 0.5, 1.0]]}]
    moment = timezone.now()
    fields = {
        "fraction": 0.25,
        "fraction_at": moment,
        "message": "a",
        "ignored": 2,
        "curves": curves,
        "updated_at": moment,
    }
    JobProgress.objects.create(job=job, attempt=1, **fields)
    answer = api.get(url).json()
    assert answer.pop("seconds_left") == pytest.approx(300, abs=30)
    assert answer == {
        "job_id": str(job.pk), "status": "running", "fraction": 0.25, "message": "a", "ignored": 2, "curves": curves,
        "reported_at": as_json(moment),
    }  # fmt: skip
    done = JobFactory(user=user, status="failed")
    JobProgress.objects.update(job=done)
    answers = [api.get(f"/api/jobs/{done.pk}/{call}").json() for call in ("progress", "results")]
    assert ([answer["curves"] for answer in answers], answers[0]["seconds_left"]) == ([curves, curves], None)


def test_results_before_mlflow_has_them(api, user):
    answer = api.get(f"/api/jobs/{JobFactory(user=user, status='failed').pk}/results").json()
    shown = {key: answer[key] for key in ("run_id", "score", "metrics", "mlflow_ui_link", "mlflow_rest_link")}
    assert shown == {"run_id": None, "score": None, "metrics": {}, "mlflow_ui_link": None, "mlflow_rest_link": None}


def test_an_artifact_is_handed_out_inert(api, user):
    name = storages["artifacts"].save(f"{uuid4()}", ContentFile(b"<script>"))
    artifacts = [{"path": "図/a b.html", "name": name, "bytes": 8, "sha256": "0" * 64}]
    job = JobFactory(user=user, status="completed", artifacts=artifacts)
    answer = api.get(f"/api/jobs/{job.pk}/artifacts/図/a b.html")
    assert (answer.status_code, answer.getvalue()) == (200, b"<script>")
    assert answer.headers["Content-Type"] == "application/octet-stream"
    assert answer.headers["Content-Disposition"] == 'attachment; filename="a b.html"'
    for path in ("a b.html", name, "../" + name, "図/"):
        assert told(api.get(f"/api/jobs/{job.pk}/artifacts/{path}")) == NOT_THERE


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
