"""Hostile zips: each refused with its code, in both doors, with nothing left behind."""

import io
import stat
import struct
import tracemalloc
import warnings
import zipfile
import zlib
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from submissions.archive import ArchiveLimits, ArchiveRefused, inspect_archive
from submissions.tests.archives import (
    FILES,
    MIB,
    Playground,
    assert_refused,
    streamed_zip_of,
    zip64_of,
    zip_of,
)


@dataclass(frozen=True)
class Part:
    """One member, each of its fields free to lie: in its own header, in the directory, or in both."""

    name: bytes
    content: bytes = b"x"
    method: int = 8
    flags: int = 0
    mode: int = 0
    claimed_bytes: int | None = None
    extra: bytes = b""
    local: dict[str, Any] = field(default_factory=dict)
    central: dict[str, Any] = field(default_factory=dict)
    behind_data: bytes = b""
    is_cut: bool = False
    # 3 is Unix; 0 FAT, 10 and 11 NTFS.
    system: int = 3

    def packed(self) -> bytes:
        if self.is_cut:
            packer = zlib.compressobj(wbits=-15)
            return packer.compress(self.content) + packer.flush(zlib.Z_SYNC_FLUSH)
        if self.method != 8:
            return self.content
        packer = zlib.compressobj(wbits=-15)
        return packer.compress(self.content) + packer.flush()

    def fields(self, offset: int) -> dict[str, Any]:
        size = len(self.content) if self.claimed_bytes is None else self.claimed_bytes
        return {
            "name": self.name,
            "flags": self.flags,
            "method": self.method,
            "crc": zlib.crc32(self.content),
            "packed": len(self.packed()),
            "size": size,
            "offset": offset,
            "extra": self.extra,
            "disk": 0,
        }


def build(
    *parts: Part,
    before: bytes = b"",
    between: bytes = b"",
    behind: bytes = b"",
    count: int | None = None,
    disk: int = 0,
    base: int = 0,
) -> bytes:
    body, directory = before, b""
    for part in parts:
        f = part.fields(len(body) - base)
        here, there = {**f, **part.local}, {**f, **part.central}
        directory += (
            struct.pack("<4s4B4H3L", b"PK\1\2", 20, part.system, 20, 0, there["flags"], there["method"], 0, 0x21,
                        there["crc"], there["packed"], there["size"])
            + struct.pack("<5H2L", len(there["name"]), len(there["extra"]), 0, there["disk"], 0,
                          part.mode << 16, there["offset"])
            + there["name"] + there["extra"]
        )  # fmt: skip
        body += (
            struct.pack("<4s5H3L2H", b"PK\3\4", 20, here["flags"], here["method"], 0, 0x21,
                        here["crc"], here["packed"], here["size"], len(here["name"]), len(here["extra"]))
            + here["name"] + here["extra"] + part.packed() + part.behind_data
        )  # fmt: skip
    count = len(parts) if count is None else count
    end = struct.pack("<4s4H2LH", b"PK\5\6", disk, 0, count, count, len(directory), len(body + between) - base, 0)
    return body + between + directory + end + behind


def end64(
    count: int, size: int, offset: int, *, count64: int | None = None, at: int | None = None, disk: int = 0
) -> bytes:
    """The zip64 records and the plain one, for a directory that ends here."""
    count64 = count if count64 is None else count64
    record = struct.pack("<4sQ2H2L4Q", b"PK\6\6", 44, 45, 45, disk, 0, count64, count64, size, offset)
    locator = struct.pack("<4sLQL", b"PK\6\7", 0, offset + size if at is None else at, 1)
    shown = min(count, 0xFFFF)
    return record + locator + struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, shown, shown, size, offset, 0)


def with_end64(data: bytes, **lies: int) -> bytes:
    offset = data.index(b"PK\1\2")
    return data[:-22] + end64(data.count(b"PK\1\2"), len(data) - 22 - offset, offset, **lies)


def fully_overlapping() -> bytes:
    """As 42.zip's younger sisters: many directory entries, one and the same data."""
    kernel = Part(b"0", bytes(MIB))
    parts = [replace(kernel, central={"offset": 0})] * 50
    body = build(kernel)
    directory = build(*parts)
    start = directory.index(b"PK\1\2")
    data = body[: body.index(b"PK\1\2")]
    size = directory.index(b"PK\5\6") - start
    end = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 50, 50, size, len(data), 0)
    return data + directory[start : start + size] + end


def quoted_overlap() -> bytes:
    """Fifield's zip bomb: the data of the first member begins with the header of the second."""
    inner = build(Part(b"b", bytes(1000)))
    quoted = inner[: inner.index(b"PK\1\2")]
    first = Part(b"a", quoted, method=0)
    return build(first, Part(b"b", bytes(1000), central={"offset": 31}))


def unicode_path(name: bytes, of: bytes = b"a.py") -> bytes:
    value = b"\1" + struct.pack("<L", zlib.crc32(of)) + name
    return struct.pack("<2H", 0x7075, len(value)) + value


def broken_deflate() -> bytes:
    data = bytearray(build(Part(b"a", b"hello hello hello")))
    data[31:35] = b"\xff\xff\xff\xff"
    return bytes(data)


A = Part(b"a.py", b"print()")
LINK = stat.S_IFLNK | 0o777
ENCRYPTED = Part(b"a.py", b"x" * 20, flags=1)
TWELVE = struct.pack("<3L", zlib.crc32(b"print()"), len(A.packed()), 7)


def pair(first: str, second: str) -> bytes:
    return build(Part(first.encode()), Part(second.encode()))


HOSTILE: dict[str, tuple[bytes, str, str]] = {
    # Nothing at all.
    "no bytes": (b"", "bad_archive", "no bytes"),
    "no members": (zip_of({}), "bad_archive", "no members"),
    "directories only": (build(Part(b"d/", b"")), "bad_archive", "no files"),
    "not a zip": (b"PK\3\4" + bytes(1000), "bad_archive", "not a zip"),
    # Ways out.
    "climbing": (build(Part(b"../victim")), "bad_file_name", "leads out"),
    "climbing in the middle": (build(Part(b"a/../../victim")), "bad_file_name", "leads out"),
    "climbing directory": (build(Part(b"../d/", b"")), "bad_file_name", "leads out"),
    "absolute": (build(Part(b"/tmp/victim")), "bad_file_name", "absolute"),
    "backslash": (build(Part(b"..\\victim")), "bad_file_name", "backslash"),
    "drive": (build(Part(b"C:/victim")), "bad_file_name", "drive"),
    "share": (build(Part(b"\\\\host\\share")), "bad_file_name", "backslash"),
    # Kinds of members.
    "symlink": (build(Part(b"a", b"/etc/passwd", mode=LINK)), "bad_archive", "symbolic link"),
    "symlink, then through it": (
        build(Part(b"a", b"..", mode=LINK), Part(b"a/victim")),
        "bad_archive",
        "symbolic link",
    ),
    "device": (build(Part(b"a", mode=stat.S_IFCHR | 0o666)), "bad_archive", "special kind"),
    "FIFO": (build(Part(b"a", mode=stat.S_IFIFO | 0o666)), "bad_archive", "special kind"),
    "socket": (build(Part(b"a", mode=stat.S_IFSOCK | 0o666)), "bad_archive", "special kind"),
    "file called a directory": (build(Part(b"a", mode=stat.S_IFDIR | 0o755)), "bad_archive", "other way"),
    "directory called a file": (build(Part(b"a/", b"", mode=stat.S_IFREG)), "bad_archive", "other way"),
    "directory with content": (build(Part(b"a/", b"x")), "bad_archive", "content"),
    "directory with hidden content": (build(Part(b"a/", b"x", claimed_bytes=0), A), "bad_archive", "more"),
    "setuid": (build(Part(b"a", mode=stat.S_IFREG | 0o4755)), "bad_archive", "setuid"),
    "setgid": (build(Part(b"a", mode=0o2755)), "bad_archive", "setgid"),
    "encrypted": (build(ENCRYPTED), "bad_archive", "encrypted"),
    "strongly encrypted": (build(Part(b"a", flags=1 << 6)), "bad_archive", "encrypted"),
    "encrypted directory": (build(Part(b"a", flags=1 << 13)), "bad_archive", "encrypted"),
    "encrypted in its own header only": (
        build(Part(b"a", local={"flags": 1})),
        "bad_archive",
        "not the same",
    ),
    "AES": (build(Part(b"a", method=99)), "bad_archive", "method 99"),
    "bzip2": (zip_of(FILES, zipfile.ZIP_BZIP2), "bad_archive", "method 12"),
    "LZMA": (zip_of(FILES, zipfile.ZIP_LZMA), "bad_archive", "method 14"),
    "deflate64": (build(Part(b"a", method=9)), "bad_archive", "method 9"),
    "patched data": (build(Part(b"a", flags=1 << 5)), "bad_archive", "only stored"),
    # Names.
    "control character": (build(Part(b"a\x1b]0;x\x07.py")), "bad_file_name", "U+001B"),
    "NUL": (build(Part(b"a.py\0.txt")), "bad_file_name", "U+0000"),
    "bidi": (build(Part("a\u202egpj.py".encode())), "bad_file_name", "U+202E"),
    "root with content": (build(Part(b"/", b"x")), "bad_archive", "content"),
    "no name": (build(Part(b"")), "bad_file_name", "without a file name"),
    "name of 60 000 bytes": (build(Part(b"n" * 60_000)), "bad_file_name", "60000"),
    "deep": (build(Part(b"d/" * 12 + b"f")), "bad_file_name", "13 levels"),
    "second name": (
        build(Part(b"a.py", extra=unicode_path(b"../x"))),
        "bad_file_name",
        "two different names",
    ),
    "other name in its own header": (
        build(Part(b"a.py", local={"name": b"b.py"})),
        "bad_archive",
        "not the same",
    ),
    "same name": (pair("a.py", "a.py"), "bad_file_name", "same name twice"),
    "same name, other case": (pair("a.py", "A.py"), "bad_file_name", "same name twice"),
    "same name, other form": (pair("が.py", "か\u3099.py"), "bad_file_name", "same name twice"),
    "file, then folder": (pair("d", "d/a"), "bad_file_name", "directory and a file"),
    "folder, then file": (pair("d/a", "D"), "bad_file_name", "file and a directory"),
    # Lies about sizes.
    "claims less": (build(Part(b"a", bytes(5000), claimed_bytes=10)), "bad_archive", "more"),
    "claims nothing": (build(Part(b"a", bytes(5000), claimed_bytes=0)), "bad_archive", "more"),
    "claims more": (build(Part(b"a", bytes(5000), claimed_bytes=6000)), "bad_archive", "fewer"),
    "claims too much": (build(Part(b"a", b"x", claimed_bytes=513 * MIB)), "too_large", "513 MiB; at most 512 MiB"),
    "stored claims more": (build(Part(b"a", b"x", method=0, claimed_bytes=9)), "bad_archive", "stored"),
    "other size in its own header": (build(Part(b"a", local={"size": 9})), "bad_archive", "not the same"),
    "other method in its own header": (build(Part(b"a", local={"method": 0})), "bad_archive", "not the same"),
    "wrong checksum": (build(Part(b"a", local={"crc": 1}, central={"crc": 1})), "bad_archive", "checksum"),
    "wrong checksum in its own header": (build(Part(b"a", local={"crc": 1})), "bad_archive", "not the same"),
    "broken deflate": (broken_deflate(), "bad_archive", "damaged"),
    "packed size too small": (
        build(Part(b"a", b"hello", local={"packed": 3}, central={"packed": 3})),
        "bad_archive",
        "hidden",
    ),
    "data behind the compressed data": (
        build(Part(b"a", b"", behind_data=b"hidden", local={"packed": 8}, central={"packed": 8})),
        "bad_archive",
        "hidden data",
    ),
    "packed size beyond the file": (
        build(Part(b"a", local={"packed": 10**6}, central={"packed": 10**6})),
        "bad_archive",
        "overlaps",
    ),
    # Lies about the layout.
    "fully overlapping": (fully_overlapping(), "bad_archive", "overlaps"),
    "quoted overlap": (quoted_overlap(), "bad_archive", "overlaps"),
    "prepended data": (b"#!/bin/sh\n" + build(A), "bad_archive", "before or between"),
    "prepended data with right offsets": (build(A, before=b"#!/bin/sh\n"), "bad_archive", "hidden data"),
    "prepended zip": (build(A) + build(Part(b"b.py")), "bad_archive", "before or between"),
    "data between members": (
        build(replace(A, behind_data=b"hide"), Part(b"b")),
        "bad_archive",
        "hidden data",
    ),
    "member that is not in the directory": (
        build(replace(A, behind_data=build(Part(b"h")).partition(b"PK\1\2")[0])),
        "bad_archive",
        "hidden data",
    ),
    "data before the directory": (build(A, between=b"hide"), "bad_archive", "hidden data"),
    "data behind": (build(A, behind=b"hide"), "bad_archive", "follows the end"),
    "offset beyond the file": (build(Part(b"a", central={"offset": 10**9})), "bad_archive", "hidden data"),
    "descriptor that lies": (
        build(replace(A, flags=8, behind_data=TWELVE[:-1] + b"\1")),
        "bad_archive",
        "does not end",
    ),
    "descriptor that is missing": (build(replace(A, flags=8)), "bad_archive", "does not end"),
    "fewer members than counted": (build(A, count=2), "bad_archive", "fewer"),
    "more members than counted": (build(A, Part(b"b"), count=1), "bad_archive", "more in it"),
    "no members counted": (build(A, count=0), "bad_archive", "more in it"),
    "part of a split zip": (build(A, disk=1), "bad_archive", "split"),
    "member on another disk": (build(Part(b"a", central={"disk": 1})), "bad_archive", "split"),
    "cut extra field": (build(Part(b"a", extra=b"\1\0\x50\0abc")), "bad_archive", "damaged header"),
    "zip64 field without values": (
        build(Part(b"a", extra=b"\1\0\0\0", central={"size": 0xFFFFFFFF})),
        "bad_archive",
        "damaged header",
    ),
    "damaged directory": (build(A).replace(b"PK\1\2", b"PK\1\3"), "bad_archive", "damaged"),
    "compressed data without end": (build(Part(b"a", b"hello", is_cut=True)), "bad_archive", "has no end"),
    "two counts of members": (with_end64(build(A, A), count64=1), "bad_archive", "zip64"),
    "zip64 end told to be elsewhere": (with_end64(build(A), at=0), "bad_archive", "zip64"),
    "zip64 part of a split zip": (with_end64(build(A), disk=1), "bad_archive", "zip64"),
    "zip64 end that is not there": (
        zip_of(FILES)[:-22] + struct.pack("<4sLQL", b"PK\6\7", 0, 0, 1) + zip_of(FILES)[-22:],
        "bad_archive",
        "zip64",
    ),
    # Too much.
    "2001 members": (build(*(Part(b"f%d" % n, b"", 0) for n in range(2001))), "too_large", "2000 members"),
    "65 535 counted": (build(A, count=0xFFFF), "too_large", "2000 members"),
    "bomb": (build(Part(b"a", bytes(50 * MIB))), "too_large", "200 times"),
}


@pytest.mark.parametrize("attack", HOSTILE)
def test_hostile_zip_is_refused(playground: Playground, attack: str) -> None:
    data, code, says = HOSTILE[attack]
    assert_refused(playground, data, "zip", code, says)


def test_the_builder_builds_good_zips_when_it_does_not_lie() -> None:
    """Else the table above would be refused for the builder's mistakes."""
    parts = [A, Part(b"b", b"", 0), Part(b"d/", b"", 0), replace(A, name=b"c", flags=8, behind_data=TWELVE)]
    data = build(*parts, Part(b"a.txt", extra=unicode_path(b"a.txt")))
    assert [entry.path for entry in inspect_archive(io.BytesIO(data), kind="zip")] == [
        "a.py",
        "b",
        "c",
        "a.txt",
    ]
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert archive.testzip() is None


def test_comment_is_fine() -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.comment = "コメント".encode()
        archive.writestr("a.py", "")
    assert len(inspect_archive(buffer, kind="zip")) == 1


def test_zip64_end_is_read() -> None:
    data = with_end64(zip64_of(FILES))
    assert [entry.path for entry in inspect_archive(io.BytesIO(data), kind="zip")] == list(FILES)


class Counted(io.BytesIO):
    """A file that knows how much of it was read."""

    read_bytes = 0

    def read(self, size: int | None = -1) -> bytes:
        data = super().read(size)
        self.read_bytes += len(data)
        return data


@pytest.mark.parametrize("count", [1_000_000, 3, 1_000_000 % 65_536])
def test_million_empty_members_are_refused_fast_and_flat(count: int) -> None:
    """Whether the end tells their number or lies about it."""
    one = build(Part(b"a", b"", 0))
    split = one.index(b"PK\1\2")
    local, central = one[:split], one[split:-22]
    data = local * 1_000_000 + central * 1_000_000
    data += end64(count, len(central) * 1_000_000, len(local) * 1_000_000)
    file = Counted(data)
    tracemalloc.start()
    try:
        with pytest.raises(ArchiveRefused) as refusal:
            inspect_archive(file, kind="zip")
        # The end record's reach and the members that may be: nothing of the rest is looked at.
        assert file.read_bytes < MIB
        assert tracemalloc.get_traced_memory()[1] < MIB
    finally:
        tracemalloc.stop()
    assert refusal.value.code == ("bad_archive" if count == 3 else "too_large")


def test_ratio_counts_what_was_read_not_what_is_claimed(playground: Playground) -> None:
    """A bomb that claims a modest size stops at its claim."""
    data = build(Part(b"a", bytes(50 * MIB), claimed_bytes=1000))
    assert_refused(playground, data, "zip", "bad_archive", "more")


def test_bomb_within_a_generous_ratio_meets_the_next_limit(playground: Playground) -> None:
    limits = ArchiveLimits(ratio=2000, total_bytes=15 * MIB)
    data = build(Part(b"a", bytes(10 * MIB)), Part(b"b", bytes(10 * MIB)))
    assert_refused(playground, data, "zip", "too_large", "together", limits)


def test_streamed_zip_with_wrong_descriptor_is_refused(playground: Playground) -> None:
    data = bytearray(streamed_zip_of({"a.py": b"print()"}))
    data[data.index(b"PK\7\10") + 4] ^= 1
    assert_refused(playground, bytes(data), "zip", "bad_archive", "does not end")


def test_zipfile_would_have_taken_the_duplicates() -> None:
    """The reason for a reader of our own, kept as a fact."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with zipfile.ZipFile(io.BytesIO(pair("a.py", "a.py"))) as archive:
            assert archive.namelist() == ["a.py", "a.py"]
