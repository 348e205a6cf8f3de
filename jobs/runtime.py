"""What a run gets: its Python environment, GPUs and limits, as the submit page, the job page and the API show it.

A board's is read from the live workers that can run its jobs; a run's was kept with its attempt. No host, path, label or
scorer is part of either.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from django.conf import settings

from jobs.board_needs import missing
from jobs.models import Job, JobAttempt, RunnerEnvironment, Worker
from leaderboards.models import Leaderboard

# The packages that most people look for, in the order in which they are shown.
NOTABLE = ("torch", "torchvision", "anomalib", "lightning", "numpy", "opencv", "timm", "scikit-learn")
_LIMITS = ("cpus", "memory_bytes", "wall_seconds", "processes", "output_bytes", "output_inodes", "tmp_bytes")
Package = tuple[str, str]


@dataclass(frozen=True)
class Runtime:
    """One environment with its GPUs, and the resource classes and leaderboards that it serves."""

    python: str = ""
    packages: Sequence[Package] = ()
    gpus: Sequence[Mapping[str, Any]] = ()
    resource_classes: tuple[str, ...] = ()
    limits: Mapping[str, Any] = field(default_factory=dict)
    boards: tuple[Leaderboard, ...] = ()

    @property
    def is_recorded(self) -> bool:
        return bool(self.python)

    @property
    def notable(self) -> list[Package]:
        """The packages that are shown first, where they are installed."""
        place = {name: number for number, name in enumerate(NOTABLE)}
        found = [(place[short], package) for package in self.packages if (short := _short(package[0])) in place]
        return [package for _number, package in sorted(found)]

    @property
    def board_slugs(self) -> list[str]:
        return [board.slug for board in self.boards]


def _short(name: str) -> str:
    """Return the name by which a package is notable: every build of OpenCV is `opencv`."""
    plain = name.lower().replace("_", "-")
    return "opencv" if plain.startswith("opencv-") else "lightning" if plain == "pytorch-lightning" else plain


def class_limits(resource_class: str) -> dict[str, Any]:
    """Return what the class allows that participants are told."""
    limits = settings.RESOURCE_CLASSES.get(resource_class, {})
    return {name: limits.get(name) for name in _LIMITS}


def shown_gpus(gpus: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return model and memory of each GPU, without what tells it from another of its kind."""
    return [{"name": gpu.get("name", ""), "memory_bytes": gpu.get("memory_total_bytes")} for gpu in gpus]


def provided(resource_class: str, gpus: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Return what is kept with an attempt besides its environment."""
    return {"limits": class_limits(resource_class), "gpus": shown_gpus(gpus)}


def runtime_of(job: Job) -> Runtime | None:
    """Return what the job's latest attempt got; None before the first one."""
    attempt = JobAttempt.objects.filter(job=job, number=job.attempt).select_related("environment").first()
    if attempt is None:
        return None
    environment = attempt.environment
    return Runtime(
        python=environment.python if environment else "",
        packages=_pairs(environment),
        gpus=attempt.provided.get("gpus", ()),
        resource_classes=(job.resource_class,),
        limits=attempt.provided.get("limits", {}),
    )


def runtimes(boards: Sequence[Leaderboard], workers: Sequence[Worker]) -> list[Runtime]:
    """Return what runs of the boards get on the live workers that can run them, one for each difference.

    The boards come with what `board_needs.missing` reads of them.
    """
    served: dict[tuple[str, str], dict[str, Any]] = {}
    for worker in workers:
        digests = worker.inventory.get("environments", {})
        gpus = shown_gpus(worker.gpus)
        for board in boards:
            if missing(board, worker.inventory):
                continue
            key = (digests.get(board.image, ""), repr(gpus))
            group = served.setdefault(key, {"gpus": gpus, "classes": {}, "boards": {}})
            group["classes"].update(dict.fromkeys(worker.resource_classes))
            group["boards"][board.pk] = board
    rows = {row.digest: row for row in RunnerEnvironment.objects.filter(digest__in={key[0] for key in served})}
    return [_runtime(rows.get(digest), group) for (digest, _gpus), group in served.items()]


def _runtime(environment: RunnerEnvironment | None, group: Mapping[str, Any]) -> Runtime:
    return Runtime(
        python=environment.python if environment else "",
        packages=_pairs(environment),
        gpus=group["gpus"],
        resource_classes=tuple(name for name in settings.RESOURCE_CLASSES if name in group["classes"]),
        boards=tuple(group["boards"].values()),
    )


def _pairs(environment: RunnerEnvironment | None) -> list[Package]:
    return [(name, version) for name, version in environment.packages] if environment else []


def as_json(runtime: Runtime) -> dict[str, Any]:
    """Return the environment and GPUs as the API shows them; null stands for what is not recorded."""
    return {
        "python": runtime.python or None,
        "packages": dict(runtime.packages) if runtime.is_recorded else None,
        "gpus": list(runtime.gpus),
    }
