"""POST /api/submissions: bodies that are empty, cut, endless or too large."""

import io
import json
import tracemalloc

import pytest
from django.core.files.storage import storages
from django.test.client import ClientHandler

from submissions.models import Submission
from tests.api.conftest import left_files, refusal

pytestmark = pytest.mark.django_db

MIB = 1024 * 1024
BOUNDARY = b"----boundary"


def part(name, content, filename=""):
    named = f'; filename="{filename}"' if filename else ""
    head = f'Content-Disposition: form-data; name="{name}"{named}\r\n\r\n'.encode()
    return b"--" + BOUNDARY + b"\r\n" + head + content + b"\r\n"


def post_raw(api, body, **extra):
    kind = f"multipart/form-data; boundary={BOUNDARY.decode()}"
    return api.client.generic("POST", "/api/submissions", body, content_type=kind, **extra)


def test_no_files(api):
    assert refusal(api.client.post("/api/submissions", {"entrypoint": "main.py"})) == (400, "no_files")
    assert refusal(post_raw(api, b"--" + BOUNDARY + b"--\r\n")) == (400, "no_files")


def test_a_body_that_is_no_form(api):
    assert refusal(api.post("/api/submissions", {"a": 1})) == (415, "unsupported_media_type")


def test_a_form_field_beyond_a_mebibyte(api):
    assert refusal(api.submit(metadata="x" * (MIB + 1))) == (413, "too_large")


@pytest.mark.parametrize(
    "body",
    [
        part("files", b"x = 1\n" * 100, "main.py")[:-50],  # cut within the file
        part("files", b"x = 1\n", "main.py"),  # no closing boundary
        part("files", b"x = 1\n", "main.py") + b"--" + BOUNDARY,  # half of it
        b"no boundary at all",
    ],
    ids=["within", "unclosed", "half", "none"],
)
def test_a_truncated_form_is_400_and_leaves_nothing(api, body):
    before = left_files()
    status, _ = refusal(post_raw(api, body))
    assert (status, left_files(), Submission.objects.count()) == (400, before, 0)


def test_fewer_bytes_than_announced_is_400(api):
    body = part("files", b"x = 1\n", "main.py") + b"--" + BOUNDARY + b"--\r\n"
    assert post_raw(api, body).status_code == 201
    stream = Endless([10])
    stream.length += 100
    status, answer, _ = upload_streaming(api, stream)
    assert (status, answer["code"]) == (400, "truncated")


def test_a_body_of_unknown_length_is_411(api):
    body = part("files", b"x = 1\n", "main.py") + b"--" + BOUNDARY + b"--\r\n"
    answer = post_raw(api, body, CONTENT_LENGTH="", HTTP_TRANSFER_ENCODING="chunked")
    assert refusal(answer) == (411, "length_required")


class Endless:
    """A multipart body of `size` file bytes, made while it is read; remembers how much was."""

    def __init__(self, sizes):
        head = [part("files", b"", name)[:-2] for name in ("main.py", "a.txt", "b.txt")]
        self.pieces = []
        for size, start in zip(sizes, head, strict=False):
            self.pieces += [start, *[bytes(MIB)] * (size // MIB), bytes(size % MIB), b"\r\n"]
        self.pieces.append(b"--" + BOUNDARY + b"--\r\n")
        self.length = sum(map(len, self.pieces))
        self.rest, self.count = b"", 0

    def read(self, size=-1):
        while self.pieces and len(self.rest) < size:
            self.rest += self.pieces.pop(0)
        data, self.rest = self.rest[:size], self.rest[size:]
        self.count += len(data)
        return data

    readline = read  # WSGI has it; nobody calls it here


def upload_streaming(api, stream):
    """As a server does it, without the test client's copy of the body: status, answer, peak of traced memory in bytes."""
    environ = {
        "REQUEST_METHOD": "POST", "PATH_INFO": "/api/submissions", "SERVER_NAME": "localhost", "SERVER_PORT": "80",
        "wsgi.input": stream, "wsgi.errors": io.StringIO(), "wsgi.url_scheme": "http", "HTTP_HOST": "localhost",
        "CONTENT_TYPE": f"multipart/form-data; boundary={BOUNDARY.decode()}", "CONTENT_LENGTH": str(stream.length),
        "HTTP_AUTHORIZATION": f"Bearer {api.token}",
    }  # fmt: skip
    tracemalloc.start()
    response = ClientHandler()(environ)
    response.wsgi_request.close()  # not response.close(): that ends the test's transaction
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return response.status_code, json.loads(response.content), peak


@pytest.mark.slow
@pytest.mark.parametrize("sizes", [[100 * MIB], [60 * MIB, 40 * MIB]])
def test_exactly_100_mib_are_taken_in_flat_memory(api, sizes):
    status, answer, peak = upload_streaming(api, Endless(sizes))
    assert (status, set(answer) >= {"submission_id", "sha256"}) == (201, True)
    assert Submission.objects.get().size_bytes >= 100 * MIB
    assert peak < 20 * MIB
    storages["submissions"].delete(Submission.objects.get().object_name)
    assert [path for path in left_files() if "incoming" in path.parts] == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("sizes", "at_most_read"),
    [
        ([101 * MIB], 0),  # announced: refused before a byte is read
        ([100 * MIB + 1], 101 * MIB),
        ([60 * MIB, 40 * MIB + 512 * 1024], 101 * MIB),
    ],
)
def test_more_is_413_early_in_flat_memory_and_leaves_nothing(api, sizes, at_most_read):
    before, stream = left_files(), Endless(sizes)
    status, answer, peak = upload_streaming(api, stream)
    assert (status, answer) == (413, {"code": "too_large", "message": "files: at most 100 MiB in all."})
    assert (stream.count <= at_most_read, peak < 20 * MIB) == (True, True)
    assert (left_files(), Submission.objects.count()) == (before, 0)
