"""Bombs: each limit holds, and the result names it from what was counted."""

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from core.sizes import human_bytes
from jobs.execution.client import Supervisor
from jobs.execution.spec import MIB

from .conftest import LIMITS, Outcome, artifact_names, build, said

Submit = Callable[..., Outcome]
NO_CGROUP = "cgroup.create = cgroup.create_parent = lambda run_id, limits: cgroup.Group()"
# Containers always have a control group: without one there is none (below).
with_and_without_group = pytest.mark.parametrize(
    ("executor", "patch"), [("bubblewrap", ""), ("bubblewrap", NO_CGROUP), ("container", "")], scope="session"
)
_EATER = """
import os, sys, time
for _ in range(4):
    if os.fork() == 0:
        held = bytearray(128 << 20)
        held[::4096] = b"x" * len(held[::4096])
        time.sleep(5)
        os._exit(0)
for _ in range(4):
    os.wait()
print("survived")
"""


def test_memory_is_limited_over_all_processes(submit: Submit) -> None:
    outcome = submit(_EATER)
    assert outcome.result.reason == "out_of_memory", outcome.result
    assert "of 256 MiB" in outcome.result.detail
    assert "survived" not in outcome.log


def is_counted(outcome: Outcome) -> bool:
    """Whether a control group counted the run's memory; a worker without one refuses what no process would own."""
    return str(outcome.result.limits_applied["memory"]).startswith("cgroup")


@pytest.mark.parametrize("executor", ["bubblewrap"], scope="session")
def test_memory_is_limited_without_a_control_group(
    submit: Submit, weakened: Callable[..., Callable[[], Supervisor]]
) -> None:
    outcome = submit(_EATER, weakened(NO_CGROUP))
    assert outcome.result.reason == "out_of_memory", outcome.result
    assert outcome.result.limits_applied["memory"] == "watchdog"
    assert "survived" not in outcome.log


@pytest.mark.parametrize("executor", ["container"], scope="session")
def test_container_without_a_control_group_is_none(
    submit: Submit, weakened: Callable[..., Callable[[], Supervisor]]
) -> None:
    outcome = submit("print('ran')", weakened(NO_CGROUP))
    assert outcome.result.reason == "sandbox_error" and not outcome.log
    assert "no control group for memory and pids" in outcome.result.detail


def test_memory_in_files_that_have_no_name_counts(submit: Submit) -> None:
    outcome = submit(
        """
import os, time
for index in range(10):
    file = os.memfd_create(f"hidden{index}")
    for _ in range(40):
        os.write(file, b"x" * (1 << 20))
time.sleep(3)
print("survived")
"""
    )
    assert "survived" not in outcome.log
    if is_counted(outcome):
        assert outcome.result.reason == "out_of_memory", outcome.result
    else:
        assert "memfd_create" in outcome.log and "PermissionError" in outcome.log


_OWNERLESS = """
from attack import *
import array, socket, time
MIB = 1 << 20
libc.shmat.restype = ctypes.c_void_p

def segments():
    for _ in range(30):
        segment = libc.shmget(0, 20 * MIB, 0o1600)
        if segment < 0:
            raise OSError(ctypes.get_errno(), "shmget")
        place = libc.shmat(segment, None, 0)
        ctypes.memset(place, 1, 20 * MIB)
        libc.shmdt(ctypes.c_void_p(place))
    return True

def in_flight():
    for _ in range(30):
        file = os.memfd_create("hidden")
        for _ in range(20):
            os.write(file, b"x" * MIB)
        ends = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        kept.append(ends)
        ends[0].sendmsg([b"x"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [file]))])
        os.close(file)
    return True

kept = []
attempt("WHAT", WHAT)
time.sleep(1)
"""


@with_and_without_group
@pytest.mark.parametrize("what", ["segments", "in_flight"])
def test_memory_that_belongs_to_no_process_is_counted_or_refused(
    what: str, patch: str, submit: Submit, weakened: Callable[..., Callable[[], Supervisor]]
) -> None:
    outcome = submit(_OWNERLESS.replace("WHAT", what), weakened(patch))
    if is_counted(outcome):
        assert not patch and outcome.result.reason == "out_of_memory", outcome.result
    else:
        outcome.assert_held()
    assert "OPEN" not in outcome.log


def test_faked_out_of_memory_is_not_believed(submit: Submit) -> None:
    outcome = submit("import os, sys; print('MemoryError', file=sys.stderr, flush=True); os.kill(os.getpid(), 9)")
    assert outcome.result.reason == "exited"
    assert (outcome.result.exit_code, outcome.result.signal, outcome.result.oom_kills) == (137, 9, 0)
    assert outcome.result.detail == "killed by signal 9 (Killed), or exit code 137"


@with_and_without_group
def test_fork_bomb_stops_at_the_limit(
    patch: str, submit: Submit, weakened: Callable[..., Callable[[], Supervisor]]
) -> None:
    outcome = submit(
        """
import os, time
started = 0
try:
    while started < 500:
        if os.fork() == 0:
            time.sleep(30)
            os._exit(0)
        started += 1
except OSError:
    pass
print(started)
""",
        weakened(patch),
    )
    assert 30 <= said(outcome) <= LIMITS.processes
    assert outcome.result.reason == "exited"


def test_endless_fork_bomb_ends_with_the_wall_clock(submit: Submit) -> None:
    outcome = submit(
        "import os\nwhile True:\n    try:\n        os.fork()\n    except OSError:\n        pass\n",
        limits=replace(LIMITS, wall_seconds=1.5),
    )
    assert outcome.result.reason == "timeout"
    assert not outcome.result.leftovers
    assert outcome.result.wall_seconds < 6


@with_and_without_group
def test_cpu_time_is_limited(patch: str, submit: Submit, weakened: Callable[..., Callable[[], Supervisor]]) -> None:
    outcome = submit(
        "import signal\nsignal.signal(signal.SIGXCPU, signal.SIG_IGN)\nwhile True: pass",
        weakened(patch),
        limits=replace(LIMITS, cpu_seconds=1),
    )
    assert outcome.result.reason == "cpu_limit", outcome.result
    assert outcome.result.detail.endswith("of 1 seconds of CPU time")


def test_wall_time_is_limited_whatever_signals_are_ignored(submit: Submit) -> None:
    outcome = submit(
        "import signal, time\n"
        "for number in range(1, 65):\n"
        "    try: signal.signal(number, signal.SIG_IGN)\n"
        "    except (OSError, ValueError): pass\n"
        "print('ready', flush=True)\n"
        "while True: time.sleep(1)\n",
        limits=replace(LIMITS, wall_seconds=1),
    )
    assert outcome.result.reason == "timeout"
    assert outcome.result.detail == "1 of 1 seconds of wall time"
    assert 1 <= outcome.result.wall_seconds < 4


@pytest.mark.parametrize("unlinked", [False, True])
def test_output_has_a_quota_of_bytes(unlinked: bool, submit: Submit) -> None:
    outcome = submit(f"""
from attack import *
import time
with open(OUTPUT + "/big", "wb", buffering=0) as file:
    if {unlinked}:
        os.unlink(OUTPUT + "/big")
    try:
        for _ in range(1000):
            file.write(b"x" * 65536)
    except OSError:
        time.sleep(0.5)
        raise
""")
    assert outcome.result.reason == "disk_limit", outcome.result
    assert outcome.result.output_full
    assert "No space left on device" in outcome.log


def test_output_has_a_quota_of_files(submit: Submit) -> None:
    outcome = submit("""
from attack import *
made = 0
try:
    for made in range(1000):
        leave(str(made), "")
except OSError as error:
    print(error, made)
""")
    assert "No space left on device" in outcome.log
    assert outcome.result.output_full and outcome.result.reason == "exited"
    assert len(artifact_names(outcome)) < LIMITS.output_inodes


@pytest.mark.parametrize("folder", ["/tmp", "/dev/shm"])
def test_scratch_folders_have_a_quota(folder: str, submit: Submit) -> None:
    outcome = submit(f"""
written = 0
with open({folder!r} + "/big", "wb", buffering=0) as file:
    try:
        while written < 300 << 20:
            written += file.write(b"x" * (1 << 20))
    except OSError as error:
        print("stopped", error)
""")
    assert "stopped" in outcome.log


def test_one_file_has_a_size_limit(submit: Submit) -> None:
    outcome = submit("open('/tmp/big', 'wb').truncate(2 << 20)", limits=replace(LIMITS, file_bytes=MIB))
    assert "File too large" in outcome.log


def test_open_files_and_core_dumps_are_limited(submit: Submit) -> None:
    outcome = submit("""
import json, os, resource
opened = []
try:
    while len(opened) < 1000:
        opened.append(os.open("/dev/null", os.O_RDONLY))
except OSError:
    os.close(opened.pop())
print(json.dumps([len(opened), resource.getrlimit(resource.RLIMIT_CORE)]))
""")
    opened, core = said(outcome)
    assert opened < LIMITS.open_files and core == [0, 0]


def test_log_bomb_is_stopped_and_the_log_keeps_both_ends(submit: Submit) -> None:
    outcome = submit("print('first line')\nwhile True: print('x' * 1000)")
    assert outcome.result.reason == "log_limit"
    assert outcome.result.log_truncated
    assert outcome.log.startswith("first line\n")
    assert re.search(r"\[\.\.\. [0-9.]+ [KM]iB of the log were left out here \.\.\.\]", outcome.log)
    assert LIMITS.log_kept_bytes < (outcome.run_dir / "log").stat().st_size < LIMITS.log_kept_bytes + 70_000


def test_long_log_keeps_its_end(submit: Submit) -> None:
    outcome = submit("for index in range(60_000): print(index)")
    assert outcome.result.succeeded and outcome.result.log_truncated
    assert outcome.log.startswith("0\n1\n") and outcome.log.endswith("59998\n59999\n")
    size = sum(len(str(index)) + 1 for index in range(60_000))
    assert outcome.result.log_bytes == size
    marker = f"[... {human_bytes(size - LIMITS.log_kept_bytes - 65536)} of the log were left out here ...]"
    assert marker in outcome.log


def test_a_progress_bar_leaves_its_last_state_and_hides_no_report(submit: Submit) -> None:
    """As tqdm writes, on standard error, while standard output reports; then junk, and a line without an end."""
    outcome = submit(r"""
import os, sys, threading

def bar():
    for step in range(5001):
        sys.stderr.write(f"\r{step / 50:5.1f}%|####      | {step}/5000 [00:01<00:01]")

other = threading.Thread(target=bar)
other.start()
for epoch in range(100):
    print("\x1b[32m ::progress", epoch / 100, "epoch", epoch, "\x1b[0m")
    print(f"::metric step={epoch} loss={1 / (epoch + 1)}")
other.join()
sys.stderr.write("\n")
os.write(1, bytes(range(256)) + b"\n")
os.write(1, b"y" * 2000 + b"\n::progress 1")
""")
    assert outcome.result.succeeded
    reports = (outcome.run_dir / "reports").read_text().splitlines()
    fractions = [float(line.split()[1]) for line in reports if line.startswith("::progress ")]
    assert fractions == [*(epoch / 100 for epoch in range(100)), 1.0]
    assert sum(line.startswith("::metric ") for line in reports) == 100
    assert outcome.log.count("/5000") == 1 and "5000/5000" in outcome.log
    assert "y" * 2000 + "\n" in outcome.log and outcome.log.endswith("\n::progress 1")


def test_log_can_be_followed_while_the_run_goes_on(sandbox: None, executor: str, tmp_path: Path) -> None:
    spec = build(tmp_path / "live", "import time; print('early'); time.sleep(30)", executor)
    with Supervisor.start() as supervisor:
        supervisor.run(spec)
        log = Path(spec.run_dir, "log")
        for _ in range(100):
            supervisor.poll(0.1)
            if log.exists() and log.read_text() == "early\n":
                break
        else:
            pytest.fail("the first line did not show up")
        assert supervisor.result is None


def test_failed_program_says_why(submit: Submit) -> None:
    """Whatever comes after the exception, on either output."""
    outcome = submit(
        """
import atexit, sys
atexit.register(lambda: (print("wandb: synced", file=sys.stderr), print("done")))
print("starting", flush=True)
raise ValueError("num_workers must be 0\\nnot 4")
"""
    )
    assert outcome.result.reason_line == "ValueError: num_workers must be 0", outcome.result
    silent = submit("import sys; print('epoch 1', flush=True); sys.stderr.write('no data\\n\\n'); sys.exit(3)")
    assert (silent.result.reason_line, silent.result.last_line) == ("", "no data")
