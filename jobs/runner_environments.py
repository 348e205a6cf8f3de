"""The Python environments of a worker's runs: read from what is installed, stored once by digest (models.RunnerEnvironment).

An environment is read again when its folder changed; a container image, when its id changed. Packages are not imported:
their metadata alone is read.
"""

import hashlib
import json
import logging
import subprocess
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from django.conf import settings

from core.environments import STAMP, is_half_made
from jobs.execution import engine
from jobs.models import RunnerEnvironment
from jobs.sandbox import container

logger = logging.getLogger(__name__)

READ_SECONDS = 30.0
MOST_PACKAGES = 5000
_PROGRAM = """
import importlib.metadata, json, platform
found = {}
for each in importlib.metadata.distributions():
    name = each.metadata["Name"]
    if name:
        found.setdefault(name, each.version or "")
print(json.dumps({"python": platform.python_version(), "packages": list(found.items())}))
"""


@dataclass(frozen=True)
class _Known:
    fingerprint: object
    id: int
    digest: str


class RunnerEnvironments:
    """The environments of one worker by image ("" is the default), each read once and again after a change."""

    def __init__(self, image_id: Callable[[str], str | None] = lambda image: None) -> None:
        self._image_id = image_id
        self._known: dict[str, _Known] = {}
        self._failed: dict[str, object] = {}

    def look(self, images: Iterable[str]) -> None:
        """Read what is new or has changed. Takes a second where an image must be started."""
        for image in images:
            fingerprint = self._fingerprint(image)
            known = self._known.get(image)
            if fingerprint is None or (known is not None and known.fingerprint == fingerprint):
                continue
            if self._failed.get(image) == fingerprint:
                continue
            self._known.pop(image, None)
            try:
                row = store(*read(image))
            except (OSError, subprocess.SubprocessError, ValueError, KeyError, TypeError) as error:
                logger.warning("the Python environment of %s could not be read: %s", image or "runs", error)
                self._failed[image] = fingerprint
                continue
            if fingerprint == self._fingerprint(image):  # else it changed meanwhile: the next look reads it again
                self._known[image] = _Known(fingerprint, row.pk, row.digest)

    def has_changed(self) -> bool:
        """Tell whether an environment is to be read again before the next run, which takes a moment."""
        if settings.EXECUTOR == "container":
            return False
        return any(known.fingerprint != self._fingerprint(image) for image, known in self._known.items())

    def digests(self) -> dict[str, str]:
        """Image -> digest, to announce."""
        return {image: known.digest for image, known in self._known.items()}

    def ids(self) -> dict[str, int]:
        """Image -> id of the stored environment, to record with a run. A folder that has changed is read again first."""
        if settings.EXECUTOR != "container":
            self.look(list(self._known))
        return {image: known.id for image, known in self._known.items()}

    def _fingerprint(self, image: str) -> object:
        """Return what changes with the environment; None while it is not there or is being changed."""
        if settings.EXECUTOR == "container":
            return self._image_id(image)
        if image or is_half_made(settings.RUNNER_PYTHON):
            return None
        root = Path(settings.RUNNER_PYTHON).parent.parent
        marks = [Path(settings.RUNNER_PYTHON), root / STAMP, *sorted(root.glob("lib*/python3*/*-packages"))]
        return tuple((str(path), path.stat().st_mtime_ns) for path in marks if path.exists())


def read(image: str = "") -> tuple[str, list[tuple[str, str]]]:
    """Return the Python version and the installed packages of runs here, in this image or the default one."""
    inside = container(image)
    if inside is not None:
        answer = engine.run_python(inside, _PROGRAM)
    else:
        answer = subprocess.run(
            [settings.RUNNER_PYTHON, "-I", "-c", _PROGRAM], stdin=subprocess.DEVNULL, capture_output=True,
            text=True, errors="replace", timeout=READ_SECONDS, check=False,
        )  # fmt: skip
    if answer.returncode:
        raise OSError(answer.stderr.strip()[-300:] or f"exit code {answer.returncode}")
    told: dict[str, Any] = json.loads(answer.stdout)
    packages = [(str(name)[:100], str(version)[:60]) for name, version in told["packages"][:MOST_PACKAGES]]
    return str(told["python"])[:60], sorted(packages, key=lambda package: package[0].lower())


def store(python: str, packages: list[tuple[str, str]]) -> RunnerEnvironment:
    """Return the row of the environment, made when no worker has announced it before."""
    digest = hashlib.sha256(json.dumps([python, packages]).encode()).hexdigest()
    return RunnerEnvironment.objects.get_or_create(digest=digest, defaults={"python": python, "packages": packages})[0]
