"""A folder's digest: the same on every machine, of its content alone, and read again only where something changed."""

import os
import time
import unicodedata

import pytest

from core import folder_digest
from core.folder_digest import FolderDigests, FolderRefused, Stopped


@pytest.fixture
def folder(tmp_path):
    made = tmp_path / "labels"
    (made / "masks" / "deep").mkdir(parents=True)
    (made / "labels.csv").write_text("id,label\n1,cat\n")
    (made / "masks" / "deep" / "1.png").write_bytes(b"\x89PNG")
    (made / "masks" / unicodedata.normalize("NFC", "é.png")).write_bytes(b"e")
    return made


@pytest.fixture
def digests(tmp_path):
    return FolderDigests(tmp_path / "kept")


def digest(folder, tmp_path, ignored=()):
    return FolderDigests(tmp_path / "nothing-kept").state(folder, ignored).digest


def test_form_stays_as_it_is(folder, tmp_path):
    """Digests lie in databases: another form would make every worker differ from every score version."""
    assert digest(folder, tmp_path) == "615f9b55f67562da63f2d9889378a9e2f4f693b55241d9fd96e5ee7700a8fc1d"


def decompose(folder):
    (folder / "masks" / "é.png").rename(folder / "masks" / unicodedata.normalize("NFD", "é.png"))


def link_within(folder):
    (folder / "labels.csv").rename(folder / "masks" / "moved")
    (folder / "labels.csv").symlink_to("masks/moved")
    (folder / "copy").symlink_to("masks")


def as_links_say(folder):
    (folder / "masks" / "moved").write_text((folder / "labels.csv").read_text())
    (folder / "copy").mkdir()
    for path in (folder / "masks").rglob("*"):
        target = folder / "copy" / path.relative_to(folder / "masks")
        target.mkdir() if path.is_dir() else target.write_bytes(path.read_bytes())


@pytest.mark.parametrize(
    "change",
    [
        lambda folder: (folder / "labels.csv").chmod(0o600),
        lambda folder: os.utime(folder / "labels.csv", (1, 1)),
        lambda folder: (folder / "empty").mkdir(),
        decompose,
    ],
)
def test_modes_times_empty_folders_and_the_spelling_of_names_do_not_count(folder, tmp_path, change):
    before = digest(folder, tmp_path)
    change(folder)
    assert digest(folder, tmp_path) == before


@pytest.mark.parametrize(
    "change",
    [
        lambda folder: (folder / "labels.csv").write_text("id,label\n1,dog\n"),
        lambda folder: (folder / "labels.csv").rename(folder / "other.csv"),
        lambda folder: (folder / "more").write_text(""),
        lambda folder: (folder / "masks" / "deep" / "1.png").unlink(),
    ],
)
def test_every_change_of_content_counts(folder, tmp_path, change):
    before = digest(folder, tmp_path)
    change(folder)
    assert digest(folder, tmp_path) != before


def test_links_within_the_folder_count_as_what_they_lead_to(folder, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    os.system(f"cp -a {folder}/. {other}")
    link_within(folder)
    as_links_say(other)
    assert digest(folder, tmp_path) == digest(other, tmp_path)


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda folder: (folder / "out").symlink_to(folder.parent), "'out' is a link out of the folder"),
        (lambda folder: (folder / "out").symlink_to("/etc/passwd"), "'out' is a link out of the folder"),
        (lambda folder: (folder / "masks" / "up").symlink_to(folder / "masks"), "'masks/up' is a link out of"),
        (lambda folder: (folder / "gone").symlink_to("nothing"), "cannot be read"),
        (lambda folder: os.mkfifo(folder / "pipe"), "'pipe' is not a regular file"),
        (lambda folder: (folder / "masks" / unicodedata.normalize("NFD", "é.png")).touch(), "equal after normaliz"),
        (lambda folder: os.close(os.open(os.fsencode(folder) + b"/\xff", os.O_CREAT)), "is not UTF-8"),
    ],
)
def test_what_could_be_read_in_two_ways_is_refused(folder, digests, spoil, told):
    spoil(folder)
    with pytest.raises(FolderRefused, match=told):
        digests.state(folder)


def test_ignored_names_do_not_count_at_any_depth(folder, tmp_path):
    before = digest(folder, tmp_path, ["__pycache__"])
    (folder / "masks" / "__pycache__").mkdir()
    (folder / "masks" / "__pycache__" / "x.pyc").write_bytes(b"x")
    assert digest(folder, tmp_path, ["__pycache__"]) == before != digest(folder, tmp_path)


def test_only_what_changed_is_read_again_also_after_a_restart(folder, digests, tmp_path, monkeypatch):
    time.sleep(folder_digest.YOUNG_NS / 1e9 + 0.01)
    read, read_file = [], folder_digest._read_file
    monkeypatch.setattr(
        folder_digest, "_read_file", lambda file, stop: (read.append(file.path), read_file(file, stop))[1]
    )
    before = digests.state(folder)
    assert len(read) == 3
    assert digests.state(folder) == before and len(read) == 3
    assert FolderDigests(tmp_path / "kept").state(folder) == before and len(read) == 3
    assert [path.stat().st_mode & 0o777 for path in (tmp_path / "kept").iterdir()] == [0o600]
    (folder / "labels.csv").write_text("id,label\n1,dog\n")
    assert digests.signature(folder) != before.signature
    assert digests.state(folder).digest != before.digest
    assert read[3:] == ["labels.csv"]


def test_file_too_young_to_be_told_from_its_next_content_is_read_again(folder, digests, monkeypatch):
    monkeypatch.setattr(folder_digest, "YOUNG_NS", 60 * 10**9)
    read, read_file = [], folder_digest._read_file
    monkeypatch.setattr(
        folder_digest, "_read_file", lambda file, stop: (read.append(file.path), read_file(file, stop))[1]
    )
    digests.state(folder)
    digests.state(folder)
    assert len(read) == 6


def test_file_that_changes_while_it_is_read_gives_no_digest(folder, digests, monkeypatch):
    opened = folder_digest.open_without_a_trace

    def open_and_change(path, flags):
        with open(folder / "labels.csv", "a") as file:
            file.write("2,dog\n")
        return opened(path, flags)

    monkeypatch.setattr(folder_digest, "open_without_a_trace", open_and_change)
    with pytest.raises(FolderRefused, match="changed while it was read"):
        digests.state(folder)


def test_stop_is_heard_while_much_is_read(folder, digests):
    with pytest.raises(Stopped):
        digests.state(folder, is_stopping=lambda: True)
