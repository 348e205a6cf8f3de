"""The small parts by themselves: specs, the system call table, control groups of version 2, stale leftovers."""

import json
import os
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from jobs.execution import cgroup, interpreter, janitor, linux, seccomp
from jobs.execution.client import Supervisor
from jobs.execution.spec import BadSpec, Limits, Result, RunSpec

from .conftest import build


def _spec(**changes: object) -> RunSpec:
    given: dict[str, object] = {
        "run_id": "a-1", "executor": "bubblewrap", "python": "/v/bin/python", "code_dir": "/c", "config_path": "/k",
        "run_dir": "/r",
    }  # fmt: skip
    return RunSpec(**(given | changes))  # type: ignore[arg-type]


def test_spec_survives_the_pipe() -> None:
    spec = _spec(limits=Limits(cpus=1.5), gpus=(0, 2), environment={"A": "b"}, dataset_dir="/d")
    assert RunSpec.from_json(spec.to_json()) == spec


@pytest.mark.parametrize(
    "changes",
    [
        {"executor": "docker"},
        {"run_id": "../x"},
        {"entrypoint": "../main.py"},
        {"entrypoint": "/etc/x.py"},
        {"entrypoint": "-c"},
        {"entrypoint": ""},
        {"code_dir": "relative"},
        {"environment": {"A=B": "c"}},
        {"sandbox_uid": 0},
        {"limits": {"no_such_limit": 1}},
    ],
)
def test_bad_spec_is_refused(changes: dict[str, object]) -> None:
    fields = json.loads(_spec().to_json()) | changes
    with pytest.raises(BadSpec):
        RunSpec.from_json(json.dumps(fields))


def test_result_survives_the_pipe() -> None:
    result = Result("exited", exit_code=0, artifacts=[{"path": "a", "bytes": 1, "sha256": "0"}])
    assert Result.from_event(json.loads(json.dumps(result.to_event()))) == result
    assert result.succeeded and not Result("timeout", exit_code=0).succeeded


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_filter_has_no_jump_out_of_the_program(machine: str) -> None:
    program = list(struct.iter_unpack("<HBBI", seccomp.build_filter(machine)))
    assert len(program) < 4096
    for index, (code, if_true, if_false, _) in enumerate(program):
        if code & 7 == 5:
            assert index + 1 + max(if_true, if_false) < len(program)
    assert program[-1] == (0x06, 0, 0, 0x7FFF0000)


def test_unknown_machine_has_no_filter() -> None:
    with pytest.raises(seccomp.UnsupportedMachine):
        seccomp.build_filter("riscv64")


def test_interpreter_of_the_system_shows_little_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os.path, "realpath", lambda path: "/usr/bin/python3.11")
    seen = interpreter.interpreter_of("/usr/bin/python3.11")
    shown = {place: source.path for place, source in seen.sources.items() if "libpython" not in place}
    assert shown == {
        "/opt/python/bin/python3.11": "/usr/bin/python3.11",
        "/opt/python/lib/python3.11": "/usr/lib/python3.11",
    }


def test_version_2_limits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder in place of the kernel's: what would be written, and read."""
    (tmp_path / "cgroup.subtree_control").write_text("cpu memory pids\n")
    monkeypatch.setattr(cgroup, "_v2_parents", lambda: [tmp_path])
    group = cgroup.create("a-1", Limits(memory_bytes=1000, processes=7, cpus=0.5))
    (folder,) = set(group.folders.values())
    assert group.held("memory") == group.held("pids") == "cgroup-v2"
    written = {path.name: path.read_text() for path in folder.iterdir()}
    assert written == {
        "memory.max": "1000",
        "memory.oom.group": "1",
        "pids.max": "7",
        "cpu.max": "50000 100000",
    }
    (folder / "memory.events").write_text("low 0\noom 1\noom_kill 3\n")
    (folder / "memory.peak").write_text("900\n")
    (folder / "cpu.stat").write_text("usage_usec 1500000\nuser_usec 1\n")
    assert (group.oom_kills(), group.peak_memory(), group.cpu_seconds()) == (3, 900, 1.5)


@pytest.fixture
def version_2(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A tree as a kernel with version 2 alone lays it out, the worker a service of systemd's in it."""
    top = tmp_path / "sys cgroup"
    service = top / "system.slice" / "worker.service"
    service.mkdir(parents=True)
    (top / "cgroup.subtree_control").write_text("cpuset cpu io memory pids\n")
    (top / "system.slice" / "cgroup.subtree_control").write_text("cpu memory pids\n")
    (service / "cgroup.subtree_control").write_text("\n")
    (service / "cgroup.procs").write_text(f"{os.getpid()}\n")
    mounts = tmp_path / "mountinfo"
    mounts.write_text(
        "24 1 0:22 / /proc rw,nosuid shared:12 - proc proc rw\n"
        f"30 24 0:26 / {top} rw,nosuid,nodev,noexec,relatime shared:4 - cgroup2 cgroup2 rw,nsdelegate\n".replace(
            "sys cgroup", "sys\\040cgroup"
        )
    )
    groups = tmp_path / "groups"
    groups.write_text("0::/system.slice/worker.service\n")
    monkeypatch.setattr(cgroup, "_MOUNTS", mounts)
    monkeypatch.setattr(cgroup, "_GROUPS", groups)
    return top


def test_version_2_group_lies_beside_a_service_that_hands_nothing_down(version_2: Path) -> None:
    """Processes live in leaves only: the worker's own group has one, so the run's is made next to it."""
    group = cgroup.create("a-1", Limits(memory_bytes=1000))
    assert group.version == 2
    assert set(group.folders) == {"memory", "pids", "cpu"}
    assert {folder.parent for folder in group.folders.values()} == {version_2 / "system.slice"}
    # A service with Delegate=yes, which moved its own processes into a leaf.
    service = version_2 / "system.slice" / "worker.service"
    (service / "cgroup.subtree_control").write_text("memory pids\n")
    inner = cgroup.create("a-2", Limits(memory_bytes=1000))
    assert inner.folders["memory"].parent == service
    assert inner.held("cpu") is None and inner.cpu_seconds() is None


def test_version_2_without_the_memory_controller_is_no_group(version_2: Path) -> None:
    for folder in (version_2 / "system.slice", version_2 / "system.slice" / "worker.service"):
        (folder / "cgroup.subtree_control").write_text("cpu pids\n")
    assert cgroup.create("a-1", Limits()).version == 0


def test_version_2_kills_through_the_kernels_file_and_finds_what_was_left(version_2: Path) -> None:
    group = cgroup.create("a-1", Limits())
    (folder,) = set(group.folders.values())
    child = subprocess.Popen([sys.executable, "-I", "-S", "-c", "input()"], stdin=subprocess.PIPE)
    (folder / "cgroup.procs").write_text(f"{child.pid}\n")
    assert group.members() == {child.pid}
    # Nobody takes the dead out of this tree as the kernel would.
    assert not group.kill(0.5)
    assert (folder / "cgroup.kill").read_text() == "1"
    assert child.wait(30) == -9
    child.communicate()
    found = {place.name: (pid, started) for place, pid, started in cgroup._run_groups()}
    assert found == {cgroup.own_name("a-1"): (os.getpid(), linux.process_started(os.getpid()))}


def test_version_2_parent_of_a_container_lies_at_the_top(version_2: Path) -> None:
    group = cgroup.create_parent("a-1", Limits())
    assert set(group.folders.values()) == {version_2 / cgroup.own_name("a-1")}
    assert group.held("memory") == "cgroup-v2" and group.oom_events is None


def test_no_group_is_a_group_without_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cgroup, "_v2_parents", list)
    monkeypatch.setattr(cgroup, "_v1_parents", lambda controller: [Path("/proc/nowhere")])
    group = cgroup.create("a-1", Limits())
    assert (group.version, group.held("memory"), group.oom_kills(), group.cpu_seconds()) == (0, None, 0, None)
    assert group.kill() and group.members() == set()


def test_process_that_nobody_waits_for_is_dead() -> None:
    """Below an init that reaps nothing, a killed supervisor stays as a zombie; what it left must be cleared all the same."""
    child = subprocess.Popen([sys.executable, "-I", "-S", "-c", "input()"], stdin=subprocess.PIPE)
    started = linux.process_started(child.pid)
    assert started
    found = linux.Process.find(child.pid)
    assert found and not found.wait(0)
    again = linux.Process.find(child.pid)
    assert again
    again.kill()
    assert again.wait(30)
    try:
        assert Path(f"/proc/{child.pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
        assert linux.process_started(child.pid) is None
    finally:
        child.communicate()
    assert linux.Process.find(child.pid) is None


def test_janitor_removes_folders_of_dead_workers_only(tmp_path: Path) -> None:
    for name in ("dead", "mine", "fresh"):
        (tmp_path / name / "output").mkdir(parents=True)
    janitor.mark_as_ours(tmp_path / "mine")
    (tmp_path / "dead" / ".owner").write_text('{"pid": 999999999, "started": 1}')
    assert "dead" in janitor.clear_stale(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["fresh", "mine"]


def test_supervisor_imports_nothing_of_django() -> None:
    code = "import sys; sys.path.append(sys.argv[1]); import jobs.execution.supervisor; print('django' in sys.modules)"
    command = [sys.executable, "-I", "-S", "-c", code, str(Path(cgroup.__file__).parents[2])]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "False\n"


def test_platform_fault_is_told_as_one(tmp_path: Path) -> None:
    spec = build(tmp_path / "run", "print(1)", bwrap="/nonexistent/bwrap")
    with Supervisor.start() as supervisor:
        supervisor.run(spec)
        result = supervisor.wait(60)
    assert result and result.reason == "sandbox_error"
    assert result.detail == "cannot show /nonexistent/bwrap to the run: No such file or directory"


def test_unsafe_executor_says_what_it_is(tmp_path: Path) -> None:
    spec = build(tmp_path / "run", "from attack import *\nleave_metrics()\nprint('ran')", executor="unsafe-local")
    with Supervisor.start() as supervisor:
        supervisor.run(spec)
        result = supervisor.wait(60)
    assert result and result.succeeded and result.isolation == "unsafe-local"
    assert result.limits_applied["filesystem"] == "none"
    assert result.metrics_error is None
