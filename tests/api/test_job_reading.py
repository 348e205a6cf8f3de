"""/api/jobs: what became of a run: its status, log, results and artifacts."""

from datetime import timedelta
from uuid import uuid4

import pytest
from django.core.files.base import ContentFile
from django.core.files.storage import storages
from django.utils import timezone

from jobs.models import JobProgress
from jobs.tests.factories import JobAttemptFactory, JobFactory, LogChunkFactory, WorkerFactory
from tests.api.conftest import refusal
from tests.api.test_jobs import NOT_THERE, as_json, earlier, told

pytestmark = pytest.mark.django_db


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
            "job_id": str(job.pk), "submission_id": str(job.submission_id), "submission_name": "", "user_id": user.username,
            "leaderboard": job.leaderboard.slug, "status": "running", "resource_class": "small", "attempt": 1,
            "created_at": as_json(job.created_at), "updated_at": as_json(job.updated_at),
            "started_at": as_json(job.started_at), "finished_at": None, "score": None, "error_code": "",
            "error_message": "", "exit_code": None, "wall_seconds": None, "cpu_seconds": None,
            "peak_memory_bytes": None, "isolation": "", "run_id": None, "config": {"a": 1},
            "writable_code": False, "limits": [],
            "attempts": [
                {"number": 1, "worker_name": "", "outcome": "running", "detail": "",
                 "started_at": as_json(attempt.__class__.objects.get().started_at), "ended_at": None}
            ],
            "notes": [], "disqualified": None, "scorer": "", "score_version": None, "scoring_started_at": None, "scoring_seconds": None, "trial": False,
            "withdrawn_at": None, "ranking": None, "categories": None, "rerun_of": None, "started_by_operator": False,
            "operator_reason": "", "reruns": [], "submission_deleted_at": None, "costs_quota": True, "runtime": None,
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
            "scorer": "", "score_version": None, "self_reported": {},
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
