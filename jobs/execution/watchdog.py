"""Memory and CPU of a run added up from /proc, for machines where no control group can be written.

It looks a few times a second, so a run can be over its limit for a moment; RLIMIT_DATA bounds each single process meanwhile.
"""

import contextlib
import os
from pathlib import Path

from . import linux

_PAGE = os.sysconf("SC_PAGE_SIZE")
_TICK = os.sysconf("SC_CLK_TCK")


def memory_in_use(volumes: dict[str, int], precise_above: int) -> int:
    """Bytes used by all our descendants and by the sized file systems of the run.

    Resident memory counts shared pages once for each process; it is cheap, so the exact share (PSS) is only asked for when
    the cheap sum is above `precise_above`.
    """
    pids = linux.descendants(os.getpid())
    files = sum(_used(volume) for volume in volumes.values())
    # What lies in a sized file system may be mapped too: it is then counted in RSS again, and only there to the safe side.
    total = files + sum(_resident(pid) + _memory_files(pid) for pid in pids)
    if total <= precise_above:
        return total
    return files + sum(_proportional(pid) + _memory_files(pid) for pid in pids)


def cpu_seconds() -> float:
    """CPU time of all living descendants and of those that they have waited for."""
    return sum(_cpu(pid) for pid in linux.descendants(os.getpid()))


def _used(volume: int) -> int:
    state = os.fstatvfs(volume)
    return (state.f_blocks - state.f_bfree) * state.f_frsize


def _resident(pid: int) -> int:
    with contextlib.suppress(OSError, IndexError, ValueError):
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE
    return 0


def _proportional(pid: int) -> int:
    with contextlib.suppress(OSError, ValueError, IndexError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    return _resident(pid)


def _memory_files(pid: int) -> int:
    """Bytes in memfd files that the process holds open: they belong to no file system that could be asked."""
    total = 0
    with contextlib.suppress(OSError):
        for name in os.listdir(f"/proc/{pid}/fd"):
            with contextlib.suppress(OSError):
                if os.readlink(f"/proc/{pid}/fd/{name}").startswith("/memfd:"):
                    total += os.stat(f"/proc/{pid}/fd/{name}").st_blocks * 512
    return total


def _cpu(pid: int) -> float:
    with contextlib.suppress(OSError, IndexError, ValueError):
        numbers = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return sum(int(number) for number in numbers[11:15]) / _TICK
    return 0.0
