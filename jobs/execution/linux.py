"""The few kernel calls that Python 3.11 has no function for."""

import contextlib
import ctypes
import os
import re
import resource
import select
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Self

CLONE_NEWNS, CLONE_NEWUTS, CLONE_NEWUSER = 0x00020000, 0x04000000, 0x10000000
MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_REMOUNT, MS_BIND = 1, 2, 4, 8, 32, 4096
MS_REC, MS_PRIVATE = 16384, 1 << 18
_MNT_DETACH = 2
_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_SET_CHILD_SUBREAPER, _PR_SET_NO_NEW_PRIVS = 1, 4, 36, 38

_libc = ctypes.CDLL(None, use_errno=True)


def _checked(result: int, what: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def unshare(flags: int) -> None:
    _checked(_libc.unshare(flags), "unshare")


def set_domain_name(name: str) -> None:
    _checked(_libc.setdomainname(name.encode(), len(name)), "setdomainname")


def mount(source: str, target: str, kind: str | None, flags: int, options: str = "") -> None:
    arguments = (
        source.encode(),
        target.encode(),
        kind.encode() if kind else None,
        ctypes.c_ulong(flags),
        options.encode(),
    )
    _checked(_libc.mount(*arguments), f"mount {kind or source} on {target}")


def unmount_below(folder: str) -> None:
    """Take away every file system that is mounted below a folder of ours, the innermost first."""
    inside = folder.rstrip("/") + "/"
    for place in reversed(mount_points()):
        if place.startswith(inside):
            _libc.umount2(place.encode(), _MNT_DETACH)


def mount_points() -> list[str]:
    return [unescaped(line.split()[4]) for line in Path("/proc/self/mountinfo").read_text().splitlines()]


_OCTAL = re.compile(r"\\([0-7]{3})")


def unescaped(path: str) -> str:
    """A path of mountinfo, in which the kernel writes blanks and backslashes as octal numbers."""
    return _OCTAL.sub(lambda found: chr(int(found[1], 8)), path) if "\\" in path else path


def _prctl(option: int, value: int) -> None:
    _checked(_libc.prctl(option, ctypes.c_ulong(value), 0, 0, 0), f"prctl {option}")


def adopt_orphans() -> None:
    """Whatever a run leaves behind becomes our child, so that it can be waited for."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def forbid_new_privileges() -> None:
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)


def stay_dumpable() -> None:
    """After a change of user /proc/self belongs to root; this gives it back, so that uid_map can be written."""
    _prctl(_PR_SET_DUMPABLE, 1)


def die_with(parent: int) -> None:
    """SIGKILL to this process when `parent` is gone. Call it after the last change of user: that clears it."""
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(127)


def enter_user_namespace(uid: int, gid: int, extra: int = 0) -> None:
    """A user namespace in which we stay who we are. Limits on processes then count this run's alone."""
    unshare(CLONE_NEWUSER | extra)
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"{uid} {uid} 1")
    Path("/proc/self/gid_map").write_text(f"{gid} {gid} 1")


def lower_limit(which: int, soft: int, hard: int | None = None) -> None:
    """Set an rlimit, never above the present hard limit: raising needs a capability that nobody has here."""
    resource.setrlimit(which, possible_limit(which, soft, hard))


def possible_limit(which: int, soft: int, hard: int | None = None) -> tuple[int, int]:
    """(soft, hard) as wanted, or as much of it as the present hard limit leaves."""
    ceiling = resource.getrlimit(which)[1]
    hard = soft if hard is None else hard
    if ceiling != resource.RLIM_INFINITY:
        soft, hard = min(soft, ceiling), min(hard, ceiling)
    return soft, hard


def now() -> float:
    """Seconds that also pass while the machine sleeps: a fence must not be stretched by a suspended laptop or VM."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def process_started(pid: int) -> int | None:
    """Start time of a process in clock ticks, None when it is dead: with the pid it names a process for good.

    One that nobody has waited for is dead as well: below an init that reaps nothing it would stay for ever.
    """
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    state, threads = fields[0], int(fields[17])
    return None if state in "ZX" and threads <= 1 else int(fields[19])


class Process:
    """A process held by a descriptor: no other one that gets its number later is ever meant."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    @classmethod
    def find(cls, pid: int) -> Self | None:
        """The process of this number, None when there is none."""
        try:
            return cls(os.pidfd_open(pid))
        except OSError:
            return None

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._descriptor, signal.SIGKILL)

    def wait(self, seconds: float) -> bool:
        """Whether it is dead within this time; the descriptor is given back."""
        try:
            poll = select.poll()
            poll.register(self._descriptor, select.POLLIN)
            return bool(poll.poll(int(1000 * seconds)))
        finally:
            os.close(self._descriptor)


@contextlib.contextmanager
def opened(descriptor: int) -> Iterator[int]:
    """A bare descriptor, closed at the end."""
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def descendants(pid: int) -> list[int]:
    """Every living process below `pid`, whatever it did to hide in sessions and groups."""
    found: list[int] = []
    waiting = [pid]
    while waiting:
        for task in _tasks(waiting.pop()):
            try:
                children = [int(child) for child in Path(task, "children").read_text().split()]
            except OSError:
                continue
            found += children
            waiting += children
    return found


def _tasks(pid: int) -> list[str]:
    folder = f"/proc/{pid}/task"
    try:
        return [f"{folder}/{name}" for name in os.listdir(folder)]
    except OSError:
        return []
