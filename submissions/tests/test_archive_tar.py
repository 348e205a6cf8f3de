"""Hostile tars: each refused with its code, in both doors, plain and in gzip, with nothing left behind."""

import gzip
import io
import random
import tarfile
import tracemalloc

import pytest

from submissions.archive import ArchiveLimits, ArchiveRefused, inspect_archive
from submissions.tests.archives import (
    FILES,
    GOOD_ARCHIVES,
    MIB,
    Playground,
    assert_refused,
    bgzip,
    tar_of,
    zip_of,
)

END = bytes(1024)


def octal(value: int, width: int) -> bytes:
    return b"%0*o\0" % (width - 1, value)


def header(
    name: bytes,
    *,
    kind: bytes = b"0",
    size: int | bytes = 0,
    mode: int = 0o644,
    link: bytes = b"",
    prefix: bytes = b"",
    magic: bytes = b"ustar\x0000",
) -> bytes:
    sized = size if isinstance(size, bytes) else octal(size, 12)
    start = name.ljust(100, b"\0") + octal(mode, 8) + octal(0, 8) * 2 + sized + octal(0, 12)
    rest = kind + link.ljust(100, b"\0") + magic + bytes(64) + octal(0, 8) * 2 + prefix.ljust(155, b"\0")
    total = sum(start) + 8 * 32 + sum(rest)
    return (start + b"%06o\0 " % total + rest).ljust(512, b"\0")


def member(name: bytes, content: bytes = b"", **fields: object) -> bytes:
    return header(name, size=len(content), **fields) + content + bytes(-len(content) % 512)  # type: ignore[arg-type]


def record(key: bytes, value: bytes) -> bytes:
    body = b" " + key + b"=" + value + b"\n"
    length = len(body) + 1
    while len(b"%d" % length) + len(body) != length:
        length += 1
    return b"%d" % length + body


def pax(*records: bytes, kind: bytes = b"x") -> bytes:
    return member(b"pax", b"".join(records), kind=kind)


def links_of_2025() -> bytes:
    """CVE-2025-4517: links through ever longer folders until realpath gives up, then out and over a file."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.GNU_FORMAT) as archive:

        def add(name: str, kind: bytes, link: str = "") -> None:
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname = kind, link
            archive.addfile(entry)

        path, folder = "", "d" * 247
        for step in "abcdefghijklmnop":
            add(f"{path}{folder}", tarfile.DIRTYPE)
            add(f"{path}{step}", tarfile.SYMTYPE, folder)
            path += f"{folder}/"
        chain = "/".join("abcdefghijklmnop")
        add(f"{chain}/{'l' * 254}", tarfile.SYMTYPE, "../" * 16)
        add("escape", tarfile.SYMTYPE, f"{chain}/{'l' * 254}/../victim")
        add("over", tarfile.LNKTYPE, "escape")
        entry = tarfile.TarInfo("over")
        entry.size = 5
        archive.addfile(entry, io.BytesIO(b"owned"))
    return buffer.getvalue()


def pair(first: str, second: str) -> bytes:
    return member(first.encode()) + member(second.encode()) + END


GOOD = member(b"a.py", b"print()")
SPARSE_PAX = record(b"GNU.sparse.major", b"1") + record(b"GNU.sparse.realsize", b"99999999999")

HOSTILE: dict[str, tuple[bytes, str, str]] = {
    # Nothing at all.
    "no bytes": (b"", "bad_archive", "empty"),
    "no members": (END, "bad_archive", "no files"),
    "directories only": (member(b"d/", kind=b"5") + END, "bad_archive", "no files"),
    "not a tar": (b"#!/usr/bin/python\n" * 100, "bad_archive", "not a"),
    "a zip": (zip_of(FILES), "bad_archive", "not a"),
    # Ways out.
    "climbing": (member(b"../victim", b"x") + END, "bad_file_name", "leads out"),
    "climbing in the middle": (member(b"a/../../victim", b"x") + END, "bad_file_name", "leads out"),
    "climbing directory": (member(b"../d/", kind=b"5") + END, "bad_file_name", "leads out"),
    "climbing root": (member(b"./..", kind=b"5") + GOOD + END, "bad_file_name", "leads out"),
    "climbing by prefix": (member(b"victim", b"x", prefix=b"..") + END, "bad_file_name", "leads out"),
    "climbing by PAX": (pax(record(b"path", b"../victim")) + GOOD + END, "bad_file_name", "leads out"),
    "climbing by long name": (
        member(b"L", b"../victim\0", kind=b"L") + GOOD + END,
        "bad_file_name",
        "leads out",
    ),
    "climbing junk": (member(b"../.DS_Store", b"x") + END, "bad_file_name", "leads out"),
    "absolute": (member(b"/tmp/victim", b"x") + END, "bad_file_name", "absolute"),
    "absolute root with content": (member(b"/", b"x", kind=b"5") + GOOD + END, "bad_archive", "content"),
    "file called as the root": (member(b"/", b"x") + GOOD + END, "bad_file_name", "absolute"),
    "absolute by PAX": (pax(record(b"path", b"/tmp/x")) + GOOD + END, "bad_file_name", "absolute"),
    "backslash": (member(b"..\\victim", b"x") + END, "bad_file_name", "backslash"),
    "drive": (member(b"C:/x", b"x") + END, "bad_file_name", "drive"),
    # Kinds of members.
    "symlink": (member(b"a", kind=b"2", link=b"/etc/passwd") + END, "bad_archive", "symbolic link"),
    "symlink, then through it": (
        member(b"a", kind=b"2", link=b"..") + member(b"a/victim", b"x") + END,
        "bad_archive",
        "symbolic link",
    ),
    "hard link": (GOOD + member(b"b", kind=b"1", link=b"a.py") + END, "bad_archive", "hard link"),
    "hard link with content": (
        GOOD + member(b"b", b"x", kind=b"1", link=b"a.py") + END,
        "bad_archive",
        "hard",
    ),
    "link by PAX": (pax(record(b"linkpath", b"/etc/passwd")) + GOOD + END, "bad_archive", "link"),
    "link by long target": (member(b"K", b"/etc\0", kind=b"K") + GOOD + END, "bad_archive", "link"),
    "links of CVE-2025-4517": (links_of_2025(), "bad_file_name", "at most 100"),
    "character device": (member(b"a", kind=b"3") + END, "bad_archive", "character device"),
    "block device": (member(b"a", kind=b"4") + END, "bad_archive", "block device"),
    "FIFO": (member(b"a", kind=b"6") + END, "bad_archive", "FIFO"),
    "contiguous file": (member(b"a", kind=b"7") + END, "bad_archive", "unknown type"),
    "unknown kind": (member(b"a", kind=b"\x1b") + END, "bad_archive", "\\x1b"),
    "GNU directory dump": (member(b"a", b"x", kind=b"D") + END, "bad_archive", "unknown type"),
    "volume label": (member(b"a", kind=b"V") + GOOD + END, "bad_archive", "unknown type"),
    "GNU sparse": (member(b"a", b"x", kind=b"S") + END, "bad_archive", "sparse"),
    "PAX sparse": (pax(SPARSE_PAX) + GOOD + END, "bad_archive", "sparse"),
    "PAX sparse for all": (pax(SPARSE_PAX, kind=b"g") + GOOD + END, "bad_archive", "for all"),
    "setuid": (member(b"a", mode=0o4755) + END, "bad_archive", "setuid"),
    "setgid": (member(b"a", mode=0o2755) + END, "bad_archive", "setuid or setgid"),
    "setuid directory": (member(b"d/", kind=b"5", mode=0o4755) + GOOD + END, "bad_archive", "setuid"),
    "directory with content": (member(b"d/", b"x", kind=b"5") + GOOD + END, "bad_archive", "content"),
    # Names.
    "control character": (member(b"a\x1b]0;x\x07.py") + END, "bad_file_name", "U+001B"),
    "bidi": (member("a\u202egpj.py".encode()) + END, "bad_file_name", "U+202E"),
    "zero width": (member("a\u200b.py".encode()) + END, "bad_file_name", "U+200B"),
    "NUL by PAX": (pax(record(b"path", b"a.py\0.txt")) + GOOD + END, "bad_file_name", "U+0000"),
    "NUL by long name": (member(b"L", b"a.py\0.txt\0", kind=b"L") + GOOD + END, "bad_file_name", "U+0000"),
    "not UTF-8": (member(b"\x83\x65\x83\x58\x83\x67.py") + END, "bad_file_name", "not UTF-8"),
    "surrogate in UTF-8": (member(b"\xed\xb2\x80.py") + END, "bad_file_name", "not UTF-8"),
    "binary names": (pax(record(b"hdrcharset", b"BINARY")) + GOOD + END, "bad_file_name", "not UTF-8"),
    "no name": (member(b"") + END, "bad_file_name", "without a file name"),
    "file with a slash": (member(b"a/") + END, "bad_file_name", "without a file name"),
    "deep": (member(b"d/" * 12 + b"f") + END, "bad_file_name", "13 levels"),
    "long part": (pax(record(b"path", b"n" * 101)) + GOOD + END, "bad_file_name", "101 bytes"),
    "long path": (pax(record(b"path", b"n/" * 40_000)) + GOOD + END, "bad_archive", "extended header"),
    "same name": (pair("a.py", "a.py"), "bad_file_name", "same name twice"),
    "same name, other spelling": (pair("a.py", "./a.py"), "bad_file_name", "same name twice"),
    "same name, other case": (pair("a.py", "A.PY"), "bad_file_name", "same name twice"),
    "same name, other folding": (pair("straße", "STRASSE"), "bad_file_name", "same name twice"),
    "same name, other form": (pair("が.py", "か\u3099.py"), "bad_file_name", "same name twice"),
    "same name, Turkish i": (pair("i\u0307", "\u0130"), "bad_file_name", "same name twice"),
    "folder in other case": (pair("d/a", "D/b"), "bad_file_name", "spelled in two ways"),
    "file, then folder": (pair("d", "d/a"), "bad_file_name", "directory and a file"),
    "file, then folder in other case": (pair("d", "D/a"), "bad_file_name", "directory and a file"),
    "folder, then file": (pair("d/a", "d"), "bad_file_name", "file and a directory"),
    "folder twice": (
        member(b"d/", kind=b"5") * 2 + GOOD + END,
        "bad_file_name",
        "same directory twice",
    ),
    # Lies and damage.
    "claims more than there is": (header(b"a", size=10_000) + b"x" * 512 + END, "bad_archive", "middle of"),
    "claims less than there is": (header(b"a", size=1) + b"x" * 2048 + END, "bad_archive", "damaged"),
    "claims 8 EiB": (header(b"a", size=b"\x80" + b"\x7f" + b"\xff" * 10) + END, "too_large", "512 MiB a file"),
    "claims negative": (header(b"a", size=b"\xff" * 12) + END, "bad_archive", "not a number"),
    "claims a negative number": (header(b"a", size=b"-0000000001\0") + END, "bad_archive", "not a number"),
    "claims letters": (header(b"a", size=b"0x7fffffff\0\0") + END, "bad_archive", "not a number"),
    "two sizes": (pax(record(b"size", b"0")) + GOOD + END, "bad_archive", "two different sizes"),
    "two sizes, huge": (pax(record(b"size", b"9" * 5000)) + GOOD + END, "bad_archive", "two different sizes"),
    "size for all": (pax(record(b"size", b"0"), kind=b"g") + GOOD + END, "bad_archive", "for all"),
    "path for all": (pax(record(b"path", b"x"), kind=b"g") + GOOD + END, "bad_archive", "for all"),
    "wrong checksum": (GOOD + GOOD.replace(b"a.py", b"b.py") + END, "bad_archive", "checksum"),
    "no end": (GOOD, "bad_archive", "end mark"),
    "half an end": (GOOD + bytes(512), "bad_archive", "end mark"),
    "block of zeros inside": (GOOD + bytes(512) + GOOD + END, "bad_archive", "follows the end"),
    "second tar behind": (GOOD + END + GOOD + END, "bad_archive", "follows the end"),
    "garbage behind": (GOOD + END + b"garbage", "bad_archive", "follows the end"),
    "zeros without end": (GOOD + bytes(2 * MIB), "bad_archive", "follows the end"),
    # Extended headers.
    "PAX header of 1 GiB": (header(b"x", kind=b"x", size=1 << 30) + bytes(MIB), "bad_archive", "1073741824"),
    "PAX header for all of 1 GiB": (header(b"g", kind=b"g", size=1 << 30), "bad_archive", "1073741824"),
    "long name of 1 GiB": (header(b"L", kind=b"L", size=1 << 30) + bytes(MIB), "bad_archive", "1073741824"),
    "PAX header of 8 EiB": (header(b"x", kind=b"x", size=b"\x80" + b"\xff" * 11), "bad_archive", "extended"),
    "PAX header cut": (header(b"x", kind=b"x", size=2000) + bytes(512), "bad_archive", "extended header"),
    "PAX header without member": (pax(record(b"path", b"a")) + END, "bad_archive", "missing"),
    "PAX header twice": (pax() + pax() + GOOD + END, "bad_archive", "two extended headers"),
    "PAX header and long name": (
        pax(record(b"path", b"a")) + member(b"L", b"b\0", kind=b"L") + GOOD + END,
        "bad_archive",
        "two extended headers",
    ),
    "many PAX headers for all": (
        pax(record(b"comment", b"x"), kind=b"g") * 2001,
        "too_large",
        "2000 members",
    ),
    "PAX key twice": (pax(record(b"path", b"a"), record(b"path", b"b")) + GOOD, "bad_archive", "damaged PAX"),
    "PAX length 0": (member(b"x", b"0 a=b\n", kind=b"x") + GOOD, "bad_archive", "damaged PAX"),
    "PAX length beyond": (member(b"x", b"99 a=b\n", kind=b"x") + GOOD, "bad_archive", "damaged PAX"),
    "PAX length short": (member(b"x", b"3 a=b\n", kind=b"x") + GOOD, "bad_archive", "damaged PAX"),
    "PAX length of many digits": (
        member(b"x", b"9" * 10_000 + b" a=b\n", kind=b"x") + GOOD,
        "bad_archive",
        "damaged PAX",
    ),
    "PAX without equals": (member(b"x", b"6 abc\n", kind=b"x") + GOOD, "bad_archive", "damaged PAX"),
    "Solaris PAX": (member(b"X", record(b"path", b"../x"), kind=b"X") + GOOD, "bad_archive", "unknown type"),
    # Too much.
    "2001 members": (b"".join(member(b"f%d" % n) for n in range(2001)) + END, "too_large", "2000 members"),
    "2001 members of junk": (member(b".DS_Store") * 2001 + END, "too_large", "2000 members"),
    "513 MiB": (header(b"a", size=513 * MIB) + bytes(MIB), "too_large", "513 MiB; at most 512 MiB"),
}


@pytest.mark.parametrize("attack", HOSTILE)
def test_hostile_tar_is_refused(playground: Playground, attack: str) -> None:
    data, code, says = HOSTILE[attack]
    assert_refused(playground, data, "tar", code, says)
    if data:
        # Most of these are mostly zeros; the ratio has tests of its own.
        limits = ArchiveLimits(ratio=10_000)
        assert_refused(playground, gzip.compress(data), "tar.gz", code, says, limits)


def test_links_of_2025_are_refused_as_links_too(playground: Playground) -> None:
    """With room for their long names, they fall to the rule against links."""
    limits = ArchiveLimits(component_bytes=255, path_bytes=10_000, depth=100)
    assert_refused(playground, links_of_2025(), "tar", "bad_archive", "link", limits)


SMALL = ArchiveLimits(total_bytes=3000, file_bytes=2000, members=3, depth=2)


@pytest.mark.parametrize(
    ("files", "says"),
    [
        ({"a": 2000, "b": 1000}, None),
        ({"a": 2001}, "2,001 B; at most"),
        ({"a": 2000, "b": 1001}, "2.9 KiB together"),
        ({"a": 2000, ".DS_Store": 1001}, "2.9 KiB together"),
        ({"a": 1, "b": 1, "c": 1}, None),
        ({"a": 0, "b": 0, "c": 0, "d": 0}, "3 members"),
    ],
)
# Our own packing drops junk and refuses by itself.
@pytest.mark.parametrize("form", [form for form in GOOD_ARCHIVES if form != "tar ours"])
def test_limits_hold_on_both_sides(
    playground: Playground,
    form: str,
    files: dict[str, int],
    says: str | None,
) -> None:
    kind, pack = GOOD_ARCHIVES[form]
    data = pack({name: random.Random(1).randbytes(size) for name, size in files.items()})
    if says:
        assert_refused(playground, data, kind, "too_large", says, SMALL)
    else:
        assert len(inspect_archive(io.BytesIO(data), kind=kind, limits=SMALL)) == len(files)


def test_gzip_bomb_is_refused_early(playground: Playground) -> None:
    """300 MiB in 300 KiB: refused once the ratio shows, long before it is unpacked."""
    data = gzip.compress(header(b"a", size=300 * MIB) + bytes(300 * MIB), compresslevel=1)
    assert_refused(playground, data, "tar.gz", "too_large", "200 times")
    file = io.BytesIO(data)
    with pytest.raises(ArchiveRefused):
        inspect_archive(file, kind="tar.gz")
    assert file.tell() < len(data) / 4


def test_ratio_is_not_fooled_by_what_lies_behind(playground: Playground) -> None:
    """Only bytes already read count, so noise behind the bomb does not thin it."""
    noise = gzip.compress(random.Random(1).randbytes(2 * MIB))
    data = gzip.compress(header(b"a", size=20 * MIB) + bytes(20 * MIB)) + noise
    assert_refused(playground, data, "tar.gz", "too_large", "200 times")


def test_small_file_of_zeros_is_no_bomb() -> None:
    data = gzip.compress(tar_of({"mask.npy": bytes(900_000)}))
    assert len(inspect_archive(io.BytesIO(data), kind="tar.gz")) == 1


def test_pax_bomb_takes_no_memory() -> None:
    """1 GiB of zeros behind a PAX header that claims them."""
    data = gzip.compress(header(b"x", kind=b"x", size=1 << 30) + bytes(64 * MIB), compresslevel=1)
    tracemalloc.start()
    try:
        with pytest.raises(ArchiveRefused, match="extended header"):
            inspect_archive(io.BytesIO(data), kind="tar.gz")
        assert tracemalloc.get_traced_memory()[1] < 2 * MIB
    finally:
        tracemalloc.stop()


GOOD_GZIP = gzip.compress(tar_of(FILES))

HOSTILE_GZIP: dict[str, tuple[bytes, str, str]] = {
    "no bytes": (b"", "bad_archive", "no bytes"),
    "gzip of nothing": (gzip.compress(b""), "bad_archive", "no bytes"),
    "not gzip": (tar_of(FILES), "bad_archive", "not gzip"),
    "gzip in gzip": (gzip.compress(GOOD_GZIP), "bad_archive", "not a tar"),
    "garbage behind": (GOOD_GZIP + b"garbage", "bad_archive", "follows"),
    "garbage behind zeros": (GOOD_GZIP + bytes(100) + b"garbage", "bad_archive", "follows"),
    "zeros without end": (GOOD_GZIP + bytes(2 * MIB), "bad_archive", "follows"),
    "second tar.gz behind": (GOOD_GZIP + GOOD_GZIP, "bad_archive", "follows"),
    "cut second gzip member": (GOOD_GZIP + gzip.compress(bytes(512))[:-1], "bad_archive", "middle"),
    "wrong checksum": (GOOD_GZIP[:-8] + b"\0" * 8, "bad_archive", "damaged"),
    "many empty gzip members": (gzip.compress(b"") * 20_001 + GOOD_GZIP, "too_large", "gzip members"),
}


@pytest.mark.parametrize("attack", HOSTILE_GZIP)
def test_hostile_gzip_is_refused(playground: Playground, attack: str) -> None:
    data, code, says = HOSTILE_GZIP[attack]
    assert_refused(playground, data, "tar.gz", code, says)


def test_time_is_limited(playground: Playground) -> None:
    for form in ("zip deflated", "tar pax", "tar.gz pax"):
        kind, pack = GOOD_ARCHIVES[form]
        assert_refused(playground, pack(FILES), kind, "too_large", "longer than", limits=ArchiveLimits(seconds=0))


@pytest.mark.parametrize("form", GOOD_ARCHIVES)
def test_truncated_archive_is_refused(playground: Playground, form: str) -> None:
    """Cut at every length, or every few of a long archive, up to where the end mark is complete."""
    kind, pack = GOOD_ARCHIVES[form]
    data = pack({"a.py": b"print()\n" * 40, "d/モデル.txt": random.Random(1).randbytes(700)})
    whole = len(data)
    if kind == "tar":
        whole = -(-len(data.rstrip(b"\0")) // 512) * 512 + 1024
    elif "filled" in form:
        whole = len(data.rstrip(b"\0"))
    elif "many gzip members" in form:
        # The members before the one with the end mark; behind it there is only filling.
        whole = len(bgzip(gzip.decompress(data).rstrip(b"\0"))) - len(gzip.compress(b""))
    for length in range(0, whole, 1 if whole < 4000 else 7):
        with pytest.raises(ArchiveRefused):
            inspect_archive(io.BytesIO(data[:length]), kind=kind)
    for length in random.Random(1).sample(range(1, whole), 10):
        assert_refused(playground, data[:length], kind, "bad_archive", "")
