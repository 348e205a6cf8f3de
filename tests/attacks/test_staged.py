"""Sandboxes that are made before their run's files are there: nothing begins early, nothing is kept, nothing is mixed up."""

import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from attacks.conftest import build, processes_with
from jobs.execution import cgroup, linux
from jobs.execution.client import Nursery, Supervisor
from jobs.execution.spec import RunSpec

# The container executor stages nothing.
pytestmark = pytest.mark.parametrize("executor", ["bubblewrap"], scope="session")

PROGRAM = """
import os, sys
from attack import leave_metrics
print("descriptors", sorted(int(name) for name in os.listdir("/proc/self/fd"))[:-1])
print("config", open(sys.argv[2]).read())
leave_metrics(score=float(len(os.listdir("."))))
"""


def _wait_for(condition: Callable[[], object], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)


@pytest.fixture
def nursery() -> Iterator[Nursery]:
    nursery = Nursery()
    yield nursery
    nursery.close()


@pytest.fixture
def spec(sandbox: None, tmp_path: Path) -> RunSpec:
    """A run whose folders are empty yet; its files lie in `waiting`."""
    spec = build(tmp_path / "run", PROGRAM)
    os.rename(spec.code_dir, tmp_path / "waiting")
    os.mkdir(spec.code_dir, 0o755)
    Path(spec.config_path).write_text("")
    return spec


def _deliver(spec: RunSpec, tmp_path: Path) -> None:
    for file in (tmp_path / "waiting").iterdir():
        file.rename(Path(spec.code_dir, file.name))
    Path(spec.config_path).write_text("seed: 7\n")


def _sandbox_of(supervisor: Supervisor) -> list[int]:
    return [pid for pid in linux.descendants(supervisor.pid) if pid in processes_with("--block-fd")]


def _groups_of(supervisor: Supervisor) -> list[Path]:
    return [folder for folder, pid, _ in cgroup._run_groups() if pid == supervisor.pid]


def _stage(nursery: Nursery, spec: RunSpec) -> Supervisor:
    supervisor = nursery.supervisor()
    supervisor.stage(spec)
    _wait_for(lambda: _sandbox_of(supervisor))
    return supervisor


def test_staged_run_begins_with_the_files_that_came_later_and_nothing_else(
    nursery: Nursery, spec: RunSpec, tmp_path: Path
) -> None:
    with _stage(nursery, spec) as supervisor:
        time.sleep(0.5)
        assert Path(spec.run_dir, "log").read_text() == "", "nothing has begun"
        _deliver(spec, tmp_path)
        supervisor.run(replace(spec, run_id="the-real-one", fence_seconds=30))
        result = supervisor.wait(30)
    log = Path(spec.run_dir, "log").read_text()
    assert result is not None and result.succeeded, (result, log)
    assert "descriptors [0, 1, 2]" in log and "config seed: 7" in log
    assert '"score": 2.0' in Path(spec.run_dir, "metrics.json").read_text()
    # The time before the files came is not the run's.
    assert result.wall_seconds < 0.5 + result.cpu_seconds + 5


@pytest.mark.parametrize("change", [{"entrypoint": "other.py"}, {"dataset_dir": "/usr"}, {"gpus": (0,)}])
def test_staged_sandbox_refuses_a_run_that_it_was_not_made_for(
    change: dict[str, object], nursery: Nursery, spec: RunSpec
) -> None:
    with _stage(nursery, spec) as supervisor:
        other = replace(spec, **change)  # type: ignore[arg-type]
        assert not supervisor.has_staged(other) and supervisor.has_staged(spec)
        supervisor.run(other)
        result = supervisor.wait(20)
        assert result is not None and result.reason == "sandbox_error"
    assert Path(spec.run_dir, "log").read_text() == ""


def test_staged_sandbox_refuses_a_run_with_other_limits(nursery: Nursery, spec: RunSpec) -> None:
    with _stage(nursery, spec) as supervisor:
        supervisor.run(replace(spec, limits=replace(spec.limits, memory_bytes=2 * spec.limits.memory_bytes)))
        result = supervisor.wait(20)
    assert result is not None and result.reason == "sandbox_error"


@pytest.mark.parametrize("number", [signal.SIGKILL, None], ids=["supervisor killed", "worker gone"])
def test_staged_sandbox_that_is_not_needed_leaves_nothing(
    number: signal.Signals | None, nursery: Nursery, spec: RunSpec, tmp_path: Path
) -> None:
    supervisor = _stage(nursery, spec)
    sandbox = _sandbox_of(supervisor)
    _deliver(spec, tmp_path)
    if number is not None:
        os.kill(supervisor.pid, number)
    supervisor.close()
    _wait_for(lambda: not any(os.path.exists(f"/proc/{pid}") for pid in sandbox))
    _wait_for(lambda: not _groups_of(supervisor))
    assert not Path(spec.run_dir, "metrics.json").exists()


def test_staged_sandbox_that_died_is_noticed_before_a_run_is_given_to_it(nursery: Nursery, spec: RunSpec) -> None:
    with _stage(nursery, spec) as supervisor:
        for pid in _sandbox_of(supervisor):
            with contextlib.suppress(ProcessLookupError):  # the first takes the others along
                os.kill(pid, signal.SIGKILL)
        _wait_for(lambda: not supervisor.has_staged(spec))
        assert supervisor.result is not None and supervisor.result.reason == "sandbox_error"


def test_supervisors_outlive_their_nursery_and_the_next_has_another(
    nursery: Nursery, spec: RunSpec, tmp_path: Path
) -> None:
    with _stage(nursery, spec) as supervisor:
        assert nursery._process is not None
        os.kill(nursery._process.pid, signal.SIGKILL)
        nursery._process.wait()
        with nursery.supervisor() as other:
            assert other.pid != supervisor.pid and other.result is None
        _deliver(spec, tmp_path)
        supervisor.run(spec)
        result = supervisor.wait(30)
        assert result is not None and result.succeeded


def test_nursery_that_cannot_start_is_done_without(
    nursery: Nursery, sandbox: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("jobs.execution.client._ANSWER_SECONDS", 5.0)
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(OSError):
        nursery._fork()
    nursery.close()
    monkeypatch.undo()
    with nursery.supervisor() as supervisor:
        supervisor.run(build(tmp_path / "run", "print('hello')"))
        assert supervisor.wait(30)


def test_kill_that_comes_with_the_start_is_obeyed(nursery: Nursery, sandbox: None, tmp_path: Path) -> None:
    with nursery.supervisor() as supervisor:
        supervisor.run(build(tmp_path / "run", "import time; time.sleep(30)"))
        supervisor.kill("released")
        began = time.monotonic()
        result = supervisor.wait(30)
    assert result is not None and result.reason == "released"
    assert time.monotonic() - began < 15
