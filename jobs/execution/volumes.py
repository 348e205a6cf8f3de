"""The folders that a run may write to: file systems in memory, or folders on disk where they are too large for that."""

import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass

from core.sizes import MIB, human_bytes

from . import code_copy, disk, linux
from .launch import SandboxError
from .spec import Limits, RunSpec
from .stage import Stage
from .told import Told as _

TMP_INODES = 50_000
_LOOK_SECONDS = 1.0
# So much of the time at most goes into measuring folders.
_SHARE = 0.2


@dataclass(frozen=True)
class Size:
    bytes: int
    inodes: int
    mode: int
    # Mount flags.
    flags: int = 0


def sizes(limits: Limits, code: code_copy.Source | None = None) -> dict[str, Size]:
    """Return the size of each folder by its name: output, tmp, shm, and code for a run with a copy of its code."""
    found = {
        "output": Size(limits.output_bytes, limits.output_inodes, 0o700, linux.MS_NOEXEC),
        "tmp": Size(limits.tmp_bytes, TMP_INODES, 0o1777),
        # Always in memory, as programs expect it.
        "shm": Size(max(64 * MIB, min(limits.tmp_bytes, limits.memory_bytes // 2)), 1000, 0o1777, linux.MS_NOEXEC),
    }
    if code is not None:
        found[code_copy.NAME] = Size(*code.volume_size(limits), 0o755)
    return found


class Volumes:
    """The folders of one run. Those on disk are made at once, before the stage hides their place; `mount` shows all."""

    def __init__(self, run_dir: str, limits: Limits, uid: int, gid: int, code: code_copy.Source | None = None) -> None:
        self.sizes = sizes(limits, code)
        self.descriptors: dict[str, int] = {}
        # Where those on disk lie; empty if there are none.
        self.root = ""
        self.folders: dict[str, disk.Folder] = {}
        # Folders that were full at some time.
        self.full: set[str] = set()
        self._limits = limits
        self._owner = uid, gid
        self._code = code
        self._next_look = 0.0
        on_disk = [name for name in self.sizes if name != "shm" and self.sizes[name].bytes > limits.in_memory_bytes]
        if on_disk:
            self._make(run_dir, on_disk)

    def _make(self, run_dir: str, names: list[str]) -> None:
        # A sandbox that was made ahead for another kind of run may have left its own.
        self.root = tempfile.mkdtemp(prefix="disk-", dir=run_dir)
        for name in names:
            size = self.sizes[name]
            self.folders[name] = disk.make(self.root, name, size.bytes, size.inodes, *self._owner, size.mode)
        if (free := disk.free_bytes(self.folders[names[0]].descriptor)) < disk.RESERVE_BYTES:
            raise SandboxError(_disk_is_full(free))

    def mount(self, stage: Stage) -> None:
        """Show every folder on the stage."""
        for name, size in self.sizes.items():
            if name in self.folders:
                self.descriptors[name] = stage.disk_volume(self.folders[name], size.flags)
                disk.add_devices(self.folders[name], self.descriptors[name])
            else:
                mode = f"{size.mode:o}"
                self.descriptors[name] = stage.volume(name, size.bytes, size.inodes, mode, *self._owner, size.flags)
        self._copy_code()

    def use_unmounted(self) -> None:
        """Let the run write to the folders on disk where they lie."""
        self.descriptors = {name: folder.descriptor for name, folder in self.folders.items()}
        self._copy_code()

    def _copy_code(self) -> None:
        if self._code is not None:
            code_copy.copy(self._code, self.descriptors[code_copy.NAME], *self._owner)

    @property
    def applied(self) -> dict[str, str]:
        """What holds the run to the size of each folder."""
        return {name: self.folders[name].bound if name in self.folders else "tmpfs" for name in self.sizes}

    @property
    def in_memory(self) -> dict[str, int]:
        return {name: volume for name, volume in self.descriptors.items() if name not in self.folders}

    def look(self, end: Callable[[str, str], None]) -> None:
        """Note which folders are full, and end the run if one on disk is over its limit or the disk itself is full."""
        self.note_full()
        now = linux.now()
        watched = [folder for folder in self.folders.values() if folder.bound == "watchdog"]
        if not watched or now < self._next_look:
            return
        if (free := disk.free_bytes(watched[0].descriptor)) < disk.RESERVE_BYTES // 2:
            end("sandbox_error", _disk_is_full(free))
        processes = linux.descendants(os.getpid())
        for folder in watched:
            usage = disk.measure(folder, processes)
            if usage.exceeds(folder):
                self.full.add(folder.name)
                end("disk_limit", self.sentence(folder.name))
        took = linux.now() - now
        self._next_look = now + max(_LOOK_SECONDS, took / _SHARE)

    def note_full(self) -> None:
        """Note the folders that are full and bounded by the kernel: a disk may be full without the run's doing."""
        for name, volume in self.descriptors.items():
            is_watched = name in self.folders and self.folders[name].bound == "watchdog"
            if not is_watched and _is_full(volume):
                self.full.add(name)

    def sentence(self, name: str) -> str:
        """Say which folder was full, with its limits."""
        size = {"size": human_bytes(self.sizes[name].bytes), "files": self.sizes[name].inodes}
        if name == "output":
            return _("the output folder was full: its limit is %(size)s or %(files)d files", **size)
        if name == code_copy.NAME:
            return code_copy.full_sentence(self._limits)
        place = {"tmp": "/tmp", "shm": "/dev/shm"}[name]
        return _("%(place)s was full: its limit is %(size)s or %(files)d files", place=place, **size)


def of(spec: RunSpec, uid: int, gid: int) -> Volumes:
    """Make the volumes of a run."""
    code = code_copy.open_source(spec.code_dir) if spec.has_writable_code else None
    return Volumes(spec.run_dir, spec.limits, uid, gid, code)


def _is_full(volume: int) -> bool:
    state = os.fstatvfs(volume)
    return state.f_bavail == 0 or state.f_favail == 0


def _disk_is_full(free: int) -> str:
    return _("the worker's disk for runs has only %(free)s left", free=human_bytes(free))
