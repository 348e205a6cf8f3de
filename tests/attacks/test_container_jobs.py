"""A job on a leaderboard with an image, through the real worker's code and a real container engine."""

from contextlib import contextmanager
from pathlib import Path

import pytest

from jobs import claiming, running
from jobs.running import Runner
from jobs.tests.factories import JobFactory, WorkerFactory
from jobs.workspace import Workspace
from leaderboards.models import Metric
from leaderboards.tests.factories import LeaderboardFactory

from .conftest import container

_PROGRAM = """
import json, os, sys
print("image:", sorted(os.listdir("/")), flush=True)
output = sys.argv[sys.argv.index("--output") + 1]
with open(output + "/metrics.json", "w") as file:
    json.dump({"params": {"python": sys.executable}, "metrics": {"image_auc": 0.75}}, file)
with open(output + "/note.txt", "w") as file:
    file.write("left in a container")
"""


class _NoPulse:
    def hold(self, held: object) -> None:
        pass


@pytest.mark.django_db
@pytest.mark.parametrize("executor", ["container"], scope="session")
@pytest.mark.parametrize(("image", "status"), [("", "completed"), ("localhost/there-is-no-such-image:1", "pending")])
def test_job_in_a_container(image: str, status: str, sandbox, settings, monkeypatch, tmp_path: Path) -> None:
    settings.EXECUTOR = "container"
    settings.CONTAINER_ENGINE = container().engine
    settings.CONTAINER_ENGINE_OPTIONS = list(container().options)
    # The image of the tests is the leaderboard's own; the default one of the site is another, so it is tried first.
    settings.CONTAINER_IMAGE = "localhost/default-image:1"
    board = LeaderboardFactory(image=image or container().image)
    assert [metric.name for metric in Metric.objects.filter(leaderboard=board)][:1] == ["image_auc"]

    @contextmanager
    def place(job, made, remove):
        for name in ("code", "run"):
            (tmp_path / name).mkdir(mode=0o700)
        (tmp_path / "code" / "main.py").write_text(_PROGRAM)
        (tmp_path / "config.yaml").write_text("")
        yield Workspace(tmp_path, tmp_path / "code", tmp_path / "config.yaml")

    monkeypatch.setattr(running, "workspace", place)
    job = JobFactory(leaderboard=board)
    runner = Runner(_NoPulse())
    try:
        runner.run(claiming.claim(job.pk, worker_id=WorkerFactory().pk, worker_name="w"))
    finally:
        runner.close()
    job.refresh_from_db()
    assert job.status == status, (job.error_code, job.error_message)
    if status == "completed":
        assert (job.score, job.isolation, job.params["python"]) == (0.75, "container", "/usr/bin/python3")
        assert [item["path"] for item in job.artifacts] == ["note.txt"]
        assert job.limits_applied["network"] == "namespace"
