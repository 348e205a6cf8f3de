"""Leaderboards with a container image: which worker takes their jobs, and what becomes of one that cannot."""

from contextlib import contextmanager

import pytest
from django.core.exceptions import ValidationError
from django.core.management import CommandError, call_command
from django.utils import timezone

from jobs import claiming, running, sandbox
from jobs.board_needs import IMAGE as IMAGE_LACKS
from jobs.board_needs import REASONS
from jobs.execution.preflight import Probe
from jobs.models import Job, Worker
from jobs.running import STORAGE_DELAYS, Runner
from jobs.tests.factories import JobFactory, WorkerFactory
from jobs.tests.test_running import NoPulse
from jobs.waiting import waiting
from jobs.workspace import Workspace
from leaderboards.models import Leaderboard, image_name
from leaderboards.tests.factories import LeaderboardFactory

pytestmark = pytest.mark.django_db
IMAGE = "localhost/board:1"


def claim_next(*, images: list[str]) -> Job | None:
    worker = WorkerFactory(inventory={"images": images})
    return claiming.claim_next(worker_id=worker.pk, worker_name="w", resource_classes=["small"])


def test_only_a_worker_with_the_image_takes_a_job_that_needs_one():
    job = JobFactory(leaderboard=LeaderboardFactory(image=IMAGE))
    assert claim_next(images=[]) is None
    assert claim_next(images=["localhost/other:1"]) is None
    assert claim_next(images=[IMAGE]) == job


def test_job_that_needs_an_image_does_not_hold_up_its_persons_others():
    first = JobFactory(leaderboard=LeaderboardFactory(image=IMAGE))
    second = JobFactory(user=first.user)
    assert claim_next(images=[]) == second
    assert claim_next(images=[IMAGE]) == first


def test_worker_with_images_takes_other_jobs_too():
    assert claim_next(images=[IMAGE]) is None
    job = JobFactory()
    assert claim_next(images=[IMAGE]) == job


def test_job_says_that_it_waits_for_a_worker_with_the_image():
    job = JobFactory(leaderboard=LeaderboardFactory(image=IMAGE))
    WorkerFactory(state=Worker.State.IDLE, resource_classes=["small"], executor="container")
    told = waiting(job)
    assert told.reason == str(REASONS[IMAGE_LACKS])
    assert told.expected_start is None
    WorkerFactory(state=Worker.State.IDLE, resource_classes=["small"], inventory={"images": [IMAGE]})
    assert waiting(job).reason == "It is next."


def _run_until_final(runner: Runner, job: Job) -> Job:
    for _ in range(len(STORAGE_DELAYS) + 1):
        Job.objects.filter(pk=job.pk).update(available_at=timezone.now())
        runner.run(claiming.claim(job.pk, worker_id=WorkerFactory().pk, worker_name="w"))
        job.refresh_from_db()
    return job


@pytest.fixture
def files(monkeypatch, tmp_path):
    """A workspace with a program that must not run."""

    @contextmanager
    def place(job, folder, remove):
        folder = tmp_path / f"{job.pk}-{job.attempt}"
        for name in ("code", "run"):
            (folder / name).mkdir(parents=True)
        (folder / "code" / "main.py").write_text("print('it ran')")
        (folder / "config.yaml").write_text("")
        yield Workspace(folder, folder / "code", folder / "config.yaml")

    monkeypatch.setattr(running, "workspace", place)
    return tmp_path


def test_image_is_never_replaced_by_bubblewrap(files, settings):
    settings.EXECUTOR = "bubblewrap"
    job = _run_until_final(Runner(NoPulse()), JobFactory(leaderboard=LeaderboardFactory(image=IMAGE)))
    assert (job.status, job.error_code, job.is_platform_fault) == ("failed", "image_unusable", True)
    assert job.error_message == (
        "The leaderboard's image localhost/board:1 needs a worker with EXECUTOR=container; this one has bubblewrap."
    )
    assert not list(files.glob("*/run/log"))


def _found(is_contained: bool) -> list[Probe]:
    return [Probe("memory", "use more memory than allowed", is_contained, "no answer")]


def test_image_in_which_the_sandbox_is_open_is_not_used(files, settings, monkeypatch):
    settings.EXECUTOR = "container"
    monkeypatch.setattr(sandbox, "probe_sandbox", lambda image="": _found(False))
    job = _run_until_final(Runner(NoPulse()), JobFactory(leaderboard=LeaderboardFactory(image=IMAGE)))
    assert (job.status, job.error_code) == ("failed", "image_unusable")
    assert job.error_message == (
        "The leaderboard's image localhost/board:1 cannot be used: use more memory than allowed: no answer"
    )
    assert not list(files.glob("*/run/log"))


def test_image_is_tried_once_a_worker(settings, monkeypatch):
    settings.EXECUTOR = "container"
    tried = []
    monkeypatch.setattr(sandbox, "probe_sandbox", lambda image="": tried.append(image) or _found(True))
    images = sandbox.Images()
    made = [images.use(name).image for name in (IMAGE, "", IMAGE, "localhost/other:1")]
    assert made == [IMAGE, settings.CONTAINER_IMAGE, IMAGE, "localhost/other:1"]
    assert tried == [IMAGE, "localhost/other:1"]  # the default one was tried when the worker started


@pytest.mark.parametrize("name", ["x", "python:3.11-slim", "localhost/a/b_c:1", "r.example:5000/a@sha256:" + "0" * 64])
def test_names_of_images(name):
    image_name(name)


@pytest.mark.parametrize("name", ["-v", "--privileged", "a b", "../x", "/x", "A", "x:", "x@sha256:0", "x\n", "a//b"])
def test_what_is_no_name_of_an_image(name):
    with pytest.raises(ValidationError, match="The name of a container image"):
        Leaderboard._meta.get_field("image").clean(name, None)


def test_commands_refuse_what_the_settings_cannot_mean(settings):
    settings.EXECUTOR = "docker"
    with pytest.raises(CommandError, match="EXECUTOR: 'docker' is unknown; known: bubblewrap, container, unsafe-local"):
        call_command("worker", "--burst")
    settings.EXECUTOR = "bubblewrap"
    with pytest.raises(CommandError, match="--image needs EXECUTOR=container; this site has bubblewrap"):
        call_command("check_sandbox", "--image", IMAGE)
