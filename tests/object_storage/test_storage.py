"""Submissions and what runs leave on a real S3 server: as on a folder, and when the server is away, slow or broken."""

import hashlib
import io
import os
import tracemalloc
from datetime import timedelta
from uuid import uuid4

import pytest
from django.core.files.base import ContentFile, File
from django.utils import timezone

from jobs import retention
from object_storage.server import BUCKET
from submissions.object_storage import MIB, ObjectStorageError


class Rubbish(io.RawIOBase):
    """A file of any size that lies nowhere; `breaks_at` has reading fail there, as a torn disk would."""

    def __init__(self, size, breaks_at=None):
        self.size, self.position, self.breaks_at = size, 0, breaks_at
        self.block = os.urandom(MIB)
        self.name = "rubbish"

    def seekable(self):
        return True

    def tell(self):
        return self.position

    def seek(self, offset, whence=io.SEEK_SET):
        self.position = {0: 0, 1: self.position, 2: self.size}[whence] + offset
        return self.position

    def read(self, size=-1):
        if self.breaks_at is not None and self.position >= self.breaks_at:
            raise OSError("the disk is torn")
        size = self.size - self.position if size < 0 else min(size, self.size - self.position)
        repeated = self.block * (size // MIB + 2)
        start = self.position % MIB
        self.position += size
        return repeated[start : start + size]


def test_what_was_saved_is_read_the_same_in_parts_and_from_any_place(artifacts):
    content = os.urandom(3 * MIB + 17)
    name = artifacts.save("results/a/1/図 1.bin", ContentFile(content))
    assert (name, artifacts.exists(name), artifacts.size(name)) == ("results/a/1/図 1.bin", True, len(content))
    with artifacts.open(name) as stored:
        assert stored.size == len(content)
        assert (stored.read(10), stored.tell()) == (content[:10], 10)
        stored.seek(2 * MIB)
        assert stored.read(100) == content[2 * MIB :][:100]
        stored.seek(-5, os.SEEK_END)
        assert (stored.read(), stored.read()) == (content[-5:], b"")
        stored.seek(0)
        assert b"".join(stored.chunks()) == content


def test_an_empty_object_is_read_as_empty(artifacts):
    with artifacts.open(artifacts.save("results/a/1/empty", ContentFile(b""))) as stored:
        assert (stored.size, stored.read()) == (0, b"")


@pytest.mark.parametrize("ask", ["open", "size", "get_modified_time"])
def test_what_is_missing_is_file_not_found(artifacts, ask):
    with pytest.raises(FileNotFoundError):
        getattr(artifacts, ask)("results/none")
    assert (artifacts.exists("results/none"), artifacts.delete("results/none")) == (False, None)


def test_a_missing_bucket_is_no_missing_file(artifacts):
    artifacts.bucket_name, artifacts._bucket = "elsewhere", None
    with pytest.raises(ObjectStorageError):
        artifacts.open("results/none")


def test_saving_again_replaces(artifacts):
    assert artifacts.save("results/a/1/log.txt", ContentFile(b"first")) == "results/a/1/log.txt"
    assert artifacts.save("results/a/1/log.txt", ContentFile(b"second")) == "results/a/1/log.txt"
    assert artifacts.open("results/a/1/log.txt").read() == b"second"


def test_an_object_replaced_while_it_is_read_is_not_mixed(artifacts):
    name = artifacts.save("results/a/1/big", ContentFile(b"a" * (3 * MIB)))
    with artifacts.open(name) as stored:
        assert stored.read(1) == b"a"
        artifacts.save(name, ContentFile(b"b" * (3 * MIB)))
        stored.seek(2 * MIB)
        with pytest.raises(ObjectStorageError, match="Precondition"):
            stored.read(1)


def test_a_broken_connection_is_opened_again_where_it_broke(artifacts):
    content = os.urandom(4 * MIB)
    with artifacts.open(artifacts.save("results/a/1/big", ContentFile(content))) as stored:
        first = stored.read(MIB)
        reader = stored.file.raw
        reader._body._raw_stream._fp.fp.raw._sock.shutdown(2)  # the network's end of it, not ours
        assert first + stored.read() == content


def test_nothing_stored_can_be_shown_by_a_browser(s3, artifacts, submissions):
    artifacts.save("results/a/1/page.html", ContentFile(b"<script>"))
    submissions.save(f"{uuid4()}.tar.gz", ContentFile(b"x"))
    heads = [s3.client().head_object(Bucket=BUCKET, Key=key) for key in s3.names()]
    assert {(head["ContentType"], head.get("ContentEncoding")) for head in heads} == {("binary/octet-stream", None)}


def test_a_large_object_goes_up_and_down_in_flat_memory(submissions):
    size = 96 * MIB
    source = Rubbish(size)
    expected = hashlib.sha256(source.read()).hexdigest()
    source.seek(0)
    tracemalloc.start()
    try:
        name = submissions.save(f"{uuid4()}.tar", File(source, name="x"))
        digest = hashlib.sha256()
        with submissions.open(name) as stored:
            while part := stored.read(MIB):
                digest.update(part)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert digest.hexdigest() == expected
    assert peak < 64 * MIB


def test_an_upload_that_breaks_leaves_neither_object_nor_parts(s3, submissions):
    with pytest.raises(OSError, match="torn"):
        submissions.save(f"{uuid4()}.tar", File(Rubbish(60 * MIB, breaks_at=40 * MIB), name="x"))
    assert (s3.names(), s3.unfinished()) == (set(), [])


@pytest.mark.django_db
def test_parts_of_a_process_that_died_go_after_a_day(s3, submissions, monkeypatch):
    begun = s3.client().create_multipart_upload(Bucket=BUCKET, Key="submissions/dead.tar")
    part = {"Bucket": BUCKET, "Key": "submissions/dead.tar", "UploadId": begun["UploadId"], "PartNumber": 1}
    s3.client().upload_part(**part, Body=b"x" * 5 * MIB)
    assert (retention.sweep_orphans(), s3.unfinished()) == (0, ["submissions/dead.tar"])
    monkeypatch.setattr(retention, "YOUNG", timedelta(seconds=-5))
    assert (retention.sweep_orphans(dry_run=True), len(s3.unfinished())) == (1, 1)
    assert (retention.sweep_orphans(), s3.unfinished()) == (1, [])


def test_listing_shows_folders_and_files_beyond_one_page(artifacts):
    for number in range(12):
        artifacts.save(f"results/job/{number}/log.txt", ContentFile(b"x"))
    artifacts.save("results/job/file", ContentFile(b"x"))
    folders, files = artifacts.listdir("results/job")
    assert (sorted(folders, key=int), files) == ([str(number) for number in range(12)], ["file"])
    assert artifacts.listdir("nothing") == ([], [])


@pytest.mark.parametrize(
    "ask",
    [
        lambda storage: storage.open("results/a"),
        lambda storage: storage.save("results/a", ContentFile(b"x")),
        lambda storage: storage.delete("results/a"),
        lambda storage: storage.exists("results/a"),
        lambda storage: storage.listdir("results"),
        lambda storage: storage.size("results/a"),
        lambda storage: storage.get_modified_time("results/a"),
        lambda storage: storage.unfinished_uploads(),
        lambda storage: storage.give_up_upload("results/a", "x"),
    ],
    ids=["open", "save", "delete", "exists", "listdir", "size", "modified", "unfinished", "give-up"],
)
def test_a_server_that_is_away_is_an_os_error_soon(artifacts, ask):
    artifacts.endpoint_url = "http://127.0.0.1:9"  # nobody listens there
    began = timezone.now()
    with pytest.raises(ObjectStorageError):
        ask(artifacts)
    assert timezone.now() - began < timedelta(seconds=10)


def test_a_wrong_key_is_an_os_error_that_does_not_show_it(artifacts):
    artifacts.secret_key = "wrong-" + "0" * 30
    with pytest.raises(ObjectStorageError) as caught:
        artifacts.save("results/a", ContentFile(b"x"))
    assert "wrong-" not in str(caught.value)
