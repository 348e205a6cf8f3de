"""The lane's statements on a filled site: each looks up by keys, and reads no table through."""

import json
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from django.test.client import FakePayload

from accounts.models import User
from accounts.services import create_token
from jobs.models import Job
from leaderboard_site.lane.application import answer_environ
from tests.performance.test_plans import SCANS_AND_JOINS, faults, filled, person, site

__all__ = ["filled", "person", "site"]  # fixtures
pytestmark = pytest.mark.django_db
FORM = b'--b\r\nContent-Disposition: form-data; name="files"; filename="main.py"\r\n\r\npass\r\n--b--\r\n'


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch, settings: Any) -> Iterator[list[tuple[str, Any]]]:
    """What the lane's own cursors execute."""
    settings.PLANS_KEPT_FOR = 10**6  # that they are thrown away is no statement of a call
    found: list[tuple[str, Any]] = []
    execute = psycopg.Cursor.execute

    def note(self: Any, query: Any, values: Any = None, **options: Any) -> Any:
        if type(self) is psycopg.Cursor:
            found.append((str(query), values))
        return execute(self, query, values, **options)

    monkeypatch.setattr(psycopg.Cursor, "execute", note)
    yield found


def ask(user: User, method: str, path: str, body: bytes = b"", kind: str = "application/json") -> int:
    environ = {
        "REQUEST_METHOD": method, "PATH_INFO": path, "HTTP_HOST": "localhost", "wsgi.url_scheme": "http",
        "HTTP_AUTHORIZATION": f"Bearer {create_token(user, name='plans')[1]}", "wsgi.input": FakePayload(body),
    }  # fmt: skip
    if body:
        environ |= {"CONTENT_TYPE": kind, "CONTENT_LENGTH": str(len(body))}
    answer = answer_environ(environ)
    assert answer is not None, "left to the site"
    return answer.status


@pytest.mark.parametrize("call", ["status", "job", "submission"])
def test_the_lane_reads_little(call: str, person: User, sent: list[tuple[str, Any]]) -> None:
    User.objects.filter(pk=person.pk).update(submissions_per_hour=10**6, concurrent_jobs=10**6)
    job = Job.objects.filter(user=person, status="completed").earliest("created_at")
    if call == "status":
        assert ask(person, "GET", f"/api/jobs/{job.pk}/status") == 200
    elif call == "job":
        assert ask(person, "POST", "/api/jobs", json.dumps({"submission_id": str(job.submission_id)}).encode()) == 202
    else:
        assert ask(person, "POST", "/api/submissions", FORM, "multipart/form-data; boundary=b") == 201
    asked, sent[:] = list(sent), []
    # An INSERT is explained a second time: with another id, as its first one stands.
    bad = {query[:1500]: told for query, values in asked if (told := faults(_again(query), values, SCANS_AND_JOINS))}
    assert not bad, json.dumps(bad, indent=1)


def _again(query: str) -> str:
    if not query.lstrip().startswith("INSERT"):
        return query
    return f"{query.rpartition('RETURNING')[0]} ON CONFLICT DO NOTHING"
