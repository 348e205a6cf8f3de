"""A run's own copy of the code folder, which it may write to.

A copy and not an overlay: its files belong to the sandbox's user, and no kernel or file system refuses it. It is made when
the run's files are there, so no sandbox made ahead has one, and it goes with the run's other file systems.
"""

import os
import stat
from dataclasses import dataclass

from core.sizes import human_bytes

from . import linux
from .spec import Limits
from .told import Told as _

NAME = "code"
PLACE = "/sandbox/code"
INODES = 50_000
_BLOCK = 4096


@dataclass(frozen=True)
class Source:
    """The unpacked submission: a descriptor of its folder, open before mounts hide its path."""

    descriptor: int
    size_bytes: int
    inodes: int

    def volume_size(self, limits: Limits) -> tuple[int, int]:
        """Return (bytes, inodes) of a file system for the copy and what the run may add: as much as in /tmp."""
        return self.size_bytes + limits.tmp_bytes, self.inodes + INODES


def open_source(code_dir: str) -> Source:
    descriptor = os.open(code_dir, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    size = inodes = 0
    for _path, folders, files, folder in os.fwalk(".", dir_fd=descriptor, follow_symlinks=False):
        inodes += len(folders) + len(files)
        sizes = [os.stat(name, dir_fd=folder, follow_symlinks=False).st_size for name in files]
        size += sum(_in_blocks(each) for each in sizes) + _BLOCK * len(folders)
    return Source(descriptor, size, inodes + 1)


def full_sentence(limits: Limits) -> str:
    size = human_bytes(limits.tmp_bytes)
    return _("the code folder was full: a run may add %(size)s or %(files)d files to it", size=size, files=INODES)


def _in_blocks(size: int) -> int:
    return -(-size // _BLOCK) * _BLOCK


def copy(source: Source, target: int, uid: int, gid: int) -> None:
    """Copy folders and regular files below the descriptor `target`, which then belong to the user; close the source.

    Modes keep their permissions alone: no setuid, and the owner can write.
    """
    with linux.opened(source.descriptor):
        for path, folders, files, folder in os.fwalk(".", dir_fd=source.descriptor, follow_symlinks=False):
            for name in folders:
                # fwalk names links to folders among the folders.
                if stat.S_ISDIR(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode):
                    inside = os.path.join(path, name)
                    os.mkdir(inside, 0o755, dir_fd=target)
                    os.chown(inside, uid, gid, dir_fd=target, follow_symlinks=False)
            for name in files:
                if stat.S_ISREG(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode):
                    _copy_file(name, folder, os.path.join(path, name), target, uid, gid)


def _copy_file(name: str, folder: int, path: str, target: int, uid: int, gid: int) -> None:
    read = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with linux.opened(read), linux.opened(os.open(path, flags, 0o600, dir_fd=target)) as written:
        state = os.fstat(read)
        left = state.st_size
        while left and (count := os.sendfile(written, read, None, left)):
            left -= count
        os.fchown(written, uid, gid)
        os.fchmod(written, stat.S_IMODE(state.st_mode) & 0o755 | 0o644)
