"""Forward reading with every byte counted: plain, and through gzip."""

import zlib
from typing import BinaryIO, Protocol

from django.utils.translation import gettext_lazy

from submissions.archive.limits import CHUNK_BYTES, MIB, Budget, refuse

# bgzip cuts a file into gzip members of 64 KiB, so a full archive has some 16 000 of them.
_GZIP_MEMBERS = 20_000

# Tapes and some copiers fill up with zeros; more than this is not filling.
FILLING_BYTES = MIB

_GZIP_WBITS = 31


class Stream(Protocol):
    def read(self, size: int) -> bytes:
        """`size` bytes, fewer only at the end."""


def read_fully(file: BinaryIO, size: int) -> bytes:
    """`size` bytes, fewer only at the end; raw files and sockets may give less than they are asked for."""
    data = file.read(size)
    if not data or len(data) == size:
        return data
    parts = [data]
    missing = size - len(data)
    while missing and (data := file.read(missing)):
        parts.append(data)
        missing -= len(data)
    return b"".join(parts)


class PlainStream:
    def __init__(self, file: BinaryIO, budget: Budget) -> None:
        self._file = file
        self._budget = budget

    def read(self, size: int) -> bytes:
        data = read_fully(self._file, size)
        self._budget.add_unpacked(read_bytes=len(data), unpacked_bytes=len(data))
        return data


class GzipStream:
    """Several gzip members in a row are one stream, as gzip says; zeros may follow, other bytes may not."""

    def __init__(self, file: BinaryIO, budget: Budget) -> None:
        self._file = file
        self._budget = budget
        self._members = 1
        self._decoder: zlib._Decompress | None = zlib.decompressobj(_GZIP_WBITS)
        self._has_input = False
        self._input = b""
        self._output = b""

    def read(self, size: int) -> bytes:
        while len(self._output) < size and (piece := self._inflate()):
            self._output += piece
        data, self._output = self._output[:size], self._output[size:]
        return data

    def _inflate(self) -> bytes:
        """The next piece of output, b"" at the end."""
        while True:
            data = self._input or self._file.read(CHUNK_BYTES)
            if self._decoder is None:
                if not data:
                    return b""
                if data[0] == 0:
                    self._check_filling(data)
                    return b""
                self._members += 1
                if self._members > _GZIP_MEMBERS:
                    refuse(
                        gettext_lazy("The archive consists of more than %(gzip_members)s gzip members."),
                        "too_large",
                        gzip_members=_GZIP_MEMBERS,
                    )
                self._decoder = zlib.decompressobj(_GZIP_WBITS)
            try:
                # Without input too: the decoder may still hold output that did not fit in the last piece.
                piece = self._decoder.decompress(data, CHUNK_BYTES)
            except zlib.error:
                if self._members == 1 and not self._output:
                    refuse(gettext_lazy("The archive is not gzip, or its compressed data is damaged."))
                refuse(gettext_lazy("The compressed data is damaged, or something follows its end."))
            self._has_input |= bool(data)
            self._input = self._decoder.unused_data if self._decoder.eof else self._decoder.unconsumed_tail
            self._budget.add_unpacked(read_bytes=len(data) - len(self._input), unpacked_bytes=len(piece))
            if self._decoder.eof:
                self._decoder = None
            elif not data and not piece:
                if not self._has_input:
                    refuse(gettext_lazy("The archive is empty: it has no bytes."))
                refuse(gettext_lazy("The archive ends in the middle of its compressed data."))
            if piece:
                return piece

    def _check_filling(self, data: bytes) -> None:
        filling = 0
        while data:
            self._budget.check_time()
            filling += len(data)
            if data.count(0) != len(data) or filling > FILLING_BYTES:
                refuse(gettext_lazy("Something follows the end of the compressed data."))
            data = self._file.read(CHUNK_BYTES)
        self._input = b""
