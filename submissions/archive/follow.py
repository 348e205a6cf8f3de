"""What a zip's members hold, told while the zip passes by, so that they need not be read a second time.

It decides nothing: for a range of bytes it says what they unpack to. The reader (zip_reader.py) looks at the whole layout
as ever, and takes the word of this pass only for a member that lies exactly there with exactly these sizes. What it reads
of that layout among the members comes from memory (`WithHeads`): written past the system's cache, it would come from the disk.
"""

import os
import struct
import zlib
from collections.abc import Iterator, Mapping
from typing import BinaryIO, Protocol

from isal.isal_zlib import crc32

from submissions.archive.limits import CHUNK_BYTES, ArchiveRefused, Budget, Seen

_LOCAL = struct.Struct("<4s5H3L2H")
_DESCRIPTOR = struct.Struct("<4s3L")
_STORED, _DEFLATED = 0, 8
_DESCRIPTOR_FLAG = 1 << 3
_STRANGE_FLAGS = 1 << 0 | 1 << 5 | 1 << 6 | 1 << 13
_MAX32 = 0xFFFFFFFF
# Of what a member has before its data, so much is kept; as many members as an archive may have are 2 MB.
HEAD_BYTES = 1024


class Passing(Protocol):
    """Bytes that pass by once, in the order of the file."""

    def read(self, size: int) -> bytes:
        """`size` bytes, fewer only at the end."""

    def take(self, most: int) -> memoryview:
        """The next bytes, at most so many, none only at the end; good until the next call."""

    def put_back(self, count: int) -> None:
        """Have the last bytes of what was taken last again."""


class WithHeads:
    """A file of which what lies between the members is known by where it begins; the rest is read."""

    def __init__(self, file: BinaryIO, heads: Mapping[int, bytes]) -> None:
        self._file, self._heads, self._at = file, heads, 0

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._at = self._file.seek(offset, whence) if whence else offset
        return self._at

    def read(self, size: int) -> bytes:
        data = self._heads.get(self._at)
        if data is None or len(data) != size:
            self._file.seek(self._at)
            data = self._file.read(size)
        self._at += len(data)
        return data


def follow_zip(stream: Passing, budget: Budget, heads: dict[int, bytes] | None = None) -> dict[int, Seen]:
    """By where a member's data begins, what it is; as far as the members follow each other in the plainest way.

    `heads` is given what lies between their data, in the pieces in which the reader asks for it.
    """
    found: dict[int, Seen] = {}
    try:
        for offset, seen in _members(stream, budget, {} if heads is None else heads):
            found[offset] = seen
    except (ArchiveRefused, zlib.error):
        pass  # the reader meets the same, and says what it is
    return found


def _members(stream: Passing, budget: Budget, heads: dict[int, bytes]) -> Iterator[tuple[int, Seen]]:
    position = 0
    while len(fixed := stream.read(_LOCAL.size)) == _LOCAL.size:
        signature, _, flags, method, _, _, _, packed, size, name_bytes, extra_bytes = _LOCAL.unpack(fixed)
        has_descriptor = bool(flags & _DESCRIPTOR_FLAG)
        if signature != b"PK\3\4" or flags & _STRANGE_FLAGS or _MAX32 in (packed, size):
            return
        budget.add_member()
        named = stream.read(name_bytes + extra_bytes)
        if len(named) <= HEAD_BYTES:
            heads[position], heads[position + _LOCAL.size] = fixed, named
        position += _LOCAL.size + name_bytes + extra_bytes
        if method == _STORED and not has_descriptor:
            seen = _stored(stream, packed, budget)
        elif method == _DEFLATED:
            seen = _deflated(stream, None if has_descriptor else packed, budget)
        else:
            return
        if seen is None:
            return
        at, position = position, position + seen.packed_bytes
        if has_descriptor:
            heads[position] = descriptor = stream.read(_DESCRIPTOR.size)
            position += _DESCRIPTOR.size
            if not _is_descriptor(descriptor, seen):
                return
        yield at, seen


def _is_descriptor(found: bytes, seen: Seen) -> bool:
    """Of the forms that it may have, the commonest."""
    sizes_fit = max(seen.packed_bytes, seen.file_bytes) < _MAX32
    return sizes_fit and found == _DESCRIPTOR.pack(b"PK\7\10", seen.crc, seen.packed_bytes, seen.file_bytes)


def _stored(stream: Passing, size: int, budget: Budget) -> Seen | None:
    crc, left = 0, size
    while left:
        data = stream.take(left)
        if not data:
            return None
        crc = crc32(data, crc)
        left -= len(data)
        budget.add_unpacked(read_bytes=len(data), unpacked_bytes=len(data))
    return Seen(_STORED, size, size, crc)


def _deflated(stream: Passing, packed: int | None, budget: Budget) -> Seen | None:
    """None where the data does not end where it should; without `packed`, where it ends by itself."""
    decoder = zlib.decompressobj(-zlib.MAX_WBITS)
    crc = came_in = came_out = 0
    while not decoder.eof:
        room = CHUNK_BYTES if packed is None else min(CHUNK_BYTES, packed - came_in)
        taken = stream.take(room) if room else b""
        if not taken:
            return None
        data: bytes | memoryview = taken
        while True:
            piece = decoder.decompress(data, CHUNK_BYTES)
            crc = crc32(piece, crc)
            came_out += len(piece)
            left = len(decoder.unused_data) if decoder.eof else len(decoder.unconsumed_tail)
            budget.add_unpacked(read_bytes=len(data) - left, unpacked_bytes=len(piece))
            budget.add_content("", chunk_bytes=len(piece), file_bytes=came_out)
            data = decoder.unconsumed_tail
            # Without input too: it may still hold output that did not fit in the last piece.
            if decoder.eof or not (data or piece):
                break
        stream.put_back(len(decoder.unused_data))
        came_in += len(taken) - len(decoder.unused_data)
    return Seen(_DEFLATED, came_in, came_out, crc) if packed in (None, came_in) else None
