"""Tar (ustar, GNU and PAX), read forward and bounded.

Not tarfile: it reads a PAX header or a long name into memory whatever its size, follows links inside the
archive, and on interpreters in use its extraction filter lets files escape (CVE-2025-4517).
Format: POSIX.1-2024 pax "ustar Interchange Format", and GNU tar's manual, "Basic Tar Format".
"""

import re
from collections.abc import Iterator
from typing import NoReturn

from django.utils.translation import gettext_lazy

from submissions.archive.limits import CHUNK_BYTES, KIB, Budget, Member, printable, refuse
from submissions.archive.names import decode_name
from submissions.archive.streams import FILLING_BYTES, Stream

_BLOCK_BYTES = 512
_ZERO_BLOCK = bytes(_BLOCK_BYTES)
_EXTENDED_BYTES = 64 * KIB

_REFUSED_TYPES = {
    b"1": gettext_lazy("a hard link"),
    b"2": gettext_lazy("a symbolic link"),
    b"3": gettext_lazy("a character device"),
    b"4": gettext_lazy("a block device"),
    b"6": gettext_lazy("a FIFO"),
    b"K": gettext_lazy("a link with a long target"),
    b"S": gettext_lazy("a sparse file"),
}

_OCTAL = re.compile(rb" *([0-7]*)[ \0]*")
_PAX_LENGTH = re.compile(rb"([1-9][0-9]{0,5}) ")
_PAX_SIZE = re.compile(rb"[0-9]{1,19}")


def read_tar(stream: Stream, budget: Budget) -> Iterator[Member]:
    """Each member's chunks must be used before the next member is asked for; what is left is passed over."""
    pax: dict[bytes, bytes] = {}
    long_name: bytes | None = None
    is_first = True
    while True:
        header = stream.read(_BLOCK_BYTES)
        if not header and is_first:
            refuse(gettext_lazy("The archive is empty: it has no bytes."))
        if len(header) < _BLOCK_BYTES:
            refuse(gettext_lazy("The archive ends without the end mark of a tar, so a part of it is missing."))
        if header == _ZERO_BLOCK:
            if pax or long_name is not None:
                refuse(gettext_lazy("The archive ends after the extended header of a member that is missing."))
            _check_end(stream)
            return
        _check_checksum(header, is_first=is_first)
        is_first = False

        kind = header[156:157]
        size = _number(header[124:136], "size")
        if kind in (b"x", b"L", b"g"):
            data = _extended(stream, size)
            if kind == b"g":
                budget.add_member()
                _check_global(_pax_records(data))
            elif pax or long_name is not None:
                refuse(gettext_lazy("A member of the archive has two extended headers."))
            elif kind == b"x":
                # Never empty, so that a second one is seen.
                pax = {b"": b"", **_pax_records(data)}
            else:
                long_name = data.rstrip(b"\0")
            continue

        budget.add_member()
        name = decode_name(_name(header) if long_name is None else long_name)
        if b"path" in pax:
            name = decode_name(pax[b"path"])
        _check_pax(name, pax, size)
        pax, long_name = {}, None
        is_directory, is_executable = _kind_and_mode(name, header, size)
        budget.check_claim(name, size)
        chunks = _content(stream, name, size)
        yield Member(name, is_directory, is_executable, chunks)
        for _ in chunks:
            pass


def _kind_and_mode(name: str, header: bytes, size: int) -> tuple[bool, bool]:
    """Whether it is a directory, and whether it is executable."""
    kind = header[156:157]
    if kind not in (b"0", b"\0", b"5"):
        _refuse_kind(name, kind)
    is_directory = kind == b"5" or (kind == b"\0" and name.endswith("/"))
    mode = _number(header[100:108], "mode")
    _check_mode(name, mode, is_directory=is_directory)
    if is_directory and size:
        refuse(gettext_lazy("%(name)s is a directory with %(size)s bytes of content."), name=printable(name), size=size)
    return is_directory, bool(mode & 0o100)


def _refuse_kind(name: str, kind: bytes) -> NoReturn:
    if kind in _REFUSED_TYPES:
        sentence = gettext_lazy("%(name)s is %(what)s; only files and directories are allowed.")
        refuse(sentence, name=printable(name), what=_REFUSED_TYPES[kind])
    sentence = gettext_lazy("%(name)s is of the unknown type %(kind)s; only files and directories are allowed.")
    refuse(sentence, name=printable(name), kind=printable(kind.decode("latin-1")))


def _check_checksum(header: bytes, *, is_first: bool) -> None:
    unsigned = sum(header[:148]) + 8 * ord(" ") + sum(header[156:])
    # Some old tars summed signed bytes.
    signed = unsigned - 256 * sum(byte > 127 for byte in header[:148] + header[156:])
    told = _OCTAL.fullmatch(header[148:156])
    if told is None or int(told[1] or b"0", 8) not in (unsigned, signed):
        if is_first:
            refuse(gettext_lazy("The archive is not a tar."))
        refuse(gettext_lazy("A header of the archive is damaged: its checksum is wrong."))


def _number(field: bytes, what: str) -> int:
    """Octal, or base 256 with the first bit set (GNU); never negative."""
    if field[0] == 0x80:
        return int.from_bytes(field[1:], "big")
    match = _OCTAL.fullmatch(field)
    if match is None:
        refuse(gettext_lazy("A header of the archive is damaged: its %(what)s is not a number."), what=what)
    return int(match[1] or b"0", 8)


def _name(header: bytes) -> bytes:
    name = header[:100].split(b"\0", 1)[0]
    # GNU keeps other things where ustar has the first part of a long name.
    if header[257:263] == b"ustar\0" and (prefix := header[345:500].split(b"\0", 1)[0]):
        return prefix + b"/" + name
    return name


def _extended(stream: Stream, size: int) -> bytes:
    if size > _EXTENDED_BYTES:
        refuse(
            gettext_lazy(
                "The archive has an extended header of %(size)s bytes; at most %(extended_bytes)s are allowed."
            ),
            size=size,
            extended_bytes=_EXTENDED_BYTES,
        )
    data = stream.read(_padded(size))
    if len(data) < _padded(size):
        refuse(gettext_lazy("The archive ends in the middle of an extended header."))
    return data[:size]


def _pax_records(data: bytes) -> dict[bytes, bytes]:
    """`length key=value\\n` records, where the length counts the whole record."""
    records: dict[bytes, bytes] = {}
    position = 0
    while position < len(data):
        match = _PAX_LENGTH.match(data, position)
        end = position + int(match[1]) if match else 0
        if match is None or end > len(data) or end <= match.end() or data[end - 1 : end] != b"\n":
            refuse(gettext_lazy("The archive has a damaged PAX header."))
        key, equals, value = data[match.end() : end - 1].partition(b"=")
        if not equals or not key or key in records:
            refuse(gettext_lazy("The archive has a damaged PAX header."))
        records[key] = value
        position = end
    return records


def _check_pax(name: str, pax: dict[bytes, bytes], size: int) -> None:
    if b"linkpath" in pax:
        refuse(gettext_lazy("%(name)s is a link; only files and directories are allowed."), name=printable(name))
    if any(key.startswith(b"GNU.sparse.") for key in pax):
        refuse(
            gettext_lazy("%(name)s is a sparse file; only plain files and directories are allowed."),
            name=printable(name),
        )
    if pax.get(b"hdrcharset", b"ISO-IR 10646 2000 UTF-8") != b"ISO-IR 10646 2000 UTF-8":
        refuse(
            gettext_lazy("The name %(name)s is not UTF-8; pack the archive again with UTF-8 names."),
            "bad_file_name",
            name=printable(name),
        )
    # Whatever we would take fits the header's own field, so a second size can only be there to confuse.
    claimed = pax.get(b"size")
    if claimed is not None and not (_PAX_SIZE.fullmatch(claimed) and int(claimed) == size):
        refuse(gettext_lazy("%(name)s has two different sizes in its headers."), name=printable(name))


def _check_global(pax: dict[bytes, bytes]) -> None:
    """A commit id (`git archive`) or an owner for all members is fine; what changes members is not."""
    for key in pax:
        if key in (b"path", b"linkpath", b"size", b"hdrcharset") or key.startswith(b"GNU.sparse."):
            shown = printable(key.decode("utf-8", "backslashreplace"))
            refuse(gettext_lazy("The archive sets %(name)s for all its members, which is not allowed."), name=shown)


def _check_mode(name: str, mode: int, *, is_directory: bool) -> None:
    # Shared folders pass setgid on to every directory in them; there it means nothing to us and is dropped.
    if mode & 0o4000 or (mode & 0o2000 and not is_directory):
        refuse(
            gettext_lazy("%(name)s has the setuid or setgid bit (mode %(mode)o), which is not allowed."),
            name=printable(name),
            mode=mode & 0o7777,
        )


def _padded(size: int) -> int:
    return -(-size // _BLOCK_BYTES) * _BLOCK_BYTES


def _content(stream: Stream, name: str, size: int) -> Iterator[bytes]:
    missing = size
    while missing:
        chunk = stream.read(min(missing, CHUNK_BYTES))
        if not chunk:
            refuse(
                gettext_lazy("The archive ends in the middle of %(name)s: %(missing)s of %(size)s bytes are missing."),
                name=printable(name),
                missing=missing,
                size=size,
            )
        missing -= len(chunk)
        yield chunk
    padding = _padded(size) - size
    if len(stream.read(padding)) < padding:
        refuse(gettext_lazy("The archive ends in the middle of %(name)s."), name=printable(name))


def _check_end(stream: Stream) -> None:
    """After the first block of zeros: a second one, then at most filling."""
    filling = 0
    while block := stream.read(CHUNK_BYTES):
        filling += len(block)
        if block.count(0) != len(block) or filling > FILLING_BYTES:
            refuse(gettext_lazy("Something follows the end mark of the tar."))
    if filling < _BLOCK_BYTES:
        refuse(gettext_lazy("The archive ends without the end mark of a tar, so a part of it is missing."))
