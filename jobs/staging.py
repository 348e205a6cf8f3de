"""What stands ready before the next job comes: a supervisor, and where sandboxes are bubblewrap's the sandbox itself.

A run's folders are made first and shown to a sandbox that is like the last one; bwrap waits there for the word. When the job is
claimed its files are put into those folders, and the program begins at once. A job that needs anything else, another
limit, another entrypoint, gets a sandbox of its own as if nothing had been staged.
"""

import logging
import os
from dataclasses import replace
from pathlib import Path

from django.conf import settings

from jobs.execution import bubblewrap, disk
from jobs.execution.client import Nursery, Supervisor
from jobs.execution.spec import Limits, RunSpec
from jobs.gpus import HeldGpus
from jobs.workspace import make_folder

logger = logging.getLogger(__name__)


class Staging:
    """The supervisors of one worker, the next of them with its sandbox made. Only for its main thread."""

    def __init__(self, like: RunSpec) -> None:
        self._nursery = Nursery()
        self._like = like
        self._supervisor: Supervisor | None = None
        self._folder: Path | None = None

    def prepare(self) -> None:
        """Have the next run's sandbox on its way; it becomes ready beside what the worker does meanwhile."""
        if self._supervisor is None:
            self._supervisor = self._nursery.supervisor()
            self._stage(self._supervisor)

    def _stage(self, supervisor: Supervisor) -> None:
        if self._like.executor != "bubblewrap":
            return
        try:
            self._folder = make_folder("next")
            supervisor.stage(_placed(self._like, self._folder))
        except OSError as error:
            logger.warning("nothing could be made ready ahead: %s", error)

    def take_folder(self) -> Path | None:
        """The folder that the staged sandbox shows; from now on it is the taker's to remove."""
        folder, self._folder = self._folder, None
        return folder

    def take(self, spec: RunSpec) -> Supervisor:
        """A supervisor for the run: with its sandbox made when it fits, else a new one."""
        if self._folder is not None or spec.folders:
            # What is staged has folders of its own, of which none was taken: it is another run's. And no sandbox with a
            # scorer's folders, hidden labels among them, is ever made ahead.
            return self._nursery.supervisor()
        self.prepare()
        self._like = spec
        supervisor, self._supervisor = self._supervisor, None
        assert supervisor is not None
        if supervisor.spec is None and supervisor.result is None:
            return supervisor
        if supervisor.has_staged(spec):
            if os.geteuid() == 0:
                # What the supervisor does for a run that it makes from its files: the user it steps down to must read them.
                bubblewrap.let_read(spec.code_dir)
                bubblewrap.let_read(spec.config_path)
            return supervisor
        supervisor.close()
        return self._nursery.supervisor()

    def close(self) -> None:
        if self._supervisor is not None:
            self._supervisor.close()
            self._supervisor = None
        if folder := self.take_folder():
            disk.remove(folder)
        self._nursery.close()


def usual_spec(executor: str, gpus: HeldGpus) -> RunSpec:
    """What most runs of this worker are like, before the first one has shown it."""
    return RunSpec(
        run_id="next",
        executor=executor,
        python=settings.RUNNER_PYTHON,
        code_dir="/",
        config_path="/",
        run_dir="/",
        limits=limits_of(next(iter(settings.RESOURCE_CLASSES))),
        gpus=gpus.minors,
        environment=gpus.environment(),
        sandbox_uid=settings.SANDBOX_UID,
    )


def limits_of(resource_class: str) -> Limits:
    limits = dict(settings.RESOURCE_CLASSES[resource_class])
    limits.setdefault("cpu_seconds", limits["wall_seconds"] * (limits.get("cpus") or 2) + 60)
    return Limits(**limits)


def _placed(spec: RunSpec, folder: Path) -> RunSpec:
    """The spec with the folders of the next run, the usual entrypoint (other ones are not expected to come twice) and
    read-only code: a copy is made of files that are there."""
    return replace(
        spec,
        run_id=folder.name,
        entrypoint="main.py",
        code_dir=str(folder / "code"),
        config_path=str(folder / "config.yaml"),
        run_dir=str(folder / "run"),
        fence_seconds=None,
        has_writable_code=False,
    )
