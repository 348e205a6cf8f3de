"""A form with a file is sent to every address; it is stored only where a file is expected."""

import re
from functools import cache
from uuid import uuid4

import pytest
from django.test import Client
from django.urls import get_resolver

from accounts.tests.factories import PASSWORD, UserFactory
from submissions.incoming import IncomingArchive
from submissions.uploads import HashingUploadHandler
from tests.api.lane_client import LaneClient
from tests.routes import routes

pytestmark = pytest.mark.django_db

MIB = 1024 * 1024
BOUNDARY = "edge"
PARAMETERS = re.compile(r"<(?:\w+:)?(\w+)>")
# The pages with a field for files.
TAKE_FILES = {"/submit/", "/admin/leaderboard-file/"}


def address(route):
    """Return an address of the route; its objects need not exist."""
    values = {"slug": "none", "kind": "csv", "path": "a.txt", "object_id": "1", "app_label": "auth", "url": "x"}
    ids = {"job_id", "submission_id", "token_id", "operation_id"}
    plain = PARAMETERS.sub(lambda match: str(uuid4()) if match[1] in ids else values.get(match[1], "1"), route)
    return "/" + re.sub(r"\(\?P<\w+>[^)]*\)|[\^$\\]", "", plain)


ADDRESSES = sorted({address(route) for route, _name in routes(get_resolver().url_patterns)})


@pytest.fixture
def stored(monkeypatch):
    """Collect the sizes of the pieces of files that are written to the disk for uploads."""
    counted = []
    receive = HashingUploadHandler.receive_data_chunk

    def receive_and_count(self, raw_data, start):
        counted.append(len(raw_data))
        return receive(self, raw_data, start)

    monkeypatch.setattr(HashingUploadHandler, "receive_data_chunk", receive_and_count)
    monkeypatch.setattr(IncomingArchive, "add", lambda self, buffer, end: counted.append(end))
    return counted


@cache
def form(token, size):
    """Return a form with a file as a browser writes it, with the token against forgery first."""
    lines = [f"--{BOUNDARY}", 'Content-Disposition: form-data; name="csrfmiddlewaretoken"', "", token, f"--{BOUNDARY}"]
    lines += ['Content-Disposition: form-data; name="files"; filename="main.zip"', "", "a" * size, f"--{BOUNDARY}--"]
    return "\r\n".join([*lines, ""]).encode()


def post(client, path, size):
    token = "a" * 32
    client.cookies["csrftoken"] = token
    return client.generic("POST", path, form(token, size), content_type=f"multipart/form-data; boundary={BOUNDARY}")


def test_every_route_is_tried():
    assert len(ADDRESSES) > 80
    assert {"/login/", "/submit/", "/api/submissions", "/language/", "/admin/login/", *TAKE_FILES} <= {*ADDRESSES}


# Below and above what an anonymous client may send; the lane reads the larger one while it comes.
@pytest.mark.parametrize("size", [32 * 1024, MIB])
@pytest.mark.parametrize(
    ("make", "addresses"),
    [
        (lambda: Client(enforce_csrf_checks=True), ADDRESSES),
        (LaneClient, [path for path in ADDRESSES if path.startswith("/api/")]),
    ],
    ids=["site", "lane"],
)
def test_nothing_of_a_file_from_an_anonymous_client_is_stored(stored, make, addresses, size):
    for path in addresses:
        answer = post(make(), path, size)
        assert not stored, (path, answer.status_code)
        assert 300 <= answer.status_code < 500, path


@pytest.mark.parametrize("is_staff", [False, True])
def test_a_file_from_a_person_is_stored_only_where_there_is_a_field_for_it(stored, is_staff):
    client = Client(enforce_csrf_checks=True)
    client.force_login(UserFactory(is_staff=is_staff))
    taken = set()
    for path in ADDRESSES:
        # Signing out is one of the addresses.
        if "logout" in path:
            continue
        post(client, path, MIB // 2)
        if stored:
            taken.add(path)
            stored.clear()
    assert taken == ({*TAKE_FILES} if is_staff else {"/submit/"})


def test_the_refusal_says_why(client):
    answer = post(client, "/login/", 1000)
    assert (answer.status_code, "takes no files" in answer.content.decode()) == (415, True)
    assert post(client, "/login/", MIB).status_code == 413


def test_an_anonymous_client_sends_little(client):
    for path, kind in (("/login/", "application/x-www-form-urlencoded"), ("/api/auth/login", "application/json")):
        answer = client.generic("POST", path, b"a" * 70_000, content_type=kind)
        assert (answer.status_code, "68.4 KiB, at most 64 KiB" in answer.text) == (413, True), path


def test_a_form_without_files_may_be_multipart(client):
    UserFactory(username="ada")
    answer = client.post("/login/", {"username": "ada", "password": PASSWORD})  # multipart in tests
    assert answer.status_code == 302
