"""Nothing of a run outlives it: not by daemons, not by killing, freezing or deafening those who watch."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from jobs.execution import cgroup
from jobs.execution.client import Supervisor
from jobs.execution.spec import RunSpec

from .conftest import Outcome, build, processes_with

Submit = Callable[..., Outcome]


def _daemon_program(marker: str) -> str:
    """Leaves a daemon, deaf to signals, that goes on writing; then keeps running itself."""
    return f"""
from attack import *
import signal, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        for number in (1, 2, 3, 15):
            signal.signal(number, signal.SIG_IGN)
        os.execv(sys.executable, [sys.executable, "-I", "-S", "-c",
            "import time\\nwhile True: open('/sandbox/output/beat', 'a').write('x'); time.sleep(0.001)", {marker!r}])
    os._exit(0)
os.wait()
while not os.path.exists(OUTPUT + "/beat"):
    time.sleep(0.01)
print("ready", flush=True)
if os.path.exists("/sandbox/code/stay"):
    time.sleep(60)
"""


@contextmanager
def _running(
    folder: Path, executor: str, start: Callable[[], Supervisor] = Supervisor.start, **changes: object
) -> Iterator[tuple[Supervisor, str, RunSpec]]:
    """A run with a daemon, once it is ready: (supervisor, the daemon's marker, spec)."""
    marker = f"daemon-of-{folder.parent.name}-{os.getpid()}"
    spec = build(folder, _daemon_program(marker), executor, **changes)
    Path(spec.code_dir, "stay").touch()
    with start() as supervisor:
        supervisor.run(spec)
        _wait_for(lambda: "ready" in _log(spec, supervisor))
        assert processes_with(marker)
        yield supervisor, marker, spec


def _log(spec: RunSpec, supervisor: Supervisor) -> str:
    supervisor.poll(0.02)
    assert supervisor.result is None, supervisor.result
    log = Path(spec.run_dir, "log")
    return log.read_text() if log.exists() else ""


def _wait_for(condition: Callable[[], object], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)


def _groups_of(spec: RunSpec) -> list[Path]:
    return [folder for folder, _, _ in cgroup._run_groups() if folder.name.endswith(spec.run_id)]


def test_daemon_is_dead_before_the_output_is_read(submit: Submit, tmp_path: Path) -> None:
    marker = f"daemon-of-{tmp_path.name}-{os.getpid()}"
    outcome = submit(_daemon_program(marker))
    assert outcome.result.succeeded and not outcome.result.leftovers
    assert not processes_with(marker)
    assert [item["path"] for item in outcome.result.artifacts] == ["beat"]


def test_kill_all_kills_only_the_run_itself(submit: Submit) -> None:
    outcome = submit("import os, signal; print('before', flush=True); os.kill(-1, signal.SIGKILL); print('after')")
    assert outcome.result.reason == "exited"
    assert "before" in outcome.log


@pytest.mark.parametrize("reason", ["cancelled", "released"])
def test_kill_command(reason: str, sandbox: None, executor: str, tmp_path: Path) -> None:
    with _running(tmp_path / "run", executor) as (supervisor, marker, spec):
        supervisor.kill(reason)
        result = supervisor.wait(60)
        assert result and result.reason == reason and not result.leftovers
        assert not processes_with(marker)
    _wait_for(lambda: not _groups_of(spec))


def test_kill_minus_nine_of_the_supervisor_takes_the_run_along(sandbox: None, executor: str, tmp_path: Path) -> None:
    with _running(tmp_path / "run", executor) as (supervisor, marker, spec):
        os.kill(supervisor.pid, signal.SIGKILL)
        result = supervisor.wait(60)
        assert result and (result.reason, result.detail) == ("sandbox_error", "supervisor died")
        _wait_for(lambda: not processes_with(marker))
    _wait_for(lambda: not _groups_of(spec))
    # Neither the stage of bubblewrap nor a container's file systems; other tests mount theirs meanwhile.
    mounts = Path("/proc/self/mounts").read_text().splitlines()
    assert not [line for line in mounts if line.startswith("stage /tmp ") or spec.run_dir in line]


def test_lost_worker_takes_the_run_along(sandbox: None, executor: str, tmp_path: Path) -> None:
    with _running(tmp_path / "run", executor) as (supervisor, marker, spec):
        assert supervisor._process.stdin
        supervisor._process.stdin.close()
        result = supervisor.wait(60)
        assert result and result.reason == "worker_lost"
        assert not processes_with(marker)
        assert not Path(spec.run_dir, "artifacts").exists()


def test_deadman_kills_a_run_that_is_not_extended(sandbox: None, executor: str, tmp_path: Path) -> None:
    with _running(tmp_path / "run", executor, fence_seconds=3) as (supervisor, marker, _):
        result = supervisor.wait(60)
        assert result and result.reason == "fenced"
        assert not processes_with(marker)


def test_extended_run_goes_on(sandbox: None, executor: str, tmp_path: Path) -> None:
    with _running(tmp_path / "run", executor, fence_seconds=2) as (supervisor, marker, _):
        for _ in range(8):
            supervisor.extend(2)
            time.sleep(0.4)
            supervisor.poll(0)
        assert supervisor.result is None and processes_with(marker)


def test_frozen_supervisor_is_fenced_before_it_listens_again(sandbox: None, executor: str, tmp_path: Path) -> None:
    with _running(tmp_path / "run", executor, fence_seconds=60) as (supervisor, marker, _):
        supervisor.extend(1)
        time.sleep(0.3)
        os.kill(supervisor.pid, signal.SIGSTOP)
        # Waits in the pipe while the time runs out: it comes too late.
        supervisor.extend(60)
        time.sleep(1.5)
        os.kill(supervisor.pid, signal.SIGCONT)
        result = supervisor.wait(60)
        assert result and result.reason == "fenced"
        assert not processes_with(marker)


def test_signals_of_a_terminal_or_service_do_not_end_the_run(sandbox: None, executor: str, tmp_path: Path) -> None:
    with _running(tmp_path / "run", executor) as (supervisor, marker, _):
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            os.kill(supervisor.pid, number)
        time.sleep(0.3)
        supervisor.poll(0)
        assert supervisor.result is None and processes_with(marker)


def test_prestarted_supervisor_that_is_not_needed_goes_away(sandbox: None) -> None:
    supervisor = Supervisor.start()
    supervisor.close()
    assert supervisor._process.returncode == 0


def test_two_runs_at_once_do_not_see_each_other(sandbox: None, executor: str, tmp_path: Path) -> None:
    with _running(tmp_path / "first", executor) as (first, first_marker, _):
        with _running(tmp_path / "second", executor) as (second, _, _):
            second.kill()
            assert second.wait(60)
        first.poll(0)
        assert first.result is None and processes_with(first_marker)
