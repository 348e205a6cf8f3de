"""Stored files: durable on a file system, and content that knows its own size and SHA-256."""

import hashlib
import os
import shutil
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import suppress
from functools import cache
from io import RawIOBase
from pathlib import Path
from typing import IO, Any

from django.core.files.base import File
from django.core.files.storage import FileSystemStorage
from django.core.files.uploadedfile import UploadedFile

CHUNK = 1024 * 1024
SYNCERS = 8
# What a storage raises when it is away or has lost a file; an object storage too (see object_storage.py).
STORAGE_ERRORS = (OSError,)


class DurableFileSystemStorage(FileSystemStorage):
    """On disk before `save` returns: what was answered 201 survives a power cut."""

    def _save(self, name: str, content: File) -> str:
        saved = super()._save(name, content)  # type: ignore[misc]
        path = Path(self.path(saved))
        with path.open("rb") as file:
            os.fsync(file.fileno())
        _sync_folder(path.parent)
        return str(saved)

    def replace(self, name: str, source: Path) -> str:
        """A copy of a file under a name of ours, in the place of what is there; on disk when this returns the name."""
        path = Path(self.path(name))
        path.parent.mkdir(parents=True, exist_ok=True)
        with source.open("rb") as content, path.open("wb") as target:
            shutil.copyfileobj(content, target, CHUNK)
            target.flush()
            if self.file_permissions_mode is not None:
                os.fchmod(target.fileno(), self.file_permissions_mode)
            os.fsync(target.fileno())
        _sync_folder(path.parent)
        return name

    def save_all(self, files: Mapping[str, bytes | memoryview]) -> None:
        """Small files under new names of ours: written where they stay, all on disk when this returns, none kept when it raises."""
        opened: dict[Path, int] = {}
        try:
            for name, content in files.items():
                path = Path(self.path(name))
                opened[path] = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
                view = memoryview(content)
                while view:
                    view = view[os.write(opened[path], view) :]
                if self.file_permissions_mode is not None:
                    os.fchmod(opened[path], self.file_permissions_mode)
            _sync_all(list(opened.values()))
            for folder in {path.parent for path in opened}:
                _sync_folder(folder)
        except BaseException:
            for path in opened:
                with suppress(OSError):
                    path.unlink(missing_ok=True)
            raise
        finally:
            for descriptor in opened.values():
                os.close(descriptor)


def _sync_all(descriptors: list[int]) -> None:
    """Side by side: a disk syncs many files in hardly more time than one."""
    if len(descriptors) == 1:
        os.fsync(descriptors[0])
        return
    for descriptor in descriptors:
        # Has the system begin to write, and drops nothing that is not written.
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    syncs = [_syncers().submit(os.fsync, descriptor) for descriptor in descriptors]
    wait(syncs)  # all, before any is closed
    for sync in syncs:
        sync.result()


@cache
def _syncers() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(SYNCERS, thread_name_prefix="sync")


def _sync_folder(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class StoredContent(File):
    """A temporary file to be stored, with the size and SHA-256 of what is in it.

    `temporary_file_path` lets the file system's storage rename it into place instead of copying.
    """

    def __init__(self, file: IO[Any], *, size: int = 0, sha256: str = "") -> None:
        super().__init__(file, name=file.name)
        self._temporary: IO[Any] = file
        self.size = size
        self.sha256 = sha256

    @classmethod
    def of_upload(cls, upload: UploadedFile) -> "StoredContent":
        """The upload itself, hashed by the upload handler as it came in (else here)."""
        digest = getattr(upload, "sha256", "")
        if not digest:
            upload.seek(0)
            digest = hashlib.file_digest(upload.file, "sha256").hexdigest()  # type: ignore[arg-type]
        upload.seek(0)
        content = cls(upload.file, size=upload.size or 0, sha256=digest)  # type: ignore[arg-type]
        if not hasattr(upload, "temporary_file_path"):
            content.temporary_file_path = None  # type: ignore[assignment,method-assign]
        return content

    def temporary_file_path(self) -> str:
        self._temporary.flush()
        return str(self._temporary.name)

    def hashing_writer(self) -> "HashingWriter":
        return HashingWriter(self)

    def discard(self) -> None:
        """Remove the temporary file, unless storing has moved it away."""
        Path(str(self._temporary.name)).unlink(missing_ok=True)


class HashingWriter(RawIOBase):
    """Writes into a StoredContent, counting and hashing on the way."""

    def __init__(self, content: StoredContent) -> None:
        self._content = content
        self._hash = hashlib.sha256()

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._hash.update(data)
        self._content._temporary.write(data)
        self._content.size += len(data)
        self._content.sha256 = self._hash.hexdigest()
        return len(data)
