"""The archive: a zip of parts, `checksums.sha256` (as sha256sum writes it) over all of them, and `manifest.json`."""

import hashlib
import json
import os
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

PRODUCT = "leadersboard"
FORMAT = 1
MANIFEST, CHECKSUMS = "manifest.json", "checksums.sha256"
CHUNK = 1024 * 1024


class BackupError(Exception):
    """It cannot be done; the message says why and what to do."""


class ArchiveWriter:
    """Writes beside the target and puts it in its place when it is whole; until then there is no archive."""

    def __init__(self, target: Path, progress: Callable[[str, int], None]) -> None:
        self.target, self._progress = target, progress
        self._unfinished = target.with_name(f".{target.name}.unfinished")
        self._sums: list[str] = []

    def __enter__(self) -> "ArchiveWriter":
        descriptor = os.open(self._unfinished, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
        self._file = os.fdopen(descriptor, "w+b")
        self._zip = zipfile.ZipFile(self._file, "w", zipfile.ZIP_STORED, allowZip64=True)
        return self

    def __exit__(self, kind: Any, *_: Any) -> None:
        self._zip.close()
        self._file.close()
        self._unfinished.unlink(missing_ok=True)

    def add(self, name: str, source: IO[bytes]) -> int:
        """One part, copied and hashed; its bytes."""
        digest, size = hashlib.sha256(), 0
        with self._zip.open(zipfile.ZipInfo(name), "w", force_zip64=True) as target:
            while chunk := source.read(CHUNK):
                digest.update(chunk)
                target.write(chunk)
                size += len(chunk)
                self._progress(name, len(chunk))
        self._sums.append(f"{digest.hexdigest()}  {name}\n")
        return size

    def finish(self, manifest: dict[str, Any]) -> None:
        """Seal it: checksums, manifest, on disk, in place."""
        sums = "".join(self._sums).encode()
        self._zip.writestr(zipfile.ZipInfo(CHECKSUMS), sums)
        manifest = {**manifest, "checksums_sha256": hashlib.sha256(sums).hexdigest()}
        self._zip.writestr(zipfile.ZipInfo(MANIFEST), json.dumps(manifest, indent=2, ensure_ascii=False))
        self._zip.close()
        self._file.flush()
        os.fsync(self._file.fileno())
        self._unfinished.replace(self.target)


class ArchiveReader:
    def __init__(self, path: Path) -> None:
        try:
            self._zip = zipfile.ZipFile(path)
            self.manifest: dict[str, Any] = json.loads(self._zip.read(MANIFEST))
        except (OSError, zipfile.BadZipFile, KeyError, ValueError) as error:
            raise BackupError(f"{path} is no backup of this product, or not a whole one: {error}.") from error
        if self.manifest.get("product") != PRODUCT:
            raise BackupError(f"{path} is no backup of this product.")
        if self.manifest.get("format") != FORMAT:
            raise BackupError(
                f"{path} has format {self.manifest.get('format')!r}; this version reads {FORMAT}. Restore it with the version "
                f"that made it ({self.manifest.get('version')})."
            )

    def verify(self, progress: Callable[[str, int], None]) -> int:
        """Read every part and compare its SHA-256; how many there are. Raises BackupError for the first that differs."""
        sums = self._zip.read(CHECKSUMS) if CHECKSUMS in self._zip.namelist() else b""
        if hashlib.sha256(sums).hexdigest() != self.manifest.get("checksums_sha256"):
            raise BackupError(f"{CHECKSUMS} is not what the manifest says: the archive was damaged or changed.")
        expected = {
            name: digest for digest, _, name in (line.partition("  ") for line in sums.decode().split("\n") if line)
        }
        found = [name for name in self._zip.namelist() if name not in (MANIFEST, CHECKSUMS)]
        if sorted(found) != sorted(expected):
            odd = sorted(set(found) ^ set(expected)) or ["a part stands twice"]
            raise BackupError(f"The archive's parts are not those of {CHECKSUMS}: {odd[0]}.")
        for name, digest in expected.items():
            if self._digest(name, progress) != digest:
                raise BackupError(f"{name} is not what was backed up: the archive was damaged or changed.")
        return len(expected)

    def _digest(self, name: str, progress: Callable[[str, int], None]) -> str:
        digest = hashlib.sha256()
        try:
            with self._zip.open(name) as part:
                while chunk := part.read(CHUNK):
                    digest.update(chunk)
                    progress(name, len(chunk))
        except (zipfile.BadZipFile, OSError, EOFError) as error:
            raise BackupError(f"{name} cannot be read: {error}. The archive was damaged.") from error
        return digest.hexdigest()

    def names(self, prefix: str) -> Iterator[str]:
        yield from (name for name in self._zip.namelist() if name.startswith(prefix))

    def open(self, name: str) -> IO[bytes]:
        return self._zip.open(name)
