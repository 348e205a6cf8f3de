"""A large form with one archive in it, read as it comes: the file goes to disk, hashed and looked into on the way.

As form.py, it knows the one plain way of writing a form. Where anything is not plain, or goes wrong, the body is put
together again from what was read and what has not come yet, and the site reads it from its first byte.
"""

import io
import logging
import mmap
import os
from dataclasses import dataclass
from typing import Any

from django.conf import settings

from leaderboard_site.lane.form import MOST_PARTS, SmallForm, file_name, read_form
from leaderboard_site.lane.search import find
from submissions.archive import archive_kind
from submissions.incoming import BUFFER_BYTES, PAGE_BYTES, IncomingArchive
from submissions.uploads import FILE_FIELD

logger = logging.getLogger(__name__)

# Beside the file: a few fields.
MOST_REST_BYTES = 256 * 1024


class IncomingFile:
    """The archive, as the services look at an uploaded file."""

    def __init__(self, name: str, archive: IncomingArchive) -> None:
        self.name, self.archive = name, archive

    @property
    def size(self) -> int:
        return self.archive.size


class LargeForm:
    """`read` it, then take `form` or `body_again`; `close` it in any case."""

    def __init__(self, stream: Any, length: int, boundary: bytes) -> None:
        self.form: SmallForm | None = None
        self.archive: IncomingArchive | None = None
        self._stream, self._left = stream, length
        self._edge = b"--" + boundary
        # The body again, but for what the archive's file has between the two.
        self._before = b""
        self._after = b""
        self._error: OSError | None = None

    def read(self) -> bool:
        """Whether all of it is here, and plain."""
        first = bytearray(BUFFER_BYTES)
        count = self._fill(first, 0)
        self._before = bytes(memoryview(first)[:count])
        found = self._find_file(self._before)
        if found is None:
            return False
        part_at, content_at, name = found
        fields = read_form(self._before[:part_at] + self._edge + b"--", self._edge[2:], file_field=FILE_FIELD)
        kind = archive_kind(name)
        if kind is None or (part_at and (fields is None or fields.files)):
            return False
        try:
            self.archive = IncomingArchive(kind, settings.FILE_UPLOAD_TEMP_DIR)
            is_whole = self._receive(self.archive, content_at, count)
        except OSError:
            logger.exception("receiving a submission")
            return False
        return is_whole and self._read_rest(fields or SmallForm(), name, self.archive)

    def _find_file(self, data: bytes) -> tuple[int, int, str] | None:
        """Where the part with the file begins, where its content does, and the file's name."""
        if not data.startswith(self._edge + b"\r\n"):
            return None
        part_at = 0
        for _ in range(MOST_PARTS):
            head_at = part_at + len(self._edge) + 2
            head_end = data.find(b"\r\n\r\n", head_at, head_at + 1000)
            if head_end < 0 or data[head_at - 2 : head_at] != b"\r\n":
                return None
            name = file_name(data[head_at:head_end], FILE_FIELD)
            if name is not None:
                return (part_at, head_end + 4, name) if not data.startswith(self._edge, head_end + 4) else None
            part_at = data.find(b"\r\n" + self._edge, head_end + 4) + 2
            if part_at < 2:
                return None
        return None

    def _receive(self, archive: IncomingArchive, start: int, end: int) -> bool:
        """The file's content, from the first buffer on; False where it does not end, or is too large."""
        buffer = archive.buffer()
        end -= start
        buffer[:end] = memoryview(self._before)[start:]
        self._before = self._before[:start]
        line = b"\r\n" + self._edge
        while True:
            edge_at = find(buffer, self._edge, end)
            at = edge_at - 2 if edge_at >= 2 and buffer[edge_at - 2 : edge_at] == b"\r\n" else -1
            if edge_at >= 0 > at:
                # Inside a line, where Django's parser recognises a boundary, too.
                self._after = buffer[:end]
                return False
            # What may be the beginning of the line comes again before what follows, with the rest of its page.
            content = at if at >= 0 else max(0, end - len(line) + 1) // PAGE_BYTES * PAGE_BYTES
            self._after = buffer[content:end]
            archive.add(buffer, content)
            if at >= 0:
                break
            if not self._left or self._error or archive.size > settings.UPLOAD_MAX_BYTES:
                return False
            buffer = archive.buffer()
            buffer[: len(self._after)] = self._after
            came = self._fill(buffer, len(self._after))
            if not came:
                return False
            end = len(self._after) + came
        archive.end()
        return archive.size <= settings.UPLOAD_MAX_BYTES

    def _read_rest(self, fields: SmallForm, name: str, archive: IncomingArchive) -> bool:
        """The parts after the file, which must be fields."""
        if self._left > MOST_REST_BYTES:
            return False
        rest = bytearray(self._left)
        count = self._fill(rest, 0)
        self._after += rest[:count]
        if self._left or self._error:
            return False
        ending = self._after[2:]
        if ending not in (self._edge + b"--", self._edge + b"--\r\n"):
            more = read_form(ending, self._edge[2:], file_field=FILE_FIELD)
            if more is None or more.files or not fields.fields.keys().isdisjoint(more.fields):
                return False
            fields.fields.update(more.fields)
        fields.files = [IncomingFile(name, archive)]
        self.form = fields
        return True

    def _fill(self, buffer: bytearray | mmap.mmap, start: int) -> int:
        """Fill the buffer from there on, as far as the body goes; how much came, which is less where it breaks off."""
        view = memoryview(buffer)[start : start + self._left]
        count = 0
        try:
            while count < len(view) and (came := self._read_into(view[count:])):
                count += came
        except OSError as error:
            self._error = error
        self._left -= count
        return count

    def _read_into(self, view: memoryview) -> int:
        if hasattr(self._stream, "readinto1"):
            return int(self._stream.readinto1(view))
        data = self._stream.read(len(view))
        view[: len(data)] = data
        return len(data)

    def body_again(self) -> Any:
        """The whole body, from its first byte."""
        descriptor, size, unwritten = self.archive.content_again() if self.archive else (-1, 0, b"")
        rest = _Rest(self._stream, self._left, self._error)
        return io.BufferedReader(_Again(self._before, descriptor, size, unwritten + self._after, rest))

    def close(self) -> None:
        """Nothing is left of it but what is kept; a body that is read again has its own descriptor."""
        if self.archive is not None:
            self.archive.close()
            os.close(self.archive.descriptor)


@dataclass
class _Rest:
    """What of the body has not come yet; reading beyond might wait for ever."""

    stream: Any
    left: int
    error: OSError | None

    def read(self, size: int) -> bytes:
        if self.error is not None:
            raise self.error
        size = min(size, self.left)
        data: bytes = self.stream.read1(size) if hasattr(self.stream, "read1") else self.stream.read(size)
        self.left -= len(data)
        return data


class _Again(io.RawIOBase):
    """What was read, in memory and in a file that has no name any more, and then the rest."""

    def __init__(self, before: bytes, descriptor: int, size: int, after: bytes, rest: _Rest) -> None:
        self._before, self._after, self._rest = io.BytesIO(before), io.BytesIO(after), rest
        self._descriptor, self._size, self._at = descriptor, size, 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        if count := self._before.readinto(view):
            return count
        if self._at < self._size:
            count = os.preadv(self._descriptor, [view[: self._size - self._at]], self._at)
            self._at += count
            return count
        if count := self._after.readinto(view):
            return count
        data = self._rest.read(len(view))
        view[: len(data)] = data
        return len(data)

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
        super().close()
