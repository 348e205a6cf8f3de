"""Archives that two programs would read differently, or whose names two people would: refused, or one reading told."""

import gzip
import io
import struct
import tracemalloc
import zlib
from dataclasses import replace

import pytest

from submissions.archive import ArchiveKind, ArchiveRefused, extract_archive, inspect_archive
from submissions.tests import test_archive_tar as tars
from submissions.tests import test_archive_zip as zips
from submissions.tests.archives import MIB, Playground, assert_refused, zip_of
from submissions.tests.test_archive_tar import END, GOOD, header, member, pax, record
from submissions.tests.test_archive_zip import A, Part, build, unicode_path


def zip64_field(*values: int) -> bytes:
    return struct.pack(f"<2H{len(values)}Q", 1, 8 * len(values), *values)


def with_comment(data: bytes, comment: bytes) -> bytes:
    return data[:-2] + struct.pack("<H", len(comment)) + comment


def descriptor(crc: int, packed: int, size: int, form: str = "<3L") -> bytes:
    return b"PK\7\10" + struct.pack(form, crc, packed, size)


B = Part(b"b.py", b"print('other')")
CRC, PACKED = zlib.crc32(A.content), len(A.packed())
OUT_OF_REACH = 1 << 63

ZIPS: dict[str, tuple[bytes, str, str]] = {
    # Two names.
    "second name in its own header alone": (
        build(replace(A, local={"extra": unicode_path(b"../x")})),
        "bad_file_name",
        "two different names",
    ),
    "second name without one": (build(replace(A, extra=b"\x75\x70\0\0")), "bad_file_name", "two different names"),
    "second name twice": (build(replace(A, extra=unicode_path(b"a.py") * 2)), "bad_archive", "damaged header"),
    "a dot more": (zips.pair("a.py", "a.py."), "bad_file_name", "same name twice"),
    "a space more": (zips.pair("a.py", "a.py "), "bad_file_name", "same name twice"),
    "dots and spaces more": (zips.pair("a.py", "A.PY. . ."), "bad_file_name", "same name twice"),
    "folder with a space more": (zips.pair("d/a", "d /b"), "bad_file_name", "spelled in two ways"),
    "file, and folder with a dot more": (zips.pair("d", "d./a"), "bad_file_name", "directory and a file"),
    "ligature": (zips.pair("fi.py", "\ufb01.py"), "bad_file_name", "same name twice"),
    "sign for kelvin": (zips.pair("k.py", "\u212a.py"), "bad_file_name", "same name twice"),
    # Two sizes.
    "descriptor of another packed size": (
        build(replace(A, flags=8, behind_data=descriptor(CRC, PACKED + 1, 7))),
        "bad_archive",
        "does not end",
    ),
    "descriptor of another checksum": (
        build(replace(A, flags=8, behind_data=descriptor(CRC ^ 1, PACKED, 7))),
        "bad_archive",
        "does not end",
    ),
    "descriptor in zip64 of another size": (
        build(replace(A, flags=8, behind_data=descriptor(CRC, PACKED, 8, "<L2Q"))),
        "bad_archive",
        "does not end",
    ),
    "two descriptors": (
        build(replace(A, flags=8, behind_data=descriptor(CRC, PACKED, 7) * 2)),
        "bad_archive",
        "does not end",
    ),
    "zip64 size of 8 EiB": (
        build(Part(b"a", extra=zip64_field(OUT_OF_REACH), central={"size": 0xFFFFFFFF}, local={"size": 0xFFFFFFFF})),
        "too_large",
        "512 MiB a file",
    ),
    "zip64 packed size of 8 EiB": (
        build(
            Part(b"a", extra=zip64_field(OUT_OF_REACH), central={"packed": 0xFFFFFFFF}, local={"packed": 0xFFFFFFFF})
        ),
        "bad_archive",
        "overlaps",
    ),
    "zip64 offset of 8 EiB": (
        build(Part(b"a", extra=zip64_field(OUT_OF_REACH), central={"offset": 0xFFFFFFFF})),
        "bad_archive",
        "hidden data",
    ),
    "zip64 size in the directory alone": (
        build(Part(b"a", central={"size": 0xFFFFFFFF, "extra": zip64_field(5)})),
        "bad_archive",
        "not the same",
    ),
    "zip64 field twice": (
        build(Part(b"a", extra=zip64_field(1) + zip64_field(2), central={"size": 0xFFFFFFFF})),
        "bad_archive",
        "damaged header",
    ),
    # Two directories.
    "a zip in the comment of a zip": (with_comment(build(A), build(B)), "bad_archive", "before or between"),
    "a zip in the comment, with right offsets": (
        build(B, before=with_comment(build(A), bytes(18))),
        "bad_archive",
        "hidden data",
    ),
    "an end in the comment": (with_comment(build(A), build(A)[-22:]), "bad_archive", "before or between"),
    "half an end in the comment": (with_comment(build(A), b"PK\5\6" + bytes(9)), "bad_archive", "not a zip"),
    # More ways of packing, each with a bomb of its own.
    "Zstandard": (build(Part(b"a", method=93)), "bad_archive", "method 93"),
    "XZ": (build(Part(b"a", method=95)), "bad_archive", "method 95"),
    "PPMd": (build(Part(b"a", method=98)), "bad_archive", "method 98"),
    "stored with a wrong checksum": (
        build(replace(A, method=0, local={"crc": 1}, central={"crc": 1})),
        "bad_archive",
        "checksum",
    ),
}

SPARSE = b"GNU.sparse."
TARS: dict[str, tuple[bytes, str, str]] = {
    "long name twice": (
        member(b"L", b"a\0", kind=b"L") + member(b"L", b"../b\0", kind=b"L") + GOOD + END,
        "bad_archive",
        "two extended headers",
    ),
    "long name and PAX header": (
        member(b"L", b"a\0", kind=b"L") + pax(record(b"path", b"../b")) + GOOD + END,
        "bad_archive",
        "two extended headers",
    ),
    "long name of nothing": (member(b"L", b"\0", kind=b"L") + GOOD + END, "bad_file_name", "without a file name"),
    "PAX path of nothing": (pax(record(b"path", b"")) + GOOD + END, "bad_file_name", "without a file name"),
    "newline by PAX": (pax(record(b"path", b"a\nb.py")) + GOOD + END, "bad_file_name", "U+000A"),
    "newline by long name": (member(b"L", b"a\nb.py\0", kind=b"L") + GOOD + END, "bad_file_name", "U+000A"),
    "bidi by PAX": (pax(record(b"path", "a\u202eyp.py".encode())) + GOOD + END, "bad_file_name", "U+202E"),
    # A header that says 0 and a PAX size that says more: what one program takes for content is another's members.
    "members within content that PAX claims": (
        pax(record(b"size", b"1536")) + header(b"a.py") + member(b"hidden.py", b"x") + GOOD + END,
        "bad_archive",
        "two different sizes",
    ),
    "content that PAX hides as members": (
        pax(record(b"size", b"0")) + header(b"a.py", size=1024) + member(b"hidden.py", b"x") + END,
        "bad_archive",
        "two different sizes",
    ),
    "negative PAX size": (pax(record(b"size", b"-7")) + GOOD + END, "bad_archive", "two different sizes"),
    "PAX size with an exponent": (pax(record(b"size", b"7e0")) + GOOD + END, "bad_archive", "two different sizes"),
    "sparse 0.0": (pax(record(SPARSE + b"size", b"9"), record(SPARSE + b"numblocks", b"1")) + GOOD, "bad_archive", "sparse"),
    "sparse 0.1": (pax(record(SPARSE + b"map", b"0,7"), record(SPARSE + b"name", b"../x")) + GOOD, "bad_archive", "sparse"),
    "sparse 1.0": (pax(record(SPARSE + b"major", b"1"), record(SPARSE + b"minor", b"0")) + GOOD, "bad_archive", "sparse"),
    "multi-volume": (member(b"a", b"x", kind=b"M") + END, "bad_archive", "unknown type"),
    "old long names": (member(b"a", b"Rename x to ../y\n", kind=b"N") + END, "bad_archive", "unknown type"),
    "link path for all": (pax(record(b"linkpath", b"/"), kind=b"g") + GOOD + END, "bad_archive", "for all"),
    "character set for all": (pax(record(b"hdrcharset", b"BINARY"), kind=b"g") + GOOD + END, "bad_archive", "for all"),
    "a dot more": (tars.pair("a.py", "a.py."), "bad_file_name", "same name twice"),
}  # fmt: skip


@pytest.mark.parametrize("attack", ZIPS)
def test_zip_of_two_readings_is_refused(playground: Playground, attack: str) -> None:
    data, code, says = ZIPS[attack]
    assert_refused(playground, data, "zip", code, says)


@pytest.mark.parametrize("attack", TARS)
def test_tar_of_two_readings_is_refused(playground: Playground, attack: str) -> None:
    data, code, says = TARS[attack]
    assert_refused(playground, data, "tar", code, says)
    assert_refused(playground, gzip.compress(data), "tar.gz", code, says)


def signed(block: bytes) -> bytes:
    """A header with the checksum that some old tars wrote."""
    total = sum(byte - 256 * (byte > 127) for byte in block[:148] + b" " * 8 + block[156:512])
    return block[:148] + b"%06o\0 " % total + block[156:]


def gzip_with_header_fields(data: bytes) -> bytes:
    """A name that leads out, a comment and other fields of gzip's own header: they are nobody's file name."""
    plain = gzip.compress(data, mtime=0)
    fields = struct.pack("<H", 60_000) + bytes(60_000) + b"../victim\0" + b"comment\0"
    return plain[:3] + bytes([4 | 8 | 16]) + plain[4:10] + fields + plain[10:]


def halves(data: bytes) -> bytes:
    return gzip.compress(data[:300]) + gzip.compress(data[300:])


BASE_256 = header(b"a.py", size=b"\x80" + (7).to_bytes(11, "big")) + GOOD[512:]

ONE_READING: dict[str, tuple[ArchiveKind, bytes]] = {
    "checksum over signed bytes": ("tar", signed(member("あ.py".encode(), b"print()")) + END),
    "size to base 256": ("tar", BASE_256 + END),
    # GNU keeps times where ustar has the beginning of a name.
    "prefix that GNU does not have": ("tar", member(b"a.py", b"print()", magic=b"ustar  \0", prefix=b"..") + END),
    "names in gzip's header": ("tar.gz", gzip_with_header_fields(GOOD + END)),
    "a header cut by two gzip members": ("tar.gz", halves(GOOD + END)),
    "extended attributes": ("tar", pax(record(b"SCHILY.xattr.security.capability", b"\1\0\0\2")) + GOOD + END),
    "comments of 64 KiB": ("zip", with_comment(build(A), b"c" * 65_535)),
}


@pytest.mark.parametrize("form", ONE_READING)
def test_odd_archive_has_one_reading(playground: Playground, form: str) -> None:
    """Odd, but plain: exactly one file, and nothing of what the odd part says."""
    kind, data = ONE_READING[form]
    manifest = inspect_archive(io.BytesIO(data), kind=kind)
    assert extract_archive(io.BytesIO(data), kind=kind, destination=playground.inside) == manifest
    [(name, content)] = playground.contents().items()
    assert (name, content) == (manifest[0].path, b"print()")
    assert name in ("a.py", "あ.py")
    playground.assert_nothing_outside()


def test_names_that_only_windows_reserves_are_names(playground: Playground) -> None:
    """Runs are on Linux, where `aux.py` is a good name; each stays what it is."""
    files = {name: name.encode() for name in ("aux.py", "con", "nul.txt", "a.", "b ", "...", "ab:c")}
    extract_archive(io.BytesIO(zip_of(files)), kind="zip", destination=playground.inside)
    assert playground.contents() == files


def test_names_too_long_to_be_paths_take_no_memory() -> None:
    """The directory is read before any name is checked; an upload has room for 1 500 names of 64 KiB."""
    data = build(*(Part(b"%05d" % number + b"n" * 60_000, b"", 0) for number in range(200)))
    file = io.BytesIO(data)
    tracemalloc.start()
    try:
        with pytest.raises(ArchiveRefused, match="60005 characters"):
            inspect_archive(file, kind="zip")
        assert tracemalloc.get_traced_memory()[1] < MIB
    finally:
        tracemalloc.stop()
