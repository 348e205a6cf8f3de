"""The client's commands beyond the plain submission, against a real server."""

import hashlib
import io
import json
import re

import pytest

from jobs.models import Job
from jobs.tests.factories import JobFactory
from leaderboard_site.client import Client, Refused, faults
from leaderboard_site.tests.test_submit import call, person  # noqa: F401
from leaderboards.tests.factories import LeaderboardFactory
from submissions.models import Submission

pytestmark = pytest.mark.django_db(transaction=True)


def test_what_is_uploaded_already_is_run_without_an_upload(call):  # noqa: F811
    call(*call.files, "--no-follow")
    submission = Submission.objects.get()
    code, out, err = call("--submission", submission.pk, "--trial", "--no-follow")
    job = Job.objects.latest("created_at")
    assert (code, out.strip(), job.submission_id, job.trial) == (faults.COMPLETED, str(job.pk), submission.pk, True), (
        err
    )
    for more in (["--name", "x"], ["--leaderboard", "textures"], [call.folder]):
        assert call("--submission", submission.pk, *more)[0] == faults.USAGE
    assert call("--submission", "7")[0] == faults.USAGE
    assert call("--submission", job.pk)[0] == faults.REFUSED
    assert (Submission.objects.count(), Job.objects.count()) == (1, 2)


def test_a_name_is_sent_as_the_submissions_own(call, monkeypatch):  # noqa: F811
    sent, submit = [], Client.submit

    def spy(self, files, **fields):
        sent.append(fields["name"])
        return {"name": "", **submit(self, files, **fields)} if len(sent) == 1 else {"submission_id": "x"}

    monkeypatch.setattr(Client, "submit", spy)
    assert "older" not in call(*call.files, "--name", "幅2倍", "--no-follow")[2]
    assert "This site is older and keeps no names" in call(*call.files, "--name", "b", "--no-follow")[2]
    assert sent == ["幅2倍", "b"]


def test_list_shows_ones_own_jobs_and_submissions_newest_first(call, person):  # noqa: F811
    boards = {slug: LeaderboardFactory(slug=slug) for slug in "ab"}
    rows = [("a", "completed"), ("a", "failed"), ("b", "completed")]
    jobs = [JobFactory(user=person, leaderboard=boards[slug], status=status) for slug, status in rows]
    JobFactory()  # another person's
    code, out, _ = call("list")
    assert (code, [line.split()[0] for line in out.splitlines()[1:]]) == (0, [str(job.pk) for job in reversed(jobs)])

    def shown(*arguments, kind="jobs"):
        return [row["leaderboard"] for row in json.loads(call("list", "--json", *arguments)[1])[kind]]

    assert shown("--leaderboard", "a", "--limit", "1") == ["a"] and shown("--status", "completed") == ["b", "a"]
    assert shown("--submissions", kind="submissions") == ["b", "a", "a"]
    assert [call("list", *words)[0] for words in (["--limit", "0"], ["--submissions", "--status", "failed"])] == [2, 2]


def test_results_downloads_artifacts_into_the_folder_alone(call, person, monkeypatch):  # noqa: F811
    content = {"maps/図 1.png": b"picture", "roc.csv": b"1,2"}
    artifacts = [
        {"path": path, "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest(), "name": path}
        for path, data in content.items()
    ]
    monkeypatch.setattr("jobs.api.open_artifact", lambda name: io.BytesIO(content[name]))
    job = JobFactory(user=person, status="completed", score=0.9, metrics={"image_auc": 0.9}, artifacts=artifacts)
    code, out, err = call("results", job.pk, "--download", call.folder / "out")
    assert (code, "image_auc" in out, "roc.csv" in out) == (faults.COMPLETED, True, True), err
    assert {path: (call.folder / "out" / path).read_bytes() for path in content} == content
    (call.folder / "out" / "roc.csv").write_text("mine")
    assert "--force" in call("results", job.pk, "--download", call.folder / "out")[2]
    assert call("results", job.pk, "--download", call.folder / "out", "--force")[0] == faults.COMPLETED
    assert sorted(path.name for path in (call.folder / "out").rglob("*")) == ["maps", "roc.csv", "図 1.png"]
    Job.objects.update(artifacts=[{**artifacts[1], "path": "../up.csv"}])
    code, _, err = call("results", job.pk, "--download", call.folder / "out")
    assert (code, "leave the folder" in err) == (faults.THIS_MACHINE, True)
    assert call("results", JobFactory(user=person).pk)[0] == faults.REFUSED  # it has not ended


def test_the_sites_own_sentences_come_in_the_readers_language(call, person):  # noqa: F811
    for token, path, words in [
        ("", "/api/auth/login", "パスワードが正しくありません"), ("lb_x", "/api/jobs", "トークンが無効か"),
        (call.token, "/api/jobs", "UUIDとして"),
    ]:  # fmt: skip
        with pytest.raises(Refused, match=words):
            body = {"username": "ada", "password": "x", "submission_id": "7"}
            Client(call.url, token, "ja").json("POST", path, body)
    ended = JobFactory(user=person, status="failed")
    for arguments in (["cancel", ended.pk], [call.folder / "config.yaml"], ["follow", JobFactory().pk]):
        code, out, err = call(*arguments, "--lang", "ja")
        assert code == faults.REFUSED and re.search("[ぁ-ん]", (out + err).partition("：")[2]), out + err
