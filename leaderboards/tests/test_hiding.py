"""A data set without its labels, and the labels: nothing of the first tells of the second."""

import csv
import io
import os

import pytest
from django.core.management import CommandError, call_command

from leaderboards.hiding import CannotHide, hide_labels
from leaderboards.pictures import UnknownPicture, picture_size, without_metadata
from leaderboards.tests.made_pictures import JPEG, bmp, make_parts, png


@pytest.fixture
def source(tmp_path):
    return make_parts(tmp_path / "source")


@pytest.fixture
def hidden(source, tmp_path):
    data, labels = tmp_path / "datasets" / "parts", tmp_path / "truth" / "parts"
    return hide_labels(source, data, labels), data, labels


def rows_of(labels):
    with (labels / "labels.csv").open() as file:
        return list(csv.DictReader(file))


def test_both_folders_are_whole(hidden):
    made, data, labels = hidden
    assert (made.categories, made.train, made.test, made.masks) == (2, 6, 26, 16)
    assert sorted(path.name for path in (data / "screw" / "test").iterdir()) == [f"{n:04}.png" for n in range(1, 14)]
    assert sorted(path.name for path in (data / "screw" / "train" / "good").iterdir()) == [
        "000.png",
        "001.png",
        "002.png",
    ]
    assert {path.name for path in data.iterdir()} == {"bottle", "screw", "license.txt"}
    assert {path.name for path in labels.iterdir()} == {"labels.csv", "masks"}


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
        (lambda root: (root / "screw" / "ground_truth" / "dent" / "001_mask.png").unlink(), "that have no mask"),
        (
            lambda root: (root / "screw" / "test" / "good" / "000.png").write_bytes(b"GIF89a"),
            "neither a PNG nor a JPEG nor a BMP",
        ),
        (lambda root: (root / "screw" / "test" / "good" / "x.jpg").write_bytes(JPEG), "tell good from bad"),
        (
            lambda root: os.rename(root / "screw" / "test" / "good", root / "screw" / "test" / "ok"),
            "must have images in good/",
        ),
        (
            lambda root: (root / "screw" / "ground_truth" / "dent" / "001_mask.png").write_bytes(png(1, width=9)),
            "another size",
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
        ("x", "no CATEGORY/train/good"),
    ):
        with pytest.raises(CommandError, match=told):
            call_command("hide_labels", str(source if name != "x" else tmp_path), name)


def test_picture_without_metadata_is_the_same_picture():
    bare, told = png(7), png(7, text=b"defect")
    assert without_metadata(told) == bare == without_metadata(told + b"behind its end: defect")
    assert b"defect" not in without_metadata(JPEG) and b"scan\xff\xd9" in without_metadata(JPEG)
    assert (picture_size(bare), picture_size(JPEG)) == ((4, 3), (40, 30))
    assert without_metadata(bmp(7, resolution=2835, end=b"defect")) == bmp(7) == without_metadata(bmp(7))
    assert picture_size(bmp(7)) == (4, 3)
    for broken in (
        b"BM",
        bmp(7)[:-1],
        bmp(7)[:30] + b"\3" + bmp(7)[31:],
        b"",
        b"GIF89a",
        bare[:20],
        bare[:-8],
        b"\xff\xd8",
        JPEG[:30],
        b"\xff\xd8\xff\xda\0\x02",
    ):
        with pytest.raises(UnknownPicture):
            without_metadata(broken)
            picture_size(broken)
