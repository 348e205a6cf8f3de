"""Small texts that would take a parser minutes, at every place where the site or a worker reads YAML or JSON."""

import http.client
import json
import time
from concurrent.futures import ThreadPoolExecutor
from io import StringIO

import pytest
import yaml
from django.core.files.uploadedfile import SimpleUploadedFile
from django.core.management import CommandError, call_command
from django.test import Client
from django.test.client import BOUNDARY, MULTIPART_CONTENT, encode_multipart

from accounts.refusals import RequestRefused
from accounts.services import create_token
from accounts.tests.factories import UserFactory
from core.tests.test_untrusted import SHAPES, numbered, plain_seconds
from core.untrusted import TextRefused
from jobs.execution.metrics import BadMetrics, parse_metrics
from jobs.scoring import _rejection
from jobs.workspace import BadSubmission, effective_config
from leaderboards.tests.factories import LeaderboardFactory
from leaderboards.yaml_file import WrongFile, import_leaderboard
from submissions.contents import read_config_file
from submissions.forms import CONFIG_MAX_CHARACTERS, config_problem
from submissions.services import create_submission
from submissions.tests.factories import SubmissionFactory
from tests.api.test_lane_server import gunicorn
from tests.timing import seconds

# Open brackets are what took half an hour; the others are the worst of their kind.
BOMBS = [
    "brackets",
    "closed brackets",
    "question marks",
    "merges of merges",
    "equal hashes",
    "many of base 60",
    "prefix of tags",
]
SECONDS = 30
CSRF = "a" * 32


def cookies(user) -> str:
    client = Client()
    client.force_login(user)
    return f"sessionid={client.cookies['sessionid'].value}; csrftoken={CSRF}"


def ask(port, method, path, body=b"", **headers):
    """Return the status of the answer; one that takes longer than SECONDS is an error."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=SECONDS)
    try:
        connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
        response = connection.getresponse()
        response.read()
        return response.status
    finally:
        connection.close()


def form(**fields):
    return encode_multipart(BOUNDARY, fields)


def main():
    return SimpleUploadedFile("main.py", b"")


@pytest.fixture
def calls(db):
    """List every call that leads to YAML or JSON being read, as (path, headers, function from a bomb to a body)."""
    LeaderboardFactory(slug="board")
    person, operator = UserFactory(submissions_per_hour=1000), UserFactory(is_staff=True, is_superuser=True)
    submission = SubmissionFactory(user=person)
    page = {"Cookie": cookies(person), "X_CSRFToken": CSRF, "Content_Type": MULTIPART_CONTENT}
    console = {**page, "Cookie": cookies(operator)}
    token = {"Authorization": f"Bearer {create_token(person, name='x')[1]}"}
    upload, body = {**token, "Content_Type": MULTIPART_CONTENT}, {**token, "Content_Type": "application/json"}
    job = b'{"submission_id": "%s", "config": %s}'
    return [
        ("/submit/check-config/", page, lambda bomb: form(name="config.yaml", text=bomb)),
        ("/submit/check-config/", page, lambda bomb: form(name="config.json", text=bomb)),
        ("/submit/", page, lambda bomb: form(files=main(), leaderboard="board", config=bomb, key="x", resource_class="small")),
        (f"/submissions/{submission.pk}/run/", page, lambda bomb: form(config=bomb, resource_class="small", key="y")),
        ("/admin/leaderboard-file/", console, lambda bomb: form(text=bomb)),
        ("/api/submissions", upload, lambda bomb: form(files=main(), leaderboard="board", metadata=bomb)),
        ("/api/submissions", upload, lambda bomb: form(files=main(), leaderboard="board", paths=bomb)),
        ("/api/jobs", body, lambda bomb: job % (str(submission.pk).encode(), bomb.encode())),
        ("/api/jobs", {**body, "Accept": "application/json"}, lambda bomb: bomb.encode()),
        ("/api/auth/login", {"Content_Type": "application/json"}, lambda bomb: b'{"username": ' + bomb.encode()),
    ]  # fmt: skip


@pytest.mark.slow
@pytest.mark.django_db(transaction=True)
def test_a_site_with_four_threads_answers_while_bombs_come_in(calls, tmp_path):
    sent = [(path, headers, make(SHAPES[bomb])) for bomb in BOMBS for path, headers, make in calls]
    with gunicorn(tmp_path) as (port, _), ThreadPoolExecutor(12) as pool:
        answers = [pool.submit(ask, port, "POST", path, body, **headers) for path, headers, body in sent]
        while not all(answer.done() for answer in answers):
            assert ask(port, "GET", "/healthz") == 200
            assert ask(port, "GET", "/login/") == 200
            time.sleep(0.1)
        # A page shows the form again; a check of a config answers 200 with its problem. A login takes 64 KiB: 413.
        assert {answer.result() for answer in answers} <= {200, 302, 400, 413, 429}
        assert "Traceback" not in (tmp_path / "log").read_text()


@pytest.fixture(scope="module")
def plain() -> float:
    return plain_seconds()


def quietly(action, *given):
    try:
        action(*given)
    except (RequestRefused, BadSubmission, BadMetrics, TextRefused):
        pass


@pytest.mark.parametrize("bomb", SHAPES)
@pytest.mark.parametrize("name", ["config.yaml", "config.json"])
def test_a_worker_is_not_held_up_by_a_config_file(plain, tmp_path, name, bomb):
    (tmp_path / name).write_text(SHAPES[bomb])
    merge = effective_config, tmp_path / name, {"a": 1}
    # Laid over and written again, which takes longer than reading.
    assert seconds(quietly, *merge, enough=60 * plain) < 60 * plain


@pytest.mark.parametrize("bomb", BOMBS)
def test_a_worker_is_not_held_up_by_metrics_or_a_rejection(plain, bomb):
    raw = b'{"params": {}, "metrics": {"a": 1}, "more": ' + SHAPES[bomb].encode() + b"}"
    for read in (parse_metrics, _rejection):
        assert seconds(quietly, read, raw, enough=20 * plain) < 20 * plain


@pytest.mark.parametrize("bomb", BOMBS)
def test_a_stored_config_file_is_shown_and_checked(plain, db, bomb):
    """A submission's page passes the text on as it is; it is read only when it is checked or sent again."""
    LeaderboardFactory(slug="board")
    content = SHAPES[bomb].encode()[:CONFIG_MAX_CHARACTERS]
    files = [main(), SimpleUploadedFile("config.yaml", content)]
    text = read_config_file(create_submission(UserFactory(), files=files, leaderboard="board"))
    assert text == content.decode()
    assert seconds(config_problem, text, "config.yaml", enough=20 * plain) < 20 * plain


@pytest.mark.parametrize("bomb", BOMBS)
def test_a_leaderboards_file_is_bounded_in_the_command_too(plain, db, tmp_path, bomb):
    text = "leadersboard: 1\nslug: a\ntitle: " + SHAPES[bomb]
    assert seconds(quietly, import_leaderboard, text, enough=20 * plain) < 20 * plain
    (tmp_path / "board.yaml").write_text(text)
    with pytest.raises(CommandError, match="file: "):
        call_command("create_leaderboard", "--from-yaml", str(tmp_path / "board.yaml"), stdout=StringIO())


def test_thousands_of_wrong_names_are_listed_quickly_and_in_part(plain, db):
    names = "leadersboard: 1\n" + numbered("k%d: 1\n")
    assert seconds(quietly, import_leaderboard, names, enough=20 * plain) < 20 * plain
    with pytest.raises(WrongFile) as refused:
        import_leaderboard("leadersboard: 1\n" + numbered("k%d: 1\n", 10_000))
    assert len(refused.value.problems) == 50


def test_a_job_with_a_deep_config_of_an_earlier_version_still_runs(tmp_path):
    """What was stored before there were bounds is laid over as it is."""
    deep = json.loads('{"a": ' * 100 + "1" + "}" * 100)
    (tmp_path / "config.yaml").write_text("b: 1\n")
    made = yaml.safe_load(effective_config(tmp_path / "config.yaml", deep))
    assert made == {"b": 1, **deep}
