"""What the archive module takes: good archives, good names, and our own packing."""

import gzip
import io
import os
import stat
import tarfile
import tracemalloc
import unicodedata
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO, cast

import pytest

from submissions.archive import (
    DEFAULT_LIMITS,
    ArchiveKind,
    ArchiveLimits,
    ArchiveRefused,
    archive_kind,
    check_path,
    extract_archive,
    inspect_archive,
    write_archive,
)
from submissions.tests.archives import (
    FILES,
    GOOD_ARCHIVES,
    MANIFEST,
    MIB,
    Playground,
    assert_refused,
    inspect_as_it_comes,
    tar_of,
    zip_of,
)


@pytest.mark.parametrize("form", GOOD_ARCHIVES)
def test_good_archive_round_trips(playground: Playground, form: str) -> None:
    kind, pack = GOOD_ARCHIVES[form]
    data = pack(FILES)
    assert inspect_archive(io.BytesIO(data), kind=kind) == MANIFEST
    without_hashes = [replace(entry, sha256="") for entry in MANIFEST]
    for piece_bytes in (1, 100, len(data)):
        assert inspect_as_it_comes(data, kind, piece_bytes=piece_bytes) == without_hashes
    assert extract_archive(io.BytesIO(data), kind=kind, destination=playground.inside) == MANIFEST
    assert playground.contents() == FILES
    playground.assert_nothing_outside()


@pytest.mark.parametrize(
    ("name", "kind"), [("a.zip", "zip"), ("A.ZIP", "zip"), ("m.tar.gz", "tar.gz"), ("M.Tar.GZ", "tar.gz")]
)
def test_archive_kind_is_told_by_extension(name: str, kind: str) -> None:
    assert archive_kind(name) == kind


@pytest.mark.parametrize("name", ["a.py", "a.gz", "a.tar", "zip", "a.zip.txt", "a.tgz", ""])
def test_archive_kind_is_none_for_other_files(name: str) -> None:
    assert archive_kind(name) is None


def test_directories_modes_and_the_root_entry(playground: Playground) -> None:
    """As `tar -C folder .` writes it, from a shared folder, under a strict umask."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, kind, mode in [
            (".", tarfile.DIRTYPE, 0o2775),
            ("./empty", tarfile.DIRTYPE, 0o2700),
            ("./run.sh", tarfile.REGTYPE, 0o777),
            ("./data.txt", tarfile.REGTYPE, 0o600),
        ]:
            member = tarfile.TarInfo(name)
            member.type, member.mode = kind, mode
            archive.addfile(member)
    umask = os.umask(0o077)
    try:
        manifest = extract_archive(buffer, kind="tar", destination=playground.inside)
    finally:
        os.umask(umask)
    assert [entry.path for entry in manifest] == ["run.sh", "data.txt"]
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in playground.inside.iterdir()}
    assert modes == {"empty": 0o755, "run.sh": 0o755, "data.txt": 0o644}


def test_git_archive_comment_for_all_members_is_fine() -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", pax_headers={"comment": "0" * 40}) as archive:
        archive.addfile(tarfile.TarInfo("a.py"))
    assert [entry.path for entry in inspect_archive(buffer, kind="tar")] == ["a.py"]


@pytest.mark.parametrize("pack", [zip_of, tar_of])
def test_archive_of_junk_only_is_empty(playground: Playground, pack: Callable[[dict[str, bytes]], bytes]) -> None:
    assert_refused(playground, pack({".DS_Store": b"x"}), "zip" if pack is zip_of else "tar", "bad_archive", "no files")


def test_nested_archives_stay_closed(playground: Playground) -> None:
    """42.zip is small on every level that is opened, which is one."""
    bomb = gzip.compress(bytes(8 * MIB))
    data = zip_of({"main.py": b"", "layer.zip": zip_of({"layer.gz": bomb})})
    extract_archive(io.BytesIO(data), kind="zip", destination=playground.inside)
    assert sorted(playground.contents()) == ["layer.zip", "main.py"]


def test_decomposed_names_are_composed(playground: Playground) -> None:
    """macOS spells が as か and a mark."""
    name = unicodedata.normalize("NFD", "がぎぐ.py")
    assert extract_archive(io.BytesIO(zip_of({name: b""})), kind="zip", destination=playground.inside)
    assert list(playground.contents()) == ["がぎぐ.py"]


def test_extracting_into_a_used_folder_is_a_mistake_of_ours(playground: Playground) -> None:
    (playground.inside / "kept").write_text("kept")
    with pytest.raises(ValueError, match="not empty"):
        extract_archive(io.BytesIO(zip_of(FILES)), kind="zip", destination=playground.inside)
    assert playground.contents() == {"kept": b"kept"}


def test_extracting_through_a_linked_folder_is_refused(playground: Playground, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(playground.inside)
    with pytest.raises(OSError):
        extract_archive(io.BytesIO(zip_of(FILES)), kind="zip", destination=tmp_path / "link")
    assert playground.contents() == {}


def test_failing_disk_leaves_nothing(playground: Playground, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[int] = []

    def full(descriptor: int, data: bytes) -> int:
        if len(written) == 3:
            raise OSError(28, "No space left on device")
        written.append(descriptor)
        return len(data)

    monkeypatch.setattr("submissions.archive.unpack.os.write", full)
    with pytest.raises(OSError, match="No space"):
        extract_archive(io.BytesIO(zip_of(FILES)), kind="zip", destination=playground.inside)
    playground.assert_nothing_left()


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("a.py", "a.py"),
        ("./a.py", "a.py"),
        ("a//b/./c", "a/b/c"),
        ("が.py", "が.py"),
        (unicodedata.normalize("NFD", "が.py"), "が.py"),
        ("全角\u3000空白 と space.txt", "全角\u3000空白 と space.txt"),
        ("..a/b..", "..a/b.."),
        ("😀.txt", "😀.txt"),
        ("-rf", "-rf"),
        ("/".join(["d"] * 12), "/".join(["d"] * 12)),
        ("n" * 100, "n" * 100),
        (f"{'n' * 100}/{'n' * 100}/{'n' * 38}", f"{'n' * 100}/{'n' * 100}/{'n' * 38}"),
    ],
)
def test_path_is_normalised(given: str, kept: str) -> None:
    assert check_path(given, DEFAULT_LIMITS) == kept


BAD_NAMES = {
    "../a": "leads out",
    "a/../b": "leads out",
    "..": "leads out",
    "/etc/passwd": "absolute",
    "//a": "absolute",
    "C:/a": "drive",
    "c:a": "drive",
    "./C:a": "drive",
    "a\\b": "backslash",
    "..\\a": "backslash",
    "a\0b": "U+0000",
    "a\nb": "U+000A",
    "a\x1b[31mb": "U+001B",
    "a\x7f": "U+007F",
    "a\x85": "U+0085",
    "a\u202egpj.py": "U+202E",
    "a\u2066b": "U+2066",
    "a\u200fb": "U+200F",
    "a\u200bb": "U+200B",
    "\ufeffa": "U+FEFF",
    "a\u2028b": "U+2028",
    "a\udc80b": "U+DC80",
    "a\ue000b": "U+E000",
    "a\U000e0041b": "U+E0041",
    "": "without a file name",
    ".": "without a file name",
    "./": "without a file name",
    "a/": "without a file name",
    "a/.": "without a file name",
    "/".join(["d"] * 13): "13 levels",
    "n" * 101: "101 bytes",
    "日" * 34: "102 bytes",
    f"{'n' * 100}/{'n' * 100}/{'n' * 39}": "241 bytes",
    "n" * 100_000: "100000 characters",
}


@pytest.mark.parametrize("name", BAD_NAMES, ids=lambda name: ascii(name)[:30])
def test_bad_name_is_refused(name: str) -> None:
    with pytest.raises(ArchiveRefused) as refusal:
        check_path(name, DEFAULT_LIMITS)
    assert refusal.value.code == "bad_file_name"
    assert BAD_NAMES[name] in refusal.value.message
    assert refusal.value.message.isprintable()
    assert len(refusal.value.message) < 1000


def test_write_archive_is_deterministic_and_read_back(playground: Playground) -> None:
    first, second = io.BytesIO(), io.BytesIO()
    for target in (first, second):
        sources = [(name, io.BytesIO(content)) for name, content in FILES.items()]
        for _, source in sources:
            source.seek(0, 2)
        assert write_archive(target, sources) == MANIFEST
    assert first.getvalue() == second.getvalue()
    with tarfile.open(fileobj=io.BytesIO(first.getvalue())) as archive:
        assert archive.getnames() == list(FILES)
    assert extract_archive(first, kind="tar", destination=playground.inside) == MANIFEST
    assert playground.contents() == FILES


@pytest.mark.parametrize(
    ("names", "code"),
    [
        ([], "bad_archive"),
        (["../a.py"], "bad_file_name"),
        (["a.py", "A.py"], "bad_file_name"),
        (["a.py", "a.py/b"], "bad_file_name"),
        ([f"{n}.py" for n in range(2001)], "too_large"),
    ],
)
def test_write_archive_refuses_what_readers_refuse(names: list[str], code: str) -> None:
    with pytest.raises(ArchiveRefused) as refusal:
        write_archive(io.BytesIO(), [(name, io.BytesIO(b"x")) for name in names])
    assert refusal.value.code == code


class Zeros(io.BytesIO):
    """A file of zeros that is nowhere."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self._size = size
        self._position = 0

    def seek(self, offset: int, whence: int = 0) -> int:
        self._position = offset + (self._size if whence == 2 else 0)
        return self._position

    def read(self, size: int | None = -1) -> bytes:
        assert size is not None and size > 0
        taken = min(size, self._size - self._position)
        self._position += taken
        return bytes(taken)


@pytest.mark.parametrize("kind", ["zip", "tar.gz", "tar"])
def test_memory_stays_flat(tmp_path: Path, kind: ArchiveKind) -> None:
    """200 MiB go in and out, never more than 2 MiB at a time in memory."""
    size = 200 * MIB
    limits = ArchiveLimits(ratio=2000)
    path = tmp_path / "big"
    tracemalloc.start()
    try:
        with path.open("w+b") as file:
            if kind == "zip":
                with (
                    zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
                    archive.open("zeros", "w") as member,
                ):
                    for _ in range(200):
                        member.write(bytes(MIB))
            elif kind == "tar.gz":
                with gzip.GzipFile(fileobj=file, mode="wb", compresslevel=1) as packed:
                    write_archive(cast(BinaryIO, packed), [("zeros", Zeros(size))])
            else:
                write_archive(file, [("zeros", Zeros(size))])
            tracemalloc.reset_peak()
            before = tracemalloc.get_traced_memory()[0]
            destination = tmp_path / "out"
            destination.mkdir()
            manifest = extract_archive(file, kind=kind, destination=destination, limits=limits)
            assert manifest == inspect_archive(file, kind=kind, limits=limits)
            assert tracemalloc.get_traced_memory()[1] - before < 2 * MIB
    finally:
        tracemalloc.stop()
    assert manifest[0].bytes == (destination / "zeros").stat().st_size == size
    (destination / "zeros").unlink()
    path.unlink()
