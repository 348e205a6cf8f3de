"""The folders of a run that lie on disk: made, bounded, measured and removed (docs/security.md, "Disk space").

A folder on a file system with project quotas is bounded by the kernel. Elsewhere the supervisor measures each folder once
a second: a run can be over its limit by what the disk takes within that time, and a little longer where it has tens of
thousands of files.
"""

import ctypes
import errno
import fcntl
import os
import stat
import struct
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from . import linux

# Deeper trees count as over the limit: measuring them would need as many open descriptors.
DEEPEST = 200
# With less free on the disk no run starts, and one that goes on is ended as the platform's fault.
RESERVE_BYTES = 512 * 1024**2

_OPEN_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_BLOCK = 512  # of st_blocks, whatever the file system's own
_GETXATTR, _SETXATTR, _INHERIT = 0x801C581F, 0x401C5820, 0x200
_ATTRIBUTES = struct.Struct("=5I8x")  # struct fsxattr: flags, extent sizes, project
_QUOTA = struct.Struct("=8QI4x")  # struct if_dqblk: hard and soft limit of KiB, use, the same of inodes, times, valid
_SET_QUOTA, _PROJECT, _LIMITS = 0x800008, 2, 1 | 4  # Q_SETQUOTA; PRJQUOTA; QIF_BLIMITS | QIF_ILIMITS
_QUOTACTL_FD = 443

_libc = ctypes.CDLL(None, use_errno=True)


@dataclass
class Folder:
    """A folder that a run may write to, and its limits."""

    name: str
    size_bytes: int
    inodes: int
    # Descriptors of the folder and of its neighbour on the same file system, which an overlay needs.
    descriptor: int
    work: int
    # "project-quota" or "watchdog".
    bound: str
    # By which open and mapped files of the folder are known. Folders that no overlay shows have the disk's alone, in common.
    devices: set[int] = field(default_factory=set)


@dataclass(frozen=True)
class Usage:
    used_bytes: int
    inodes: int
    is_too_deep: bool = False

    def exceeds(self, folder: Folder) -> bool:
        return self.is_too_deep or self.used_bytes > folder.size_bytes or self.inodes > folder.inodes


def make(root: str, name: str, size_bytes: int, inodes: int, uid: int, gid: int, mode: int) -> Folder:
    """Make the folder `name` below `root`, for the user. Raises OSError."""
    descriptor, work = _make(os.path.join(root, name)), _make(os.path.join(root, f"{name}.work"))
    folder = Folder(name, size_bytes, inodes, descriptor, work, bound="watchdog")
    folder.devices.add(os.fstat(descriptor).st_dev)
    os.fchown(folder.descriptor, uid, gid)
    os.fchmod(folder.descriptor, mode)
    if _set_quota(folder):
        folder.bound = "project-quota"
    return folder


def bound_below(root: Path) -> str:
    """Return what holds folders below `root` to their size: "project-quota" or "watchdog"."""
    try:
        with tempfile.TemporaryDirectory(prefix="disk-", dir=root) as place:
            folder = make(place, "probe", 1024**2, 10, os.geteuid(), os.getegid(), 0o700)
            os.close(folder.descriptor)
            os.close(folder.work)
            return folder.bound
    except OSError:
        return "watchdog"


def _make(path: str) -> int:
    os.mkdir(path, 0o700)
    return os.open(path, _OPEN_FOLDER)


def free_bytes(descriptor: int) -> int:
    state = os.fstatvfs(descriptor)
    return state.f_bavail * state.f_frsize


def _set_quota(folder: Folder) -> bool:
    """Give the folder a project of its own, with limits; return whether the kernel now holds it to them."""
    project = 0x40000000 | (os.fstat(folder.descriptor).st_ino & 0x3FFFFFFF)
    limits = (-(-folder.size_bytes // 1024), 0, 0, folder.inodes, 0, 0, 0, 0, _LIMITS)
    try:
        for descriptor in (folder.descriptor, folder.work):
            known = bytearray(_ATTRIBUTES.size)
            fcntl.ioctl(descriptor, _GETXATTR, known)
            flags, extent, extents, _, copied = _ATTRIBUTES.unpack(known)
            fcntl.ioctl(descriptor, _SETXATTR, _ATTRIBUTES.pack(flags | _INHERIT, extent, extents, project, copied))
        wanted = ctypes.create_string_buffer(_QUOTA.pack(*limits), _QUOTA.size)
        command = ctypes.c_uint(_SET_QUOTA << 8 | _PROJECT)
        if _libc.syscall(_QUOTACTL_FD, folder.descriptor, command, project, wanted):
            return False
    except OSError:
        return False
    # A limit that is only kept in the books is none: statvfs tells of those that are enforced.
    state = os.fstatvfs(folder.descriptor)
    return state.f_blocks * state.f_frsize <= folder.size_bytes + state.f_frsize


def add_devices(folder: Folder, shown: int) -> None:
    """Learn the devices of the overlay that shows the folder, by its descriptor: one of folders, another of files."""
    name = ".device"
    made = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=shown)
    with linux.opened(made):
        folder.devices |= {os.fstat(shown).st_dev, os.fstat(made).st_dev}
    os.unlink(name, dir_fd=shown)


def measure(folder: Folder, processes: Iterable[int]) -> Usage:
    """Return what the folder holds, with files that were deleted but are open or mapped in these processes.

    It stops at the limit of bytes, names or depth.
    """
    usage = _in_tree(folder)
    if usage.exceeds(folder):
        return usage
    return Usage(usage.used_bytes + _deleted_bytes(processes, folder.devices), usage.inodes)


def _in_tree(folder: Folder) -> Usage:
    used, inodes = 0, 0
    linked: set[int] = set()
    stack = [iter(_entries(folder.descriptor))]
    descriptors = [os.dup(folder.descriptor)]
    try:
        while stack:
            name = next(stack[-1], None)
            if name is None:
                stack.pop()
                os.close(descriptors.pop())
                continue
            try:
                state = os.stat(name, dir_fd=descriptors[-1], follow_symlinks=False)
            except OSError:
                continue  # gone meanwhile
            # Every name counts, or a file with a million of them would hold up the walk.
            inodes += 1
            if state.st_ino not in linked:
                used += state.st_blocks * _BLOCK
            if state.st_nlink > 1 and not stat.S_ISDIR(state.st_mode):
                linked.add(state.st_ino)
            if inodes > folder.inodes or used > folder.size_bytes:
                break
            if stat.S_ISDIR(state.st_mode):
                if len(stack) >= DEEPEST:
                    return Usage(used, inodes, is_too_deep=True)
                inner = _open_folder(name, descriptors[-1])
                if inner is not None:
                    descriptors.append(inner)
                    stack.append(iter(_entries(inner)))
    finally:
        for descriptor in descriptors:
            os.close(descriptor)
    return Usage(used, inodes)


def _entries(descriptor: int) -> list[str]:
    try:
        return os.listdir(descriptor)
    except OSError:
        return []


def _open_folder(name: str, parent: int) -> int | None:
    try:
        return os.open(name, _OPEN_FOLDER, dir_fd=parent)
    except OSError:
        return None


def _deleted_bytes(processes: Iterable[int], devices: set[int]) -> int:
    found: dict[int, int] = {}
    mapped: dict[int, int] = {}
    for pid in processes:
        folder = f"/proc/{pid}/fd"
        try:
            numbers = os.listdir(folder)
        except OSError:
            continue
        for number in numbers:
            try:
                state = os.stat(f"{folder}/{number}")
            except OSError:
                continue
            if not state.st_nlink and stat.S_ISREG(state.st_mode) and state.st_dev in devices:
                found[state.st_ino] = state.st_blocks * _BLOCK
        _add_mapped(pid, devices, mapped)
    return sum(found.values()) + sum(size for inode, size in mapped.items() if inode not in found)


def _add_mapped(pid: int, devices: set[int], mapped: dict[int, int]) -> None:
    """Add the deleted files that the process has mapped, each with the size of its largest mapping."""
    try:
        lines = Path(f"/proc/{pid}/maps").read_bytes().splitlines()
    except OSError:
        return
    for line in lines:
        if not line.endswith(b" (deleted)"):
            continue
        place, _, _, device, inode, _ = line.split(maxsplit=5)
        major, minor = (int(part, 16) for part in device.split(b":"))
        if os.makedev(major, minor) in devices:
            start, end = (int(part, 16) for part in place.split(b"-"))
            mapped[int(inode)] = max(mapped.get(int(inode), 0), end - start)


def clear(descriptor: int) -> None:
    """Remove all content of the folder, however deep, and what its owner may not read. Nothing else writes to it any more."""
    current = os.dup(descriptor)
    names: list[str] = []
    try:
        while True:
            inner = _remove_files(current)
            if inner is not None:
                following = _enter(current, inner)
                names.append(inner)
            elif names:
                # By ".." and not by kept descriptors: a tree may be deeper than a process may open files.
                following = os.open("..", _OPEN_FOLDER, dir_fd=current)
                os.rmdir(names.pop(), dir_fd=following)
            else:
                return
            os.close(current)
            current = following
    finally:
        os.close(current)


def _remove_files(folder: int) -> str | None:
    """Remove the files of the folder; return the name of a folder in it, None when it is empty."""
    for name in os.listdir(folder):
        try:
            os.unlink(name, dir_fd=folder)
        except OSError as error:
            if error.errno not in (errno.EISDIR, errno.EPERM):
                raise
            return name
    return None


def _enter(parent: int, name: str) -> int:
    try:
        os.chmod(name, 0o700, dir_fd=parent)
    except OSError:
        pass  # the next line tells
    return os.open(name, _OPEN_FOLDER, dir_fd=parent)


def remove(path: str | Path) -> None:
    """Remove a folder of ours with what a run left in it; what cannot be removed stays."""
    try:
        descriptor = os.open(path, _OPEN_FOLDER)
    except OSError:
        return
    try:
        with linux.opened(descriptor):
            clear(descriptor)
        os.rmdir(path)
    except OSError:
        return
