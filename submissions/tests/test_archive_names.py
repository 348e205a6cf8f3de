"""Names of members as systems write them: junk beside the files, and Windows' separators and code pages."""

import io
from collections.abc import Callable

import pytest

from submissions.archive import ArchiveKind, extract_archive, inspect_archive
from submissions.archive.zip_names import UTF8_FLAG
from submissions.tests.archives import Playground, assert_refused, inspect_as_it_comes, tar_of, zip_of
from submissions.tests.test_archive_tar import member
from submissions.tests.test_archive_zip import Part, build, unicode_path

Pack = Callable[[dict[str, bytes]], bytes]

JUNK = [
    "__MACOSX/._a.py",
    "__MACOSX/d/x",
    "d/__MACOSX/x",
    ".DS_Store",
    "d/.DS_Store",
    "d/._b.py",
    "._a.py",
    "desktop.ini",
    "d/Desktop.ini",
    "d/Thumbs.db",
    "d/Icon\r",
    # Names that no file may have.
    "__MACOSX/d/._\u202egpj.py",
    "__MACOSX/" + "d/" * 13 + "._x",
    "d/._" + "n" * 100,
    "D/Thumbs.db",
]


@pytest.mark.parametrize("pack", [zip_of, tar_of])
def test_junk_of_macos_and_windows_is_passed_over(playground: Playground, pack: Pack) -> None:
    data = pack({**dict.fromkeys(JUNK, b"junk"), "a.py": b"a", "d/b.py": b"b"})
    kind: ArchiveKind = "zip" if pack is zip_of else "tar"
    extract_archive(io.BytesIO(data), kind=kind, destination=playground.inside)
    assert playground.contents() == {"a.py": b"a", "d/b.py": b"b"}
    assert [entry.path for entry in inspect_as_it_comes(data, kind)] == ["a.py", "d/b.py"]


@pytest.mark.parametrize("root", ["/", "./", "//", "/./"])
@pytest.mark.parametrize("pack", [zip_of, tar_of])
def test_an_entry_for_the_root_is_no_file(pack: Pack, root: str) -> None:
    kind: ArchiveKind = "zip" if pack is zip_of else "tar"
    if pack is tar_of:
        data = member(root.encode(), kind=b"5") + pack({"a.py": b"a"})
    else:
        data = pack({root: b"", "a.py": b"a"})
    assert [entry.path for entry in inspect_archive(io.BytesIO(data), kind=kind)] == ["a.py"]
    assert [entry.path for entry in inspect_as_it_comes(data, kind)] == ["a.py"]


def paths_of(*parts: Part) -> list[str]:
    data = build(*parts)
    paths = [entry.path for entry in inspect_archive(io.BytesIO(data), kind="zip")]
    assert [entry.path for entry in inspect_as_it_comes(data, "zip")] == paths
    return paths


def windows(name: str | bytes, **fields: object) -> Part:
    """A file as Explorer packs it on Japanese Windows."""
    return Part(name if isinstance(name, bytes) else name.encode("cp932"), system=11, **fields)  # type: ignore[arg-type]


# 表, ソ, 能 and 十 have the byte of a backslash in them.
JAPANESE = ["main.py", "表示/説明ソ.txt", "性能/十.csv", "データ/①～㈱.txt"]


def test_names_of_japanese_windows_are_read() -> None:
    assert paths_of(*map(windows, JAPANESE)) == JAPANESE


@pytest.mark.parametrize("name", ["モデル.py", "図.png", "loss図1.png", "表/a.py", "２値化.py"])
def test_one_japanese_name_is_enough(name: str) -> None:
    others = ["学習.txt"] if name.startswith("loss") else []
    assert paths_of(*map(windows, ["main.py", name, *others])) == ["main.py", name, *others]


def test_names_marked_as_utf8_stand_beside_those_of_the_code_page() -> None:
    """7-Zip marks those that the code page does not have."""
    marked = windows("é/ü.txt".encode(), flags=UTF8_FLAG)
    assert paths_of(windows("表.txt"), marked) == ["表.txt", "é/ü.txt"]


def test_the_field_for_unicode_names_comes_first() -> None:
    raw = "モデル.py".encode("euc-jp")
    assert paths_of(windows(raw, extra=unicode_path("モデル.py".encode(), raw))) == ["モデル.py"]


def test_a_field_that_is_about_another_name_is_passed_over() -> None:
    """As a program leaves it that renames members and does not know the field."""
    assert paths_of(windows("表.py", extra=unicode_path(b"old.py", b"old"))) == ["表.py"]


def test_junk_says_nothing_about_the_code_page() -> None:
    assert paths_of(Part("モデル.py".encode()), Part(b"__MACOSX/._\xff\xfe.py")) == ["モデル.py"]


def test_powershells_backslashes_separate_folders() -> None:
    data = [Part(b"main.py", system=0), Part(b"src\\", b"", 0, system=0), Part(b"src\\util.py", system=0)]
    assert paths_of(*data, windows("表示\\ソ.txt")) == ["main.py", "src/util.py", "表示/ソ.txt"]


UNSAFE: dict[str, tuple[bytes, str, str]] = {
    "climbing by backslashes": (build(Part(b"src\\..\\..\\victim", system=0)), "bad_file_name", "leads out"),
    "climbing in Shift JIS": (build(windows("..\\表")), "bad_file_name", "leads out"),
    "a share": (build(windows(b"\\\\host\\share")), "bad_file_name", "absolute"),
    "a drive": (build(windows("C:\\表.py")), "bad_file_name", "drive"),
    "junk that climbs by backslashes": (build(Part(b"..\\.DS_Store", system=0)), "bad_file_name", "leads out"),
    "one name by two separators": (
        build(Part(b"src\\a.py", system=0), Part(b"src/a.py", system=0)),
        "bad_file_name",
        "same name twice",
    ),
    "backslash of Unix beside Shift JIS": (build(windows("表.py"), Part(b"a\\b")), "bad_file_name", "backslash"),
    "climbing by the field": (build(windows("表", extra=unicode_path(b"../x", "表".encode("cp932")))), "bad_file_name", "leads out"),
    "field that is no UTF-8": (
        build(windows("表", extra=unicode_path(b"\xff", "表".encode("cp932")))),
        "bad_file_name",
        "not UTF-8",
    ),
    "field of its own header alone": (
        build(windows("表", local={"extra": unicode_path(b"x", "表".encode("cp932"))})),
        "bad_file_name",
        "two different names",
    ),
    "UTF-8 by its own header alone": (build(windows("表", local={"flags": UTF8_FLAG})), "bad_file_name", "two different names"),
    "marked as UTF-8": (build(windows("表", flags=UTF8_FLAG)), "bad_file_name", "not UTF-8"),
    "a field too long to be a name": (
        build(windows("表", extra=unicode_path(b"n" * 60_000, "表".encode("cp932")))),
        "bad_file_name",
        "characters",
    ),
    "UTF-8 and Shift JIS unmarked": (build(Part("モデル.py".encode()), windows("表.py")), "bad_file_name", "not UTF-8"),
    "cut in a character": (build(windows("表.py"), windows(b"\x95")), "bad_file_name", "not UTF-8"),
    # Other code pages, of which many bytes are Shift JIS too.
    "French": (build(Part("Modèle.py".encode("cp850"), system=0)), "bad_file_name", "not UTF-8"),
    "German": (build(Part("größe.py".encode("cp850"), system=0)), "bad_file_name", "not UTF-8"),
    "Russian": (build(Part("модель.py".encode("cp866"), system=0)), "bad_file_name", "not UTF-8"),
    "Chinese": (build(Part("模型.py".encode("gbk"), system=0)), "bad_file_name", "not UTF-8"),
    "Korean": (build(Part("모델.py".encode("euc-kr"), system=0)), "bad_file_name", "not UTF-8"),
}  # fmt: skip


@pytest.mark.parametrize("attack", UNSAFE)
def test_names_of_windows_open_no_way_out(playground: Playground, attack: str) -> None:
    data, code, says = UNSAFE[attack]
    assert_refused(playground, data, "zip", code, says)
