"""The part of /proc that tells of the host, hidden from runs.

A process namespace hides processes. The rest of /proc is the host's: its locks, keyrings, disks, load, command line. Entries
that programs do not need are hidden, those of later kernels too. Three that programs read to learn what they may use are
replaced by files that say the same on every host.
"""

import os
import stat

from core.sizes import KIB

from .spec import Limits

_PROC = "/proc"
# The processor and the kernel, which instructions and uname tell as well, and what namespaces separate.
_SHOWN = {
    "cpuinfo", "filesystems", "mounts", "net", "self", "sys", "sysvipc", "thread-self", "uptime", "version",
}  # fmt: skip
# CUDA needs these to find its driver.
_SHOWN_WITH_GPU = {"devices", "driver", "modules"}
# Settings stay readable, except those that count what the host does or identify this boot.
_HIDDEN_SETTINGS = (
    "sys/fs/dentry-state", "sys/fs/file-nr", "sys/fs/inode-nr", "sys/fs/inode-state", "sys/kernel/pty/nr",
    "sys/kernel/random/boot_id",
)  # fmt: skip


def replaced(limits: Limits) -> dict[str, bytes]:
    """Return the content of the files that replace the host's, by path."""
    total = limits.memory_bytes // KIB
    memory = {"MemTotal": total, "MemFree": total, "MemAvailable": total}
    memory |= dict.fromkeys(("Buffers", "Cached", "Active", "Inactive", "SwapTotal", "SwapFree", "Shmem", "Slab"), 0)
    processors = ["cpu ", *(f"cpu{number}" for number in range(os.cpu_count() or 1))]
    counters = {"intr": 0, "ctxt": 0, "btime": 0, "processes": 0, "procs_running": 1, "procs_blocked": 0}
    lines = [f"{name} {' '.join('0' * 10)}" for name in processors]
    lines += [f"{name} {value}" for name, value in counters.items()]
    lines.append(f"softirq {' '.join('0' * 11)}")
    return {
        f"{_PROC}/loadavg": b"0.00 0.00 0.00 1/1 1\n",
        f"{_PROC}/meminfo": "".join(f"{name + ':':<16}{value:>8} kB\n" for name, value in memory.items()).encode(),
        f"{_PROC}/stat": "".join(f"{line}\n" for line in lines).encode(),
    }


def hidden(*, has_gpu: bool) -> tuple[list[str], list[str]]:
    """Return (files, folders) of /proc that a run must find empty. Entries that only root may read stay as they are."""
    shown = _SHOWN | _SHOWN_WITH_GPU if has_gpu else _SHOWN
    replacements = ("loadavg", "meminfo", "stat")
    files: list[str] = []
    folders: list[str] = []
    names = [name for name in os.listdir(_PROC) if not name.isdigit() and name not in shown]
    for name in [*names, *_HIDDEN_SETTINGS]:
        path = f"{_PROC}/{name}"
        try:
            mode = os.stat(path).st_mode
        except OSError:
            continue
        if name in replacements or not mode & 0o004:
            continue
        (folders if stat.S_ISDIR(mode) else files).append(path)
    return sorted(files), sorted(folders)
