"""An archive as it comes in: written, hashed and looked into at once, and on disk soon after its last byte.

The thread that receives writes each piece, past the system's cache where the file system takes that; another hashes it
meanwhile, and follows the members (archive/follow.py) or reads the tar. What is left for the end is the zip's directory and
one sync.
"""

import ctypes
import errno
import fcntl
import hashlib
import mmap
import os
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from queue import SimpleQueue
from typing import BinaryIO, cast
from uuid import uuid4

from submissions.archive import (
    DEFAULT_LIMITS,
    Budget,
    ManifestEntry,
    Seen,
    WithHeads,
    follow_zip,
    inspect_passing,
    inspect_zip,
)
from submissions.storage import DurableFileSystemStorage

# So much of an upload is in memory, however large it is.
BUFFERS, BUFFER_BYTES = 4, 512 * 1024
# What is written past the cache begins and ends at whole pages, in memory and in the file.
PAGE_BYTES = 4096
_PAST_THE_CACHE = getattr(os, "O_DIRECT", 0)
# Through the cache, the disk is told to begin after so many bytes; `os` has no sync_file_range, and where the system has none
# it begins later.
BEGIN_BYTES = 8 * 1024 * 1024
_BEGIN_TO_WRITE = 2
_sync_file_range = getattr(ctypes.CDLL(None), "sync_file_range", None)
if _sync_file_range is not None:
    _sync_file_range.argtypes = [ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint]


class Passing:
    """The pieces as the second thread sees them; each buffer is free again when the next piece is asked for."""

    def __init__(self, hand_back: "SimpleQueue[mmap.mmap]", see: Callable[[memoryview], None]) -> None:
        self.arrived: SimpleQueue[tuple[mmap.mmap, int, int] | None] = SimpleQueue()
        self._hand_back, self._see = hand_back, see
        self._buffer: mmap.mmap | None = None
        self._at = self._end = 0
        self._is_over = False

    def seekable(self) -> bool:
        return False

    def take(self, most: int) -> memoryview:
        if self._at == self._end:
            self._next()
        start, self._at = self._at, min(self._end, self._at + most)
        return memoryview(self._buffer or b"")[start : self._at]

    def put_back(self, count: int) -> None:
        self._at -= count

    def read(self, size: int) -> bytes:
        found = bytes(self.take(size))
        while len(found) < size and (more := self.take(size - len(found))):
            found += more
        return found

    def drain(self) -> None:
        while not self._is_over:
            self._next()

    def _next(self) -> None:
        if self._buffer is not None:
            self._hand_back.put(self._buffer)
            self._buffer = None
        self._at = self._end = 0
        piece = None if self._is_over else self.arrived.get()
        if piece is None:
            self._is_over = True
            return
        self._buffer, self._at, self._end = piece
        self._see(memoryview(self._buffer)[self._at : self._end])


class IncomingArchive:
    """Used by one thread: `buffer` and `add` for each piece, `end`, `keep_as`, `manifest`, `wait_until_kept`; `close` always."""

    def __init__(self, kind: str, folder: str) -> None:
        self.kind = kind
        self.id = uuid4()
        self.size = 0
        self.is_kept = False
        self.descriptor, path = tempfile.mkstemp(prefix="incoming-", dir=folder)
        self._path = Path(path)
        self._free: SimpleQueue[mmap.mmap] = SimpleQueue()
        for _ in range(BUFFERS):
            self._free.put(mmap.mmap(-1, BUFFER_BYTES, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS))
        self._is_past_the_cache = bool(_PAST_THE_CACHE) and self._set_flags(_PAST_THE_CACHE)
        self._hash = hashlib.sha256()
        self._begun_bytes = self._seen_bytes = 0
        self._passing = Passing(self._free, self._see)
        self._seen: dict[int, Seen] = {}
        self._heads: dict[int, bytes] = {}
        self._manifest: list[ManifestEntry] | None = None
        # What went wrong in a thread, told to the one that waits for it.
        self._errors: dict[str, BaseException] = {}
        self._is_ended = False
        self._looking = threading.Thread(target=self._look, name="incoming", daemon=True)
        self._keeping: threading.Thread | None = None
        self._looking.start()

    # --- The thread that receives --------------------------------------------------------------------------------------

    def buffer(self) -> mmap.mmap:
        """The next free one, of BUFFER_BYTES; to be given to `add`."""
        return self._free.get()

    def add(self, buffer: mmap.mmap, end: int) -> None:
        """A piece of the file, whole pages but for the last one, which the caller touches no more.

        Raises OSError with `size` as far as it is written.
        """
        if end % PAGE_BYTES:
            self._go_through_the_cache()
        view = memoryview(buffer)[:end]
        while view:
            count = self._write(view)
            self.size += count
            view = view[count:]
        self._passing.arrived.put((buffer, 0, end))

    def end(self) -> None:
        if not self._is_ended:
            self._is_ended = True
            self._go_through_the_cache()
            self._passing.arrived.put(None)

    def _write(self, view: memoryview) -> int:
        try:
            return os.write(self.descriptor, view)
        except OSError as error:
            # What file systems say that want it otherwise.
            if not self._is_past_the_cache or error.errno != errno.EINVAL:
                raise
        self._go_through_the_cache()
        return os.write(self.descriptor, view)

    def _go_through_the_cache(self) -> None:
        """So that it can be read, too, in less than whole pages."""
        if self._is_past_the_cache:
            self._is_past_the_cache = False
            self._set_flags(0)

    def _set_flags(self, flags: int) -> bool:
        try:
            fcntl.fcntl(self.descriptor, fcntl.F_SETFL, flags)
        except OSError:
            return False
        return True

    def keep_as(self, storage: DurableFileSystemStorage) -> None:
        """Give it its name in the storage and begin to sync it; the name is nobody's until a row has it."""
        target = Path(storage.path(self.name))
        if storage.file_permissions_mode is not None:
            os.fchmod(self.descriptor, storage.file_permissions_mode)
        self._path.rename(target)
        self._path = target
        self._keeping = threading.Thread(target=self._keep, name="keeping", daemon=True)
        self._keeping.start()

    @property
    def name(self) -> str:
        return f"{self.id}.{self.kind}"

    @property
    def sha256(self) -> str:
        self._wait_for(self._looking)
        return self._hash.hexdigest()

    def manifest(self) -> list[ManifestEntry]:
        """What is in it. Raises ArchiveRefused."""
        self._wait_for(self._looking)
        if self._manifest is not None:
            return self._manifest
        with open(self.descriptor, "rb", closefd=False) as file:
            return inspect_zip(cast(BinaryIO, WithHeads(cast(BinaryIO, file), self._heads)), seen=self._seen)

    def wait_until_kept(self) -> None:
        """Return when file and name are on disk. Raises OSError."""
        if self._keeping is not None:
            self._wait_for(self._keeping)

    def close(self) -> None:
        """Remove the file, unless it is kept; it can still be read through the descriptor, which is the caller's to close."""
        self.end()
        self._looking.join()
        if self._keeping is not None:
            self._keeping.join()
        if not self.is_kept:
            self._path.unlink(missing_ok=True)

    def _wait_for(self, thread: threading.Thread) -> None:
        thread.join()
        if thread.name in self._errors:
            raise self._errors[thread.name]

    # --- The other threads ---------------------------------------------------------------------------------------------

    def _look(self) -> None:
        try:
            if self.kind == "zip":
                self._seen = follow_zip(self._passing, Budget(DEFAULT_LIMITS), self._heads)
            else:
                self._manifest = inspect_passing(cast(BinaryIO, self._passing))
        except BaseException as error:
            self._errors["incoming"] = error
        finally:
            self._passing.drain()

    def _see(self, piece: memoryview) -> None:
        self._hash.update(piece)
        self._seen_bytes += len(piece)
        length = self._seen_bytes - self._begun_bytes
        if length >= BEGIN_BYTES and not self._is_past_the_cache and _sync_file_range is not None:
            _sync_file_range(self.descriptor, self._begun_bytes, length, _BEGIN_TO_WRITE)
            self._begun_bytes = self._seen_bytes

    def _keep(self) -> None:
        try:
            os.fsync(self.descriptor)
            folder = os.open(self._path.parent, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
        except BaseException as error:
            self._errors["keeping"] = error
