"""A participant's program, calling the API in this process."""

from pathlib import Path

import pytest
from django.conf import settings
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client

from accounts.services import create_token
from accounts.tests.factories import UserFactory
from tests.api.lane_client import LaneClient

MAIN = ("main.py", b"print('hello')\n")
CONFIG = ("config.yaml", b"seed: 1\n")


class Api:
    """Calls of one person (`user`), or of nobody (`user=None`)."""

    def __init__(self, user=None):
        self.user = user
        self.token = create_token(user, name="test")[1] if user else ""
        self.client = LaneClient(headers={"Authorization": f"Bearer {self.token}"} if user else {})

    def get(self, path, query=None, **headers):
        return self.client.get(path, query, headers=headers)

    def post(self, path, body=None, **headers):
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.client.post(path, body or {}, content_type="application/json", headers=named)

    def submit(self, *files, **fields):
        uploads = [SimpleUploadedFile(name, content) for name, content in files or (MAIN, CONFIG)]
        return self.client.post("/api/submissions", {"files": uploads, **fields})

    def enqueue(self, submission, config=None, **headers):
        body = {"submission_id": str(getattr(submission, "pk", submission))}
        return self.post("/api/jobs", body | ({} if config is None else {"config": config}), **headers)


def refusal(response):
    """Status and code of a refusal, after a look at its one shape: a code and a sentence, as JSON."""
    assert response.headers["Content-Type"] == "application/json"
    answer = response.json()
    assert set(answer) == {"code", "message"}
    assert len(answer["message"]) > 10
    return response.status_code, answer["code"]


def left_files():
    """Everything that uploads have left on disk."""
    return sorted(path for path in Path(settings.UPLOAD_ROOT).rglob("*") if path.is_file())


@pytest.fixture
def user(db):
    return UserFactory()


@pytest.fixture
def api(user):
    return Api(user)


@pytest.fixture
def site(api):
    """The same person, without the lane."""
    whole = Api.__new__(Api)
    whole.user, whole.token = api.user, api.token
    whole.client = Client(headers={"Authorization": f"Bearer {api.token}"})
    return whole


@pytest.fixture
def nobody(db):
    return Api()
