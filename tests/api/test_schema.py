"""schemathesis over the whole OpenAPI schema, with a token and without: never a 5xx, every answer as documented."""

from uuid import uuid4

import pytest
import schemathesis
from django.core.files.base import ContentFile
from django.core.files.storage import storages
from django.core.wsgi import get_wsgi_application
from drf_spectacular.generators import SchemaGenerator
from hypothesis import HealthCheck, Phase, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from accounts.services import create_token
from accounts.tests.factories import UserFactory
from jobs.tests.factories import JobAttemptFactory, JobFactory, LogChunkFactory
from leaderboards.tests.factories import EntryFactory, LeaderboardFactory
from submissions.tests.factories import SubmissionFactory

CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
DOCUMENT = SchemaGenerator().get_schema(request=None, public=True)
schema = schemathesis.openapi.from_dict(DOCUMENT)
schema.app = get_wsgi_application()
bounded = settings(
    max_examples=15,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)


@pytest.fixture
def known(transactional_db):
    """A person with a token, and an object of theirs for every path parameter."""
    user = UserFactory(submissions_per_hour=10_000, concurrent_jobs=10_000)
    board = LeaderboardFactory(slug="known")
    name = storages["artifacts"].save(f"{uuid4()}", ContentFile(b"x"))
    artifacts = [{"path": "a.txt", "name": name, "bytes": 1, "sha256": "0" * 64}]
    done = JobFactory(user=user, leaderboard=board, status="completed", artifacts=artifacts, score=0.9)
    EntryFactory(leaderboard=board, job=done)
    running = JobFactory(user=user, leaderboard=board, status="running")
    JobAttemptFactory(job=running)
    LogChunkFactory(job=running)
    submission = SubmissionFactory(user=user, leaderboard=board)
    storages["submissions"].save(submission.object_name, ContentFile(b""))
    return {
        "token": create_token(user, name="schemathesis")[1], "submission_id": str(submission.pk), "slug": "known",
        "jobs": [str(done.pk), str(running.pk), str(JobFactory(user=user, leaderboard=board).pk)], "path": "a.txt",
    }  # fmt: skip


def call(case, token):
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    response = case.call(headers=headers)
    case.validate_response(response, checks=CHECKS, headers=headers)
    return response.status_code


@pytest.mark.slow
@schema.parametrize()
@bounded
def test_any_call_is_answered_as_documented(case, known):
    """As it was made up; then with ids that exist, for each job in turn; with a token and without."""
    if case.operation.path == "/api/auth/logout":
        known = known | {"token": "lb_spent"}  # else every later example would be a stranger's
    call(case, "")
    call(case, known["token"])
    for name in case.path_parameters or {}:
        case.path_parameters[name] = known["jobs"][0] if name == "job_id" else known[name]
    if isinstance(case.body, dict) and "submission_id" in case.body:
        case.body["submission_id"] = known["submission_id"]
    for job_id in known["jobs"] if "job_id" in (case.path_parameters or {}) else [""]:
        if job_id:
            case.path_parameters["job_id"] = job_id
        call(case, known["token"])


def test_every_call_of_the_api_is_in_the_schema():
    paths = {(verb.upper(), path) for path, verbs in DOCUMENT["paths"].items() for verb in verbs}
    assert paths == {
        ("POST", "/api/auth/login"), ("POST", "/api/auth/logout"), ("GET", "/api/submissions"), ("POST", "/api/submissions"),
        ("GET", "/api/submissions/{submission_id}"), ("PATCH", "/api/submissions/{submission_id}"),
            ("DELETE", "/api/submissions/{submission_id}"),
            ("GET", "/api/submissions/{submission_id}/archive"), ("GET", "/api/submissions/{submission_id}/files/{path}"),
            ("GET", "/api/jobs"), ("POST", "/api/jobs"), ("GET", "/api/leaderboards/{slug}/runtime"),
        ("GET", "/api/jobs/{job_id}"), ("GET", "/api/jobs/{job_id}/status"), ("GET", "/api/jobs/{job_id}/logs"),
        ("GET", "/api/jobs/{job_id}/progress"), ("GET", "/api/jobs/{job_id}/results"),
            ("GET", "/api/jobs/{job_id}/artifacts/{path}"),
        ("POST", "/api/jobs/{job_id}/withdraw"), ("POST", "/api/jobs/{job_id}/restore"),
        ("POST", "/api/jobs/{job_id}/cancel"), ("GET", "/api/leaderboards"), ("GET", "/api/leaderboards/{slug}"),
        ("GET", "/api/leaderboards/{slug}/entries"),
    }  # fmt: skip
