"""A request's id from the header to the job, the worker's lines and MLflow; logs as text and as JSON."""

import json
import logging
import re
from threading import Thread

import pytest
from django.test import Client

from accounts import log_context
from accounts.log_formats import JsonAccessFormatter, JsonFormatter
from accounts.services import create_token
from jobs.models import Job
from jobs.services import rerun_job
from jobs.tests.factories import JobFactory, WorkerFactory
from jobs.worker import make_worker
from submissions.tests.factories import SubmissionFactory


@pytest.mark.parametrize("given", ["a", "req-1.2:3_4", "A" * 64])
def test_a_harmless_id_is_kept_and_answered(client, given):
    assert client.get("/healthz", headers={"X-Request-ID": given}).headers["X-Request-ID"] == given


@pytest.mark.parametrize("given", ["", "A" * 65, "a b", 'a"b', "a\nb", "é", "a;rm", "<script>"])
def test_any_other_is_replaced(client, given):
    assert re.fullmatch("[0-9a-f]{32}", client.get("/healthz", headers={"X-Request-ID": given}).headers["X-Request-ID"])


@pytest.mark.django_db
def test_errors_and_static_files_carry_it_too(client):
    for path in ("/nowhere/", "/api/nowhere", "/static/nothing.css"):
        assert client.get(path, headers={"X-Request-ID": "abc"}).headers["X-Request-ID"] == "abc"


@pytest.mark.django_db
def test_the_job_remembers_the_request_that_made_it():
    submission = SubmissionFactory()
    headers = {"Authorization": f"Bearer {create_token(submission.user, name='t')[1]}", "X-Request-ID": "req-7"}
    body = {"submission_id": str(submission.pk)}
    answer = Client().post("/api/jobs", body, content_type="application/json", headers=headers)
    assert answer.status_code == 202
    assert Job.objects.get().request_id == "req-7"


@pytest.mark.django_db
def test_a_job_made_outside_of_a_request_has_none():
    assert rerun_job(JobFactory(status="failed"), by=None).request_id == ""


def record(message="hello", **given):
    made = logging.LogRecord("jobs.worker", logging.WARNING, __file__, 1, message, (), given.get("exc_info"))
    log_context.AddContext().filter(made)
    return made


def test_lines_carry_what_is_bound_and_no_longer_than_it_is():
    with log_context.bound(request_id="r", job_id=""):
        with log_context.bound(job_id="j"):
            assert record().suffix == " request_id=r job_id=j"
        assert record().suffix == " request_id=r"
    assert record().suffix == ""


def test_another_thread_has_its_own():
    seen = []
    with log_context.bound(request_id="r"):
        thread = Thread(target=lambda: seen.append(log_context.request_id()))
        thread.start()
        thread.join()
    assert seen == [""]


def test_json_lines_are_json_with_the_trace_on_one_line():
    with log_context.bound(request_id="r"):
        try:
            raise ValueError('quote " and\nline')
        except ValueError as error:
            made = record("odd \u2028 text", exc_info=(type(error), error, error.__traceback__))
    line = JsonFormatter().format(made)
    told = json.loads(line)
    assert "\n" not in line
    assert (told["level"], told["logger"], told["message"]) == ("WARNING", "jobs.worker", "odd \u2028 text")
    assert (told["request_id"], told["time"][-6:]) == ("r", "+00:00")
    assert told["exception"].startswith("Traceback") and 'quote "' in told["exception"]


def test_access_lines_are_json_without_the_query():
    atoms = {"h": "::1", "m": "GET", "U": '/a"\\b', "s": "200", "B": 5, "L": "0.25", "{x-request-id}o": "r"}
    made = logging.LogRecord("gunicorn.access", logging.INFO, "", 0, "%(r)s", (atoms,), None)
    told = json.loads(JsonAccessFormatter().format(made))
    assert (told["path"], told["status"], told["seconds"], told["request_id"]) == ('/a"\\b', 200, 0.25, "r")


@pytest.mark.django_db
def test_a_workers_lines_about_a_job_carry_its_request(monkeypatch):
    seen = []

    class Runner:
        def run(self, job, claim):
            seen.append(log_context.fields())

    worker = make_worker(["small"])
    worker.row, worker.runner = WorkerFactory(name=worker.name), Runner()
    job = JobFactory(request_id="req-7")
    assert worker._run_next()
    assert (seen, log_context.fields()) == ([{"request_id": "req-7", "job_id": str(job.pk)}], {})
