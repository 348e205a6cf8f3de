"""Large submissions, read as they come: the row, the file and every refusal are the site's, and nothing is left."""

import fcntl
import hashlib
import io
import os
import random
import tarfile
import threading
import zipfile
from pathlib import Path

import pytest
from django.conf import settings as site_settings
from django.core.files.storage import storages

from leaderboard_site.lane import large_form
from leaderboard_site.lane.large_form import LargeForm
from leaderboards.services import pause
from leaderboards.tests.factories import LeaderboardFactory
from submissions import incoming
from submissions.models import Submission
from submissions.tests.factories import SubmissionFactory
from tests.api.conftest import MAIN, left_files
from tests.api.test_lane import told
from tests.api.test_lane_submit import OWN

MIB = 1024 * 1024
NOISE = random.Random(7).randbytes(3 * MIB)


def zipped(files, method=zipfile.ZIP_STORED):
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", method) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return packed.getvalue()


def tarred(files):
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz", compresslevel=1) as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return packed.getvalue()


FILES = {"main.py": b"print()", "weights.bin": NOISE}
STORED, DEFLATED, TAR = zipped(FILES), zipped(FILES, zipfile.ZIP_DEFLATED), tarred(FILES)
FOLDER = zipped({f"code/{name}": content for name, content in FILES.items()})


def changed(data, at):
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


TAKEN = {
    "stored": ("code.zip", STORED, {}),
    "deflated": ("code.zip", DEFLATED, {}),
    "tar": ("code.tar.gz", TAR, {}),
    "in a folder": ("code.zip", FOLDER, {}),
    "all fields": (
        "code.zip", zipped({"run.py": b"1", "c.yaml": b"a: 1", "w.txt": NOISE}),
        {"entrypoint": "run.py", "config_file": "c.yaml", "metadata": '{"名": [1]}', "leaderboard": "default"},
    ),
}  # fmt: skip


def send(api, name, content, fields, *, is_file_first=True, boundary="x-B_9", end="--\r\n"):
    """As programs write forms: the file first, or last."""
    parts = [f'Content-Disposition: form-data; name="{key}"\r\n\r\n{value}'.encode() for key, value in fields.items()]
    file = f'Content-Disposition: form-data; name="files"; filename="{name}"\r\n\r\n'.encode() + content
    parts.insert(0 if is_file_first else len(parts), file)
    edge = f"--{boundary}".encode()
    body = edge + b"\r\n" + (b"\r\n" + edge + b"\r\n").join(parts) + b"\r\n" + edge + end.encode()
    kind = f"multipart/form-data; boundary={boundary}"
    return api.client.generic("POST", "/api/submissions", body, content_type=kind)


@pytest.mark.django_db
@pytest.mark.parametrize("is_file_first", [True, False])
@pytest.mark.parametrize("case", TAKEN)
def test_a_submission_is_the_sites_in_every_column_and_byte(api, site, case, is_file_first):
    name, content, fields = TAKEN[case]
    before = left_files()
    answers = [send(one, name, content, fields, is_file_first=is_file_first) for one in (api, site)]
    assert [answer.status_code for answer in answers] == [201, 201], answers[0].content
    assert api.client.answered == 1
    ours, theirs = (Submission.objects.filter(pk=answer.json()["submission_id"]).values().get() for answer in answers)
    assert {column for column in ours if ours[column] != theirs[column]} == OWN
    for row in (ours, theirs):
        assert storages["submissions"].open(row["object_name"]).read() == content
    assert (ours["size_bytes"], ours["sha256"]) == (len(content), hashlib.sha256(content).hexdigest())
    modes = [Path(storages["submissions"].path(row["object_name"])).stat().st_mode for row in (ours, theirs)]
    assert modes[0] == modes[1]
    assert dict(told(answers[0])[1]) == dict(told(answers[1])[1])
    assert len(left_files()) == len(before) + 2


REFUSED = {
    "a wrong checksum": ("code.zip", changed(STORED, MIB), {}),
    "damaged deflate": ("code.zip", changed(DEFLATED, MIB), {}),
    "damaged gzip": ("code.tar.gz", changed(TAR, MIB), {}),
    "hidden data before": ("code.zip", b"x" + STORED, {}),
    "hidden data behind": ("code.zip", STORED + b"x", {}),
    "a tar cut short": ("code.tar.gz", TAR[:-1000], {}),
    "a zip cut short": ("code.zip", STORED[:-1000], {}),
    "no zip": ("code.zip", NOISE, {}),
    "a tar called zip": ("code.zip", TAR, {}),
    "a zip called tar": ("code.tar.gz", STORED, {}),
    "another name by paths": ("code.zip", TAR, {"paths": '["code.txt"]'}),
    "no entrypoint": ("code.zip", STORED, {"entrypoint": "other.py"}),
    "bad metadata": ("code.zip", STORED, {"metadata": "{"}),
    "too deep": ("code.zip", zipped({"/".join("abcdefghijklmnop"): b"", **FILES}), {}),
    "out of its folder": ("code.zip", zipped({"../main.py": b"", **FILES}), {}),
    "a bomb": ("code.zip", zipped({"main.py": b"", "w": NOISE, "z": bytes(600 * MIB)}, zipfile.ZIP_DEFLATED), {}),
    "no such leaderboard": ("code.zip", STORED, {"leaderboard": "nowhere"}),
    "a paused leaderboard": ("code.zip", STORED, {"leaderboard": "paused"}),
}  # fmt: skip


@pytest.mark.django_db
@pytest.mark.parametrize("case", REFUSED)
def test_what_is_refused_is_refused_by_the_site_and_leaves_nothing(api, site, case):
    pause(LeaderboardFactory(slug="paused"), reason="moved", by=None)
    before = left_files()
    name, content, fields = REFUSED[case]
    answers = [send(one, name, content, fields) for one in (api, site)]
    assert told(answers[0]) == told(answers[1])
    assert 400 <= answers[0].status_code < 500, answers[0].content
    assert (api.client.answered, left_files(), Submission.objects.count()) == (0, before, 0)


@pytest.mark.django_db
def test_the_quota_of_an_hour_holds_and_nothing_is_left(api, user, settings):
    for _ in range(settings.SUBMISSIONS_PER_HOUR):
        SubmissionFactory(user=user)
    before = left_files()
    assert send(api, "code.zip", STORED, {}).status_code == 429
    assert (api.client.answered, left_files()) == (0, before)


@pytest.mark.django_db
@pytest.mark.parametrize("end", ["", "-", "--x", "--\r\nbye"])
def test_a_form_without_its_plain_end_is_the_sites(api, site, end):
    answers = [send(one, "code.zip", STORED, {}, end=end) for one in (api, site)]
    assert answers[0].status_code == answers[1].status_code
    assert api.client.answered == 0


@pytest.mark.django_db
def test_two_archives_and_single_files_are_the_sites(api):
    assert api.submit(("code.zip", STORED), MAIN).status_code == 400
    assert api.submit(("main.py", b"#" * 3 * MIB)).status_code == 201
    assert api.client.answered == 0


@pytest.mark.django_db
def test_nobodys_body_is_not_read(nobody, monkeypatch):
    monkeypatch.setattr(LargeForm, "read", lambda self: pytest.fail("it was read"))
    assert send(nobody, "code.zip", STORED, {}).status_code == 401


@pytest.mark.django_db
@pytest.mark.parametrize("where", ["written", "synced", "renamed"])
def test_a_disk_that_fails_the_lane_is_the_sites_to_tell(api, monkeypatch, where):
    """Here it fails once, and the site gets all of the body: what is stored is what was sent."""
    before = left_files()
    real_write, real_sync, written = os.write, os.fsync, []

    def write(descriptor, data):
        written.append(len(data))
        if len(written) == 3:
            real_write(descriptor, data[:4096])
            raise OSError(28, "No space left on device")
        return real_write(descriptor, data)

    def sync(descriptor):
        if threading.current_thread().name == "keeping":
            raise OSError(5, "Input/output error")
        real_sync(descriptor)

    match where:
        case "written":
            monkeypatch.setattr(incoming.os, "write", write)
        case "synced":
            monkeypatch.setattr(incoming.os, "fsync", sync)
        case "renamed":
            monkeypatch.setattr(incoming.IncomingArchive, "name", "no/such/folder")
    assert send(api, "code.zip", STORED, {}).status_code == 201
    assert api.client.answered == 0
    made = Submission.objects.get()
    assert storages["submissions"].open(made.object_name).read() == STORED
    assert len(left_files()) == len(before) + 1


@pytest.fixture
def archive(monkeypatch):
    """One that comes in pieces of two pages, and the flags of its file at each write."""
    monkeypatch.setattr(incoming, "BUFFER_BYTES", 8192)
    archive = incoming.IncomingArchive("zip", site_settings.FILE_UPLOAD_TEMP_DIR)
    real_write, archive.flags, archive.refuses = os.write, [], False

    def write(descriptor, data):
        archive.flags.append(fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_DIRECT)
        if archive.refuses and archive.flags[-1]:
            raise OSError(22, "Invalid argument")
        return real_write(descriptor, data)

    monkeypatch.setattr(incoming.os, "write", write)
    yield archive
    archive.close()
    os.close(archive.descriptor)


def fill(archive, content):
    for start in range(0, len(content), 8192):
        buffer, piece = archive.buffer(), content[start : start + 8192]
        buffer[: len(piece)] = piece
        archive.add(buffer, len(piece))
    archive.end()
    assert (archive.size, archive.sha256) == (len(content), hashlib.sha256(content).hexdigest())
    assert os.pread(archive.descriptor, len(content) + 1, 0) == content


@pytest.mark.parametrize(("size", "through"), [(5 * 8192, 0), (5 * 8192 + 4096, 0), (5 * 8192 + 1, 1), (100, 1)])
def test_whole_pages_are_written_past_the_cache(archive, size, through):
    if not archive._is_past_the_cache:
        pytest.skip("this file system does not take that")
    fill(archive, NOISE[:size])
    assert archive.flags == [os.O_DIRECT] * (-(-size // 8192) - through) + [0] * through


def test_a_file_system_that_takes_no_such_write_is_written_through_the_cache(archive):
    archive.refuses = True
    fill(archive, NOISE[: 5 * 8192 + 1])
    assert archive.flags[-6:] == [0] * 6


class Dripping:
    """A body in pieces of chance, which ends, breaks off or stalls where it is told to."""

    def __init__(self, body, seed, error=None):
        self.left, self.chance, self.error = body, random.Random(seed), error

    def read(self, size=-1):
        if not self.left and self.error:
            raise self.error
        count = min(self.chance.randint(1, 3000), len(self.left) if size < 0 else size)
        data, self.left = self.left[:count], self.left[count:]
        return data


def small_body(seed):
    """A form whose file is full of what looks like its end."""
    chance = random.Random(seed)
    tempting = [b"\r\n", b"\r\n--", b"\r\n--ed", b"--edge", b"\r\n--edg\r\n--e", b"\0" * 50, b"PK\3\4", b"\r"]
    content = b"P" + b"".join(chance.choices(tempting, k=chance.randint(0, 3000)))
    content = content.replace(b"--edge", b"--edgy")
    head = b'--edge\r\nContent-Disposition: form-data; name="%s"\r\n\r\n%s\r\n'
    file = b'--edge\r\nContent-Disposition: form-data; name="files"; filename="a.zip"\r\n\r\n' + content
    first, last = (head % (b"entrypoint", b"a.py"), head % (b"metadata", b"{}")) if seed % 2 else (b"", b"")
    return first + file + b"\r\n" + last + b"--edge--\r\n", content


@pytest.fixture(params=["through the cache", "past it"])
def small_buffers(request, monkeypatch):
    """Two pages each; or so small that what begins past the cache is refused, and goes through it."""
    for module in (incoming, large_form):
        monkeypatch.setattr(module, "BUFFER_BYTES", 400 if request.param == "through the cache" else 8192)
        monkeypatch.setattr(module, "PAGE_BYTES", 16 if request.param == "through the cache" else 4096)


@pytest.mark.parametrize("seed", range(30))
def test_the_file_ends_where_the_line_is_and_nowhere_else(small_buffers, seed):
    body, content = small_body(seed)
    large = LargeForm(Dripping(body, seed), len(body), b"edge")
    try:
        assert large.read()
        [file] = large.form.files
        assert (file.name, file.size, file.archive.sha256) == (
            "a.zip",
            len(content),
            hashlib.sha256(content).hexdigest(),
        )
        assert large.form.fields == ({"entrypoint": "a.py", "metadata": "{}"} if seed % 2 else {})
        assert os.pread(file.archive.descriptor, len(content) + 1, 0) == content
        again = large.body_again()
    finally:
        large.close()
    assert again.read() == body
    assert list(Path(site_settings.FILE_UPLOAD_TEMP_DIR).glob("incoming-*")) == []


@pytest.mark.parametrize("seed", range(30))
def test_a_body_that_ends_early_comes_again_as_far_as_it_came(small_buffers, seed):
    body, _ = small_body(seed)
    cut = random.Random(seed).randint(1, len(body) - 3)
    for error in (None, TimeoutError()):
        large = LargeForm(Dripping(body[:cut], seed, error), len(body), b"edge")
        try:
            assert not large.read()
            again = large.body_again()
        finally:
            large.close()
        found = bytearray()
        try:
            while data := again.read1(1000):
                found += data
            assert error is None
        except TimeoutError:
            assert error is not None
        assert bytes(found) == body[:cut]


@pytest.mark.parametrize("call", [0, 1, 2, 5, -1])
def test_a_body_that_cannot_be_written_comes_again_whole(small_buffers, monkeypatch, call):
    """Whatever was in the file, half written, on its way to be looked into or written, or had not come."""
    body = b'--edge\r\nContent-Disposition: form-data; name="files"; filename="a.zip"\r\n\r\n' + NOISE[:60_000]
    body += b"\r\n--edge--\r\n"
    real_write, calls = os.write, []

    def write(descriptor, data):
        calls.append(len(data))
        is_last = len(data) % incoming.PAGE_BYTES > 0
        if len(calls) == call + 2 or (is_last and call == -1):
            raise OSError(28, "No space left on device")
        return real_write(descriptor, data[: incoming.PAGE_BYTES] if len(calls) == call + 1 else data)

    monkeypatch.setattr(incoming.os, "write", write)
    large = LargeForm(Dripping(body, 1), len(body), b"edge")
    try:
        assert not large.read()
        again = large.body_again()
    finally:
        large.close()
    assert again.read() == body


def test_a_body_whose_file_passes_the_cap_is_given_up_there(small_buffers, settings):
    settings.UPLOAD_MAX_BYTES = 10_000
    body = small_body(0)[0][:-10] + bytes(100_000)
    stream = Dripping(body, 1)
    large = LargeForm(stream, len(body), b"edge")
    try:
        assert not large.read()
        assert large.archive.size < 12_000 + 2 * incoming.BUFFER_BYTES
        assert large.body_again().read() == body
    finally:
        large.close()
