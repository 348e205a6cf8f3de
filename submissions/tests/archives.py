"""Archives for tests: good ones of every form, a place to unpack into, and what a refusal is held to."""

import gzip
import hashlib
import io
import os
import stat
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from queue import SimpleQueue
from typing import BinaryIO, cast

import pytest

from submissions.archive import (
    DEFAULT_LIMITS,
    ArchiveKind,
    ArchiveLimits,
    ArchiveRefused,
    Budget,
    ManifestEntry,
    WithHeads,
    extract_archive,
    follow_zip,
    inspect_archive,
    inspect_passing,
    inspect_zip,
    write_archive,
)
from submissions.incoming import Passing

MIB = 1024 * 1024

FILES = {
    "main.py": b"print('hello')\n",
    "設定/モデル・学習済み.yaml": "しきい値: 0.5\n".encode() * 300,
    "pkg/__init__.py": b"",
    "pkg/__pycache__/x.cpython-311.pyc": bytes(range(256)),
    "pkg/deep/er/data.json": b"{}",
    f"long/{'n' * 96}/{'m' * 96}.txt": b"a name past the 100 bytes of a plain tar header",
    "inner.zip": b"PK\5\6" + bytes(18),
}
MANIFEST = [ManifestEntry(n, len(c), hashlib.sha256(c).hexdigest()) for n, c in FILES.items()]


def zip_of(files: dict[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def streamed_zip_of(files: dict[str, bytes]) -> bytes:
    """As written into a pipe: sizes only behind the data, in descriptors."""

    class Pipe(io.BytesIO):
        def seekable(self) -> bool:
            return False

        def tell(self) -> int:
            raise OSError

        def seek(self, *_: int) -> int:
            raise OSError

    pipe = Pipe()
    with zipfile.ZipFile(pipe, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return pipe.getvalue()


def zip64_of(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            with archive.open(name, "w", force_zip64=True) as member:
                member.write(content)
    return buffer.getvalue()


def tar_of(files: dict[str, bytes], form: int = tarfile.PAX_FORMAT, mtime: float = 1.5) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=form) as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            member.mtime = mtime
            archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def packed_of(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    write_archive(buffer, [(name, io.BytesIO(content)) for name, content in files.items()])
    return buffer.getvalue()


def bgzip(data: bytes) -> bytes:
    """Many gzip members in a row and an empty one at the end."""
    pieces = [data[start : start + 1000] for start in range(0, len(data), 1000)]
    return b"".join(gzip.compress(piece) for piece in [*pieces, b""])


GOOD_ARCHIVES: dict[str, tuple[ArchiveKind, Callable[[dict[str, bytes]], bytes]]] = {
    "zip stored": ("zip", lambda files: zip_of(files, zipfile.ZIP_STORED)),
    "zip deflated": ("zip", zip_of),
    "zip streamed": ("zip", streamed_zip_of),
    "zip64": ("zip", zip64_of),
    "tar ustar": ("tar", lambda files: tar_of(files, tarfile.USTAR_FORMAT, mtime=1)),
    "tar gnu": ("tar", lambda files: tar_of(files, tarfile.GNU_FORMAT)),
    "tar pax": ("tar", lambda files: tar_of(files, tarfile.PAX_FORMAT)),
    "tar ours": ("tar", packed_of),
    "tar.gz ustar": ("tar.gz", lambda files: gzip.compress(tar_of(files, tarfile.USTAR_FORMAT, mtime=1))),
    "tar.gz gnu": ("tar.gz", lambda files: gzip.compress(tar_of(files, tarfile.GNU_FORMAT))),
    "tar.gz pax": ("tar.gz", lambda files: gzip.compress(tar_of(files, tarfile.PAX_FORMAT))),
    "tar.gz of many gzip members": ("tar.gz", lambda files: bgzip(tar_of(files))),
    "tar.gz filled up with zeros": ("tar.gz", lambda files: gzip.compress(tar_of(files)) + bytes(5000)),
}


class Playground:
    """A folder to unpack into, with a neighbour that nothing may touch."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.inside = root / "inside"
        self.inside.mkdir()
        (root / "victim").write_text("untouched")

    def assert_nothing_outside(self) -> None:
        assert sorted(path.name for path in self.root.iterdir()) == ["inside", "victim"]
        assert (self.root / "victim").read_text() == "untouched"

    def assert_nothing_left(self) -> None:
        self.assert_nothing_outside()
        assert list(self.inside.iterdir()) == []

    def contents(self) -> dict[str, bytes]:
        found = {}
        for folder, _, names in os.walk(self.inside):
            for name in names:
                path = Path(folder, name)
                assert stat.S_ISREG(path.lstat().st_mode)
                found[path.relative_to(self.inside).as_posix()] = path.read_bytes()
        return found


def inspect_as_it_comes(
    data: bytes, kind: ArchiveKind, limits: ArchiveLimits = DEFAULT_LIMITS, piece_bytes: int = 1000
) -> list[ManifestEntry]:
    """As an upload is read: once, while it passes; a zip's directory then, and what of it has not been seen."""
    if kind == "tar":
        return [ManifestEntry(e.path, e.bytes, "") for e in inspect_archive(io.BytesIO(data), kind=kind, limits=limits)]
    passing = Passing(SimpleQueue(), lambda _: None)
    for start in range(0, len(data), piece_bytes):
        passing.arrived.put(memoryview(data)[start : start + piece_bytes])
    passing.arrived.put(None)
    if kind == "tar.gz":
        return inspect_passing(cast(BinaryIO, passing), limits=limits)
    heads: dict[int, bytes] = {}
    seen = follow_zip(passing, Budget(limits), heads)
    return inspect_zip(cast(BinaryIO, WithHeads(io.BytesIO(data), heads)), seen=seen, limits=limits)


def assert_refused(
    playground: Playground,
    data: bytes,
    kind: ArchiveKind,
    code: str,
    says: str,
    limits: ArchiveLimits = DEFAULT_LIMITS,
) -> None:
    """Refused by both doors alike, in words that can be printed, with nothing left behind."""
    with pytest.raises(ArchiveRefused) as inspected:
        inspect_archive(io.BytesIO(data), kind=kind, limits=limits)
    with pytest.raises(ArchiveRefused) as extracted:
        extract_archive(io.BytesIO(data), kind=kind, destination=playground.inside, limits=limits)
    playground.assert_nothing_left()
    assert (inspected.value.code, inspected.value.message) == (extracted.value.code, extracted.value.message)
    with pytest.raises(ArchiveRefused) as passing:
        inspect_as_it_comes(data, kind, limits, max(1, len(data) // 5))
    assert passing.value.code == code
    assert inspected.value.code == code, inspected.value.message
    assert says in inspected.value.message
    assert inspected.value.message.isprintable()
    assert str(inspected.value) == inspected.value.message
