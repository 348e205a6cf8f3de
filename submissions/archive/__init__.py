"""Strangers' archives, read in one bounded pass.

Nothing an archive says about itself is believed: bytes are counted as they come out, names are checked before
they touch a disk, and what has two readings is refused. `inspect_archive` and `extract_archive` are the same
pass with and without writing, so they cannot disagree. Archives inside an archive stay closed.
"""

import hashlib
import time
from collections.abc import Iterator, Mapping, Set
from pathlib import Path
from typing import BinaryIO, Literal

from django.utils.translation import gettext_lazy

from submissions.archive.follow import WithHeads, follow_zip
from submissions.archive.limits import (
    DEFAULT_LIMITS,
    ArchiveLimits,
    ArchiveRefused,
    Budget,
    ManifestEntry,
    Member,
    Seen,
    refuse,
)
from submissions.archive.names import Tree, check_path
from submissions.archive.pack import write_archive
from submissions.archive.streams import GzipStream, PlainStream
from submissions.archive.tar_reader import read_tar
from submissions.archive.unpack import Folder, filled_folder
from submissions.archive.zip_reader import read_zip

__all__ = [
    "DEFAULT_LIMITS",
    "ArchiveKind",
    "ArchiveLimits",
    "ArchiveRefused",
    "Budget",
    "ManifestEntry",
    "Seen",
    "WithHeads",
    "archive_kind",
    "check_path",
    "extract_archive",
    "follow_zip",
    "inspect_archive",
    "inspect_passing",
    "inspect_zip",
    "read_files",
    "read_member",
    "write_archive",
]

ArchiveKind = Literal["zip", "tar.gz", "tar"]


def archive_kind(name: str) -> Literal["zip", "tar.gz"] | None:
    """Which archive a file is by its name; None for a file that is not unpacked."""
    folded = name.lower()
    if folded.endswith(".zip"):
        return "zip"
    if folded.endswith(".tar.gz"):
        return "tar.gz"
    return None


def inspect_archive(
    file: BinaryIO, *, kind: ArchiveKind, limits: ArchiveLimits = DEFAULT_LIMITS, hashes: bool = True
) -> list[ManifestEntry]:
    """The files of the archive in their order, with sizes and hashes of what really comes out.

    Reads from the first byte; a zip must be seekable. Without `hashes` the manifest has none. Raises ArchiveRefused.
    """
    budget = Budget(limits)
    return _read(_members(file, kind, budget), budget, None, hashes=hashes)


def inspect_zip(
    file: BinaryIO, *, seen: Mapping[int, Seen], limits: ArchiveLimits = DEFAULT_LIMITS
) -> list[ManifestEntry]:
    """As inspect_archive without hashes, but what `follow_zip` has seen of the same bytes is not read again."""
    budget = Budget(limits)
    return _read(read_zip(file, budget, seen), budget, None, hashes=False)


def inspect_passing(stream: BinaryIO, *, limits: ArchiveLimits = DEFAULT_LIMITS) -> list[ManifestEntry]:
    """As inspect_archive without hashes, of a tar.gz that arrives: its time is what the thread spends, not what it waits."""
    budget = Budget(limits, time.thread_time)
    return _read(_members(stream, "tar.gz", budget), budget, None, hashes=False)


def extract_archive(
    file: BinaryIO, *, kind: ArchiveKind, destination: Path, limits: ArchiveLimits = DEFAULT_LIMITS
) -> list[ManifestEntry]:
    """As inspect_archive, and write the files below `destination`, an empty directory that exists.

    Files get mode 0644 (0755 if their owner may run them), directories 0755. When it raises,
    ArchiveRefused or what the disk raises, the directory is empty again.
    """
    budget = Budget(limits)
    with filled_folder(destination) as folder:
        return _read(_members(file, kind, budget), budget, folder)


def read_member(
    file: BinaryIO, *, kind: ArchiveKind, path: str, most_bytes: int, limits: ArchiveLimits = DEFAULT_LIMITS
) -> bytes | None:
    """The content of one file of the archive, or None when there is no such file or it is longer than `most_bytes`.

    The same bounded pass, which ends where the file does. Raises ArchiveRefused.
    """
    return read_files(file, kind=kind, paths={path}, most_bytes=most_bytes, limits=limits).get(path)


def read_files(
    file: BinaryIO, *, kind: ArchiveKind, paths: Set[str], most_bytes: int, limits: ArchiveLimits = DEFAULT_LIMITS
) -> dict[str, bytes]:
    """The content of some of the archive's files, without those that are not there or longer than `most_bytes` each.

    The same bounded pass, which ends with the last of them. Raises ArchiveRefused.
    """
    budget, tree = Budget(limits), Tree(limits)
    missing = set(paths)
    found: dict[str, bytes] = {}
    for member in _members(file, kind, budget):
        path = tree.add(member.name, is_directory=member.is_directory)
        is_wanted = path in missing and not member.is_directory
        if is_wanted:
            missing.discard(str(path))
        kept = bytearray()
        for chunk in _Content(member, budget):
            if is_wanted and len(kept) <= most_bytes:
                kept += chunk
            if is_wanted and len(kept) > most_bytes and not missing:
                return found
        if is_wanted and len(kept) <= most_bytes:
            found[str(path)] = bytes(kept)
        if not missing:
            break
    return found


def _read(
    members: Iterator[Member], budget: Budget, folder: Folder | None, *, hashes: bool = True
) -> list[ManifestEntry]:
    tree = Tree(budget.limits)
    manifest = []
    for member in members:
        path = tree.add(member.name, is_directory=member.is_directory)
        if member.seen is not None and folder is None and not hashes:
            budget.add_seen(member.name, member.seen)
            if path is not None and not member.is_directory:
                manifest.append(ManifestEntry(path, member.seen.file_bytes, ""))
            continue
        content = _Content(member, budget, hashes=hashes)
        if path is None or (folder is None and not member.is_directory):
            for _ in content:
                pass
        elif member.is_directory:
            for _ in content:
                pass
            if folder is not None:
                folder.add_directory(path)
        elif folder is not None:
            folder.add_file(path, content, is_executable=member.is_executable)
        if path is not None and not member.is_directory:
            manifest.append(ManifestEntry(path, content.bytes, content.sha256))
    if not manifest:
        refuse(gettext_lazy("The archive is empty: it has no files."))
    return manifest


def _members(file: BinaryIO, kind: ArchiveKind, budget: Budget) -> Iterator[Member]:
    if file.seekable():
        file.seek(0)
    if kind == "zip":
        return read_zip(file, budget)
    return read_tar(GzipStream(file, budget) if kind == "tar.gz" else PlainStream(file, budget), budget)


class _Content:
    """A member's chunks, counted and hashed as they pass."""

    def __init__(self, member: Member, budget: Budget, *, hashes: bool = True) -> None:
        self._hashes = hashes
        self._member = member
        self._budget = budget
        self._digest = hashlib.sha256()
        self.bytes = 0

    def __iter__(self) -> Iterator[bytes]:
        for chunk in self._member.chunks:
            self.bytes += len(chunk)
            self._budget.add_content(self._member.name, chunk_bytes=len(chunk), file_bytes=self.bytes)
            if self._hashes:
                self._digest.update(chunk)
            yield chunk

    @property
    def sha256(self) -> str:
        return self._digest.hexdigest() if self._hashes else ""
