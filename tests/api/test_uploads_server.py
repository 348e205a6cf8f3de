"""Uploads against gunicorn as it runs for real: bodies of no length, too long, cut, packed, or slow to come."""

import io
import os
import select
import socket
import time
import zipfile
from pathlib import Path

import pytest
from django.conf import settings

from accounts.services import create_token
from accounts.tests.factories import UserFactory
from leaderboards.models import DEFAULT_SLUG, Leaderboard
from submissions.models import Submission
from tests.api.test_lane_server import Wire, gunicorn

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.slow]

MIB = 1024 * 1024
MOST = 8 * MIB
EDGE = "edge"
FORM = f"Content-Type: multipart/form-data; boundary={EDGE}"
FILE = f'--{EDGE}\r\nContent-Disposition: form-data; name="files"; filename="main.py"\r\n\r\n'.encode()
END = f"\r\n--{EDGE}--\r\n".encode()
GOOD = FILE + b"print()\n" + END
CHUNKED = "Transfer-Encoding: chunked"


@pytest.fixture
def server(tmp_path):
    """(connect, its uploads' folder, its process): connect() opens a connection and sends the head of an upload."""
    Leaderboard.objects.get_or_create(slug=DEFAULT_SLUG, defaults={"name": "default"})
    secret = create_token(UserFactory(), name="x")[1]
    uploads = tmp_path / "uploads"
    changes = {"UPLOAD_ROOT": str(uploads), "UPLOAD_MAX_BYTES": str(MOST), "UPLOAD_TEMP_DIR": str(uploads / "incoming")}

    def connect(*lines):
        head = ["POST /api/submissions HTTP/1.1", "Host: localhost", f"Authorization: Bearer {secret}", *lines, "", ""]
        wires.append(Wire(port))
        return wires[-1].send("\r\n".join(head).encode())

    wires = []
    with gunicorn(tmp_path, **changes) as (port, process):
        yield connect, uploads, process
        for wire in wires:
            wire.file.close()
            wire.socket.close()
    assert "Traceback" not in (tmp_path / "log").read_text()


def length(body):
    return f"Content-Length: {len(body)}"


def chunk(data):
    return b"%x\r\n" % len(data) + data + b"\r\n"


def send_until_answered(wire, pieces):
    """Bytes that were sent before the server answered or hung up."""
    sent = 0
    for piece in pieces:
        if select.select([wire.socket], [], [], 0)[0]:
            break
        try:
            wire.socket.sendall(piece)
        except OSError:
            break
        sent += len(piece)
    return sent


def answered(wire):
    status, _, body = wire.answer()
    return status, body.decode()


def peak_memory(server):
    """The most that gunicorn's worker ever held, in KiB."""
    children = Path(f"/proc/{server.pid}/task/{server.pid}/children").read_text().split()
    lines = [line for pid in children for line in Path(f"/proc/{pid}/status").read_text().splitlines()]
    return max(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))


def wait_until_nothing_comes_in(uploads):
    """The answer may come a moment before the temporary files of a form that was whole go."""
    deadline = time.monotonic() + 60
    while os.listdir(uploads / "incoming"):
        assert time.monotonic() < deadline
        time.sleep(0.1)


def assert_nothing_left(uploads):
    wait_until_nothing_comes_in(uploads)
    assert [path for path in uploads.rglob("*") if path.is_file()] == []
    assert Submission.objects.count() == 0


def test_a_body_without_a_length_is_refused_long_before_its_end_in_flat_memory(server):
    connect, uploads, process = server
    pieces = 200
    # One small one first: what is loaded at the first request of a kind counts for the server, not for the body.
    wire = connect(FORM, CHUNKED).send(chunk(GOOD) + b"0\r\n\r\n")
    assert answered(wire) == (
        411,
        '{"code":"length_required","message":"Content-Length: must be given; chunked bodies are not taken."}',
    )
    before = peak_memory(process)
    wire = connect(FORM, CHUNKED)
    sent = send_until_answered(wire, [chunk(FILE), *[chunk(bytes(MIB))] * pieces, b"0\r\n\r\n"])
    status, body = answered(wire)
    assert (status, "too_large" in body) == (413, True)
    # What lies in the sockets' buffers comes on top of the cap.
    assert sent < pieces * MIB / 4
    assert peak_memory(process) < before * 1.2
    assert_nothing_left(uploads)
    wire = connect(FORM, CHUNKED).send(b"-5\r\nhello\r\n0\r\n\r\n")
    assert answered(wire)[0] == 411
    assert_nothing_left(uploads)


def test_a_file_that_passes_the_cap_within_the_announced_length_is_413_in_flat_memory(server):
    connect, uploads, process = server
    warm = FILE + bytes(3 * MIB) + END  # more than the lane takes
    assert answered(connect(FORM, length(warm)).send(warm))[0] == 201
    wait_until_nothing_comes_in(uploads)
    stored = [path for path in uploads.rglob("*") if path.is_file()]
    before = peak_memory(process)
    wire = connect(FORM, f"Content-Length: {MOST + MIB}")
    send_until_answered(wire, [FILE, *[bytes(MIB)] * 8, bytes(MIB - len(FILE))])
    assert answered(wire)[0] == 413
    assert peak_memory(process) < before * 1.2
    assert [path for path in uploads.rglob("*") if path.is_file()] == stored


def test_who_hangs_up_in_the_middle_leaves_nothing(server):
    connect, uploads, _ = server
    for body in (FILE + b"print()", FILE + bytes(3 * MIB)):
        wire = connect(FORM, f"Content-Length: {len(body) + 1000}").send(body)
        wire.socket.shutdown(socket.SHUT_WR)
        status, answer = answered(wire)
        assert (status, "truncated" in answer) == (400, True)
        assert_nothing_left(uploads)
        # Gone altogether, with its bytes still in the air.
        wire = connect(FORM, f"Content-Length: {len(body) + 1000}").send(body)
        wire.file.close()
        wire.socket.close()
    assert answered(connect(FORM, length(GOOD)).send(GOOD))[0] == 201
    wait_until_nothing_comes_in(uploads)


ZIP_FILE = FILE.replace(b"main.py", b"code.zip")


def zip_of_noise(size):
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("main.py", "print()")
        archive.writestr("weights.bin", os.urandom(size))
    return packed.getvalue()


def test_a_large_archive_that_comes_slowly_is_taken_in_flat_memory(server):
    connect, uploads, process = server
    for size, is_counted in ((3 * MIB, False), (7 * MIB, True)):
        content = zip_of_noise(size)
        body = ZIP_FILE + content + END
        before = peak_memory(process)
        wire = connect(FORM, length(body))
        for start in range(0, len(body), 300_000):
            wire.socket.sendall(body[start : start + 300_000])
            time.sleep(0.01)
        assert answered(wire)[0] == 201
        newest = Submission.objects.latest("created_at")
        assert (uploads / newest.object_name).read_bytes() == content
        assert not is_counted or peak_memory(process) < before * 1.1
    wait_until_nothing_comes_in(uploads)


def test_an_archive_whose_sender_goes_away_or_sends_too_much_leaves_nothing(server):
    connect, uploads, _ = server
    content = zip_of_noise(3 * MIB)
    for sent in (ZIP_FILE, ZIP_FILE + content[:MIB], ZIP_FILE + content):
        wire = connect(FORM, f"Content-Length: {len(ZIP_FILE + content + END)}").send(sent)
        wire.socket.shutdown(socket.SHUT_WR)
        status, answer = answered(wire)
        assert (status, "truncated" in answer) == (400, True)
        assert_nothing_left(uploads)
        wire = connect(FORM, f"Content-Length: {len(ZIP_FILE + content + END)}").send(sent)
        wire.file.close()
        wire.socket.close()
    wire = connect(FORM, f"Content-Length: {MOST + MIB}")
    send_until_answered(wire, [ZIP_FILE, *[bytes(MIB)] * 8, bytes(MIB - len(ZIP_FILE))])
    assert answered(wire)[0] == 413
    assert answered(connect(FORM, length(GOOD)).send(GOOD))[0] == 201
    wait_until_nothing_comes_in(uploads)
    assert Submission.objects.count() == 1


def test_slow_bodies_do_not_keep_others_from_their_answers(server):
    """Fewer of them than there are threads for large bodies; tests/attacks/test_slow_clients.py sends more."""
    connect, uploads, _ = server
    slow = [connect(FORM, f"Content-Length: {3 * MIB}").send(FILE) for _ in range(3)]
    assert answered(connect(FORM, length(GOOD)).send(GOOD))[0] == 201
    stored = [path for path in uploads.rglob("*") if path.is_file() and "incoming" not in path.parts]
    assert len(stored) == 1
    for wire in slow:
        wire.socket.shutdown(socket.SHUT_WR)
        assert answered(wire)[0] == 400
    assert os.listdir(uploads / "incoming") == []


def part_of(head):
    return f"--{EDGE}\r\n{head}\r\n\r\n".encode() + b"x\r\n"


NAMED = 'Content-Disposition: form-data; name="files"; filename="{}"'
MANY = 5000
REFUSED = {
    "no boundary": (GOOD, "Content-Type: multipart/form-data", 400),
    "another boundary": (GOOD, "Content-Type: multipart/form-data; boundary=other", 400),
    "boundary that is not ASCII": (GOOD, "Content-Type: multipart/form-data; boundary=\xe9", 400),
    "no type": (GOOD, "X-Else: 1", 415),
    "JSON": (b"{}", "Content-Type: application/json", 415),
    "another kind of parts": (GOOD, f"Content-Type: multipart/mixed; boundary={EDGE}", 415),
    "thousands of fields": (
        b"".join(part_of(f'Content-Disposition: form-data; name="f{n}"') for n in range(MANY)) + GOOD, FORM, 400
    ),
    "thousands of files": (b"".join(part_of(NAMED.format(f"{n}.py")) for n in range(MANY)) + GOOD, FORM, 400),
    "a part with a huge header": (part_of(NAMED.format("main.py") + "\r\nX: " + "x" * 3_000_000) + GOOD, FORM, 400),
    "a part with many headers": (part_of(NAMED.format("main.py") + "\r\nX: x" * 100_000) + GOOD, FORM, 400),
    "a file with a huge name": (part_of(NAMED.format("m" * 200_000)) + GOOD, FORM, 400),
    "packed": (GOOD, f"{FORM}\r\nContent-Encoding: gzip", 415),
    "packed twice": (GOOD, f"{FORM}\r\nContent-Encoding: gzip, br", 415),
    "NUL in a field": (part_of('Content-Disposition: form-data; name="entrypoint"')[:-3] + b"a\0.py\r\n" + GOOD, FORM, 400),
    "a field twice": (
        b"".join(part_of('Content-Disposition: form-data; name="metadata"') for _ in range(2)) + GOOD, FORM, 400
    ),
    "two lengths": (GOOD, f"{FORM}\r\nContent-Length: 5", 400),
    "length and chunks": (GOOD, f"{FORM}\r\n{CHUNKED}", 400),
}  # fmt: skip


def test_forms_that_are_none_are_4xx_and_leave_nothing(server):
    connect, uploads, _ = server
    found = {}
    for name, (body, kind, _) in REFUSED.items():
        wire = connect(kind, length(body))
        send_until_answered(wire, [body])
        found[name] = answered(wire)[0]
        assert_nothing_left(uploads)
    assert found == {name: status for name, (_, _, status) in REFUSED.items()}
    assert settings.DATA_UPLOAD_MAX_NUMBER_FIELDS < MANY
