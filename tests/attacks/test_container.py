"""What is special about containers: an engine's daemon keeps them alive, and its words are not always the program's."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from jobs.execution import cgroup, engine, janitor, linux, preflight, seccomp
from jobs.execution import container as executor_module
from jobs.execution.client import Supervisor
from jobs.execution.launch import SandboxError
from jobs.execution.spec import BadSpec, Container, RunSpec

from .conftest import Outcome, build, container, processes_with

Submit = Callable[..., Outcome]
in_containers = pytest.mark.parametrize("executor", ["container"], scope="session")

# A worker as far as a run sees one: it starts a supervisor and waits. It is killed, so it does nothing at its end.
_WORKER = """
import sys, time
sys.path.append(sys.argv[1])
from jobs.execution.client import Supervisor
from jobs.execution.launch import SandboxError
from jobs.execution.spec import RunSpec
supervisor = Supervisor.start()
supervisor.run(RunSpec.from_json(sys.argv[2]))
print(supervisor.pid, flush=True)
time.sleep(600)
"""


def _names() -> list[str]:
    return engine._names(container(), f"label={engine.LABEL}={engine.family()}")


def _wait_for(condition: Callable[[], object], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)


@contextmanager
def _worker(folder: Path) -> Iterator[tuple[subprocess.Popen[str], int, RunSpec, str]]:
    """(worker, its supervisor's pid, spec, marker of the run's process) while a run goes on."""
    marker = f"sleeper-of-{folder.parent.name}-{os.getpid()}"
    code = (
        f"import os, sys; os.execv(sys.executable, [sys.executable, '-c', 'import time; time.sleep(300)', {marker!r}])"
    )
    spec = build(folder, code, "container", limits=replace(build(folder / "x", "").limits, wall_seconds=200))
    root = str(Path(cgroup.__file__).parents[2])
    worker = subprocess.Popen([sys.executable, "-c", _WORKER, root, spec.to_json()], stdout=subprocess.PIPE, text=True)
    assert worker.stdout
    supervisor = 0
    try:
        supervisor = int(worker.stdout.readline())
        _wait_for(lambda: processes_with(marker))
        yield worker, supervisor, spec, marker
    finally:
        worker.kill()
        worker.wait()
        worker.stdout.close()
        _wait_for(lambda: not _is_running(supervisor))
        janitor.clear_stale(container=container())
        linux.unmount_below(spec.run_dir)


def _traces(spec: RunSpec) -> list[str]:
    """What is left of a run on the machine: containers, groups, mounts."""
    groups = [folder.name for folder, _, _ in cgroup._run_groups() if folder.name.endswith(spec.run_id)]
    mounts = [place for place in linux.mount_points() if place.startswith(spec.run_dir)]
    return [name for name in _names() if name.endswith(spec.run_id)] + groups + mounts


@in_containers
def test_kill_minus_nine_of_worker_and_supervisor_takes_the_container_along(sandbox: None, tmp_path: Path) -> None:
    with _worker(tmp_path / f"run{time.monotonic_ns()}") as (worker, supervisor, spec, marker):
        os.kill(supervisor, signal.SIGKILL)
        worker.kill()
        _wait_for(lambda: not processes_with(marker))
        _wait_for(lambda: not _traces(spec))


@in_containers
def test_janitor_removes_the_container_that_nobody_was_left_to_remove(sandbox: None, tmp_path: Path) -> None:
    with _worker(tmp_path / "work" / f"run{time.monotonic_ns()}") as (worker, supervisor, spec, marker):
        guards = [pid for pid in linux.descendants(supervisor) if _is_supervisor(pid)]
        assert guards
        for pid in (*guards, supervisor, worker.pid):
            os.kill(pid, signal.SIGKILL)
        worker.wait()
        # As jobs.workspace has it: the folder above is marked as the worker's.
        shutil.copy(Path(spec.run_dir, ".owner"), Path(spec.run_dir).parent)
        _wait_for(lambda: not any(map(_is_running, (*guards, supervisor))))
        assert processes_with(marker) and _traces(spec)
        # Another worker's run, which is alive, stays.
        with Supervisor.start() as other:
            kept = build(
                tmp_path / f"kept{time.monotonic_ns()}", "import time; print('on'); time.sleep(60)", "container"
            )
            other.run(kept)
            _wait_for(lambda: any(name.endswith(kept.run_id) for name in _names()))
            other.poll(0)
            janitor.clear_stale(tmp_path / "work", container())
            # A worker of another test that starts in this moment clears the machine too, and may have been first at it.
            _wait_for(lambda: not processes_with(marker))
            _wait_for(lambda: not _traces(spec))
            assert _traces(kept) and other.result is None


def _is_running(pid: int) -> bool:
    return linux.process_started(pid) is not None


def _is_supervisor(pid: int) -> bool:
    return b"supervisor.py" in Path(f"/proc/{pid}/cmdline").read_bytes()


@in_containers
def test_container_does_not_outlive_its_client(sandbox: None, tmp_path: Path) -> None:
    with _worker(tmp_path / f"run{time.monotonic_ns()}") as (_, supervisor, spec, marker):
        clients = [pid for pid in linux.descendants(supervisor) if b"--cgroup-parent" in _arguments(pid)]
        assert clients
        os.kill(clients[0], signal.SIGKILL)
        _wait_for(lambda: not processes_with(marker))
        _wait_for(lambda: not _traces(spec))


def _arguments(pid: int) -> list[bytes]:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return []


@in_containers
@pytest.mark.parametrize("code", [1, 125, 126, 127, 255])
def test_exit_codes_are_the_programs_own(code: int, submit: Submit) -> None:
    """An engine's client ends with 125 to 127 for reasons of its own; of a program they are nothing special."""
    outcome = submit(f"import os; os._exit({code})")
    assert (outcome.result.reason, outcome.result.exit_code) == ("exited", code)


def test_an_ordinary_user_has_no_containers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """podman itself would run them, and on control groups of version 1 without any limit (docs/security.md)."""
    monkeypatch.setattr(executor_module.os, "geteuid", lambda: 1000)
    with pytest.raises(SandboxError, match="needs a worker that is root"):
        executor_module.prepare(build(tmp_path / "run", "", "container"), cgroup.Group())


@in_containers
def test_missing_image_is_the_platforms_fault(submit: Submit) -> None:
    absent = replace(container(), image="localhost/there-is-no-such-image:1")
    outcome = submit("print('ran')", container=absent)
    assert outcome.result.reason == "sandbox_error"
    assert "there-is-no-such-image" in outcome.result.detail


@in_containers
def test_image_without_the_interpreter_is_found_by_the_preflight(sandbox: None) -> None:
    found = preflight.probe("container", sys.executable, container=replace(container(), python="/opt/no/python"))
    assert not any(one.contained for one in found)


@in_containers
@pytest.mark.parametrize("layer", ["build_filter", "engine_profile"])
def test_either_filter_holds_alone(
    layer: str, submit: Submit, weakened: Callable[[str], Callable[[], Supervisor]]
) -> None:
    """The engine's by name and ours by number: each refuses what an attack would begin with."""
    nothing = {
        "build_filter": "bytes([6, 0, 0, 0, 0, 0, 255, 127])",
        "engine_profile": '\'{"defaultAction": "SCMP_ACT_ALLOW"}\'',
    }[layer]
    outcome = submit(
        """
from attack import *
import fcntl, socket
attempt("unshare", lambda: libc.unshare(0x10000000) == 0)
attempt("clone", lambda: call(56, 0x10000000 | 17, 0, 0, 0, 0) == 0)
attempt("clone3", lambda: call(435, 0, 0) != 38)
attempt("keyctl", lambda: call(250, 0, -3, 1) == 0)
attempt("ptrace", lambda: call(101, 0, 0, 0, 0) != 1)
attempt("vsock", lambda: socket.socket(40, socket.SOCK_STREAM))
attempt("packet", lambda: socket.socket(17, socket.SOCK_DGRAM))
attempt("family in 64 bits", lambda: call(41, (1 << 32) | 40, 1, 0) == 0)
attempt("terminal input", lambda: call(16, 0, 0x5412, 0) != 1)
attempt("terminal input in 64 bits", lambda: call(16, 0, (1 << 32) | 0x5412, 0) != 1)
""",
        weakened(f"container.seccomp.{layer} = lambda *machine: {nothing}"),
    )
    outcome.assert_held()
    assert outcome.log.count("held") == 10


def test_profile_of_the_engine_is_made_of_the_filters_list() -> None:
    for machine in ("x86_64", "aarch64"):
        profile = json.loads(seccomp.engine_profile(machine))
        rules = profile["syscalls"]
        assert profile["defaultAction"] == "SCMP_ACT_ALLOW"
        assert set(rules[0]["names"]) == set(seccomp.denied_calls(machine)) and "args" not in rules[0]
        assert {name for rule in rules[1:] for name in rule["names"]} == {"clone3", "clone", "ioctl", "socket"}
        assert all(rule["action"] == "SCMP_ACT_ERRNO" for rule in rules)


def test_devices_are_shown_only_to_runs_that_have_one() -> None:
    spec = build_nothing(gpus=(0, 3))
    assert spec.container
    assert executor_module.gpu_options(spec, spec.container) == [
        "--device=nvidia.com/gpu=0",
        "--device=nvidia.com/gpu=3",
    ]
    assert executor_module.gpu_options(build_nothing(), spec.container) == []


def build_nothing(**changes: object) -> RunSpec:
    given: dict[str, object] = {
        "run_id": "a-1", "executor": "container", "python": "/v/bin/python", "code_dir": "/c", "config_path": "/k",
        "run_dir": "/r", "container": Container("podman", "localhost/x:1", ("--runtime", "runc")),
    }  # fmt: skip
    return RunSpec(**(given | changes))  # type: ignore[arg-type]


def test_spec_with_a_container_survives_the_pipe() -> None:
    spec = build_nothing()
    assert RunSpec.from_json(spec.to_json()) == spec


@pytest.mark.parametrize(
    "changes",
    [
        {"container": None},
        {"executor": "bubblewrap"},
        {"container": Container("podman", "--privileged")},
        {"container": Container("--remote", "x")},
        {"container": Container("podman", "x", python="-c")},
    ],
)
def test_bad_container_is_refused(changes: dict[str, object]) -> None:
    with pytest.raises(BadSpec):
        build_nothing(**changes).check()
