"""Zip, read so that there is one way only to understand the file.

The members must fill the file from its first byte to the directory without gap or overlap, and the directory
must say the same as the header in front of each member. So nothing is hidden, nothing is counted twice, and
no two programs see different files in it.

Not zipfile: it reads the whole directory into memory and believes it.
Format: PKWARE APPNOTE.TXT 6.3.10.
"""

import stat
import struct
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import BinaryIO

from django.utils.translation import gettext_lazy
from isal.isal_zlib import crc32

from submissions.archive.limits import CHUNK_BYTES, ArchiveLimits, Budget, Member, Seen, printable, refuse
from submissions.archive.names import check_path
from submissions.archive.streams import read_fully
from submissions.archive.zip_names import UTF8_FLAG, Spelling, decoded_names

_END = struct.Struct("<4s4H2LH")
_END64_LOCATOR = struct.Struct("<4sLQL")
_END64 = struct.Struct("<4sQ2H2L4Q")
_DIRECTORY = struct.Struct("<4s6H3L5H2L")
_LOCAL = struct.Struct("<4s5H3L2H")

_STORED, _DEFLATED = 0, 8
_ENCRYPTED_FLAGS = 1 << 0 | 1 << 6 | 1 << 13
_PATCH_FLAG = 1 << 5
_DESCRIPTOR_FLAG = 1 << 3
_ZIP64_EXTRA = 0x0001
_UNICODE_PATH_EXTRA = 0x7075
_MAX16 = 0xFFFF
_MAX32 = 0xFFFFFFFF


@dataclass
class _Entry:
    spelling: Spelling
    name: str
    flags: int
    method: int
    crc: int
    packed_bytes: int
    file_bytes: int
    header_offset: int
    mode: int
    data_offset: int = 0


def read_zip(file: BinaryIO, budget: Budget, seen: Mapping[int, Seen] | None = None) -> Iterator[Member]:
    """The whole layout is checked before the first byte is unpacked. `seen`: what a pass before this told of its members."""
    entries, directory_offset = _read_directory(file, budget)
    _check_layout(file, entries, directory_offset, budget)
    for entry in entries:
        is_directory = entry.name.endswith("/")
        told = Seen(entry.method, entry.packed_bytes, entry.file_bytes, entry.crc)
        known = told if seen is not None and seen.get(entry.data_offset) == told else None
        yield Member(entry.name, is_directory, bool(entry.mode & 0o100), _content(file, entry, budget), known)


def _read_at(file: BinaryIO, offset: int, size: int, what: object) -> bytes:
    file.seek(offset)
    data = read_fully(file, size)
    if len(data) < size:
        refuse(gettext_lazy("The archive ends in the middle of %(what)s."), what=what)
    return data


def _read_directory(file: BinaryIO, budget: Budget) -> tuple[list[_Entry], int]:
    """The members in the order they lie in the file, and where the directory begins."""
    count, size, offset = _find_directory(file)
    budget.check_members(count)
    if count == 0 and size == 0 and offset == 0:
        refuse(gettext_lazy("The archive is empty: it has no members."))
    entries = []
    position, end = offset, offset + size
    for _ in range(count):
        budget.add_member()
        if position + _DIRECTORY.size > end:
            refuse(gettext_lazy("The directory of the archive has fewer members than it says."))
        fixed = _DIRECTORY.unpack(_read_at(file, position, _DIRECTORY.size, gettext_lazy("its directory")))
        variable_bytes = sum(fixed[10:13])
        position += _DIRECTORY.size + variable_bytes
        if fixed[0] != b"PK\1\2" or position > end:
            refuse(gettext_lazy("The directory of the archive is damaged."))
        entries.append(_directory_entry(fixed, read_fully(file, variable_bytes), budget.limits))
    if position != end:
        refuse(gettext_lazy("The directory of the archive has more in it than it says."))
    for entry, name in zip(entries, decoded_names([entry.spelling for entry in entries]), strict=True):
        entry.name = name
        _check_entry(entry)
    entries.sort(key=lambda entry: entry.header_offset)
    return entries, offset


def _find_directory(file: BinaryIO) -> tuple[int, int, int]:
    """Number of members, size and offset of the directory, which must end where its end records begin."""
    length = file.seek(0, 2)
    if not length:
        refuse(gettext_lazy("The archive is empty: it has no bytes."))
    tail_offset = max(0, length - _END.size - _MAX16)
    tail = _read_at(file, tail_offset, length - tail_offset, gettext_lazy("its end"))
    at = tail.rfind(b"PK\5\6")
    if at < 0 or at + _END.size > len(tail):
        refuse(gettext_lazy("The archive is not a zip, or its end is missing."))
    _, disk, first_disk, disk_count, count, size, offset, comment_bytes = _END.unpack_from(tail, at)
    if at + _END.size + comment_bytes != len(tail):
        refuse(gettext_lazy("Something follows the end of the zip."))
    end = tail_offset + at
    if (disk, first_disk) != (0, 0) or disk_count != count:
        refuse(gettext_lazy("The archive is a part of a zip that was split."))

    locator_at = end - _END64_LOCATOR.size
    locator = _read_at(file, locator_at, _END64_LOCATOR.size, gettext_lazy("its end")) if locator_at >= 0 else b""
    if locator.startswith(b"PK\6\7"):
        end = locator_at - _END64.size
        _, _, end64_offset, disks = _END64_LOCATOR.unpack(locator)
        if end < 0 or end64_offset != end or disks > 1:
            refuse(gettext_lazy("The zip64 end of the archive is damaged."))
        record = _END64.unpack(_read_at(file, end, _END64.size, gettext_lazy("its end")))
        signature, record_bytes, _, _, disk, first_disk, disk_count, count64, size64, offset64 = record
        wrong = signature != b"PK\6\6" or record_bytes != _END64.size - 12
        wrong |= (disk, first_disk) != (0, 0) or disk_count != count64
        wrong |= count not in (count64, _MAX16) or size not in (size64, _MAX32) or offset not in (offset64, _MAX32)
        if wrong:
            refuse(gettext_lazy("The zip64 end of the archive is damaged."))
        count, size, offset = count64, size64, offset64
    if offset + size != end:
        refuse(
            gettext_lazy("The directory of the archive is not where its end says: something was put before or between.")
        )
    return count, size, offset


def _directory_entry(fixed: tuple[int, ...], variable: bytes, limits: ArchiveLimits) -> _Entry:
    (
        _,
        made_by,
        _,
        flags,
        method,
        _,
        _,
        crc,
        packed,
        size,
        name_bytes,
        extra_bytes,
        _,
        disk,
        _,
        attributes,
        offset,
    ) = fixed
    raw_name = variable[:name_bytes]
    # For the sentences, until all names are read and it is known which characters they are in.
    name = raw_name.decode("utf-8", "replace")
    # All names are kept until the last is read: 1 500 of 64 KiB would be as many megabytes as an upload may have.
    if len(name) > limits.path_characters:
        check_path(name, limits)
    extra = _extra_fields(name, variable[name_bytes : name_bytes + extra_bytes])
    size, packed, offset = _zip64(name, extra, [size, packed, offset])
    if disk != 0:
        refuse(gettext_lazy("%(name)s is in another part of a zip that was split."), name=printable(name))
    spelling = Spelling(raw_name, bool(flags & UTF8_FLAG), made_by >> 8, extra.get(_UNICODE_PATH_EXTRA))
    spelling.check(limits)
    return _Entry(spelling, name, flags, method, crc, packed, size, offset, attributes >> 16)


def _check_entry(entry: _Entry) -> None:
    shown = printable(entry.name)
    if entry.flags & _ENCRYPTED_FLAGS:
        refuse(gettext_lazy("%(name)s is encrypted; encrypted members are not allowed."), name=shown)
    if entry.method not in (_STORED, _DEFLATED) or entry.flags & _PATCH_FLAG:
        refuse(
            gettext_lazy("%(name)s is compressed by method %(method)s; only stored (0) and deflate (8) are allowed."),
            name=shown,
            method=entry.method,
        )
    kind = stat.S_IFMT(entry.mode)
    is_directory = entry.name.endswith("/")
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        if kind == stat.S_IFLNK:
            refuse(gettext_lazy("%(name)s is a symbolic link; only files and directories are allowed."), name=shown)
        refuse(
            gettext_lazy("%(name)s is of the special kind %(kind)o; only files and directories are allowed."),
            name=shown,
            kind=kind,
        )
    if kind and (kind == stat.S_IFDIR) != is_directory:
        refuse(
            gettext_lazy("%(name)s is a file by its name and a directory by its mode, or the other way round."),
            name=shown,
        )
    if entry.mode & 0o4000 or (entry.mode & 0o2000 and not is_directory):
        refuse(
            gettext_lazy("%(name)s has the setuid or setgid bit (mode %(mode)o), which is not allowed."),
            name=shown,
            mode=entry.mode & 0o7777,
        )
    if is_directory and entry.file_bytes:
        refuse(
            gettext_lazy("%(name)s is a directory with %(file_bytes)s bytes of content."),
            name=shown,
            file_bytes=entry.file_bytes,
        )
    if entry.method == _STORED and entry.packed_bytes != entry.file_bytes:
        refuse(
            gettext_lazy("%(name)s is stored, but says %(packed_bytes)s and %(file_bytes)s bytes."),
            name=shown,
            packed_bytes=entry.packed_bytes,
            file_bytes=entry.file_bytes,
        )


def _extra_fields(name: str, data: bytes) -> dict[int, bytes]:
    fields: dict[int, bytes] = {}
    position = 0
    # Up to three bytes may be left: alignment tools fill up with them.
    while position + 4 <= len(data):
        key, size = struct.unpack_from("<2H", data, position)
        position += 4
        if position + size > len(data) or (key in fields and key in (_ZIP64_EXTRA, _UNICODE_PATH_EXTRA)):
            refuse(gettext_lazy("%(name)s has a damaged header."), name=printable(name))
        fields[key] = data[position : position + size]
        position += size
    return fields


def _zip64(name: str, extra: dict[int, bytes], values: list[int]) -> list[int]:
    """The values with each one that did not fit in 32 bits taken from the zip64 field, in order."""
    field = extra.get(_ZIP64_EXTRA)
    if field is None:
        return values
    resolved = []
    for value in values:
        if value == _MAX32:
            if len(field) < 8:
                refuse(gettext_lazy("%(name)s has a damaged header."), name=printable(name))
            value, field = int.from_bytes(field[:8], "little"), field[8:]
        resolved.append(value)
    return resolved


def _check_layout(file: BinaryIO, entries: list[_Entry], directory_offset: int, budget: Budget) -> None:
    """Member after member from the first byte to the directory; finds where the data of each begins."""
    position = 0
    for index, entry in enumerate(entries):
        budget.check_time()
        shown = printable(entry.name)
        if entry.header_offset != position:
            overlaps = entry.header_offset < position
            if overlaps:
                refuse(gettext_lazy("%(name)s overlaps the member before it."), name=shown)
            refuse(gettext_lazy("%(name)s has hidden data before it."), name=shown)
        if position + _LOCAL.size > directory_offset:
            refuse(gettext_lazy("%(name)s lies outside the archive."), name=shown)
        has_descriptor = _check_local_header(file, entry)
        position = entry.data_offset + entry.packed_bytes
        is_last = index + 1 == len(entries)
        following = directory_offset if is_last else entries[index + 1].header_offset
        if position > following:
            refuse(gettext_lazy("%(name)s overlaps what follows it."), name=shown)
        if has_descriptor:
            position += _descriptor_bytes(file, entry, position, following - position)
    if position != directory_offset:
        refuse(gettext_lazy("The archive has hidden data before its directory."))


def _check_local_header(file: BinaryIO, entry: _Entry) -> bool:
    """Compare with the directory and set where the data begins; says whether a descriptor follows."""
    shown = printable(entry.name)
    fixed = _LOCAL.unpack(_read_at(file, entry.header_offset, _LOCAL.size, shown))
    signature, _, flags, method, _, _, crc, packed, size, name_bytes, extra_bytes = fixed
    variable = read_fully(file, name_bytes + extra_bytes)
    extra = _extra_fields(entry.name, variable[name_bytes:])
    size, packed = _zip64(entry.name, extra, [size, packed])
    # Programs that read a zip from its first byte see no other names than these.
    entry.spelling.check_local(entry.name, bool(flags & UTF8_FLAG), extra.get(_UNICODE_PATH_EXTRA))
    entry.data_offset = entry.header_offset + _LOCAL.size + name_bytes + extra_bytes
    has_descriptor = bool(flags & _DESCRIPTOR_FLAG)
    told = [(crc, entry.crc), (packed, entry.packed_bytes), (size, entry.file_bytes)]
    agrees = all(here == there or (has_descriptor and here in (0, _MAX32)) for here, there in told)
    agrees &= method == entry.method and variable[:name_bytes] == entry.spelling.raw
    if signature != b"PK\3\4" or not agrees or flags & (_ENCRYPTED_FLAGS | _PATCH_FLAG):
        refuse(
            gettext_lazy("%(name)s is not the same in the directory of the archive and in its own header."), name=shown
        )
    return has_descriptor


def _descriptor_bytes(file: BinaryIO, entry: _Entry, offset: int, room: int) -> int:
    """The size of the record that repeats checksum and sizes after the data; its signature is optional."""
    found = _read_at(file, offset, min(room, 24), printable(entry.name))
    for prefix in (b"PK\7\10", b""):
        for form in ("<3L", "<L2Q"):
            if form == "<3L" and max(entry.packed_bytes, entry.file_bytes) > _MAX32:
                continue
            if found == prefix + struct.pack(form, entry.crc, entry.packed_bytes, entry.file_bytes):
                return len(found)
    refuse(gettext_lazy("%(name)s does not end as the directory of the archive says."), name=printable(entry.name))


def _content(file: BinaryIO, entry: _Entry, budget: Budget) -> Iterator[bytes]:
    budget.check_claim(entry.name, entry.file_bytes)
    crc = 0
    came_out = 0
    for chunk in _unpacked(file, entry, budget):
        came_out += len(chunk)
        if came_out > entry.file_bytes:
            break
        crc = crc32(chunk, crc)
        yield chunk
    if came_out != entry.file_bytes:
        if came_out > entry.file_bytes:
            refuse(
                gettext_lazy("%(name)s says it has %(file_bytes)s bytes, but has more."),
                name=printable(entry.name),
                file_bytes=entry.file_bytes,
            )
        refuse(
            gettext_lazy("%(name)s says it has %(file_bytes)s bytes, but has fewer."),
            name=printable(entry.name),
            file_bytes=entry.file_bytes,
        )
    if crc != entry.crc:
        refuse(gettext_lazy("%(name)s is damaged: its checksum is wrong."), name=printable(entry.name))


def _unpacked(file: BinaryIO, entry: _Entry, budget: Budget) -> Iterator[bytes]:
    file.seek(entry.data_offset)
    decoder = zlib.decompressobj(-zlib.MAX_WBITS) if entry.method == _DEFLATED else None
    left = entry.packed_bytes
    pending = b""
    while True:
        data = pending
        if not data and left:
            data = file.read(min(left, CHUNK_BYTES))
            if not data:
                refuse(gettext_lazy("The archive ends in the middle of %(name)s."), name=printable(entry.name))
            left -= len(data)
        if decoder is None:
            piece = data
        else:
            try:
                piece = decoder.decompress(data, CHUNK_BYTES)
            except zlib.error:
                refuse(gettext_lazy("%(name)s is damaged: it cannot be decompressed."), name=printable(entry.name))
            pending = decoder.unconsumed_tail
        budget.add_unpacked(read_bytes=len(data) - len(pending), unpacked_bytes=len(piece))
        if piece:
            yield piece
        if decoder is None and not left:
            return
        if decoder is not None and decoder.eof:
            if left or decoder.unused_data:
                refuse(gettext_lazy("%(name)s has hidden data after its content."), name=printable(entry.name))
            return
        if decoder is not None and not data and not piece:
            refuse(gettext_lazy("%(name)s is damaged: its compressed data has no end."), name=printable(entry.name))
