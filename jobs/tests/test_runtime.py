"""What a run gets: read from the environment, announced by workers, kept with each attempt, shown to participants."""

import os

import pytest
from django.utils import timezone

from accounts.tests.factories import UserFactory
from jobs import claiming, runner_environments
from jobs.inventory import Inventory
from jobs.models import JobAttempt, RunnerEnvironment
from jobs.runner_environments import RunnerEnvironments, store
from jobs.runtime import runtime_of, runtimes
from jobs.tests.factories import JobFactory, WorkerFactory
from leaderboards.tests.factories import LeaderboardFactory

pytestmark = pytest.mark.django_db
CARD = {"index": 3, "uuid": "GPU-secret", "name": "NVIDIA H200", "memory_total_bytes": 2**37, "utilization": 0.0}
PACKAGES = [("numpy", "2.1.0"), ("opencv-python-headless", "4.10"), ("torch", "2.6.0"), ("zipp", "3.1")]


@pytest.fixture
def environment(settings, tmp_path):
    """An environment whose Python tells what `told` has, and counts how often it was asked."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "lib/python3.11/site-packages").mkdir(parents=True)
    python = tmp_path / "bin/python"
    python.write_text(f"#!/bin/sh\necho asked >> {tmp_path}/asked\ncat {tmp_path}/told\n")
    python.chmod(0o755)
    (tmp_path / "told").write_text('{"python": "3.11.9", "packages": [["zipp", "3.1"], ["torch", "2.6.0"]]}')
    settings.RUNNER_PYTHON = str(python)
    return tmp_path


def upgrade(environment):
    (environment / "told").write_text('{"python": "3.11.9", "packages": [["zipp", "3.1"], ["torch", "2.7.0"]]}')
    os.utime(environment / "lib/python3.11/site-packages", (1, 1))


def claim(row, inventory, **options):
    return claiming.claim_next(
        worker_id=row.pk, worker_name="w", resource_classes=["small"], boards=inventory.boards,
        environments=inventory.environments.ids(), **options,
    )  # fmt: skip


def test_the_packages_of_the_runner_environment_are_read():
    python, packages = runner_environments.read()
    assert python.startswith("3.") and "numpy" in dict(packages)
    assert [name.lower() for name, _ in packages] == sorted(name.lower() for name, _ in packages)


def test_an_environment_is_read_once_and_again_when_it_changed(environment):
    known = RunnerEnvironments()
    for _ in range(3):
        known.look([""])
    assert (environment / "asked").read_text().count("asked") == 1
    assert known.digests() == {"": RunnerEnvironment.objects.get().digest}
    upgrade(environment)
    assert known.ids() == {"": RunnerEnvironment.objects.latest("pk").pk}
    assert [row.packages for row in RunnerEnvironment.objects.order_by("pk")] == [
        [["torch", "2.6.0"], ["zipp", "3.1"]],
        [["torch", "2.7.0"], ["zipp", "3.1"]],
    ]
    (environment / ".half-made").touch()
    os.utime(environment / "lib/python3.11/site-packages", (2, 2))
    assert known.ids() == {"": RunnerEnvironment.objects.latest("pk").pk}


def test_an_environment_that_cannot_be_read_is_not_asked_over_and_over(environment):
    (environment / "told").write_text("[]")
    known = RunnerEnvironments()
    known.look([""])
    known.look([""])
    assert (known.digests(), (environment / "asked").read_text().count("asked")) == ({}, 1)


def test_a_run_keeps_what_it_got_when_its_worker_is_upgraded(environment, client):
    job = JobFactory()
    row = WorkerFactory(state="idle", resource_classes=["small"])
    inventory = Inventory(row.pk)
    inventory.refresh()
    row.refresh_from_db()
    assert row.inventory["environments"] == inventory.environments.digests()
    assert claim(row, inventory, gpus=[CARD]) == job
    upgrade(environment)
    inventory.refresh()
    job.refresh_from_db()
    got = runtime_of(job)
    assert (got.python, got.packages) == ("3.11.9", [("torch", "2.6.0"), ("zipp", "3.1")])
    assert got.gpus == [{"name": "NVIDIA H200", "memory_bytes": 2**37}]
    client.force_login(job.user)
    page = client.get(job.get_absolute_url()).content.decode()
    assert "2.6.0" in page and "NVIDIA H200" in page and "4 GiB" in page
    assert "GPU-secret" not in page and str(environment) not in page
    assert "2.6.0" in client.get(f"/jobs/{job.pk}/runtime/").content.decode()


def test_a_board_with_an_image_records_the_images_environment():
    job = JobFactory(leaderboard=LeaderboardFactory(image="localhost/x:1"))
    other, image = store("3.10.1", []), store("3.12.1", [])
    row = WorkerFactory(state="idle", resource_classes=["small"], inventory={"images": ["localhost/x:1"]})
    ids = {"": other.pk, "localhost/x:1": image.pk}
    assert claiming.claim_next(worker_id=row.pk, worker_name="w", resource_classes=["small"], environments=ids) == job
    assert JobAttempt.objects.get(job=job).environment == image


def test_a_job_of_an_earlier_version_says_not_recorded(client):
    job = JobFactory(status="completed")
    JobAttempt.objects.create(job=job, number=1, worker_name="w")
    client.force_login(job.user)
    assert "Not recorded" in client.get(job.get_absolute_url()).content.decode()


@pytest.mark.parametrize(
    ("status", "started_at", "told"),
    [
        ("pending", None, "It is recorded when the run starts."),
        ("cancelled", None, "The job never started."),
        ("failed", timezone.now(), "Not recorded: the job ran before the site kept this."),
    ],
)
def test_the_job_page_says_why_nothing_is_recorded(client, status, started_at, told):
    job = JobFactory(status=status, started_at=started_at)
    client.force_login(job.user)
    assert told in client.get(job.get_absolute_url()).text


def test_notable_packages_come_first():
    JobFactory()
    board = LeaderboardFactory()
    row = WorkerFactory(
        state="idle", resource_classes=["small"], inventory={"environments": {"": store("3.11.9", PACKAGES).digest}}
    )
    [runtime] = runtimes([board], [row])
    assert [name for name, _ in runtime.notable] == ["torch", "numpy", "opencv-python-headless"]


def two_workers():
    for name, version in (("one", "2.6.0"), ("two", "2.7.0")):
        digest = store("3.11.9", [("torch", version)]).digest
        WorkerFactory(
            name=name, hostname="secret-host", state="idle", resource_classes=["small"],
            inventory={"environments": {"": digest}},
        )  # fmt: skip


def test_the_submit_page_says_when_workers_differ(client, django_assert_max_num_queries):
    board = LeaderboardFactory(title="Bricks")
    two_workers()
    client.force_login(UserFactory())
    with django_assert_max_num_queries(40):
        page = client.get("/submit/").content.decode()
    assert "2.6.0" in page and "2.7.0" in page
    assert f"The workers for “{board.title}” differ" in page
    assert "secret-host" not in page


def test_the_api_tells_what_a_board_gets(client):
    LeaderboardFactory(slug="bricks")
    two_workers()
    client.force_login(UserFactory())
    assert client.get("/api/leaderboards/bricks/runtime").status_code == 401
