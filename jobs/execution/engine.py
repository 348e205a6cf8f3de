"""podman and docker by their command lines: the few things that supervisor, worker and janitor ask of them.

Killing the client of an engine leaves its container running. So everything here goes by the container's name, which says
whose it is (`cgroup.run_name`), and by a label: the supervisor removes its own, the worker that of a supervisor that died,
and a worker that starts those of the dead.
"""

import os
import shutil
import subprocess
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from . import cgroup, linux
from .spec import Container

LABEL = "leadersboard.run"
# Of the state that podman and docker give to a container that never ran.
_NEVER = "0001-01-01"
_SECONDS = 30.0


class EngineError(OSError):
    """The engine did not do what it was asked for."""


@dataclass(frozen=True)
class State:
    is_running: bool
    has_started: bool
    exit_code: int


def is_podman(container: Container) -> bool:
    return "docker" not in os.path.basename(container.engine)


def command(container: Container) -> list[str]:
    """The engine and the options that stand before what it is to do. EngineError when it is not there."""
    found = shutil.which(container.engine)
    if not found:
        raise EngineError(f"the container engine {container.engine!r} was not found")
    # With systemd's groups a container could not be put below ours, and its counters would be gone before they are read.
    ours = ["--log-level", "error"]
    ours += ["--cgroup-manager", "cgroupfs", "--events-backend", "none"] if is_podman(container) else []
    return [found, *ours, *container.options]


def family() -> str:
    """Where process ids mean what they mean to us: of containers made elsewhere we cannot tell whether they are alive."""
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return f"{boot}-{os.stat('/proc/self/ns/pid').st_ino}"


def has_image(container: Container) -> bool:
    return image_id(container) is not None


def image_id(container: Container) -> str | None:
    """Return the id of the image's content, which changes when it is built anew; None when it is not there."""
    answer = _ask(container, "image", "inspect", "--format", "{{.Id}}", container.image)
    return answer.stdout.strip() if answer.returncode == 0 else None


def run_python(container: Container, program: str) -> subprocess.CompletedProcess[str]:
    """One of our own programs in the image, without anything of this machine: to find out what the image has."""
    options = ["--rm", "--pull", "never", "--network", "none", "--read-only", "--cap-drop", "ALL"]
    return _ask(container, "run", *options, "--entrypoint", container.python, container.image, "-c", program)


def state(container: Container, name: str) -> State | None:
    """How the container is, None when there is none."""
    wanted = "{{.State.Running}} {{.State.StartedAt.Year}} {{.State.ExitCode}}"
    if not is_podman(container):
        wanted = "{{.State.Running}} {{.State.StartedAt}} {{.State.ExitCode}}"
    answer = _ask(container, "container", "inspect", "--format", wanted, name)
    if answer.returncode != 0:
        return None
    running, started, code = answer.stdout.split()
    return State(running == "true", started != "1" and not started.startswith(_NEVER), int(code))


def remove(container: Container, name: str) -> bool:
    """Kill and remove; whether it is gone. Also when it was gone before."""
    for _ in range(3):
        with suppress(OSError, subprocess.TimeoutExpired):
            _ask(container, "rm", "--force", *(["--time", "0"] if is_podman(container) else []), name)
            if not _names(container, f"name=^{name}$"):
                return True
    return False


def remove_stale(container: Container) -> list[str]:
    """Kill and remove the containers whose supervisor is dead; their names."""
    removed = []
    for name in _names(container, f"label={LABEL}={family()}"):
        owner = cgroup.supervisor_of(name)
        if owner and linux.process_started(owner[0]) != owner[1] and remove(container, name):
            removed.append(name)
    return removed


def _names(container: Container, wanted: str) -> list[str]:
    answer = _ask(container, "ps", "--all", "--filter", wanted, "--format", "{{.Names}}")
    if answer.returncode != 0:
        raise EngineError(f"{container.engine} does not list its containers: {answer.stderr.strip()[:300]}")
    return answer.stdout.split()


def _ask(container: Container, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*command(container), *words],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=_SECONDS,
        check=False,
        cwd="/",
    )
