"""A board with a scorer and hidden labels, and runs on it."""

from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from jobs import claiming, running
from jobs.inventory import Inventory
from jobs.models import Job
from jobs.running import Runner
from jobs.tests.factories import JobFactory, WorkerFactory
from jobs.workspace import Workspace
from leaderboards.tests.factories import LeaderboardFactory

from .conftest import ATTACK, container

in_one_executor = pytest.mark.parametrize("executor", ["bubblewrap"], scope="session")

LABELS = {"1": "cat", "2": "dog", "3": "cat", "4": "dog"}
SECRET = "hidden-label-of-the-platform"
GOOD = """
from attack import *
os.makedirs(OUTPUT + "/predictions")
leave("predictions/predictions.csv", "id,label\\n1,cat\\n2,dog\\n3,cat\\n4,cat\\n")
"""


class NoPulse:
    """Or one that hands the job in hand to the test."""

    held: Any = None

    def hold(self, held: object) -> None:
        self.held = held or self.held


class Play:
    """A board with a scorer, and runs on it."""

    def __init__(self, executor: str, settings: Any, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder, self.executor, self.pulse = folder, executor, NoPulse()
        settings.EXECUTOR = executor
        if executor == "container":
            settings.CONTAINER_ENGINE, settings.CONTAINER_IMAGE = container().engine, container().image
            settings.CONTAINER_ENGINE_OPTIONS = list(container().options)
        self.truth, self.data, self.scorers = (folder / name for name in ("truth", "data", "scorers"))
        settings.GROUND_TRUTH_ROOT, settings.DATASET_ROOT, settings.SCORER_ROOT = self.truth, self.data, self.scorers
        for name in (self.truth / "pets", self.data / "pets", self.scorers):
            name.mkdir(parents=True)
        self.truth.chmod(0o700)
        rows = [f"{name},{label}\n" for name, label in LABELS.items()]
        (self.truth / "pets" / "labels.csv").write_text("id,label\n" + "".join(rows))
        (self.truth / "pets" / "note").write_text(SECRET)
        (self.data / "pets" / "images").write_text("what all may see")
        self.code = ""
        monkeypatch.setattr(running, "workspace", self._workspace)
        self.board = LeaderboardFactory(
            dataset="pets", scorer="classification", ground_truth="pets", metrics=[{"name": "accuracy"}]
        )

    @contextmanager
    def _workspace(self, job: Job, made: Path | None, remove: Callable[[Path], object]):
        folder = made or self.folder / f"work-{job.pk}-{job.attempt}"
        for name in ("code", "run"):
            (folder / name).mkdir(mode=0o700, parents=True, exist_ok=True)
        (folder / "code" / "main.py").write_text(self.code)
        (folder / "code" / "attack.py").write_text(ATTACK)
        (folder / "config.yaml").write_text("")
        yield Workspace(folder, folder / "code", folder / "config.yaml")

    def own_scorer(self, code: str) -> None:
        (self.scorers / "ours").mkdir()
        (self.scorers / "ours" / "main.py").write_text("from own import *\n" + code)
        (self.scorers / "ours" / "own.py").write_text(ATTACK)
        self.board.scorer = "own/ours"
        self.board.save(update_fields=["scorer"])

    def settle(self) -> None:
        """Have the board's score version be what its scorer and labels are at first."""
        if self.board.is_scored and self.board.score_version is None:
            inventory = Inventory(WorkerFactory().pk)
            inventory.refresh()
            self.board.refresh_from_db()

    def run(self, code: str, *, job: Job | None = None, runner: Runner | None = None) -> Job:
        self.code = code
        job = job or JobFactory(leaderboard=self.board, config={"from": "the submission"})
        runner = runner or Runner(self.pulse)
        self.settle()
        try:
            runner.run(claiming.claim(job.pk, worker_id=WorkerFactory().pk, worker_name="w"))
        finally:
            runner.close()
        job.refresh_from_db()
        return job
