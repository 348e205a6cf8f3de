"""The sandbox as the settings describe it: which executor, which image, and whether it is tight."""

import subprocess
from collections.abc import Iterable, Mapping
from typing import Any

from django.conf import settings

from jobs.execution import disk, engine
from jobs.execution.preflight import Findings, is_tight, probe
from jobs.execution.spec import Container, Limits
from jobs.execution.told import Told as _


class ImageUnusable(Exception):
    """The leaderboard's image cannot be used on this worker: the platform's fault."""


def container(image: str = "") -> Container | None:
    """How a container is made of the image, or of the default one; None where runs are not containers."""
    if settings.EXECUTOR != "container":
        return None
    return Container(
        engine=settings.CONTAINER_ENGINE,
        image=image or settings.CONTAINER_IMAGE,
        options=tuple(settings.CONTAINER_ENGINE_OPTIONS),
        python=settings.CONTAINER_PYTHON,
        gpu_option=settings.CONTAINER_GPU_OPTION,
    )


def probe_sandbox(image: str = "") -> Findings:
    """Try to break out of the sandbox that runs get here, in this image or the default one."""
    report = probe(
        settings.EXECUTOR, settings.RUNNER_PYTHON, sandbox_uid=settings.SANDBOX_UID, container=container(image)
    )
    # The probes' folders are small and in memory; those of runs need not be.
    for name in ("output", "tmp"):
        if name in report.limits_applied and any(
            _is_on_disk(name, limits) for limits in settings.RESOURCE_CLASSES.values()
        ):
            report.limits_applied[name] = disk.bound_below(settings.WORK_ROOT)
    return report


def _is_on_disk(name: str, limits: Mapping[str, Any]) -> bool:
    size: int = limits[f"{name}_bytes"]
    return size > limits.get("in_memory_bytes", Limits.in_memory_bytes)


def import_problem(modules: Iterable[str], image: str = "") -> str:
    """Why a run here, in this image or the default one, could not import these; empty when it can."""
    program = f"import {', '.join(modules)}"
    inside = container(image)
    try:
        if inside is not None:
            answer = engine.run_python(inside, program)
        else:
            answer = subprocess.run(
                [settings.RUNNER_PYTHON, "-I", "-c", program], stdin=subprocess.DEVNULL, capture_output=True,
                text=True, errors="replace", timeout=30, check=False,
            )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)[:300]
    said = answer.stderr.strip().splitlines() or [f"exit code {answer.returncode}"]
    return said[-1][:300] if answer.returncode else ""


class Images:
    """Which images this worker may use: those that its sandbox was seen to be tight with."""

    def __init__(self) -> None:
        # The worker started with the default one, so it was tried.
        self._proven = {settings.CONTAINER_IMAGE}

    def use(self, image: str) -> Container | None:
        """How a run of a leaderboard with this image ("" for none) is made. Raises ImageUnusable."""
        if image and settings.EXECUTOR != "container":
            raise ImageUnusable(
                _(
                    "The leaderboard's image %(image)s needs a worker with EXECUTOR=container; this one has %(executor)s.",
                    image=image,
                    executor=settings.EXECUTOR,
                )
            )
        if image and image not in self._proven:
            found = probe_sandbox(image)
            if not is_tight(found):
                first = next(one for one in found if not one.contained)
                why = f"{first.what}: {first.how}"
                raise ImageUnusable(
                    _("The leaderboard's image %(image)s cannot be used: %(why)s", image=image, why=why)
                )
            self._proven.add(image)
        return container(image)
