"""Plainly uploaded files as one archive, so that a submission is always one stored object."""

import hashlib
import tarfile
from collections.abc import Iterable
from typing import BinaryIO

from django.utils.translation import gettext_lazy

from submissions.archive.limits import (
    CHUNK_BYTES,
    DEFAULT_LIMITS,
    ArchiveLimits,
    Budget,
    ManifestEntry,
    printable,
    refuse,
)
from submissions.archive.names import Tree

_BLOCK_BYTES = tarfile.BLOCKSIZE


def write_archive(
    target: BinaryIO,
    members: Iterable[tuple[str, BinaryIO]],
    *,
    limits: ArchiveLimits = DEFAULT_LIMITS,
    hashes: bool = True,
) -> list[ManifestEntry]:
    """Write the named, seekable files as an uncompressed tar (kind "tar").

    The same names and bytes in the same order give the same archive. Raises ArchiveRefused for the names and
    sizes that the readers refuse; the target then holds a part of an archive and is to be thrown away. Without `hashes`
    the manifest has none.
    """
    budget = Budget(limits)
    tree = Tree(limits)
    manifest = []
    for name, file in members:
        budget.add_member()
        path = tree.add(name, is_directory=False)
        if path is not None:
            manifest.append(_write_member(target, path, file, budget, hashes))
    if not manifest:
        refuse(gettext_lazy("There are no files."))
    target.write(bytes(2 * _BLOCK_BYTES))
    return manifest


def _write_member(target: BinaryIO, path: str, file: BinaryIO, budget: Budget, hashes: bool) -> ManifestEntry:
    size = file.seek(0, 2)
    file.seek(0)
    budget.check_claim(path, size)
    header = tarfile.TarInfo(path)
    header.size = size
    # All else is TarInfo's default: mode 0644, no owner, time 0.
    target.write(header.tobuf(tarfile.GNU_FORMAT, "utf-8", "strict"))
    digest = hashlib.sha256()
    written = 0
    while chunk := file.read(CHUNK_BYTES):
        written += len(chunk)
        budget.add_content(path, chunk_bytes=len(chunk), file_bytes=written)
        if hashes:
            digest.update(chunk)
        target.write(chunk)
    if written != size:
        raise OSError(f"{printable(path)} changed while it was read: {written} instead of {size} bytes")
    target.write(bytes(-size % _BLOCK_BYTES))
    return ManifestEntry(path, size, digest.hexdigest() if hashes else "")
