"""What every executor hands to the supervisor, and the start and the end of the processes of a run."""

import contextlib
import os
import resource
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from . import cgroup, linux
from .spec import Limits

if TYPE_CHECKING:
    from .volumes import Volumes

KILL_SECONDS = 10.0


class SandboxError(RuntimeError):
    """The run could not be set up: the platform's fault, never the submission's."""


@dataclass
class Prepared:
    """A run that is ready to start."""

    isolation: str
    argv: list[str]
    environment: dict[str, str]
    # Descriptor of the folder that the program writes to, readable here after the end.
    output: int
    applied: dict[str, str]
    working_directory: str = "/"
    # Further descriptors that the started program needs by number.
    descriptors: list[int] = field(default_factory=list)
    # What the program may write to, to be asked how full it is.
    volumes: "Volumes | None" = None
    # User to step down to, for a supervisor that is root.
    uid: int | None = None
    # Exit code of the program, from the wait status of what we started; raises SandboxError when it never ran.
    exit_code: Callable[[int], int] = os.waitstatus_to_exitcode
    # What we start only talks to a container engine: groups and limits are the container's, who must not be in ours.
    is_client: bool = False
    # Ends what is not a descendant of ours (a container); called before waiting for our own. False: something is left.
    stop: Callable[[], bool] = lambda: True
    # Lets a program go that was held back at the last step before it begins.
    open_gate: Callable[[], None] = lambda: None
    # Gives back what was mounted, after everything was read.
    close: Callable[[], None] = lambda: None
    pid: int = 0


def start(prepared: Prepared, limits: Limits, group: cgroup.Group, outputs: tuple[int, int]) -> int:
    """Start the program with `outputs` as its standard output and error; its pid. SandboxError tells which step failed."""
    report, failure = os.pipe()
    entries = [] if prepared.is_client else group.entry_descriptors()
    supervisor = os.getpid()
    pid = os.fork()
    if pid == 0:
        try:
            _become(prepared, limits, group, entries, outputs, supervisor, failure)
        except BaseException as error:
            # Whatever it was: a fork must never return into the supervisor's code.
            os.write(failure, f"{type(error).__name__}: {error}".encode()[:2000])
        finally:
            os._exit(126)
    os.close(failure)
    for entry in entries:
        os.close(entry)
    with os.fdopen(report, "rb") as pipe:
        message = pipe.read()
    if message:
        os.waitpid(pid, 0)
        raise SandboxError(f"could not start the run: {message.decode(errors='replace')}")
    prepared.pid = pid
    return pid


def _become(
    prepared: Prepared,
    limits: Limits,
    group: cgroup.Group,
    entries: list[int],
    outputs: tuple[int, int],
    supervisor: int,
    failure: int,
) -> None:
    """In the child: limits first, privileges last, then exec."""
    os.setsid()
    null = os.open("/dev/null", os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(outputs[0], 1)
    os.dup2(outputs[1], 2)
    for entry in entries:
        os.write(entry, b"0")
    if not prepared.is_client:
        # When the whole machine runs out of memory the kernel shall take the run, not the worker.
        with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as score:
            score.write("1000")
        _set_limits(limits, group)
        _step_down(prepared, limits, group)
        linux.forbid_new_privileges()
    for number in (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    linux.die_with(supervisor)
    os.chdir(prepared.working_directory)
    keep_only({0, 1, 2, failure, *prepared.descriptors})
    for descriptor in prepared.descriptors:
        os.set_inheritable(descriptor, True)
    os.execve(prepared.argv[0], prepared.argv, prepared.environment)


def _set_limits(limits: Limits, group: cgroup.Group) -> None:
    linux.lower_limit(resource.RLIMIT_CORE, 0)
    linux.lower_limit(resource.RLIMIT_MEMLOCK, 64 * 1024)
    linux.lower_limit(resource.RLIMIT_NOFILE, limits.open_files)
    linux.lower_limit(resource.RLIMIT_FSIZE, limits.file_bytes)
    seconds = max(1, int(limits.cpu_seconds))
    linux.lower_limit(resource.RLIMIT_CPU, seconds, seconds + 5)
    if not group.held("memory"):
        # Not RLIMIT_AS: CUDA and others reserve far more address space than they use.
        linux.lower_limit(resource.RLIMIT_DATA, limits.memory_bytes)


def _step_down(prepared: Prepared, limits: Limits, group: cgroup.Group) -> None:
    if prepared.uid is not None:
        os.setgroups([])
        os.setresgid(prepared.uid, prepared.uid, prepared.uid)
        os.setresuid(prepared.uid, prepared.uid, prepared.uid)
    if group.held("pids") or not prepared.applied.get("processes"):
        return
    if prepared.uid is not None:
        # The limit counts all processes of the user in a user namespace; in one of its own, it counts this run's.
        linux.stay_dumpable()
        linux.enter_user_namespace(prepared.uid, prepared.uid)
    linux.lower_limit(resource.RLIMIT_NPROC, limits.processes)


def keep_only(wanted: set[int]) -> None:
    first = 0
    for descriptor in [*sorted(wanted), 1 << 20]:
        # closerange(0, 0) would close everything: Python passes the end as -1.
        if first < descriptor:
            os.closerange(first, descriptor)
        first = descriptor + 1


def kill_everything(prepared: Prepared, group: cgroup.Group, statuses: dict[int, int]) -> bool:
    """SIGKILL and wait for all of a run; its wait statuses land in `statuses`. False when something is left.

    A sandbox goes on writing for some milliseconds after the process we started is gone. It is over when its pid 1, which
    the kernel reaps after everything in its namespace, has come to us as an orphan and was waited for.
    """
    try:
        is_gone = prepared.stop()
    except OSError:
        is_gone = False
    if _kill_descendants(statuses):
        return group.kill() and is_gone
    group.kill(0.5)
    return False


def _kill_descendants(statuses: dict[int, int]) -> bool:
    """Whether none is left after KILL_SECONDS."""
    deadline = time.monotonic() + KILL_SECONDS
    # Blocked, the word of a child's end waits for whoever asks: none that ends between two looks is missed.
    earlier = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
    try:
        while True:
            for pid in linux.descendants(os.getpid()):
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, signal.SIGKILL)
            if reap(statuses):
                return True
            if time.monotonic() > deadline:
                return False
            signal.sigtimedwait({signal.SIGCHLD}, 0.01)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, earlier)


def reap(statuses: dict[int, int]) -> bool:
    """Collect every dead child without waiting; True when none is left at all."""
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return True
        if pid == 0:
            return False
        statuses[pid] = status


def rusage() -> tuple[float, int]:
    """(CPU seconds of all waited-for processes, largest memory of any single one in bytes)."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024
