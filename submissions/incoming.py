"""An archive as it comes in: hashed, looked into and written at once, and on disk soon after its last byte.

What is received passes through two threads: one hashes it, and follows the members (archive/follow.py) or reads the tar; the
other writes it, past the system's cache where the file system takes that. What is left for the end is the zip's directory and
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
from collections import deque
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
    """The pieces for what looks into them; each is handed on when the next one is asked for."""

    def __init__(self, hand_on: "SimpleQueue[memoryview | None]", see: Callable[[memoryview], object]) -> None:
        self.arrived: SimpleQueue[memoryview | None] = SimpleQueue()
        self._hand_on, self._see = hand_on, see
        self._piece: memoryview | None = memoryview(b"")
        self._at = 0

    def seekable(self) -> bool:
        return False

    def take(self, most: int) -> memoryview:
        if self._piece is not None and self._at == len(self._piece):
            self._next()
        if self._piece is None:
            return memoryview(b"")
        start, self._at = self._at, min(len(self._piece), self._at + most)
        return self._piece[start : self._at]

    def put_back(self, count: int) -> None:
        self._at -= count

    def read(self, size: int) -> bytes:
        found = bytes(self.take(size))
        while len(found) < size and (more := self.take(size - len(found))):
            found += more
        return found

    def drain(self) -> None:
        while self._piece is not None:
            self._next()

    def _next(self) -> None:
        if self._piece:
            self._hand_on.put(self._piece)
        self._piece, self._at = self.arrived.get(), 0
        if self._piece is not None:
            self._see(self._piece)


class IncomingArchive:
    """Used by one thread: `buffer` and `add` for each piece, `end`, `keep_as`, `manifest`, `wait_until_kept`; `close` always."""

    def __init__(self, kind: str, folder: str) -> None:
        self.kind = kind
        self.id = uuid4()
        self.size = 0
        self.is_kept = False
        # None: there will be no more, because writing has failed.
        self._free: SimpleQueue[mmap.mmap | None] = SimpleQueue()
        for _ in range(BUFFERS):
            self._free.put(mmap.mmap(-1, BUFFER_BYTES, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS))
        self.descriptor, path = tempfile.mkstemp(prefix="incoming-", dir=folder)
        self._path = Path(path)
        self._to_write: SimpleQueue[memoryview | None] = SimpleQueue()
        # What has come and is not in the file yet, in its order.
        self._unwritten: deque[memoryview] = deque()
        self._written_bytes = self._begun_bytes = 0
        self._is_past_the_cache = bool(_PAST_THE_CACHE) and self._set_flags(_PAST_THE_CACHE)
        self._hash = hashlib.sha256()
        self._passing = Passing(self._to_write, self._hash.update)
        self._seen: dict[int, Seen] = {}
        self._heads: dict[int, bytes] = {}
        self._manifest: list[ManifestEntry] | None = None
        # What went wrong in a thread, told to the one that waits for it.
        self._errors: dict[str, BaseException] = {}
        self._is_ended = False
        self._looking = threading.Thread(target=self._look, name="incoming", daemon=True)
        self._writing = threading.Thread(target=self._write, name="writing", daemon=True)
        self._keeping: threading.Thread | None = None
        self._looking.start()
        self._writing.start()

    # --- The thread that receives --------------------------------------------------------------------------------------

    def buffer(self) -> mmap.mmap:
        """The next free one, of BUFFER_BYTES; to be given to `add`. Raises OSError where those before cannot be written."""
        buffer = self._free.get()
        if buffer is None:
            self._wait_for(self._writing)
        return cast(mmap.mmap, buffer)

    def add(self, buffer: mmap.mmap, end: int) -> None:
        """A piece of the file, whole pages but for the last one, which the caller touches no more."""
        piece = memoryview(buffer)[:end]
        self.size += end
        if piece:
            self._unwritten.append(piece)
            self._passing.arrived.put(piece)
        else:
            self._free.put(buffer)

    def end(self) -> None:
        """Return when all of it is written. Raises OSError."""
        self._stop()
        self._wait_for(self._writing)

    def content_again(self) -> tuple[int, int, bytes]:
        """For who reads it all again: a descriptor of their own, how much is in that file, and what has come after that."""
        self._stop()
        return os.dup(self.descriptor), self._written_bytes, b"".join(self._unwritten)

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
        self._stop()
        if self._keeping is not None:
            self._keeping.join()
        if not self.is_kept:
            self._path.unlink(missing_ok=True)

    def _stop(self) -> None:
        if not self._is_ended:
            self._is_ended = True
            self._passing.arrived.put(None)
        self._looking.join()
        self._writing.join()

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
            self._to_write.put(None)

    def _write(self) -> None:
        try:
            while (piece := self._to_write.get()) is not None:
                if len(piece) % PAGE_BYTES:
                    self._go_through_the_cache()
                while left := self._unwritten[0]:
                    self._unwritten[0] = left[self._write_some(left) :]
                self._unwritten.popleft()
                self._free.put(cast(mmap.mmap, piece.obj))
        except BaseException as error:
            self._errors["writing"] = error
            self._free.put(None)
        finally:
            self._go_through_the_cache()

    def _write_some(self, piece: memoryview) -> int:
        try:
            count = os.write(self.descriptor, piece)
        except OSError as error:
            # What file systems say that want it otherwise.
            if not self._is_past_the_cache or error.errno != errno.EINVAL:
                raise
            self._go_through_the_cache()
            count = os.write(self.descriptor, piece)
        self._written_bytes += count
        length = self._written_bytes - self._begun_bytes
        if length >= BEGIN_BYTES and not self._is_past_the_cache and _sync_file_range is not None:
            _sync_file_range(self.descriptor, self._begun_bytes, length, _BEGIN_TO_WRITE)
            self._begun_bytes = self._written_bytes
        return count

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
