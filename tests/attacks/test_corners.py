"""What is tried more seldom: the kernel's own files, memory shared by number, limits raised, pipes kept, oneself stopped."""

import ctypes
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from .conftest import LIMITS, Outcome, artifact_names

Submit = Callable[..., Outcome]


def test_the_kernels_files_tell_nothing(submit: Submit) -> None:
    outcome = submit("""
from attack import *
for name in ("kcore", "kmsg", "kpageflags", "kpagecount", "vmallocinfo", "timer_list", "slabinfo", "1/mem", "1/stack", "keys",
             "locks", "net/tcp6"):
    attempt(name, lambda: [line for line in open("/proc/" + name, "rb").read(300).splitlines() if b"sl  local" not in line])
attempt("addresses", lambda: [line for line in open("/proc/kallsyms") if int(line.split()[0], 16)])
attempt("sockets", lambda: open("/proc/net/unix").read().splitlines()[1:])
attempt("groups", lambda: "leadersboard-run" in open("/proc/self/cgroup").read() and os.listdir("/sys/fs/cgroup"))
for name in ("root/etc/shadow.host", "root/root/.ssh", "cwd/manage.py", "root/proc/kcore"):
    attempt("1/" + name, lambda: open("/proc/1/" + name, "rb").read(1))
attempt("descriptors", lambda: [path for pid in os.listdir("/proc") if pid.isdigit() for path in
        [os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd") if fd not in "012" and pid != str(os.getpid())]
        if path.startswith("/")])
""")
    outcome.assert_held()


@pytest.fixture
def shared_memory() -> Iterator[int]:
    """The number of a segment of System V that anybody of this machine may read."""
    libc = ctypes.CDLL(None, use_errno=True)
    segment = libc.shmget(0x1EADE5, 4096, 0o1666)
    assert segment >= 0
    yield segment
    libc.shmctl(segment, 0, None)


def test_no_memory_or_queue_is_shared_with_the_host(submit: Submit, shared_memory: int) -> None:
    name = f"/dev/shm/leadersboard-attack-{os.getpid()}"
    with open(name, "w") as file:
        os.fchmod(file.fileno(), 0o666)
    try:
        outcome = submit(f"""
from attack import *
def checked(result):
    if result < 0:
        raise OSError(ctypes.get_errno(), "refused")
    return True
attempt("by key", lambda: checked(libc.shmget(0x1eade5, 4096, 0)))
attempt("by number", lambda: checked(libc.shmctl({shared_memory}, 2, ctypes.create_string_buffer(256))))
attempt("by name", lambda: open({name!r}))
attempt("list", lambda: open("/proc/sysvipc/shm").read().splitlines()[1:])
""")
    finally:
        os.unlink(name)
    outcome.assert_held()


def test_limits_and_rights_only_fall(submit: Submit) -> None:
    outcome = submit("""
from attack import *
import resource
for kind in (resource.RLIMIT_NOFILE, resource.RLIMIT_FSIZE, resource.RLIMIT_CPU, resource.RLIMIT_CORE, resource.RLIMIT_MEMLOCK):
    hard = resource.getrlimit(kind)[1]
    attempt(f"limit {kind}", lambda: hard == resource.RLIM_INFINITY or resource.setrlimit(kind, (hard + 1, hard + 1)) is None)
    attempt(f"limit of 1 {kind}", lambda: hard == resource.RLIM_INFINITY or resource.prlimit(1, kind, (hard + 1, hard + 1)))
attempt("real time", lambda: os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(10)) is None)
attempt("oom score", lambda: open("/proc/self/oom_score_adj", "w").write("-1000") and open("/proc/self/oom_score_adj").read() == "-1000")
attempt("lock memory", lambda: libc.mlockall(3) == 0)
attempt("randomness off", lambda: libc.personality(0x0040000) != -1)
attempt("time", lambda: __import__("time").clock_settime(0, 0) is None)
attempt("swap of clone3", lambda: call(435, 0, 0) != 38)
""")
    outcome.assert_held()


def test_program_in_memory_has_no_more_rights(submit: Submit) -> None:
    """memfd_create and exec work, for CUDA's sake: what they start is the same process in the same sandbox.

    Where no control group counts such memory, memfd_create is refused, and the program ends there.
    """
    outcome = submit("""
from attack import *
try:
    program = os.memfd_create("program", 0)
except PermissionError:
    sys.exit("held: refused")
os.write(program, open(os.path.realpath(sys.executable), "rb").read()) if os.path.getsize(os.path.realpath(sys.executable)) < 30 << 20 else None
os.fchmod(program, 0o6755)
code = "import os; status = open('/proc/self/status').read(); " \\
       "print('OPEN' if os.geteuid() == 0 or 'NoNewPrivs:\\\\t1' not in status or 'Seccomp:\\\\t2' not in status else 'held')"
print("held before", flush=True)
os.execve(program, [sys.executable, "-I", "-S", "-c", code], dict(os.environ, PYTHONHOME=sys.base_prefix))
""")
    outcome.assert_held()


def test_stopped_run_ends_with_the_wall_clock(submit: Submit) -> None:
    outcome = submit("import os, signal; os.kill(os.getpid(), signal.SIGSTOP)", limits=replace(LIMITS, wall_seconds=1))
    assert outcome.result.reason == "timeout"
    assert not outcome.result.leftovers


def test_daemon_that_keeps_the_log_open_delays_nothing(submit: Submit) -> None:
    began = time.monotonic()
    outcome = submit(
        """
from attack import *
import time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        time.sleep(600)
    os._exit(0)
os.wait()
leave_metrics(score=1.0)
print("done", flush=True)
""",
        limits=replace(LIMITS, wall_seconds=300),
    )
    assert outcome.result.succeeded and outcome.result.metrics_error is None
    assert outcome.log == "done\n"
    # Not the daemon's ten minutes, nor the limit's five.
    assert time.monotonic() - began < 200


def test_run_without_output_or_with_all_of_its_scratch_full_ends_well(submit: Submit) -> None:
    outcome = submit("""
from attack import *
leave_metrics(score=1.0)
for folder in ("/tmp", "/dev/shm"):
    made = 0
    try:
        while made < 60_000:
            os.close(os.open(f"{folder}/{made}", os.O_CREAT))
            made += 1
        print("OPEN", folder, flush=True)
    except OSError as error:
        print("held", folder, error.strerror, flush=True)
for descriptor in (0, 1, 2):
    os.close(descriptor)
""")
    outcome.assert_held()
    assert outcome.log.count("held") == 2
    assert (outcome.result.exit_code, outcome.result.metrics_error) == (0, None)


@pytest.mark.parametrize("executor", ["bubblewrap"], scope="session")
def test_huge_line_and_escapes_stay_bytes_of_the_log(submit: Submit) -> None:
    outcome = submit(r"""
import sys
sys.stdout.write("\x1b]0;owned\x07\x1b[2J\x9b31m\u202e")
while True:
    sys.stdout.write("x" * 65536)
""")
    assert outcome.result.reason == "log_limit"
    assert (outcome.run_dir / "log").stat().st_size < LIMITS.log_kept_bytes + 70_000
    assert outcome.result.detail.isprintable()


@pytest.mark.parametrize("executor", ["bubblewrap"], scope="session")
def test_names_alike_to_a_file_system_that_folds_stay_apart(submit: Submit) -> None:
    outcome = submit("""
from attack import *
for name in ("Result.txt", "result.txt", "Straße", "STRASSE", "e\\u0301.txt", "\\u00e9.txt", "trailing.", "trailing "):
    leave(name, name)
""")
    names = artifact_names(outcome)
    assert {"Result.txt", "result.txt", "Straße", "STRASSE", "é.txt"} <= set(names)
    assert "e\u0301.txt" not in names
    assert len(names) == len(set(names))
