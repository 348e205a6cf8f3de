"""Files under awkward names, from the run that leaves them to every place where people get them."""

import hashlib
import struct
import unicodedata
import zlib
from urllib.parse import quote, unquote

import pytest
from django.core.files.storage import storages
from django.test import Client

from accounts.services import create_token
from jobs import retention, tracking
from jobs.mlflow_names import artifact_names
from jobs.models import Job, TrackingOutbox
from leaderboards.models import Leaderboard
from tests.attacks.playing import Play, in_one_executor

pytestmark = [pytest.mark.django_db, in_one_executor]

# Each file holds the name under which it is kept.
NAMES = [
    "結果（最終）.png", "学習・曲線.csv", "loss curve #1.png", "top-1%.txt", "100%25.txt", "%2e%2e", "patient's map.txt",
    "a&b=c?d;e.txt", "🚀 run.txt", ".hidden", "-rf", "=cmd()", "@x", "<script>", 'a"b', "...", " ", "trailing. ", "CON",
    "全角　空白.txt", "re\u0301sume\u0301.txt", "line\u2028end", "图" * 85, "C:/x", "file:/x", "~/x", "a#b/c", "a_b/c", "a%b/c",
    "d/" * 31 + "深い #.txt",
]  # fmt: skip
LEAVE = f"""
from attack import *
import unicodedata
for name in {NAMES!r}:
    os.makedirs(os.path.dirname(OUTPUT + "/" + name), exist_ok=True)
    leave(name, unicodedata.normalize("NFC", name))
leave("\\u202egnp.exe", "x")
leave_metrics(accuracy=1.0)
print("no newline", end="")
"""


def same(content: bytes, path: str) -> bool:
    return content.decode() == path


def check_stored(job: Job, told: str) -> None:
    """The artifacts and the log in the storage are what the run left."""
    for item in job.artifacts:
        with storages["artifacts"].open(item["name"]) as stored:
            content = stored.read()
        assert same(content, item["path"]) and hashlib.sha256(content).hexdigest() == item["sha256"]
    with storages["artifacts"].open(job.log_name) as stored:
        log = stored.read()
    assert log.decode() == f"no newline\nLeadersBoard: {told}\n"
    assert job.log_bytes == len(log)


def test_awkward_names_reach_everyone(play: Play, mlflow_url: str) -> None:
    Leaderboard.objects.filter(pk=play.board.pk).update(scorer="", ground_truth="")
    play.board.refresh_from_db()
    job = play.run(LEAVE)
    assert (job.status, job.error_message) == ("completed", "")
    paths = [item["path"] for item in job.artifacts]
    assert sorted(paths) == sorted(unicodedata.normalize("NFC", name) for name in NAMES)
    told = "\\u202egnp.exe was left out: a control, invisible or private-use character in its name (U+202E)."
    assert job.notes_in_words == [told]

    check_stored(job, told)
    api = Client(headers={"Authorization": f"Bearer {create_token(job.user, name='t')[1]}"})
    assert api.get(f"/api/jobs/{job.pk}").json()["notes"] == [told]
    pages = Client()
    pages.force_login(job.user)
    for path in paths:
        for client, address in (
            (api, f"/api/jobs/{job.pk}/artifacts/"),
            (pages, f"/jobs/{job.pk}/artifacts/"),
        ):
            answer = client.get(address + quote(path))
            assert answer.status_code == 200 and same(answer.getvalue(), path), (address, path)
            disposition = answer.headers["Content-Disposition"]
            _, star, exact = disposition.partition("filename*=UTF-8''")
            name = unquote(exact) if star else disposition.partition('filename="')[2][:-1]
            assert name == path.rpartition("/")[2]
        assert pages.get(f"/jobs/{job.pk}/view/{quote(path)}").status_code == 200, path
    text = pages.get(f"/jobs/{job.pk}/artifacts/").text + pages.get(f"/jobs/{job.pk}/").text
    assert "<script>&" not in text and "&lt;script&gt;" in text
    assert 'artifacts/%20" download>␣</a>' in text
    assert "loss%20curve%20%231.png" in text and "100%2525.txt" in text and "%252e%252e" in text

    TrackingOutbox.objects.get_or_create(job=job)
    assert tracking.publish_due() == (1, 0), TrackingOutbox.objects.values("last_error")
    job = Job.objects.get(pk=job.pk)
    for path, name in artifact_names(paths).items():
        answer = pages.get("/mlflow/get-artifact", {"run_id": job.run_id, "path": name})
        assert answer.status_code == 200 and same(b"".join(answer.streaming_content), path), (path, name)

    storage = storages["artifacts"]
    assert all(storage.exists(item["name"]) for item in job.artifacts)
    retention._delete_files(job)
    assert not any(storage.exists(item["name"]) for item in job.artifacts)


IMAGES = ["図（１） #1.png", "top-1%.jpg", "cafe\u0301's & co.png", "🚀.png"]


def grey_png(rows: list[bytes]) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", len(rows[0]), len(rows), 8, 0, 0, 0, 0)
    pixels = zlib.compress(b"".join(b"\0" + row for row in rows))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


@pytest.fixture
def pixel_board(play: Play) -> Play:
    """A board with pixel metrics whose images have the names that people gave them; two of four are defective."""
    truth = play.truth / "cat"
    truth.mkdir()
    (truth / "mask.png").write_bytes(grey_png([b"\0" * 4, b"\xff" * 4] * 2))
    rows = [f"cat/test/{name},{number % 2},{'mask.png' * (number % 2)},4,4" for number, name in enumerate(IMAGES)]
    (truth / "labels.csv").write_text("\n".join(["image,defect,mask,height,width", *rows]))
    play.board.metrics.all().delete()
    for position, name in enumerate(("image_auc", "pixel_auc")):
        play.board.metrics.create(name=name, position=position)
    Leaderboard.objects.filter(pk=play.board.pk).update(scorer="anomaly_detection", ground_truth="cat")
    play.board.refresh_from_db()
    return play


def predicting(more: str = "") -> str:
    level = grey_png([b"\1" * 4, b"\2" * 4] * 2)
    return f"""
from attack import *
P = OUTPUT + "/predictions/"
os.makedirs(P + "maps/cat/test")
rows = []
for number, name in enumerate({IMAGES!r}):
    rows.append(f"cat/test/{{name}},{{number % 2}}\\n")
    with open(P + "maps/cat/test/" + name.rpartition(".")[0] + ".png", "wb") as file:
        file.write({level!r})
leave("predictions/predictions.csv", "image,score\\n" + "".join(rows))
{more}
"""


def test_board_whose_images_have_such_names_can_be_entered(pixel_board: Play) -> None:
    job = pixel_board.run(predicting("os.symlink('/etc/passwd', P + 'link'); leave('predictions/.DS_Store', 'x')"))
    assert (job.status, job.error_message) == ("completed", "")
    assert job.score == 1.0 and job.metrics["pixel_auc"] > 0.5
    assert job.notes_in_words == ["predictions/link was left out: not a regular file."]


def test_refusal_of_a_missing_map_says_that_it_was_left_out(pixel_board: Play) -> None:
    place = "cat/test/図（１） #1.png"
    job = pixel_board.run(predicting(f"os.remove(P + 'maps/{place}'); os.symlink('/etc/passwd', P + 'maps/{place}')"))
    left_out = f"predictions/maps/{place} was left out: not a regular file."
    assert (job.status, job.error_code) == ("failed", "bad_predictions")
    assert job.error_message == (
        f"1 of 4 maps are missing, and this leaderboard measures pixels: 'predictions/maps/{place}' ({left_out})"
    )
    kept = "The output files of this run (1) were not kept: only a completed run keeps them."
    assert job.notes_in_words == [left_out, kept]
