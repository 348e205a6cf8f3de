"""What is told of a zip that passes by, and that the reader takes its word for that and for nothing else."""

import io
import struct
import zipfile
import zlib
from queue import SimpleQueue
from typing import BinaryIO, cast

import pytest

from submissions.archive import (
    ArchiveLimits,
    ArchiveRefused,
    Budget,
    Seen,
    WithHeads,
    follow_zip,
    inspect_archive,
    inspect_zip,
)
from submissions.incoming import Passing
from submissions.tests.archives import FILES, streamed_zip_of, zip_of

CONTENT = bytes(range(256)) * 1000


def follow(
    data: bytes, piece_bytes: int = 700, limits: ArchiveLimits | None = None, heads: dict[int, bytes] | None = None
) -> dict[int, Seen]:
    passing = Passing(SimpleQueue(), lambda _: None)
    for start in range(0, len(data), piece_bytes):
        passing.arrived.put(memoryview(data)[start : start + piece_bytes])
    passing.arrived.put(None)
    return follow_zip(passing, Budget(limits or ArchiveLimits()), heads)


@pytest.mark.parametrize("pack", [lambda f: zip_of(f, zipfile.ZIP_STORED), zip_of, streamed_zip_of])
@pytest.mark.parametrize("piece_bytes", [1, 13, 70_000])
def test_every_member_is_told(pack, piece_bytes):
    assert sorted((s.file_bytes, s.crc) for s in follow(pack(FILES), piece_bytes).values()) == sorted(
        (len(content), zlib.crc32(content)) for content in FILES.values()
    )


@pytest.mark.parametrize("pack", [lambda f: zip_of(f, zipfile.ZIP_STORED), zip_of])
def test_what_was_seen_is_not_read_again(pack):
    data = pack({"main.py": CONTENT})
    seen = follow(data)
    [(at, told)] = seen.items()
    emptied = data[:at] + bytes(told.packed_bytes) + data[at + told.packed_bytes :]
    with pytest.raises(ArchiveRefused):
        inspect_zip(io.BytesIO(emptied), seen={})
    assert [entry.bytes for entry in inspect_zip(io.BytesIO(emptied), seen=seen)] == [len(CONTENT)]


@pytest.mark.parametrize("pack", [lambda f: zip_of(f, zipfile.ZIP_STORED), zip_of, streamed_zip_of])
def test_between_the_members_the_file_is_not_read_again(pack):
    data = pack(FILES)
    heads: dict[int, bytes] = {}
    seen = follow(data, heads=heads)
    directory_at = data.index(b"PK\1\2")
    emptied = io.BytesIO(bytes(directory_at) + data[directory_at:])
    with pytest.raises(ArchiveRefused):
        inspect_zip(emptied, seen=seen)
    assert inspect_zip(cast(BinaryIO, WithHeads(emptied, heads)), seen=seen) == inspect_zip(io.BytesIO(data), seen=seen)


def test_of_long_heads_nothing_is_kept():
    heads: dict[int, bytes] = {}
    follow(zip_of({"n" * 60_000: b"", "main.py": CONTENT}, zipfile.ZIP_STORED), heads=heads)
    assert sum(map(len, heads.values())) < 100


@pytest.mark.parametrize("pack", [lambda f: zip_of(f, zipfile.ZIP_STORED), zip_of])
@pytest.mark.parametrize("change", [{"crc": 1}, {"file_bytes": 1}, {"packed_bytes": 1}, {"method": 1}])
def test_a_word_that_is_not_the_directorys_is_not_taken(pack, change):
    data = pack({"main.py": CONTENT})
    [(at, told)] = follow(data).items()
    emptied = data[:at] + bytes(told.packed_bytes) + data[at + told.packed_bytes :]
    other = Seen(**{**vars(told), **{name: getattr(told, name) + by for name, by in change.items()}})
    for seen in ({at: other}, {at + 1: told}):
        with pytest.raises(ArchiveRefused):
            inspect_zip(io.BytesIO(emptied), seen=seen)


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_byte_changed_on_the_way_is_found(method):
    data = bytearray(zip_of({"main.py": CONTENT}, method))
    data[len(data) // 2] ^= 1
    with pytest.raises(ArchiveRefused) as refused:
        inspect_zip(io.BytesIO(data), seen=follow(bytes(data)))
    with pytest.raises(ArchiveRefused) as whole:
        inspect_archive(io.BytesIO(data), kind="zip")
    assert refused.value.message == whole.value.message


@pytest.mark.parametrize(
    "limits", [ArchiveLimits(ratio=50), ArchiveLimits(file_bytes=10**6), ArchiveLimits(total_bytes=10**6)]
)
def test_a_bomb_is_followed_no_further_than_it_is_read(limits):
    data = zip_of({"main.py": bytes(50 * 10**6)})
    assert follow(data, limits=limits) == {}
    with pytest.raises(ArchiveRefused):
        inspect_zip(io.BytesIO(data), seen={}, limits=limits)


@pytest.mark.parametrize(
    "limits", [ArchiveLimits(file_bytes=99), ArchiveLimits(total_bytes=100_000), ArchiveLimits(members=6)]
)
def test_limits_hold_for_what_was_seen(limits):
    data = zip_of({"main.py": bytes(100), "a": CONTENT, **FILES}, zipfile.ZIP_STORED)
    with pytest.raises(ArchiveRefused) as refused:
        inspect_zip(io.BytesIO(data), seen=follow(data), limits=limits)
    assert refused.value.code == "too_large"


def test_the_ratio_holds_for_what_was_seen():
    data = zip_of({"main.py": bytes(3 * 10**6)})
    with pytest.raises(ArchiveRefused) as refused:
        inspect_zip(io.BytesIO(data), seen=follow(data, limits=ArchiveLimits(ratio=10**6)), limits=ArchiveLimits())
    assert refused.value.code == "too_large"


@pytest.mark.parametrize("at", [0, 4, 6, 8, 18, 22])
def test_a_header_that_is_not_plain_ends_it(at):
    data = bytearray(zip_of({"main.py": CONTENT}, zipfile.ZIP_STORED))
    struct.pack_into("<L", data, at, 0xFFFFFFFF) if at in (18, 22) else data.__setitem__(at, 0x61)
    assert len(follow(bytes(data))) == (1 if at == 4 else 0)  # the version needed says nothing
