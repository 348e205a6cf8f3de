"""Files under awkward names, from the run that leaves them to every place where people get them."""

import hashlib
import unicodedata
from urllib.parse import quote, unquote

import pytest
from django.core.files.storage import storages
from django.test import Client

from accounts.services import create_token
from jobs import retention, tracking
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


def test_awkward_names_reach_everyone(play: Play, mlflow_url: str) -> None:
    Leaderboard.objects.filter(pk=play.board.pk).update(scorer="", ground_truth="")
    play.board.refresh_from_db()
    job = play.run(LEAVE)
    assert (job.status, job.error_message) == ("completed", "")
    paths = [item["path"] for item in job.artifacts]
    assert sorted(paths) == sorted(unicodedata.normalize("NFC", name) for name in NAMES)
    told = "\\u202egnp.exe was left out: a control, invisible or private-use character in its name (U+202E)."
    assert job.notes_in_words == [told]

    for item in job.artifacts:  # stored
        with storages["artifacts"].open(item["name"]) as stored:
            content = stored.read()
        assert same(content, item["path"]) and hashlib.sha256(content).hexdigest() == item["sha256"]
    with storages["artifacts"].open(job.log_name) as stored:
        log = stored.read()
    assert log.decode() == f"no newline\nLeadersBoard: {told}\n"
    assert job.log_bytes == len(log)

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
    assert "loss%20curve%20%231.png" in text and "100%2525.txt" in text and "%252e%252e" in text

    TrackingOutbox.objects.get_or_create(job=job)
    assert tracking.publish_due() == (1, 0), TrackingOutbox.objects.values("last_error")
    job = Job.objects.get(pk=job.pk)
    for path, name in tracking.artifact_names(paths).items():
        answer = pages.get("/mlflow/get-artifact", {"run_id": job.run_id, "path": name})
        assert answer.status_code == 200 and same(b"".join(answer.streaming_content), path), (path, name)

    storage = storages["artifacts"]
    assert all(storage.exists(item["name"]) for item in job.artifacts)
    retention._delete_files(job)
    assert not any(storage.exists(item["name"]) for item in job.artifacts)
