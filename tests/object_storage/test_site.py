"""A site whose files lie on S3: from the upload to the download, by the pages, the API, a worker and retention."""

import hashlib
import zipfile
from datetime import timedelta
from io import BytesIO
from uuid import uuid4

import pytest
from api.conftest import Api, left_files, refusal
from django.core.files.base import ContentFile
from django.core.files.storage import storages
from django.utils import timezone
from recovery.site import Site, wait_for

from accounts.tests.factories import UserFactory
from jobs.retention import Pruned, prune_jobs
from jobs.tests.factories import JobFactory
from jobs.workspace import StorageDown, workspace
from submissions.models import Submission

pytestmark = pytest.mark.django_db


@pytest.fixture
def api(s3):
    return Api(UserFactory())


def zipped(**files):
    packed = BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return packed.getvalue()


def test_an_upload_is_stored_whole_and_unpacked_by_a_worker(api, s3):
    content = zipped(**{"main.py": b"print(1)\n", "config.yaml": b"seed: 3\n"})
    before = left_files()
    assert api.submit(("code.zip", content)).status_code == 201
    made = Submission.objects.get()
    assert s3.names() == {f"submissions/{made.object_name}"}
    assert (made.sha256, made.size_bytes) == (hashlib.sha256(content).hexdigest(), len(content))
    with workspace(JobFactory(submission=made)) as place:
        assert (place.code / "main.py").read_bytes() == b"print(1)\n"
    assert left_files() == before  # nothing of it stays on the web server's disk


def test_an_upload_beyond_the_quota_leaves_no_object(api, s3):
    type(api.user).objects.filter(pk=api.user.pk).update(submissions_per_hour=0)
    assert refusal(api.submit()) == (429, "hourly_limit")
    assert s3.names() == set()


def test_an_object_that_was_changed_is_not_run(api):
    api.submit()
    made = Submission.objects.get()
    storages["submissions"].save(made.object_name, ContentFile(b"something else"))
    with pytest.raises(StorageDown, match="SHA-256"), workspace(JobFactory(submission=made)):
        pass


def ended_job(user, **fields):
    prefix = f"results/{uuid4()}/1"
    artifacts = storages["artifacts"]
    log = artifacts.save(f"{prefix}/log.txt", ContentFile("一行目\n二行目\n".encode()))
    name = artifacts.save(f"{prefix}/artifacts/図/a.bin", ContentFile(b"x" * 300_000))
    items = [{"path": "図/a.bin", "name": name, "bytes": 300_000, "sha256": "0" * 64}]
    return JobFactory(user=user, status="completed", log_name=log, artifacts=items, **fields)


def test_logs_and_artifacts_are_handed_out(api, client):
    job = ended_job(api.user)
    answer = api.get(f"/api/jobs/{job.pk}/logs", {"offset": 10})
    assert (answer.status_code, answer.content.decode()) == (200, "二行目\n")
    answer = api.get(f"/api/jobs/{job.pk}/artifacts/図/a.bin")
    assert (answer.status_code, answer.headers["Content-Length"]) == (200, "300000")
    assert answer.getvalue() == b"x" * 300_000
    client.force_login(api.user)
    answer = client.get(f"/jobs/{job.pk}/artifacts/図/a.bin")
    assert (answer.status_code, len(answer.getvalue())) == (200, 300_000)


def test_an_artifact_that_is_gone_is_404_on_the_page(api, client):
    job = ended_job(api.user)
    storages["artifacts"].delete(job.artifacts[0]["name"])
    client.force_login(api.user)
    assert client.get(f"/jobs/{job.pk}/artifacts/図/a.bin").status_code == 404


def test_away_is_503_everywhere_and_nothing_was_stored(api, client, s3_away):
    job = ended_job(api.user)
    client.force_login(api.user)
    with s3_away():
        assert refusal(api.submit()) == (503, "storage_unavailable")
        assert Submission.objects.exclude(pk=job.submission_id).count() == 0
        for path in ("logs", "artifacts/図/a.bin"):
            assert refusal(api.get(f"/api/jobs/{job.pk}/{path}")) == (503, "storage_unavailable")
        assert client.get(f"/jobs/{job.pk}/artifacts/図/a.bin").status_code == 503
        page = client.get(f"/jobs/{job.pk}/")
        assert (page.status_code, "The log cannot be read just now." in page.content.decode()) == (200, True)
        ready = client.get("/readyz")
        assert (ready.status_code, ready.json()["storage"]) == (503, "down")
        with pytest.raises(StorageDown, match="cannot be read just now"), workspace(job):
            pass
    assert api.submit().status_code == 201
    assert client.get("/readyz").json()["storage"] == "ok"
    assert b"".join(client.get(f"/jobs/{job.pk}/artifacts/図/a.bin")) == b"x" * 300_000


def test_prune_takes_the_objects_too(api, s3):
    old = timezone.now() - timedelta(days=91)
    api.submit()
    made = Submission.objects.get()
    ended_job(api.user, submission=made, created_at=old, finished_at=old)
    Submission.objects.update(created_at=old)
    kept = ended_job(api.user)
    assert prune_jobs() == Pruned(1, 1)
    assert s3.names() == {f"artifacts/{kept.log_name}", f"artifacts/{kept.artifacts[0]['name']}"}


@pytest.mark.slow
def test_jobs_run_from_s3_and_outlive_it(s3, tmp_path):
    """Real processes with nothing in common but the addresses: each has folders of its own."""
    site = Site(tmp_path, with_mlflow=False, settings=s3.environment())
    try:
        site.start()
        site.web()
        site.reconciler()
        elsewhere = {name: str(tmp_path / "worker" / name) for name in ("UPLOAD_ROOT", "ARTIFACT_ROOT", "WORK_ROOT")}
        site.wait_ready(site.worker(**elsewhere, UPLOAD_TEMP_DIR=str(tmp_path / "worker" / "incoming")))
        first = site.submit()
        first.wait_final(seconds=30)
        assert (first.row()["status"], first.effects()) == ("completed", (1, 1, 1))
        second = site.submit(seconds=0, user="patient")
        s3.stop()
        try:
            wait_for(
                lambda: second.status == "completed" or second.row()["releases"], seconds=90, what="it is given back"
            )
        finally:
            s3.start()
            s3.wait()
        site.sql("UPDATE jobs_job SET available_at = now() WHERE status = 'pending'")
        second.wait_final(seconds=30)
        assert (second.row()["status"], second.row()["losses"]) == ("completed", 0)
        keys = s3.names()
        assert {f"artifacts/results/{job.id}/{job.row()['attempt']}/log.txt" for job in (first, second)} <= keys
        assert not [path for path in (tmp_path / "artifact_root").rglob("*") if path.is_file()]
    finally:
        site.stop()
