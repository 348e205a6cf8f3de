"""What a run is given and what it ended with: the two messages between the worker and the supervisor."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, ClassVar

from core.sizes import GIB, KIB, MIB
from jobs.execution.told import kept, retold

EXECUTORS = ("bubblewrap", "container", "unsafe-local")

_RUN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_FOLDER_NAME = re.compile(r"[a-z][a-z_]{0,30}")
_ENVIRONMENT_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,99}")
# Not the grammar of images (leaderboards.models has it), but nothing that could be an option or a path.
_IMAGE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@-]{0,254}")


class BadSpec(ValueError):
    """The worker asked for a run that cannot be meant: a programming or configuration error, never the user's."""


@dataclass(frozen=True)
class Limits:
    wall_seconds: float = 600.0
    # Of all processes together where a cgroup counts them, of each process otherwise.
    cpu_seconds: float = 1200.0
    cpus: float | None = None
    memory_bytes: int = 2 * GIB
    processes: int = 256
    open_files: int = 1024
    file_bytes: int = 512 * MIB
    output_bytes: int = 256 * MIB
    output_inodes: int = 5000
    tmp_bytes: int = 256 * MIB
    # A larger folder is on disk, below the run's; files of a smaller one are in memory and count against its limit.
    in_memory_bytes: int = 256 * MIB
    log_kept_bytes: int = 64 * KIB
    log_kill_bytes: int = 16 * MIB


@dataclass(frozen=True)
class Container:
    """How a container is made, for the executor of that name."""

    # podman or docker: a name on PATH or a path.
    engine: str
    image: str
    # The engine's own options, before `run`: --runtime, --root, --host.
    options: tuple[str, ...] = ()
    # The interpreter inside the image.
    python: str = "python3"
    # The option of `run` that shows it one GPU.
    gpu_option: str = "--device=nvidia.com/gpu={index}"

    def check(self) -> None:
        if not self.engine or self.engine.startswith("-") or "\0" in self.engine:
            raise BadSpec(f"{self.engine!r} is no container engine")
        if not _IMAGE.fullmatch(self.image):
            raise BadSpec(f"{self.image!r} is not the name of a container image")
        if not self.python or self.python.startswith("-"):
            raise BadSpec(f"{self.python!r} is no interpreter")


@dataclass(frozen=True)
class RunSpec:
    run_id: str
    executor: str
    # VENV/bin/python of the runner environment, which must not be the one that holds the Django project.
    python: str
    code_dir: str
    config_path: str
    # Scratch folder of this run, mode 0700, the worker's: the supervisor writes log, metrics.json and artifacts/ into it.
    run_dir: str
    entrypoint: str = "main.py"
    dataset_dir: str | None = None
    # Further folders to show read-only, by the name that the program finds them under: {"ground_truth": "/data/x"} is
    # /sandbox/ground_truth, and $GROUND_TRUTH_DIR says so.
    folders: Mapping[str, str] = field(default_factory=dict)
    # The program finds a copy of the code folder, which it may write to, in place of the read-only one.
    has_writable_code: bool = False
    # The output's predictions/ is taken over by itself, for a scorer, instead of among the artifacts.
    takes_predictions: bool = False
    limits: Limits = field(default_factory=Limits)
    gpus: tuple[int, ...] = ()
    read_only_paths: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    # The user that a root worker steps down to; an ordinary user's worker runs as itself in a user namespace.
    sandbox_uid: int = 64321
    # Kill when this many seconds passed since the start or the last "extend". None: only after a first "extend".
    fence_seconds: float | None = None
    # bwrap of the worker's own environment; empty: `find_bwrap` looks on PATH.
    bwrap: str = ""
    # Of the container executor alone.
    container: Container | None = None

    def to_json(self) -> str:
        # Not `asdict`, which copies everything: a dataclass in it becomes an object by itself.
        return json.dumps(vars(self), default=vars)

    @classmethod
    def from_json(cls, text: str | bytes) -> "RunSpec":
        """The spec in `text`; BadSpec says what is wrong with it."""
        try:
            raw = json.loads(text)
            raw["limits"] = Limits(**raw.get("limits", {}))
            raw["gpus"] = tuple(raw.get("gpus", ()))
            raw["read_only_paths"] = tuple(raw.get("read_only_paths", ()))
            if container := raw.get("container"):
                raw["container"] = Container(**{**container, "options": tuple(container.get("options", ()))})
            spec = cls(**raw)
        except (ValueError, TypeError, AttributeError) as error:
            raise BadSpec(f"the run's spec cannot be read: {error}") from error
        spec.check()
        return spec

    def fits_stage_of(self, staged: "RunSpec") -> bool:
        """Whether a sandbox made for `staged` is this run's to the letter: only what its making does not read may differ.

        A copy of the code is made of files that are there already, so a run with one fits no staged sandbox.
        """
        alike = replace(
            self,
            run_id=staged.run_id,
            fence_seconds=staged.fence_seconds,
            takes_predictions=staged.takes_predictions,
        )
        return alike == staged and not self.has_writable_code

    def check(self) -> None:
        """Refuse values that would change the meaning of a command line or a path."""
        if self.executor not in EXECUTORS:
            raise BadSpec(f"unknown executor {self.executor!r}")
        if (self.container is not None) != (self.executor == "container"):
            raise BadSpec("a container's image belongs to the container executor, and to no other")
        if self.container is not None:
            self.container.check()
        if not _RUN_ID.fullmatch(self.run_id):
            raise BadSpec(f"run_id {self.run_id!r} is not a plain name")
        parts = self.entrypoint.split("/")
        if self.entrypoint.startswith("-") or any(part in ("", ".", "..") for part in parts) or "\0" in self.entrypoint:
            raise BadSpec(f"entrypoint {self.entrypoint!r} is not a plain relative path")
        for path in (
            self.python,
            self.code_dir,
            self.config_path,
            self.run_dir,
            self.dataset_dir,
            *self.read_only_paths,
            *self.folders.values(),
        ):
            if path is not None and (not path.startswith("/") or "\0" in path):
                raise BadSpec(f"{path!r} is not an absolute path")
        for name in self.folders:
            if not _FOLDER_NAME.fullmatch(name) or name in ("code", "output", "dataset"):
                raise BadSpec(f"{name!r} is no name for a folder")
        for name, value in self.environment.items():
            if not _ENVIRONMENT_NAME.fullmatch(name) or "\0" in value:
                raise BadSpec(f"{name!r} is no name for an environment variable")
        if self.sandbox_uid <= 0:
            raise BadSpec("the sandbox's user must not be root")


@dataclass
class Result:
    """How a run ended. `reason` is one of: exited, timeout, out_of_memory, cpu_limit, log_limit, disk_limit, cancelled,
    released, fenced, worker_lost (somebody ended it) and sandbox_error (the platform's fault, told in `detail`)."""

    _SENTENCES: ClassVar = ("detail", "metrics_error", "predictions_error")

    reason: str
    # 128 + n where signal n ended it: bwrap cannot tell `kill -9` from `exit(137)`, and so neither can we.
    exit_code: int | None = None
    signal: int | None = None
    wall_seconds: float = 0.0
    cpu_seconds: float = 0.0
    peak_memory_bytes: int = 0
    oom_kills: int = 0
    output_full: bool = False
    log_bytes: int = 0
    log_truncated: bool = False
    first_output_seconds: float | None = None
    # A sentence for people, with limit and measured value.
    detail: str = ""
    # Of a program that failed: the line that says why, or else the last that it said. As it came, for a LogCleaner.
    reason_line: str = ""
    last_line: str = ""
    isolation: str = ""
    # Limit -> what holds it (limit_table.py).
    limits_applied: dict[str, str] = field(default_factory=dict)
    # {"path", "bytes", "sha256"} of each file now in run_dir/artifacts/.
    artifacts: list[dict[str, Any]] = field(default_factory=list)
    # Sentences about what of the output folder was not taken over, the last one with the number of all others.
    left_out: list[str] = field(default_factory=list)
    # None: run_dir/metrics.json is there; else "missing", "not a regular file", "too large", ...
    metrics_error: str | None = None
    # If predictions were asked for: None if run_dir/predictions/ is there, else "missing", or why there is nothing in it.
    predictions_error: str | None = None
    # Something of the run could not be killed: the worker must take no further job on this machine.
    leftovers: bool = False

    @property
    def succeeded(self) -> bool:
        return self.reason == "exited" and self.exit_code == 0

    def to_event(self) -> dict[str, Any]:
        told = {name: kept(getattr(self, name)) for name in self._SENTENCES}
        told_left_out = [kept(sentence) for sentence in self.left_out]
        values = {item.name: getattr(self, item.name) for item in fields(self)}
        return {"event": "ended", **values, "told": told, "told_left_out": told_left_out}

    @classmethod
    def from_event(cls, event: Mapping[str, Any]) -> "Result":
        known = {item.name for item in fields(cls)}
        told = {name: retold(stored) for name, stored in event.get("told", {}).items() if stored}
        left_out = [retold(stored) for stored in event.get("told_left_out", ())]
        return cls(**{name: value for name, value in {**event, **told, "left_out": left_out}.items() if name in known})
