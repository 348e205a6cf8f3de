"""Hostile submissions against the real sandboxes. Nothing here needs Django.

What asks for the fixture `executor` runs once in each of them: bubblewrap needs user namespaces and bwrap, containers need
podman (or docker), root, and an image with python3: `CONTAINER_IMAGE`, or the one that docker/runner-image makes.
"""

import atexit
import fcntl
import itertools
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from jobs.execution import engine, linux, preflight
from jobs.execution.client import Nursery, Supervisor
from jobs.execution.spec import KIB, MIB, Container, Limits, Result, RunSpec

LIMITS = Limits(
    wall_seconds=15, cpu_seconds=15, memory_bytes=256 * MIB, processes=64, open_files=256, file_bytes=64 * MIB,
    output_bytes=8 * MIB, output_inodes=200, tmp_bytes=16 * MIB, log_kept_bytes=16 * KIB, log_kill_bytes=MIB,
)  # fmt: skip

_NUMBERS = itertools.count()
_MAKE_IMAGE = Path(__file__).resolve().parents[2] / "docker" / "runner-image"

# What a hostile program may import: `attempt` turns an attack into a line that the tests look for.
ATTACK = '''
import ctypes, json, os, sys

OUTPUT = sys.argv[sys.argv.index("--output") + 1]
libc = ctypes.CDLL(None, use_errno=True)


def attempt(name, action):
    try:
        print("OPEN" if action() else "held", name, flush=True)
    except (OSError, ValueError) as error:
        print("held", name, error, flush=True)


def call(number, *arguments):
    """errno of a bare system call; 0 when it worked."""
    return 0 if libc.syscall(number, *arguments) >= 0 else ctypes.get_errno()


def leave(name, text):
    with open(os.path.join(OUTPUT, name), "w") as file:
        file.write(text)


def leave_metrics(**metrics):
    leave("metrics.json", json.dumps({"params": {}, "metrics": metrics or {"score": 1.0}}))
'''


_nursery = Nursery()
atexit.register(_nursery.close)


def staged() -> Supervisor:
    """As the worker has them: a fork of the nursery. `run` has it make the sandbox first, and then begin."""
    return _nursery.supervisor()


@dataclass(frozen=True)
class Outcome:
    result: Result
    log: str
    run_dir: Path

    def assert_held(self) -> None:
        """Something was tried, and nothing of it worked."""
        assert "held" in self.log, (self.result, self.log)
        assert "OPEN" not in self.log


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    given = [mark.args[0] for mark in metafunc.definition.iter_markers("parametrize")]
    if "executor" in metafunc.fixturenames and not any("executor" in names for names in given):
        metafunc.parametrize("executor", ["bubblewrap", "container"], scope="session")


def container() -> Container:
    engine = os.environ.get("CONTAINER_ENGINE", "podman")
    options = tuple(os.environ.get("CONTAINER_ENGINE_OPTIONS", "").split())
    return Container(engine, os.environ.get("CONTAINER_IMAGE", "localhost/leadersboard-runner:latest"), options)


def build(folder: Path, code: str, executor: str = "bubblewrap", **changes: Any) -> RunSpec:
    """A spec for the program `code`, all of its files below `folder`."""
    for name in ("code", "run"):
        (folder / name).mkdir(parents=True, mode=0o700)
    (folder / "code" / "main.py").write_text(code)
    (folder / "code" / "attack.py").write_text(ATTACK)
    (folder / "config.yaml").write_text("seed: 1\n")
    given: dict[str, Any] = {"executor": executor, "limits": LIMITS, "python": sys.executable}
    given |= {"container": container()} if executor == "container" else {}
    given |= changes
    return RunSpec(
        # Of this run alone: tests in another process look for what is left of theirs.
        run_id=f"{folder.name.replace('[', '-').replace(']', '-')[:40]}-{os.getpid()}-{next(_NUMBERS)}",
        code_dir=str(folder / "code"),
        config_path=str(folder / "config.yaml"),
        run_dir=str(folder / "run"),
        **given,
    )


def run(spec: RunSpec, start: Callable[[], Supervisor] = Supervisor.start) -> Outcome:
    with start() as supervisor:
        if start is staged:
            supervisor.stage(spec)
        supervisor.run(spec)
        result = supervisor.wait(40)
    assert result is not None
    folder = Path(spec.run_dir)
    log = folder / "log"
    return Outcome(result, log.read_text(errors="replace") if log.exists() else "", folder)


@pytest.fixture(scope="session", autouse=True)
def no_mount_is_left(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Containers' file systems of tests that failed, or that kill everybody who would unmount them."""
    yield
    if os.geteuid() == 0:
        linux.unmount_below(str(tmp_path_factory.getbasetemp()))


@pytest.fixture(scope="session")
def sandbox(executor: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Skips, loudly, where this machine has no sandbox to attack."""
    if executor == "container":
        _make_image()
    folder = tmp_path_factory.mktemp("first") / "run"
    result = run(build(folder, "print('hello')", executor)).result
    absent = ("namespaces are not available", "bwrap was not found", "No permissions to creat")
    if result.reason == "sandbox_error" and any(reason in result.detail for reason in absent):
        pytest.skip(f"NO SANDBOX ON THIS MACHINE, NOTHING WAS PROVEN: {result.detail}")
    assert result.succeeded, result


def _make_image() -> None:
    """The image that containers start from, made when it is not there. Skips, loudly, where there are no containers."""
    wanted = container()
    missing = "" if os.geteuid() == 0 else "the tests do not run as root"
    missing = missing or ("" if shutil.which(wanted.engine) else f"{wanted.engine} is not installed")
    if not missing:
        state = subprocess.run([*engine.command(wanted), "info"], capture_output=True, text=True, timeout=60)
        missing = state.stderr.strip()[-300:] if state.returncode else ""
    if not missing:
        with open(Path(tempfile.gettempdir(), "leadersboard-runner-image.lock"), "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # tests may run in several processes
            missing = "" if engine.has_image(wanted) else _run_script(wanted)
    if missing:
        pytest.skip(f"NO CONTAINERS ON THIS MACHINE, NOTHING WAS PROVEN OF THEM: {missing}")


def _run_script(wanted: Container) -> str:
    """What went wrong, if anything."""
    made = subprocess.run([_MAKE_IMAGE, wanted.image, wanted.engine], capture_output=True, text=True, timeout=300)
    return f"docker/runner-image made no image: {made.stderr.strip()[-300:]}" if made.returncode else ""


@pytest.fixture
def submit(sandbox: None, executor: str, tmp_path: Path) -> Callable[..., Outcome]:
    """Run a program in the sandbox: submit(code, limits=..., dataset_dir=...)."""

    usual = staged if executor == "bubblewrap" else Supervisor.start

    def submit(code: str, start: Callable[[], Supervisor] = usual, **changes: Any) -> Outcome:
        return run(build(tmp_path / f"run{len(list(tmp_path.iterdir()))}", code, executor, **changes), start)

    return submit


@pytest.fixture(scope="session")
def weakened(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Callable[[], Supervisor]]:
    """Supervisors with a hole: weakened("python statements that patch the modules") starts such a one."""
    folder = tmp_path_factory.mktemp("weak")
    root = Path(preflight.__file__).resolve().parents[2]

    def make(patch: str) -> Callable[[], Supervisor]:
        script = folder / f"supervisor{len(os.listdir(folder))}.py"
        lines = [
            "import sys",
            f"sys.path.append({str(root)!r})",
            "from jobs.execution import bubblewrap, cgroup, container, engine, launch, linux, seccomp, supervisor",
            patch,
            "supervisor.main()",
        ]
        script.write_text("\n".join(lines))
        return lambda: Supervisor.start(script=script)

    return make


def processes_with(marker: str) -> list[int]:
    """Host pids whose command line holds `marker`."""
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            if marker.encode() in Path("/proc", name, "cmdline").read_bytes() and int(name) != os.getpid():
                found.append(int(name))
        except OSError:
            continue
    return found


def artifact_names(outcome: Outcome) -> list[str]:
    return [item["path"] for item in outcome.result.artifacts]


def said(outcome: Outcome) -> Any:
    """The JSON that the program printed last."""
    return json.loads(outcome.log.strip().splitlines()[-1])


@pytest.fixture
def play(sandbox: None, executor: str, settings: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A board with a scorer; what uses it needs Django and its database."""
    from tests.attacks.playing import Play

    return Play(executor, settings, tmp_path, monkeypatch)
