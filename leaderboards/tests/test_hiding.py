"""A data set without its labels, and the labels: nothing of the first tells of the second."""

import csv
import io
import os
import struct
import zlib

import pytest
from django.core.management import CommandError, call_command

from leaderboards.hiding import hide_labels
from leaderboards.pictures import UnknownPicture, picture_size, without_metadata
from leaderboards.source_layout import CannotHide


def part(name, content):
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def png(shade, *, width=4, height=3, text=b""):
    """A grey picture of one shade, with a comment."""
    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    rows = zlib.compress(b"".join(b"\0" + bytes([shade]) * width for _ in range(height)))
    comment = part(b"tEXt", b"Comment\0" + text) if text else b""
    return b"\x89PNG\r\n\x1a\n" + part(b"IHDR", head) + comment + part(b"IDAT", rows) + part(b"IEND", b"")


def jpeg_part(marker, content):
    return bytes([0xFF, marker]) + struct.pack(">H", len(content) + 2) + content


JPEG = (
    b"\xff\xd8" + jpeg_part(0xE0, b"JFIF\0") + jpeg_part(0xE1, b"Exif\0\0defect") + jpeg_part(0xFE, b"defect")
    + jpeg_part(0xC0, b"\x08" + struct.pack(">HH", 30, 40) + b"\x01") + jpeg_part(0xDA, b"\0") + b"scan\xff\xd9defect"
)  # fmt: skip


@pytest.fixture
def source(tmp_path):
    root = tmp_path / "source"
    for category in ("bottle", "screw"):
        shades = iter(range(1, 200))
        for folder, count in (("train/good", 3), ("test/good", 5), ("test/crack", 4), ("test/dent", 4)):
            (root / category / folder).mkdir(parents=True)
            for number in range(count):
                path = root / category / folder / f"{number:03}.png"
                path.write_bytes(png(next(shades), text=folder.encode()))
        for kind in ("crack", "dent"):
            (root / category / "ground_truth" / kind).mkdir(parents=True)
            for number in range(4):
                (root / category / "ground_truth" / kind / f"{number:03}_mask.png").write_bytes(png(255))
    (root / "license.txt").write_text("CC BY-NC")
    return root


@pytest.fixture
def hidden(source, tmp_path):
    data, labels = tmp_path / "datasets" / "parts", tmp_path / "truth" / "parts"
    return hide_labels(source, data, labels), data, labels


def rows_of(labels):
    with (labels / "labels.csv").open() as file:
        return list(csv.DictReader(file))


def test_both_folders_are_whole(hidden):
    made, data, labels = hidden
    assert (len(made.kinds), made.train, made.test, made.masks) == (2, 6, 26, 16)
    assert sorted(path.name for path in (data / "screw" / "test").iterdir()) == [f"{n:04}.png" for n in range(1, 14)]
    assert sorted(path.name for path in (data / "screw" / "train" / "good").iterdir()) == [
        "000.png",
        "001.png",
        "002.png",
    ]
    assert {path.name for path in data.iterdir()} == {"bottle", "screw", "license.txt"}
    assert {path.name for path in labels.iterdir()} == {"labels.csv", "masks"}
    assert {path.name for path in labels.parent.iterdir()} == {"parts", "parts.sources.csv"}


def test_labels_speak_of_the_pictures_that_are_there(hidden, source):
    _, data, labels = hidden
    for row in rows_of(labels):
        picture = (data / row["image"]).read_bytes()
        category = row["image"].partition("/")[0]
        originals = {
            without_metadata(path.read_bytes()) for path in (source / category / "test" / row["kind"]).iterdir()
        }
        assert picture in originals
        assert (row["defect"], bool(row["mask"])) == (("0", False) if row["kind"] == "good" else ("1", True))
        assert not row["mask"] or (labels / row["mask"]).is_file()
        assert (row["height"], row["width"]) == ("3", "4")


def test_nothing_beside_the_pixels_tells_the_kind(hidden):
    _, data, _ = hidden
    tests = sorted((data / "bottle" / "test").iterdir())
    assert {path.stat().st_mtime for path in tests} == {0}
    assert not [path for path in data.rglob("*") if b"crack" in path.name.encode() or "ground_truth" in path.name]
    assert not any(b"test/crack" in path.read_bytes() or b"tEXt" in path.read_bytes() for path in tests)


def test_order_is_another_each_time(source, tmp_path):
    orders = set()
    for number in range(5):
        hide_labels(source, tmp_path / f"d{number}", tmp_path / "t" / f"{number}")
        orders.add(tuple(row["kind"] for row in rows_of(tmp_path / "t" / f"{number}")))
    assert len(orders) > 1
    assert orders != {tuple(sorted(next(iter(orders))))}


def test_root_of_the_labels_is_closed_to_others(hidden):
    _, data, labels = hidden
    assert labels.parent.stat().st_mode & 0o777 == 0o700
    assert labels.stat().st_mode & 0o005 == 0o005 and data.stat().st_mode & 0o005 == 0o005


@pytest.mark.parametrize(
    ("breaking", "told"),
    [
        (lambda root: (root / "screw" / "ground_truth" / "dent" / "001_mask.png").unlink(), "has no mask"),
        (
            lambda root: (root / "screw" / "test" / "good" / "000.png").write_bytes(b"GIF89a"),
            "neither a PNG nor a JPEG",
        ),
        (lambda root: (root / "screw" / "test" / "good" / "x.jpg").write_bytes(JPEG), "tell good from bad"),
        (
            lambda root: os.rename(root / "screw" / "test" / "good", root / "screw" / "test" / "ok"),
            "must have images in good/",
        ),
        (
            lambda root: (root / "screw" / "ground_truth" / "dent" / "001_mask.png").write_bytes(png(1, width=9)),
            "has 9 x 3 pixels, its image 4 x 3",
        ),
    ],
)
def test_what_is_wrong_leaves_nothing(source, tmp_path, breaking, told):
    breaking(source)
    with pytest.raises(CannotHide, match=told):
        hide_labels(source, tmp_path / "d" / "parts", tmp_path / "t" / "parts")
    assert not [path for folder in ("d", "t") for path in (tmp_path / folder).glob("*")]


def test_command(source, settings, tmp_path):
    settings.DATASET_ROOT, settings.GROUND_TRUTH_ROOT = tmp_path / "datasets", tmp_path / "truth"
    out = io.StringIO()
    call_command("hide_labels", str(source), "parts", stdout=out)
    assert out.getvalue().startswith(
        f"2 categories: 6 images to learn from and 26 to test in {tmp_path}/datasets/parts"
    )
    for name, told in (
        ("parts", "is there already"),
        ("../parts", "name: A folder's path"),
        ("x", "no images in CATEGORY/train/good"),
    ):
        with pytest.raises(CommandError, match=told):
            call_command("hide_labels", str(source if name != "x" else tmp_path), name)


def test_picture_without_metadata_is_the_same_picture():
    bare, told = png(7), png(7, text=b"defect")
    assert without_metadata(told) == bare == without_metadata(told + b"behind its end: defect")
    assert b"defect" not in without_metadata(JPEG) and b"scan\xff\xd9" in without_metadata(JPEG)
    assert (picture_size(bare), picture_size(JPEG)) == ((4, 3), (40, 30))
    for broken in (b"", b"GIF89a", bare[:20], bare[:-8], b"\xff\xd8", JPEG[:30], b"\xff\xd8\xff\xda\0\x02"):
        with pytest.raises(UnknownPicture):
            without_metadata(broken)
            picture_size(broken)
