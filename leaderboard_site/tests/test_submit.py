"""The participant's program against a real server: upload, follow, result and rank; what is refused, and how it ends."""

import io
import json
import os
import subprocess
import sys
import threading
import time
import zipfile
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from django.conf import settings
from django.db import connection

from accounts.services import create_token
from accounts.tests.factories import UserFactory
from jobs import claiming, transitions
from jobs.models import ErrorCode, Job, JobLogChunk
from jobs.tests.factories import JobFactory, WorkerFactory
from jobs.transitions import Evidence
from leaderboard_site.client import Client, NoAnswer, Refused, faults, main
from leaderboards.services import rebuild_entries
from leaderboards.tests.factories import LeaderboardFactory
from submissions.models import Submission

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def person():
    LeaderboardFactory(slug="textures")
    return UserFactory(username="ada")


@pytest.fixture
def call(live_server, person, tmp_path):
    """Call the command as this person: (exit code, standard output, standard error)."""
    token = create_token(person, name="t")[1]
    (tmp_path / "main.py").write_text("print('hello')\n")
    (tmp_path / "config.yaml").write_text("seed: 1\n")

    def run(*arguments, url=live_server.url, token=token):
        out, err = run.out, run.err = io.StringIO(), io.StringIO()
        given = ["--url", url, "--token", token, "--lang", "en", *map(str, arguments)]
        code = main.run(given, "submit", out, err)
        return code, out.getvalue(), err.getvalue()

    run.folder, run.token, run.url = tmp_path, token, live_server.url
    run.files = [tmp_path / "main.py", tmp_path / "config.yaml", "--leaderboard", "textures"]
    return run


class AWorker(threading.Thread):
    """Claims the next job, says something in its log and ends it; as a worker does, without a sandbox.

    It stores no log, so what it said is gone at its end: it waits until the command has shown it.
    """

    def __init__(self, call, *, score=None, losses=0):
        super().__init__(daemon=True)
        self.call, self.score, self.losses = call, score, losses

    def run(self):
        try:
            worker = WorkerFactory()
            for number in range(self.losses + 1):
                job = self._claim(worker)
                JobLogChunk.objects.create(
                    job=job, attempt=job.attempt, offset=0, content=f"\x1b[31mtry {job.attempt}\x1b[0m\n".encode()
                )
                self._wait_until_shown(f"try {job.attempt}")
                if number < self.losses:
                    transitions.give_back(job, attempt=job.attempt, code=ErrorCode.INTERNAL, reason="drain")
            if self.score is None:
                transitions.fail(
                    job, attempt=job.attempt, code=ErrorCode.TIMEOUT, message="Too long.", evidence=Evidence()
                )
            else:
                transitions.complete(
                    job, attempt=job.attempt, params={}, metrics={"image_auc": self.score}, score=self.score,
                    artifacts=[], evidence=Evidence(notes=("a.png was left out: too large.",)),
                )  # fmt: skip
        finally:
            connection.close()

    def _claim(self, worker):
        while True:
            job = claiming.claim_next(worker_id=worker.pk, worker_name="w", resource_classes=["small", "medium"])
            if job:
                return job
            time.sleep(0.05)

    def _wait_until_shown(self, words):
        deadline = time.monotonic() + 60
        while words not in self.call.out.getvalue() + self.call.err.getvalue() and time.monotonic() < deadline:
            time.sleep(0.01)


def test_it_uploads_follows_and_tells_result_and_rank(call):
    worker = AWorker(call, score=0.75)
    worker.start()
    code, out, err = call(*call.files, "--name", "first try", "--config", '{"seed": 2}')
    worker.join(10)
    job = Job.objects.get()
    assert code == faults.COMPLETED, err
    assert "try 1" in out and "\x1b" not in out  # no colours where no terminal is
    assert "image_auc                0.75" in out
    assert "Rank 1 on textures, by image_auc, with this job.\nNote: a.png was left out: too large.\n" in out
    assert f"Job {job.pk} is enqueued" in err
    assert (job.config, job.submission.metadata) == ({"seed": 2}, {})
    assert sorted(item["path"] for item in job.submission.manifest) == ["config.yaml", "main.py"]


def test_json_is_one_object_on_standard_output(call):
    worker = AWorker(call, score=0.5)
    worker.start()
    code, out, _ = call(*call.files, "--json", "--class", "medium")
    worker.join(10)
    told = json.loads(out)
    assert code == faults.COMPLETED
    assert set(told) == {
        "job_id", "submission_id", "leaderboard", "status", "score", "error_code", "error_message", "wall_seconds",
        "params", "metrics", "artifacts", "run_id", "mlflow_ui_link", "rank", "is_entry", "entry_score", "ranked_by", "notes", "url",
        "rerun_of", "started_by_operator", "operator_reason", "trial", "ranking",
    }  # fmt: skip
    assert (told["status"], told["score"], told["rank"], told["is_entry"]) == ("completed", 0.5, 1, True)
    assert Job.objects.get().resource_class == "medium"


def test_a_trial_is_asked_for_and_said_at_the_end(call):
    worker = AWorker(call, score=0.75)
    worker.start()
    code, out, _ = call(*call.files, "--trial")
    worker.join(10)
    assert (code, Job.objects.get().trial) == (faults.COMPLETED, True)
    assert "Not on the board: this is a trial run." in out and "Rank" not in out


def test_a_run_is_withdrawn_and_counts_again(call, person):
    job = JobFactory(user=person, status="completed", score=0.9)
    rebuild_entries(job.leaderboard)
    assert call("--withdraw", job.pk)[:2] == (faults.COMPLETED, "Not on the board: withdrawn by its owner.\n")
    assert call("--withdraw", job.pk)[0] == faults.REFUSED
    code, out, _ = call("--restore", job.pk, "--json")
    assert (code, json.loads(out)["ranking"]["rank"]) == (faults.COMPLETED, 1)


def test_a_run_that_fails_is_exit_code_1_and_says_why(call):
    worker = AWorker(call)
    worker.start()
    code, out, _ = call(*call.files)
    worker.join(10)
    assert code == faults.NOT_COMPLETED
    assert "The job is failed: timeout: Too long." in out


def test_a_second_attempt_is_shown_from_its_beginning(call):
    worker = AWorker(call, score=0.5, losses=1)
    worker.start()
    code, out, err = call(*call.files)
    worker.join(10)
    assert (code, "try 1" in out, "try 2" in out) == (faults.COMPLETED, True, True), out + err
    assert "attempt 2" in err


def test_a_worse_job_tells_the_standing_by_the_better_one(call):
    for score in (0.9, 0.1):
        worker = AWorker(call, score=score)
        worker.start()
        code, out, _ = call(*call.files)
        worker.join(10)
    assert (code, "with an earlier job of yours with 0.9." in out) == (faults.COMPLETED, True)


def test_no_follow_prints_the_id_and_nothing_else(call):
    code, out, _ = call(*call.files, "--no-follow")
    assert (code, out.strip()) == (faults.COMPLETED, str(Job.objects.get().pk))


def test_writable_code_is_asked_for(call):
    assert call(*call.files, "--no-follow", "--writable-code")[0] == faults.COMPLETED
    assert Submission.objects.get().has_writable_code


def test_a_folder_is_packed_without_what_is_hidden(call):
    for path in ("pkg/a.py", ".git/config", "__pycache__/main.pyc", ".env"):
        (call.folder / path).parent.mkdir(exist_ok=True)
        (call.folder / path).write_text("x = 1\n")
    code, _, err = call(call.folder, "--leaderboard", "textures", "--no-follow")
    assert (code, "Left out: .env, .git, __pycache__.\n" in err) == (faults.COMPLETED, True), err
    found = sorted(item["path"] for item in Submission.objects.get().manifest)
    assert found == ["config.yaml", "main.py", "pkg/a.py"]


def test_wrong_usage_is_exit_code_2_and_sends_nothing(call):
    (call.folder / "other").mkdir()
    (call.folder / "other" / "main.py").write_text("")
    main = call.folder / "main.py"
    for arguments, word in [
        ([], "PATH: give files"),
        ([call.folder / "nowhere.py"], "there is no"),
        ([call.folder, main], "one folder alone"),
        ([main, call.folder / "other" / "main.py"], "two files called main.py"),
        ([main, "--config", "[1]"], "--config: must be a JSON object"),
        ([main, "--config", "{"], "--config: must be a JSON object"),
        ([main, "--config", f"@{call.folder}/nowhere"], "--config:"),
        ([main, "--url", "ftp://x"], "--url:"),
        ([main, "--url", ""], "LEADERSBOARD_URL"),
        ([main, "--token", ""], "LEADERSBOARD_TOKEN"),
        ([main, "--token", "a\nb"], "--token:"),
        (["--job", "7"], "no job's id"),
        (["--cancel", "7"], "no job's id"),
    ]:
        code, out, err = call(*arguments)
        assert (code, out, word in err) == (faults.USAGE, "", True), err
    assert not Submission.objects.exists()


def test_what_the_site_refuses_is_exit_code_3_in_the_sites_words(call):
    (call.folder / "bad.exe").write_text("")
    for arguments, word in [
        ([call.folder / "bad.exe", "--leaderboard", "textures"], "bad_extension"),
        ([call.folder / "config.yaml", "--leaderboard", "textures"], "missing_entrypoint"),
        ([call.folder / "main.py", "--leaderboard", "nowhere"], "not_found"),
        ([*call.files, "--class", "huge"], "bad_resource_class"),
        (["--job", "00000000-0000-4000-8000-000000000000"], "not_found"),
    ]:
        code, out, err = call(*arguments)
        assert (code, out, word in err) == (faults.REFUSED, "", True), err


def test_another_persons_job_is_not_there(call):
    theirs = JobFactory(status="running")
    for option in ("--job", "--cancel"):
        assert call(option, theirs.pk)[0] == faults.REFUSED
    assert Job.objects.get().cancel_requested_at is None


def test_a_token_that_is_none_says_where_to_get_one(call):
    code, _, err = call(*call.files, token="lb_nothing")
    assert (code, "account page" in err) == (faults.REFUSED, True)


def test_nobody_there_is_exit_code_4(call):
    assert call(*call.files, url="http://127.0.0.1:9")[0] == faults.UNREACHABLE


def test_an_upload_over_the_limit_hears_the_refusal_though_the_site_does_not_read_it(call, settings):
    settings.UPLOAD_MAX_BYTES = 1000
    (call.folder / "big.txt").write_bytes(b"x" * 20_000_000)
    code, _, err = call(call.folder / "main.py", call.folder / "big.txt", "--leaderboard", "textures")
    assert (code, "too_large" in err) == (faults.REFUSED, True), err


def test_cancel(call, person):
    job = JobFactory(user=person)
    code, out, _ = call("--cancel", job.pk, "--json")
    assert (code, json.loads(out)["status"]) == (faults.COMPLETED, "cancelled")
    assert call("--cancel", job.pk)[0] == faults.REFUSED  # it has ended


def test_ctrl_c_leaves_the_job_and_says_how_to_go_on(call, monkeypatch):
    def interrupted(*given, **named):
        raise KeyboardInterrupt

    monkeypatch.setattr(Client, "follow", interrupted)
    code, _, err = call(*call.files)
    job = Job.objects.get()
    assert (code, job.status, job.cancel_requested_at) == (faults.INTERRUPTED, "pending", None)
    assert f"submit follow {job.pk}" in err and f"submit cancel {job.pk}" in err
    monkeypatch.setattr(Client, "submit", interrupted)
    assert "Nothing was enqueued" in call(*call.files)[2]


def test_a_site_that_restarts_is_waited_for(call, person, monkeypatch):
    monkeypatch.setattr("leaderboard_site.client.connection.FIRST_PAUSE_SECONDS", 0.01)
    job = JobFactory(user=person, status="completed")
    answers = [Refused(503, "unavailable", "restarting"), NoAnswer("refused")]
    asked = Client._call

    def shaky(self, method, path, *given, **named):
        if answers and path.endswith(str(job.pk)):
            raise answers.pop()
        return asked(self, method, path, *given, **named)

    monkeypatch.setattr(Client, "_call", shaky)
    code, _, err = call("--job", job.pk)
    assert (code, answers, err.count("trying again")) == (faults.COMPLETED, [], 1)


def test_the_token_does_not_follow_a_redirect(call):
    asked = []

    class Elsewhere(BaseHTTPRequestHandler):
        def do_POST(self):
            asked.append(self.path)
            self.send_response(301)
            self.send_header("Location", f"http://127.0.0.1:{server.server_port}/other")
            self.end_headers()

        do_GET = do_POST

        def log_message(self, *given):
            pass

    server = HTTPServer(("127.0.0.1", 0), Elsewhere)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        code, _, err = call(*call.files, url=f"http://127.0.0.1:{server.server_port}")
    finally:
        server.shutdown()
        server.server_close()
    assert (code, "/other: give that as --url" in err, asked) == (faults.REFUSED, True, ["/api/submissions"])


# --- as programs ---------------------------------------------------------------------------------------------------
def test_the_served_program_needs_nothing_of_this_project(call, tmp_path):
    """On another machine: python3 -I, an empty environment, the downloaded file alone."""
    content = Client(call.url)._call("GET", "/client.pyz")[0]
    (tmp_path / "client.pyz").write_bytes(content)
    names = set(zipfile.ZipFile(io.BytesIO(content)).namelist())
    assert {"__main__.py", "leaderboard_site/client/commands/results.py"} <= names
    theirs = ("__main__", "leaderboard_site/__init__", "leaderboard_site/client/")
    assert {name for name in names if not name.startswith(theirs)} == {
        "core/__init__.py",
        "core/names.py",
        "core/sizes.py",
    }
    environment = {"LEADERSBOARD_URL": call.url, "LEADERSBOARD_TOKEN": call.token}
    command = [sys.executable, "-I", "-S", tmp_path / "client.pyz"]
    done = subprocess.run(
        [*command, *map(str, call.files), "--no-follow"], env=environment, cwd=tmp_path, capture_output=True, text=True,
        timeout=60, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout.strip()) == (0, str(Job.objects.get().pk)), done.stderr
    helped = subprocess.run([*command, "--help"], capture_output=True, text=True, timeout=60, check=True).stdout
    assert "python3 client.pyz main.py config.yaml --leaderboard textures" in helped


def test_the_manage_command_opens_no_database(call, tmp_path):
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("PYTEST", "COV_"))},
        "DATABASE_URL": "postgresql://nobody@127.0.0.1:9/nothing",
        "REDIS_URL": "redis://127.0.0.1:9/0",
        "SECRET_KEY": "x" * 50,
        "LEADERSBOARD_VAR": str(tmp_path / "var"),
        "LEADERSBOARD_URL": call.url,
        "LEADERSBOARD_TOKEN": call.token,
    }
    command = [sys.executable, str(settings.BASE_DIR / "manage.py"), "submit", *map(str, call.files), "--no-follow"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, str(Job.objects.get().pk)), done.stderr
