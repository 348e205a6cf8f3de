"""Every file of a source is taken, ignored by rule, left out on purpose, or named in the refusal."""

import io
import json
import os
import re

import pytest
from django.core.management import CommandError, call_command

from leaderboards.hiding import CannotHide, hide_labels
from leaderboards.hiding import plan as planning
from leaderboards.hiding.masks import read_mask
from leaderboards.tests.made_pictures import bmp, make_parts, png


@pytest.fixture
def source(tmp_path):
    return make_parts(tmp_path / "source")


@pytest.fixture
def targets(tmp_path):
    return tmp_path / "datasets" / "parts", tmp_path / "truth" / "parts"


def put(root, name, content=b"x"):
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_bytes(content)


def refusal(source, targets, **options):
    with pytest.raises(CannotHide) as refused:
        hide_labels(source, *targets, **options)
    assert not any(target.exists() for target in targets)
    return str(refused.value).splitlines()


def test_files_that_would_be_dropped_are_counted_and_named(source, targets):
    for number in range(5):
        put(source, f"screw/validation/good/{number:03}.png", png(1))
    put(source, "screw/test/dent/004.tif")
    put(source, "screw/train/good/notes.txt")
    put(source, "screw/ground_truth/dent/009_mask.png", png(255))
    put(source, "screw/ground_truth/dent/001_mask.bmp")
    put(source, "screw/ground_truth/good/000_mask.png", png(0))
    put(source, "screw/test/loose.png", png(1))
    put(source, "screw/test/dent/deeper/000.png", png(1))
    put(source, "other/000.png", png(1))
    put(source, "dataset.json")
    put(source, "screw/test/\udcff/000.png", png(1))
    (source / "broken").symlink_to("nowhere")
    (source / "screw" / "round").symlink_to("..")
    assert refusal(source, targets) == [
        "Files that are not taken: 17",
        "  broken links and files that are not regular (1): broken",
        "  files in CATEGORY/test/, which this layout does not have (1): screw/test/loose.png",
        "  files in CATEGORY/test/dent/deeper/, which this layout does not have (1): screw/test/dent/deeper/000.png",
        "  files in CATEGORY/validation/good/, which this layout does not have (5): screw/validation/good/000.png, "
        "screw/validation/good/001.png, screw/validation/good/002.png and 2 more",
        "  files in other/, which has no train/good and so is no category (1): other/000.png",
        "  files outside train/, test/ and ground_truth/ (1): dataset.json",
        "  files that end in .tif; images end in .png, .jpg, .jpeg or .bmp, so convert them to PNG without loss "
        "(ImageMagick: mogrify -format png '*.tif') and take the old files away (1): screw/test/dent/004.tif",
        "  files that end in .txt and are no images (1): screw/train/good/notes.txt",
        "  links to a folder around them (1): screw/round",
        "  masks of good images (1): screw/ground_truth/good/000_mask.png",
        "  masks of no defective image (1): screw/ground_truth/dent/009_mask.png",
        "  masks that end in .bmp; convert them to PNG (1): screw/ground_truth/dent/001_mask.bmp",
        "  names that are not UTF-8, or have control characters (1): screw/test/\\xff/000.png",
        "Correct the source, or leave them out on purpose: --leave-out with a file's or a folder's name, path or pattern.",
    ]


@pytest.mark.parametrize("pattern", ["validation", "validation/", "screw/validation", "screw/val*", "*/validation/*"])
def test_files_are_left_out_on_purpose(source, targets, pattern):
    put(source, "screw/validation/good/000.png", png(1))
    put(source, "dataset.json")
    made = hide_labels(source, *targets, leave_out=[pattern, "dataset.json"])
    assert made.left_out == {pattern: 1, "dataset.json": 1}
    assert (made.train, made.test) == (6, 26)


def test_whole_category_is_left_out(source, targets):
    made = hide_labels(source, *targets, leave_out=["bottle"])
    assert (made.categories, made.test, list(made.counts)) == (1, 13, ["screw"])


def test_pattern_that_fits_nothing_is_refused(source, targets):
    assert refusal(source, targets, leave_out=["validatoin"]) == ["--leave-out validatoin: fits no file."]


def test_files_of_systems_and_readmes_are_ignored_and_counted(source, targets):
    for name in (
        ".DS_Store",
        "screw/test/good/Thumbs.db",
        "__MACOSX/a/b.png",
        "screw/train/good/._000.png",
        "desktop.ini",
    ):
        put(source, name)
    put(source, "readme.txt")
    put(source, "screw/license.txt")
    made = hide_labels(source, *targets)
    assert made.ignored == {"files of macOS and Windows": 5, "readme files": 1}
    assert (targets[0] / "screw" / "license.txt").is_file()
    assert made.counts["screw"] == {"train": 3, "crack": 4, "dent": 4, "good": 5}


def test_bmp_images_are_taken(source, targets):
    """They were dropped: of 26 test images none was left, or only those of the other kind."""
    for number, path in enumerate(sorted(source.glob("screw/t*/*/*.png"))):
        path.with_suffix(".bmp").write_bytes(bmp(number, resolution=2835))
        path.unlink()
    made = hide_labels(source, *targets)
    assert (made.train, made.test, made.masks) == (6, 26, 16)
    written = sorted((targets[0] / "screw" / "test").iterdir())
    assert [path.name for path in written] == [f"{number:04}.bmp" for number in range(1, 14)]
    assert {path.read_bytes() for path in written} == {bmp(number) for number in range(13)}


def test_image_and_every_mask_that_cannot_be_used_are_named_at_once(source, targets):
    put(source, "screw/test/good/000.png", b"GIF89a")
    put(source, "screw/ground_truth/dent/001_mask.png", png(7))
    put(source, "bottle/ground_truth/crack/002_mask.png", png(0))
    assert refusal(source, targets) == [
        "Test images and masks that cannot be used: 3",
        "  bottle/ground_truth/crack/002_mask.png marks no pixel of a defective image: correct it, or give "
        "--allow-empty-masks",
        "  screw/ground_truth/dent/001_mask.png has the values 7; a mask has only 0 and 255, or only 0 and 1",
        "  screw/test/good/000.png is neither a PNG nor a JPEG nor a BMP",
    ]


def test_empty_masks_are_accepted_on_purpose(source, targets):
    put(source, "bottle/ground_truth/crack/002_mask.png", png(0))
    made = hide_labels(source, *targets, allow_empty_masks=True)
    assert made.empty_masks == ["bottle/ground_truth/crack/002_mask.png"]


def test_masks_of_0_and_1_become_0_and_255(source, targets):
    """The scorer takes what is above 127, so no pixel was defective and every job ended as scorer_failed."""
    for path in source.glob("*/ground_truth/*/*.png"):
        path.write_bytes(png(1))
    made = hide_labels(source, *targets)
    assert len(made.normalised_masks) == 16
    masks = [read_mask(path.read_bytes(), (4, 3)) for path in (targets[1] / "masks").rglob("*.png")]
    assert [(mask.is_as_it_was, mask.is_empty) for mask in masks] == [(True, False)] * 16


def test_too_little_space_is_refused_before_anything_is_read(source, targets, monkeypatch):
    put(source, "screw/test/good/000.png", b"GIF89a")

    class State:
        f_bavail, f_frsize = 1, 4096

    monkeypatch.setattr(planning.os, "statvfs", lambda place: State)
    (line,) = refusal(source, targets)
    # 49 files of less than a block each, and the tables.
    told = rf"Not enough free space\. {targets[0]} and {targets[1]}: \d+ KiB needed, [\d.]+ (KiB|B) free"
    assert re.fullmatch(told, line)


# --- The command ----------------------------------------------------------------------------------------------------
@pytest.fixture
def roots(settings, tmp_path):
    settings.DATASET_ROOT, settings.GROUND_TRUTH_ROOT = tmp_path / "datasets", tmp_path / "truth"
    return tmp_path / "datasets", tmp_path / "truth"


def called(*arguments):
    out, err = io.StringIO(), io.StringIO()
    call_command("hide_labels", *map(str, arguments), stdout=out, stderr=err)
    return out.getvalue().splitlines(), err.getvalue()


def test_dry_run_says_all_and_writes_nothing(source, roots, tmp_path):
    before = sorted(os.walk(tmp_path))
    lines, progress = called(source, "parts", "--dry-run")
    assert sorted(os.walk(tmp_path)) == before
    assert lines[:5] == [
        f"2 categories: 6 images to learn from and 26 to test in {tmp_path}/datasets/parts",
        f"labels and 16 masks in {tmp_path}/truth/parts",
        f"names and their files in {tmp_path}/truth/parts.sources.csv",
        "  bottle: 3 train, 4 crack, 4 dent, 5 good",
        "  screw: 3 train, 4 crack, 4 dent, 5 good",
    ]
    assert re.match(rf"Space: {tmp_path}/datasets/parts and {tmp_path}/truth/parts: \d+ KiB needed, ", lines[5])
    assert lines[6:] == ["Nothing was written: this was a dry run."]
    assert progress.startswith("Reading test images and masks: 0 of 26 files\n")


def test_command_refuses_with_every_reason(source, roots):
    put(source, "screw/validation/good/000.png", png(1))
    with pytest.raises(CommandError, match=r"Files that are not taken: 1(.|\n)*Nothing was written"):
        called(source, "parts")


def test_command_gives_json(source, roots, tmp_path):
    put(source, "bottle/ground_truth/crack/002_mask.png", png(1))
    lines, _ = called(source, "parts", "--json")
    made = json.loads("\n".join(lines))
    assert {name: made[name] for name in ("dataset", "dry_run", "test", "masks", "normalised_masks", "written")} == {
        "dataset": "parts",
        "dry_run": False,
        "test": 26,
        "masks": 16,
        "normalised_masks": ["bottle/ground_truth/crack/002_mask.png"],
        "written": [f"{tmp_path}/datasets/parts", f"{tmp_path}/truth/parts"],
    }
