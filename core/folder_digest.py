"""The digest of a folder's content: SHA-256 of a manifest of its files, equal on every machine that has the same files.

The manifest begins with a line that names its form. Then comes a line for each file, sorted by the bytes of its path: the path
(NFC), its size and its SHA-256. Modes, times and empty folders do not count. What could be read in two ways is refused: links
that lead out of the folder, names that are equal after normalization, anything that is not a regular file.
"""

import contextlib
import hashlib
import json
import os
import stat
import tempfile
import time
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

FORM = b"leadersboard-folder 1\n"
CHUNK = 1024 * 1024
# A file that changes twice within a tick of the file system's clock shows one time. So young, its digest is not kept.
YOUNG_NS = 50_000_000


class FolderRefused(Exception):
    """The folder has no digest; the message names a file and is for operators."""


class Stopped(Exception):
    """Told to stop before all was read."""


@dataclass(frozen=True)
class FolderState:
    """A folder as one walk found it. `signature` stays the same while no file is written, replaced, added or removed."""

    signature: str
    digest: str


@dataclass(frozen=True)
class _File:
    path: str
    place: str
    stamp: tuple[int, ...]

    @property
    def size(self) -> int:
        return self.stamp[0]


class FolderDigests:
    """Digests of folders, kept by the files' sizes, times and inodes: an unchanged folder costs a walk and no reading.

    Each file's digest is also kept on disk, readable by this user alone, so that a restart does not read everything again.
    """

    def __init__(self, kept_in: Path) -> None:
        self._kept_in = kept_in
        self._known: dict[str, FolderState] = {}

    def signature(self, folder: Path, ignored: Iterable[str] = ()) -> str:
        """Walk the folder without reading a file. Raises FolderRefused."""
        return _signature(_files(folder, frozenset(ignored)))

    def state(
        self, folder: Path, ignored: Iterable[str] = (), is_stopping: Callable[[], bool] = lambda: False
    ) -> FolderState:
        """Return the folder's signature and digest; reads what has changed. Raises FolderRefused, Stopped."""
        files = _files(folder, frozenset(ignored))
        signature = _signature(files)
        known = self._known.get(str(folder))
        if known is not None and known.signature == signature:
            return known
        digests, are_kept = self._read(folder, files, is_stopping)
        found = FolderState(signature, _digest(files, digests))
        if are_kept:
            self._known[str(folder)] = found
        return found

    def _read(self, folder: Path, files: list[_File], is_stopping: Callable[[], bool]) -> tuple[dict[str, str], bool]:
        """Each file's digest by its path, and whether none of them is too young to be kept."""
        kept, digests, are_kept = self._load(folder), {}, True
        fresh: dict[str, list[object]] = {}
        has_read, is_done = False, False
        try:
            for file in files:
                before = kept.get(file.path)
                if before and before[0] == list(file.stamp):
                    digest = str(before[1])
                else:
                    digest, has_read = _read_file(file, is_stopping), True
                digests[file.path] = digest
                if _is_young(file):
                    are_kept = False
                else:
                    fresh[file.path] = [list(file.stamp), digest]
            is_done = True
        finally:
            if has_read:
                self._save(folder, fresh if is_done else {**kept, **fresh})
        return digests, are_kept

    def _place(self, folder: Path) -> Path:
        return self._kept_in / f"digests-{hashlib.sha256(os.fsencode(folder)).hexdigest()[:32]}.json"

    def _load(self, folder: Path) -> dict[str, list[object]]:
        try:
            found = json.loads(self._place(folder).read_bytes())
            return dict(found["files"]) if found["form"] == FORM.decode() else {}
        except (OSError, ValueError, KeyError, TypeError):
            return {}

    def _save(self, folder: Path, files: dict[str, list[object]]) -> None:
        with contextlib.suppress(OSError):  # without it the next start reads again
            self._kept_in.mkdir(parents=True, exist_ok=True)
            # Made readable by its owner alone: digests of hidden labels would confirm guesses of them.
            descriptor, name = tempfile.mkstemp(prefix="digests-", dir=self._kept_in)
            with os.fdopen(descriptor, "w") as file:
                json.dump({"form": FORM.decode(), "files": files}, file)
            Path(name).replace(self._place(folder))


def _files(folder: Path, ignored: frozenset[str]) -> list[_File]:
    root = os.path.realpath(folder)
    files: dict[str, _File] = {}
    try:
        for name, place, found in _walk(root, root, "", ignored, (root,)):
            try:
                path = unicodedata.normalize("NFC", name)
                path.encode()
            except UnicodeEncodeError:
                raise FolderRefused(f"{name!r} is not UTF-8") from None
            if path in files:
                raise FolderRefused(f"two names are equal after normalization: {path!r}")
            files[path] = _File(path, place, _stamp(found))
    except OSError as error:
        raise FolderRefused(f"{folder} cannot be read: {error}") from error
    return sorted(files.values(), key=lambda file: file.path.encode())


def _walk(
    root: str, folder: str, prefix: str, ignored: frozenset[str], above: tuple[str, ...]
) -> Iterator[tuple[str, str, os.stat_result]]:
    """The files below: name within the root, where each lies once links are resolved, and its state."""
    with os.scandir(folder) as entries:
        listed = [entry for entry in entries if entry.name not in ignored]
    for entry in listed:
        name, place = prefix + entry.name, entry.path
        if entry.is_symlink():
            place = os.path.realpath(place)
            if not place.startswith(root + os.sep) or place in above:
                raise FolderRefused(f"{name!r} is a link out of the folder or to one above it")
        found = entry.stat()
        if stat.S_ISDIR(found.st_mode):
            yield from _walk(root, place, name + "/", ignored, (*above, os.path.realpath(place)))
        elif stat.S_ISREG(found.st_mode):
            yield name, place, found
        else:
            raise FolderRefused(f"{name!r} is not a regular file")


def _stamp(found: os.stat_result) -> tuple[int, ...]:
    return (found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino)


def _is_young(file: _File) -> bool:
    return abs(time.time_ns() - file.stamp[2]) < YOUNG_NS


def _signature(files: list[_File]) -> str:
    digest = hashlib.sha256()
    for file in files:
        digest.update(f"{file.path}\0{file.stamp}\n".encode())
    return digest.hexdigest()


def _digest(files: list[_File], digests: dict[str, str]) -> str:
    manifest = hashlib.sha256(FORM)
    for file in files:
        manifest.update(f"{file.path}\0{file.size}\0{digests[file.path]}\n".encode())
    return manifest.hexdigest()


def _read_file(file: _File, is_stopping: Callable[[], bool]) -> str:
    digest = hashlib.sha256()
    try:
        with open(file.place, "rb", opener=open_without_a_trace) as content:
            while chunk := content.read(CHUNK):
                if is_stopping():
                    raise Stopped
                digest.update(chunk)
            if _stamp(os.fstat(content.fileno())) != file.stamp:
                raise FolderRefused(f"{file.path!r} changed while it was read")
    except OSError as error:
        raise FolderRefused(f"{file.path!r} cannot be read: {error}") from error
    return digest.hexdigest()


def read_without_a_trace(path: Path) -> bytes:
    with open(path, "rb", opener=open_without_a_trace) as file:
        return file.read()


def open_without_a_trace(path: str, flags: int) -> int:
    """Open without changing the access time, which would tell runs which files were read."""
    try:
        return os.open(path, flags | os.O_NOATIME)
    except PermissionError:  # for another user's file
        return os.open(path, flags)
