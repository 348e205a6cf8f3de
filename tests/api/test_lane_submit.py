"""Submissions by the lane: the row, the file and the answer are the site's, and so is every refusal."""

import hashlib
import io
import zipfile
from pathlib import Path

import pytest
from django.core.files.storage import storages
from django.utils import timezone

from accounts.services import set_quota, shut_out
from leaderboard_site.lane.form import boundary_of, read_form
from leaderboards.services import pause
from leaderboards.tests.factories import LeaderboardFactory
from submissions.models import Submission
from submissions.storage import DurableFileSystemStorage
from submissions.tests.factories import SubmissionFactory
from tests.api.conftest import CONFIG, MAIN, left_files
from tests.api.test_lane import told

pytestmark = pytest.mark.django_db
OWN = {"id", "object_name", "created_at"}


def zipped(**files):
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name.replace("__", "/").replace("_py", ".py"), content)
    return packed.getvalue()


TAKEN = {
    "one file": ([MAIN], {}),
    "two files": ([MAIN, CONFIG], {}),
    "all fields": (
        [("run.py", b"1"), ("c.yaml", b"a: 1")],
        {
            "entrypoint": "run.py",
            "config_file": "c.yaml",
            "metadata": '{"名": [1]}',
            "leaderboard": "default",
            "writable_code": "true",
        },
    ),
    "folders": ([MAIN, ("a.py", b"")], {"paths": '["main.py", "src/a.py"]'}),
    "a zip": ([("code.zip", zipped(main_py="print()"))], {}),
    "a zip in a folder": ([("code.zip", zipped(code__main_py="print()", code__b_py="1"))], {}),
    "empty fields": ([MAIN], {"entrypoint": "", "metadata": ""}),
    "line ends in the content": ([("main.py", b"\r\n--\r\n\r\n\r\n")], {}),
    "a megabyte": ([("main.py", b"#" * 1_000_000)], {}),
}


@pytest.mark.parametrize("case", TAKEN)
def test_a_submission_is_the_sites_in_every_column_and_byte(api, site, case):
    files, fields = TAKEN[case]
    answers = [one.submit(*files, **fields) for one in (api, site)]
    assert [answer.status_code for answer in answers] == [201, 201], answers[0].content
    assert api.client.answered == 1
    ours, theirs = (Submission.objects.filter(pk=answer.json()["submission_id"]).values().get() for answer in answers)
    assert {name for name in ours if ours[name] != theirs[name]} == OWN
    contents = [storages["submissions"].open(row["object_name"]).read() for row in (ours, theirs)]
    assert contents[0] == contents[1]
    assert (len(contents[0]), hashlib.sha256(contents[0]).hexdigest()) == (ours["size_bytes"], ours["sha256"])
    stored = [Path(storages["submissions"].path(row["object_name"])).stat().st_mode for row in (ours, theirs)]
    assert stored[0] == stored[1]
    shown = [{**answer.json(), "submission_id": "", "created_at": ""} for answer in answers]
    assert list(shown[0].items()) == list(shown[1].items())
    assert dict(told(answers[0])[1]) == dict(told(answers[1])[1])


REFUSED = {
    "no file": ([], {"entrypoint": "main.py"}),
    "a bad ending": ([MAIN, ("x.exe", b"")], {}),
    "no entrypoint": ([("a.py", b"")], {}),
    "a bad archive": ([("code.zip", b"PK\3\4")], {}),
    "an archive and a file": ([MAIN, ("code.zip", zipped(main_py=""))], {}),
    "bad metadata": ([MAIN], {"metadata": "{"}),
    "a flag that is none": ([MAIN], {"writable_code": "maybe"}),
    "no such leaderboard": ([MAIN], {"leaderboard": "nowhere"}),
    "a hidden leaderboard": ([MAIN], {"leaderboard": "hidden"}),
    "a closed leaderboard": ([MAIN], {"leaderboard": "closed"}),
    "a paused leaderboard": ([MAIN], {"leaderboard": "paused"}),
    "a missing config": ([MAIN], {"config_file": "other.yaml"}),
    "the same name twice": ([MAIN, MAIN], {}),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_refused_is_refused_by_the_site_and_leaves_nothing(api, site, case):
    LeaderboardFactory(slug="hidden", visibility="hidden")
    LeaderboardFactory(slug="closed", closes_at=timezone.now())
    pause(LeaderboardFactory(slug="paused"), reason="moved", by=None)
    before = left_files()
    files, fields = REFUSED[case]

    def send(one):
        if files:
            return one.submit(*files, **fields)
        return one.client.post("/api/submissions", fields)

    answers = [send(one) for one in (api, site)]
    assert told(answers[0]) == told(answers[1])
    assert 400 <= answers[0].status_code < 500
    assert (api.client.answered, left_files(), Submission.objects.count()) == (0, before, 0)


def test_the_quota_of_an_hour_holds(api, user, settings):
    for _ in range(settings.SUBMISSIONS_PER_HOUR - 1):
        SubmissionFactory(user=user)
    assert api.submit().status_code == 201
    files = left_files()
    assert api.submit().status_code == 429
    assert (api.client.answered, left_files()) == (1, files)


@pytest.mark.parametrize(("way", "refused"), [("api", 401), ("site", 403)])
def test_who_is_banned_while_it_is_stored_leaves_nothing(request, user, monkeypatch, way, refused):
    """By whichever way: an upload may take an hour, and who sends it was asked for before."""
    save_all, save = DurableFileSystemStorage.save_all, DurableFileSystemStorage._save

    def banned_before(store):
        def banned(*given):
            shut_out(user)
            return store(*given)

        return banned

    monkeypatch.setattr(DurableFileSystemStorage, "save_all", banned_before(save_all))
    monkeypatch.setattr(DurableFileSystemStorage, "_save", banned_before(save))
    before = left_files()
    assert request.getfixturevalue(way).submit().status_code == refused
    assert (Submission.objects.count(), left_files()) == (0, before)


def test_a_quota_that_was_lowered_while_it_was_stored_holds(site, user, monkeypatch):
    save = DurableFileSystemStorage._save

    def lowered(*given):
        set_quota(user, submissions_per_hour=0, concurrent_jobs=None)
        return save(*given)

    monkeypatch.setattr(DurableFileSystemStorage, "_save", lowered)
    assert (site.submit().status_code, Submission.objects.count()) == (429, 0)


def test_a_disk_that_is_away_stores_nothing(api, site, settings, monkeypatch):
    def away(*_):
        raise OSError("away")

    monkeypatch.setattr(DurableFileSystemStorage, "save_all", away)
    monkeypatch.setattr(DurableFileSystemStorage, "_save", away)
    assert told(api.submit()) == told(site.submit())
    assert api.submit().status_code == 503
    assert (api.client.answered, Submission.objects.count()) == (0, 0)


def test_nobodys_large_body_is_not_read(api, nobody):
    assert nobody.submit(("main.py", b"#" * 200_000)).status_code == 401
    assert nobody.submit().status_code == 401


def test_a_body_that_is_cut_short_is_refused(api):
    body = b'--b\r\nContent-Disposition: form-data; name="files"; filename="main.py"\r\n\r\nabc\r\n--b--\r\n'
    kind = "multipart/form-data; boundary=b"
    assert api.client.generic("POST", "/api/submissions", body, content_type=kind).status_code == 201
    for end in (5, 60, len(body) - 8, len(body) - 4):
        answer = api.client.generic("POST", "/api/submissions", body[:end], content_type=kind)
        assert answer.status_code == 400
    assert (api.client.answered, Submission.objects.count()) == (1, 1)


HEAD = b'Content-Disposition: form-data; name="files"; filename="a.py"\r\n\r\n'
NOT_PLAIN = {
    "a preamble": b"hello\r\n--b\r\n" + HEAD + b"x\r\n--b--\r\n",
    "an epilogue": b"--b\r\n" + HEAD + b"x\r\n--b--\r\nbye",
    "no end": b"--b\r\n" + HEAD + b"x\r\n--b\r\n",
    "a longer boundary": b"--b\r\n" + HEAD + b"x\r\n--bb--\r\n",
    "a quoted name": b"--b\r\n" + HEAD.replace(b"a.py", b'a\\"b.py') + b"x\r\n--b--\r\n",
    "a folder": b"--b\r\n" + HEAD.replace(b"a.py", b"../a.py") + b"x\r\n--b--\r\n",
    "an entity": b"--b\r\n" + HEAD.replace(b"a.py", b"&#46;py") + b"x\r\n--b--\r\n",
    "a starred name": b"--b\r\n" + HEAD.replace(b"filename=", b"filename*=") + b"x\r\n--b--\r\n",
    "an encoding": b"--b\r\nContent-Transfer-Encoding: base64\r\n" + HEAD + b"eA==\r\n--b--\r\n",
    "bare line ends": (b"--b\r\n" + HEAD + b"x\r\n--b--\r\n").replace(b"\r\n", b"\n"),
    "a field twice": b"--b\r\n" + 2 * (b'Content-Disposition: form-data; name="metadata"\r\n\r\n{}\r\n--b\r\n')
    + HEAD + b"x\r\n--b--\r\n",
    "the edge at once": b"--b\r\n" + HEAD + b"--b--\r\n",
    "a space before the end": b"--b\r\n" + HEAD + b"x\r\n--b --\r\n",
}  # fmt: skip


@pytest.mark.parametrize("case", NOT_PLAIN)
def test_a_form_that_is_not_plain_is_not_read(case):
    plain = b"--b\r\n" + HEAD + b"x\r\n--b--\r\n"
    assert [part.content for part in read_form(plain, b"b", file_field="files").files] == [b"x"]
    assert read_form(NOT_PLAIN[case], b"b", file_field="files") is None


def test_boundaries_are_plain_too():
    assert boundary_of("multipart/form-data; boundary=a-B_9") == b"a-B_9"
    assert boundary_of('multipart/form-data; boundary="a-B_9"') == b"a-B_9"
    for other in ("", "; boundary=a;b=c", '; boundary="a', '; boundary=a"'):
        assert boundary_of(f"multipart/form-data{other}") is None
    assert boundary_of("multipart/mixed; boundary=a") is boundary_of("x") is None


def test_other_storages_are_the_sites(api, settings, monkeypatch):
    class Elsewhere:
        pass

    import leaderboard_site.lane.submit as lane

    monkeypatch.setattr(lane, "storages", {"submissions": Elsewhere()})
    assert api.submit().status_code == 201
    assert api.client.answered == 0
