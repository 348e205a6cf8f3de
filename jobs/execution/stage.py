"""A file system on which all that a sandbox shows is put together, without its paths on the host.

/proc/self/mountinfo names the folder that a bind mount came from, and its device. So folders are shown through a read-only
overlay whose layers are given by descriptors: mountinfo then names neither, no data is copied, and the page cache is
shared. If the kernel or a file system refuses it, bind mounts are used, and runs see where their files lie.
"""

import os
import stat
from dataclasses import dataclass

from . import linux
from .disk import Folder
from .interpreter import Patch
from .launch import SandboxError

_SIZE = "size=16m,nr_inodes=10000,mode=755"
_FLAGS = linux.MS_NOSUID | linux.MS_NODEV


@dataclass
class _Source:
    path: str
    place: str
    # Of the folder, or of the folder that the file lies in.
    descriptor: int
    # The file's name in it; empty for a folder.
    name: str
    patch: Patch


class Stage:
    """Add sources first, then `build`, then make volumes."""

    def __init__(self, root: str) -> None:
        self.root = root
        self._sources: list[_Source] = []
        self._texts: dict[str, bytes] = {}
        # Paths of sources that a run can see.
        self.exposed: set[str] = set()

    def add(self, path: str, *, follow: bool = True, patch: Patch | None = None) -> str:
        """Add a source; return its path on the stage. Use `follow=False` for places that a run could have made."""
        if follow:
            path = os.path.realpath(path)
        descriptor = _open(path)
        mode = os.fstat(descriptor).st_mode
        if stat.S_ISLNK(mode):
            raise SandboxError(f"cannot show {path} to the run: it is a symbolic link")
        name = ""
        if not stat.S_ISDIR(mode):
            os.close(descriptor)
            folder, name = os.path.split(path)
            descriptor = _open(folder)
        place = f"{self.root}/{len(self._sources)}"
        self._sources.append(_Source(path, place, descriptor, name, patch or {}))
        return place

    def add_text(self, content: bytes) -> str:
        """Add a file with this content; return its path on the stage."""
        place = f"{self.root}/text{len(self._texts)}"
        self._texts[place] = content
        return place

    @property
    def nothing(self) -> str:
        """The path of an empty folder."""
        return f"{self.root}/nothing"

    def build(self) -> None:
        mounted = linux.mount_points()
        linux.mount("stage", self.root, "tmpfs", _FLAGS, _SIZE)
        _make_folder(self.nothing)
        for place, content in self._texts.items():
            _write(place, content, 0o644)
        for source in self._sources:
            if _has_mounts(source, mounted) or not self._overlay(source):
                self._bind(source)
            os.close(source.descriptor)

    def _overlay(self, source: _Source) -> bool:
        """Show the source through an overlay; return whether the kernel could make one."""
        folder = f"{source.place}.folder" if source.name else source.place
        _make_folder(folder)
        layer = self._layer(source) if source.patch else self.nothing
        upper = os.open(layer, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        # A read-only overlay needs two layers; the first one hides names of the second.
        options = f"lowerdir=/proc/self/fd/{upper}:/proc/self/fd/{source.descriptor}"
        try:
            linux.mount("shown", folder, "overlay", _FLAGS | linux.MS_RDONLY, options)
        except OSError:
            return False
        finally:
            os.close(upper)
        if source.name:
            _write(source.place, b"", 0o600)
            linux.mount(f"{folder}/{source.name}", source.place, None, linux.MS_BIND)
        return True

    def _layer(self, source: _Source) -> str:
        layer = f"{source.place}.patch"
        _make_folder(layer)
        for folder in sorted({os.path.dirname(name) for name in source.patch} - {""}):
            _make_folder(f"{layer}/{folder}")
        for name, content in source.patch.items():
            if isinstance(content, str):
                os.symlink(content, f"{layer}/{name}")
            else:
                _write(f"{layer}/{name}", content, 0o755)
        return layer

    def _bind(self, source: _Source) -> None:
        self.exposed.add(source.path)
        target = f"/proc/self/fd/{source.descriptor}"
        if source.name:
            if not os.path.exists(source.place):
                _write(source.place, b"", 0o600)
            linux.mount(f"{target}/{source.name}", source.place, None, linux.MS_BIND)
            return
        if not os.path.isdir(source.place):
            os.mkdir(source.place)
        linux.mount(target, source.place, None, linux.MS_BIND | linux.MS_REC)

    def volume(self, name: str, size: int, inodes: int, mode: str, uid: int, gid: int, flags: int = 0) -> int:
        """Make a sized file system at root/name; return a descriptor of it."""
        place = f"{self.root}/{name}"
        os.mkdir(place)
        options = f"size={size},nr_inodes={inodes},mode={mode},uid={uid},gid={gid}"
        linux.mount(name, place, "tmpfs", flags | _FLAGS, options)
        return os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def disk_volume(self, folder: Folder, flags: int = 0) -> int:
        """Show a folder on disk at root/name, through an overlay that hides its path; return a descriptor of it.

        A bind mount takes the overlay's place where the file system refuses to carry one.
        """
        place = f"{self.root}/{folder.name}"
        os.mkdir(place)
        lower = os.open(self.nothing, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        layers = [f"/proc/self/fd/{number}" for number in (lower, folder.descriptor, folder.work)]
        options = "lowerdir={},upperdir={},workdir={}".format(*layers)
        with linux.opened(lower):
            # In a user namespace only `userxattr` lets folders be renamed.
            for more in (",userxattr", ""):
                try:
                    linux.mount(folder.name, place, "overlay", flags | _FLAGS, options + more)
                    break
                except OSError:
                    continue
            else:
                linux.mount(layers[1], place, None, linux.MS_BIND)
                linux.mount(place, place, None, linux.MS_BIND | linux.MS_REMOUNT | flags | _FLAGS)
        return os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)


def _open(path: str) -> int:
    try:
        return os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        raise SandboxError(f"cannot show {path} to the run: {error.strerror}") from error


def _has_mounts(source: _Source, mounted: list[str]) -> bool:
    """Whether something is mounted inside, which an overlay would not show."""
    inside = f"{source.path.rstrip('/')}/"
    return any(place.startswith(inside) or (source.name and place == source.path) for place in mounted)


def _make_folder(path: str) -> None:
    os.mkdir(path)
    os.chmod(path, 0o755)  # whatever the umask is


def _write(path: str, content: bytes, mode: int) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        os.write(descriptor, content)
        os.fchmod(descriptor, mode)
    finally:
        os.close(descriptor)
