"""Every route of the URL configuration, with every verb, as somebody else and as nobody.

The routes are read from the configuration: a new one is walked at once, and one with an object that this file does not
know fails until it is told (`given`) or named as public.
"""

import re
from uuid import uuid4

import pytest
from django.contrib import admin
from django.core.files.base import ContentFile
from django.core.files.storage import storages
from django.test import Client
from django.urls import get_resolver, reverse

from accounts.services import create_token
from accounts.tests.factories import ApiTokenFactory, UserFactory
from jobs.models import Job
from jobs.tests.factories import JobFactory, LogChunkFactory
from leaderboards.tests.factories import LeaderboardFactory
from submissions.models import Submission
from submissions.tests.factories import stored_submission
from tests.routes import routes

MARK = "owner-7f3a91"  # in everything that is the owner's, and nowhere else
VERBS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"]
OWNED = {"job_id", "submission_id", "token_id"}
PUBLIC = {
    "healthz", "readyz", "api-login", "api-leaderboards", "api-leaderboard", "api-entries", "api-schema", "api-docs",
    "home", "leaderboard", "login", "logout", "sign_up", "set_language", "metrics", "client",
    "leaderboard_history", "leaderboard_badge", "leaderboard_export",
}  # fmt: skip


# All but the admin's and the API's last resort.
ROUTES = sorted(
    (route, name) for route, name in routes(get_resolver().url_patterns) if name and not route.startswith("admin/")
)
PARAMETERS = re.compile(r"<(?:\w+:)?(\w+)>")


@pytest.fixture
def owner(db):
    return UserFactory(username=MARK)


@pytest.fixture
def given(owner):
    """An object of the owner's for every parameter; the job is running and has left a file."""
    board = LeaderboardFactory(slug="hidden-board", title=MARK, visibility="hidden")
    files = {"main.py": MARK.encode(), "a.txt": MARK.encode()}
    submission = stored_submission(files, user=owner, leaderboard=board, metadata={"note": MARK})
    name = storages["artifacts"].save(f"{uuid4()}", ContentFile(MARK.encode()))
    job = JobFactory(
        user=owner, leaderboard=board, submission=submission, status="running", config={"note": MARK},
        artifacts=[{"path": "a.txt", "name": name, "bytes": len(MARK), "sha256": "0" * 64}],
    )  # fmt: skip
    LogChunkFactory(job=job, content=MARK.encode())
    token = ApiTokenFactory(user=owner, name=MARK)
    return {
        "job_id": job.pk, "submission_id": submission.pk, "token_id": token.pk, "path": "a.txt", "slug": "hidden-board",
        "kind": "csv",
    }  # fmt: skip


def address(route, given):
    return "/" + PARAMETERS.sub(lambda match: str(given[match[1]]), route)


def call(verb, path, user):
    """As the user (None: nobody) in the way that the route knows people; a fresh client, because logout is a route."""
    client = Client()
    if user and path.startswith("/api/"):
        client = Client(headers={"Authorization": f"Bearer {create_token(user, name='t')[1]}"})
    elif user:
        client.force_login(user)
    response = client.generic(verb, path, content_type="application/json" if path.startswith("/api/") else "text/plain")
    content = b"".join(response.streaming_content) if response.streaming else response.content
    return response, content


def state():
    return list(Job.objects.values()), list(Submission.objects.values())


def test_the_walk_finds_the_routes():
    names = {name for _, name in ROUTES}
    assert names >= {
        "api-job-logs",
        "api-job-artifact",
        "api-submission",
        "job",
        "job_log_text",
        "cancel_job",
        "artifact",
    }
    assert len(ROUTES) > 25


@pytest.mark.usefixtures("mlflow_url")  # /mlflow/ hands on to it
@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize(("route", "name"), ROUTES)
def test_a_stranger_and_nobody_get_nothing(given, route, name, verb):
    parameters = set(PARAMETERS.findall(route))
    path, before = address(route, given), state()
    is_api = path.startswith("/api/")
    stranger, seen = call(verb, path, UserFactory())
    nobody, seen_by_nobody = call(verb, path, None)
    assert MARK.encode() not in seen + seen_by_nobody
    assert max(stranger.status_code, nobody.status_code) < 500
    if parameters & OWNED or "slug" in parameters:
        assert stranger.status_code in {404, 405}
    if name not in PUBLIC:
        if is_api:
            assert (nobody.status_code, nobody.headers.get("WWW-Authenticate")) == (401, "Bearer")
        else:
            location = nobody.headers.get("Location", "")
            assert nobody.status_code in {404, 405} or location.startswith("/login/?next=")
    elif "slug" in parameters:
        assert nobody.status_code in {404, 405}
    assert state() == before


@pytest.mark.parametrize(("route", "name"), [pair for pair in ROUTES if set(PARAMETERS.findall(pair[0])) & OWNED])
def test_the_owner_gets_it(given, owner, route, name):
    """So that the 404 above is about who asks, not about a wrong address."""
    statuses = {call(verb, address(route, given), owner)[0].status_code for verb in ("GET", "POST")}
    assert statuses - {404, 405}


@pytest.mark.parametrize("who", ["nobody", "participant"])
def test_the_admin_is_for_staff_alone(db, who):
    client = Client()
    if who == "participant":
        client.force_login(UserFactory())
    for model in admin.site._registry:
        base = f"admin:{model._meta.app_label}_{model._meta.model_name}_"
        for path in (
            reverse(base + "changelist"),
            reverse(base + "change", args=["1"]),
            reverse(base + "delete", args=["1"]),
        ):
            for verb in VERBS:
                response = client.generic(verb, path)
                assert (response.status_code, response.url.partition("?")[0]) == (302, "/admin/login/")
