"""What a zip's members hold, told while the zip passes by, so that they need not be read a second time.

It decides nothing: for a range of bytes it says what they unpack to. The reader (zip_reader.py) looks at the whole layout
as ever, and takes the word of this pass only for a member that lies exactly there with exactly these sizes.
"""

import struct
import zlib
from collections.abc import Iterator
from typing import Protocol

from isal.isal_zlib import crc32

from submissions.archive.limits import CHUNK_BYTES, ArchiveRefused, Budget, Seen

_LOCAL = struct.Struct("<4s5H3L2H")
_DESCRIPTOR = struct.Struct("<4s3L")
_STORED, _DEFLATED = 0, 8
_DESCRIPTOR_FLAG = 1 << 3
_STRANGE_FLAGS = 1 << 0 | 1 << 5 | 1 << 6 | 1 << 13
_MAX32 = 0xFFFFFFFF


class Passing(Protocol):
    """Bytes that pass by once, in the order of the file."""

    def read(self, size: int) -> bytes:
        """`size` bytes, fewer only at the end."""

    def take(self, most: int) -> memoryview:
        """The next bytes, at most so many, none only at the end; good until the next call."""

    def put_back(self, count: int) -> None:
        """Have the last bytes of what was taken last again."""


def follow_zip(stream: Passing, budget: Budget) -> dict[int, Seen]:
    """By where a member's data begins, what it is; as far as the members follow each other in the plainest way."""
    found: dict[int, Seen] = {}
    try:
        for offset, seen in _members(stream, budget):
            found[offset] = seen
    except (ArchiveRefused, zlib.error):
        pass  # the reader meets the same, and says what it is
    return found


def _members(stream: Passing, budget: Budget) -> Iterator[tuple[int, Seen]]:
    position = 0
    while len(fixed := stream.read(_LOCAL.size)) == _LOCAL.size:
        signature, _, flags, method, _, _, _, packed, size, name_bytes, extra_bytes = _LOCAL.unpack(fixed)
        has_descriptor = bool(flags & _DESCRIPTOR_FLAG)
        if signature != b"PK\3\4" or flags & _STRANGE_FLAGS or _MAX32 in (packed, size):
            return
        budget.add_member()
        stream.read(name_bytes + extra_bytes)
        position += _LOCAL.size + name_bytes + extra_bytes
        if method == _STORED and not has_descriptor:
            seen = _stored(stream, packed, budget)
        elif method == _DEFLATED:
            seen = _deflated(stream, None if has_descriptor else packed, budget)
        else:
            return
        if seen is None or (has_descriptor and not _is_descriptor(stream.read(_DESCRIPTOR.size), seen)):
            return
        yield position, seen
        position += seen.packed_bytes + has_descriptor * _DESCRIPTOR.size


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
