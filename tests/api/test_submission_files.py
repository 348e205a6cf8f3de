"""An owner reads and downloads the files of a submission, on its pages and by the API; nothing of them is rendered."""

import io
import tarfile
import zipfile

import pytest
from django.contrib.auth.models import Permission
from django.core.files.storage import storages
from django.test import Client
from django.utils import timezone

from accounts.tests.factories import UserFactory
from submissions.contents import FILE_MAX_BYTES, STORED_MAX_BYTES
from submissions.models import Submission
from tests.api.conftest import Api, refusal
from tests.api.test_submissions import zipped

pytestmark = pytest.mark.django_db
PAGE = b"<script>alert(1)</script>\n"


@pytest.fixture
def submission(api):
    content = zipped(**{
        "code/main.py": b"x = 1\n", "code/page.json": PAGE, "code/a/\u3042.txt": "\ufeff画像\n".encode(), "code/x.txt": b"\0",
        "code/long.txt": b"a" * (FILE_MAX_BYTES + 1),
    })  # fmt: skip
    assert api.submit(("code.zip", content), name="模型/../<b>").status_code == 201
    return Submission.objects.get()


def body(response):
    return b"".join(response.streaming_content) if response.streaming else response.content


@pytest.fixture
def owner(user):
    client = Client()
    client.force_login(user)
    return client


def test_the_archive_comes_as_it_was_sent(api, owner, submission):
    with storages["submissions"].open(submission.object_name) as stored:
        content = stored.read()
    for answer in (
        api.get(f"/api/submissions/{submission.pk}/archive"),
        owner.get(f"/submissions/{submission.pk}/archive"),
    ):
        assert (answer.status_code, body(answer)) == (200, content)
        assert answer["Content-Type"] == "application/octet-stream"
        assert answer["X-Content-Type-Options"] == "nosniff"
        assert answer["Content-Disposition"].startswith('attachment; filename="___.._')
    assert zipfile.ZipFile(io.BytesIO(content)).testzip() is None


def test_single_files_come_as_one_tar(api):
    made = api.submit().json()
    content = body(api.get(f"/api/submissions/{made['submission_id']}/archive"))
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        assert archive.getnames() == ["main.py", "config.yaml"]


def test_a_file_is_shown_as_text_and_never_as_a_page(api, owner, submission):
    answer = owner.get(f"/submissions/{submission.pk}/files/code/page.json")
    assert PAGE not in answer.content
    assert b"&lt;script&gt;alert(1)&lt;/script&gt;" in answer.content
    raw = api.get(f"/api/submissions/{submission.pk}/files/code/page.json")
    assert (body(raw), raw["Content-Type"]) == (PAGE, "application/octet-stream")
    assert raw["Content-Disposition"] == 'attachment; filename="page.json"'
    assert "画像".encode() in owner.get(f"/submissions/{submission.pk}/files/code/a/\u3042.txt").content


@pytest.mark.parametrize(("path", "why"), [("code/x.txt", b"not text"), ("code/long.txt", b"more than 512 KiB")])
def test_what_is_no_text_or_too_long_is_left_to_the_download(owner, submission, path, why):
    answer = owner.get(f"/submissions/{submission.pk}/files/{path}")
    assert (answer.status_code, why in answer.content) == (200, True)


def test_an_archive_that_takes_long_is_not_looked_into(api, owner, submission, monkeypatch):
    Submission.objects.update(size_bytes=STORED_MAX_BYTES + 1)
    assert refusal(api.get(f"/api/submissions/{submission.pk}/files/code/main.py")) == (413, "too_large")
    assert b"16 MiB" in owner.get(f"/submissions/{submission.pk}/files/code/main.py").content


@pytest.mark.parametrize("path", ["main.py", "code", "code/none.py", "code/../code/main.py"])
def test_there_are_no_other_files(api, owner, submission, path):
    assert api.get(f"/api/submissions/{submission.pk}/files/{path}").status_code == 404
    assert owner.get(f"/submissions/{submission.pk}/files/{path}").status_code == 404


PARTS = ["archive", "files/code/main.py"]


@pytest.mark.parametrize("part", PARTS)
def test_they_are_their_owners_and_operators_who_may_see_submissions(submission, part):
    seeing = UserFactory(is_staff=True)
    seeing.user_permissions.add(Permission.objects.get(codename="view_submission"))
    for user, status in ((UserFactory(), 404), (UserFactory(is_staff=True), 404), (seeing, 200)):
        client = Client()
        client.force_login(user)
        assert client.get(f"/submissions/{submission.pk}/{part}").status_code == status
        assert Api(user).get(f"/api/submissions/{submission.pk}/{part}").status_code == status
    assert client.get(f"/submissions/{submission.pk}/files/").status_code == 200
    assert Client().get(f"/submissions/{submission.pk}/{part}").status_code == 302
    assert Api().get(f"/api/submissions/{submission.pk}/{part}").status_code == 401


@pytest.mark.parametrize("part", PARTS)
def test_a_storage_that_lost_it_is_said_to_be_away(api, owner, submission, part):
    storages["submissions"].delete(submission.object_name)
    assert refusal(api.get(f"/api/submissions/{submission.pk}/{part}")) == (503, "storage_unavailable")
    assert owner.get(f"/submissions/{submission.pk}/{part}").status_code == 503


@pytest.mark.parametrize("part", ["", *PARTS])
def test_of_a_deleted_one_nothing_is_read(api, owner, submission, part):
    Submission.objects.update(deleted_at=timezone.now())
    assert refusal(api.get(f"/api/submissions/{submission.pk}/{part}".rstrip("/"))) == (410, "deleted")
    assert owner.get(f"/submissions/{submission.pk}/{part}").status_code == 410
