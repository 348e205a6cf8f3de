"""Splitting data for hidden labels: nothing is dropped in silence, masks are checked, corrections keep the names."""

import csv
import io
import json
import os

import pytest
from django.core.management import CommandError, call_command
from PIL import Image

from core.folder_digest import FolderDigests
from leaderboards import hiding, one_pass
from leaderboards.hiding import plan_split, write_split
from leaderboards.masks import BadMask, read_mask
from leaderboards.source_layout import CannotHide
from leaderboards.source_names import SourceRow, mapping_of, numbers_of

WHITE, BLACK = 255, 0


def save(path, picture, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.save(path, **options)


def noise(seed, mode="RGB"):
    """A picture of 6 x 5 pixels that no other seed has."""
    bands = len(Image.new(mode, (1, 1)).getbands())
    return Image.frombytes(mode, (6, 5), bytes((seed * 31 + place * 7) % 256 for place in range(30 * bands)))


def mask(*, high=WHITE, mode="L", marked=3):
    picture = Image.new(mode, (6, 5), BLACK)
    for place in range(marked):
        picture.putpixel((place, 2), high)
    return picture


@pytest.fixture
def source(tmp_path):
    """Two categories with 4 images to learn from and 6 to test each, 3 of them defective."""
    root = tmp_path / "source"
    for offset, category in enumerate(("bottle", "screw")):
        for number in range(4):
            save(root / category / "train/good" / f"{number:03}.png", noise(50 + 10 * offset + number))
        for number in range(3):
            save(root / category / "test/good" / f"{number:03}.png", noise(100 + 10 * offset + number))
            save(root / category / "test/crack" / f"{number:03}.png", noise(150 + 10 * offset + number))
            save(root / category / "ground_truth/crack" / f"{number:03}_mask.png", mask(marked=1 + number))
    return root


@pytest.fixture
def roots(settings, tmp_path):
    settings.DATASET_ROOT, settings.GROUND_TRUTH_ROOT = tmp_path / "data", tmp_path / "truth"
    return tmp_path / "data" / "parts", tmp_path / "truth" / "parts"


def hide(source, *options):
    out = io.StringIO()
    call_command("hide_labels", str(source), "parts", *options, stdout=out)
    return out.getvalue()


def label_rows(labels):
    with (labels / "labels.csv").open() as file:
        return {row["image"]: row for row in csv.DictReader(file)}


def mapping(labels):
    with mapping_of(labels).open() as file:
        return {row["source"]: row["image"] for row in csv.DictReader(file)}


def digest(folder):
    """Return the digest that decides a board's score version."""
    return FolderDigests(folder.parent.parent / "digests").state(folder).digest


def contents(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()
    }


# --- Nothing is dropped in silence ----------------------------------------------------------------------------------
def test_every_file_that_is_not_taken_is_named_and_nothing_is_written(source, roots):
    save(source / "bottle/validation/good/000.png", noise(1))
    save(source / "bottle/validation/good/001.png", noise(2))
    (source / "screw/test/crack/notes.gif").write_bytes(b"GIF89a")
    save(source / "screw/ground_truth/crack/777_mask.png", mask())
    save(source / "capsule/pictures/000.png", noise(3))
    os.symlink("/nowhere", source / "screw/train/good/link.png")
    with pytest.raises(CommandError) as refused:
        hide(source)
    told = str(refused.value).splitlines()
    assert told == [
        "screw/train/good/link.png is no regular file: put a copy of what it stands for in its place.",
        "screw/ground_truth/crack: 1 mask without an image, such as 777_mask.png.",
        "bottle/validation/good: 2 files that can be taken neither as image nor as mask, such as 000.png. Mend or convert "
        "them, or pass --leave-out 'bottle/validation/good/*'.",
        "capsule/pictures: 1 file that can be taken neither as image nor as mask, such as 000.png. Mend or convert them, "
        "or pass --leave-out 'capsule/pictures/*'.",
        "screw/test/crack: 1 file that can be taken neither as image nor as mask, such as notes.gif. Mend or convert them, "
        "or pass --leave-out 'screw/test/crack/*'.",
        "Nothing was written.",
    ]
    assert not any(root.exists() for root in roots)


def test_what_is_left_out_on_purpose_or_by_nature_is_counted(source, roots):
    save(source / "bottle/validation/good/000.png", noise(1))
    (source / "readme.txt").write_text("About this data.")
    (source / "screw" / ".DS_Store").write_bytes(b"\0")
    told = hide(source, "--leave-out", "*/validation/*", "--json")
    assert json.loads(told)["left_out"] == {
        "matching */validation/*": 1,
        "other files next to the categories or in them": 1,
        "files of the operating system": 1,
    }
    with pytest.raises(CommandError, match=r"--leave-out \*/vaildation/\*: no file below .* matches it"):
        call_command("hide_labels", str(source), "others", "--leave-out", "*/vaildation/*")


def test_many_problems_are_cut_short(source, roots):
    for number in range(30):
        (source / "screw/train/good" / f"{number}.png").write_bytes(b"no picture")
    with pytest.raises(CannotHide) as refused:
        plan_split(source, *roots)
    assert len(str(refused.value).splitlines()) == 21
    assert str(refused.value).endswith("\n... and 10 more")


@pytest.mark.parametrize("suffix", [".bmp", ".tif", ".TIFF"])
def test_bmp_and_tiff_are_taken_as_png_with_the_same_pixels(source, roots, suffix):
    for folder in ("train/good", "test/good", "test/crack"):
        for path in sorted((source / "screw" / folder).iterdir()):
            Image.open(path).save(path.with_suffix(suffix))
            path.unlink()
    hide(source)
    data, labels = roots
    names = mapping(labels)
    shown = Image.open(data / names[f"screw/test/crack/001{suffix}"])
    assert (shown.format, shown.tobytes()) == ("PNG", noise(161).tobytes())
    assert len(list((data / "screw/test").iterdir())) == 6
    assert {path.suffix for path in (data / "screw").rglob("*.*")} == {".png"}


def test_a_tiff_of_several_pictures_is_refused(source, roots):
    path = source / "screw/train/good/pages.tif"
    noise(1).save(path, save_all=True, append_images=[noise(2)])
    with pytest.raises(CommandError, match=r"screw/train/good/pages.tif: has 2 pictures in one file."):
        hide(source)


# --- Masks ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("made", "scaled"),
    [
        (mask(high=1), True),
        (mask(), False),
        (mask(high=1, mode="1"), False),
        (mask(high=65535, mode="I;16"), False),
        (mask(high=(255, 255, 255), mode="RGB"), False),
        (mask(high=1, mode="P"), True),
    ],
)
def test_masks_become_grey_of_0_and_255(made, scaled):
    if made.mode == "P":
        made.putpalette([0, 0, 0, 1, 1, 1])
    raw = io.BytesIO()
    made.save(raw, "PNG")
    read = read_mask(raw.getvalue())
    picture = Image.open(io.BytesIO(read.png))
    assert (picture.mode, picture.tobytes()) == ("L", mask().tobytes())
    assert (read.width, read.height, read.was_scaled) == (6, 5, scaled)


@pytest.mark.parametrize(
    ("made", "why"),
    [
        (mask(marked=0), "marks no pixel as defective"),
        (mask(high=2), "has the values 0, 2; a mask has 0 and 255, or 0 and 1"),
        (noise(1, "L"), "has the values 31, 38, 45, 52, 59, ...; a mask has 0 and 255, or 0 and 1"),
        (mask(high=(255, 0, 0), mode="RGB"), "has colours or transparency; a mask is grey"),
    ],
)
def test_masks_that_cannot_be_scored_are_refused(made, why):
    raw = io.BytesIO()
    made.save(raw, "PNG")
    with pytest.raises(BadMask) as refused:
        read_mask(raw.getvalue())
    assert str(refused.value) == why


def test_a_mask_that_is_cut_off_is_refused_by_name(source, roots):
    path = source / "screw/ground_truth/crack/001_mask.png"
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(CommandError, match=r"screw/ground_truth/crack/001_mask.png: (is no PNG|cannot be read)"):
        hide(source)


def test_the_command_says_how_many_masks_it_scaled(source, roots):
    for path in (source / "screw/ground_truth/crack").iterdir():
        Image.open(path).point(lambda value: value // 255).save(path)
    assert "Masks of 0 and 1, written as masks of 0 and 255: 3." in hide(source)
    assert {max(Image.open(path).tobytes()) for path in (roots[1] / "masks").rglob("*.png")} == {255}


# --- Dry run, room on the disk --------------------------------------------------------------------------------------
def test_a_dry_run_counts_everything_and_writes_nothing(source, roots):
    told = hide(source, "--dry-run")
    assert "  bottle: 3 crack, 3 good\n  screw: 3 crack, 3 good\n" in told
    assert told.splitlines()[0] == f"2 categories: 8 images to learn from and 12 to test in {roots[0]}"
    assert "Nothing was written (--dry-run)." in told
    assert not any(root.parent.exists() for root in roots)


def test_a_disk_without_room_is_refused_before_anything_is_written(source, roots, monkeypatch):
    usage = type(hiding.shutil.disk_usage("/"))
    monkeypatch.setattr(hiding.shutil, "disk_usage", lambda path: usage(10**9, 10**9, 4096))
    with pytest.raises(CommandError, match=r"has 4 KiB free; [1-9]\d+ KiB are needed there"):
        hide(source)
    assert not any(root.parent.exists() for root in roots)


# --- Made again under the same names ----------------------------------------------------------------------------------
def test_a_corrected_mask_changes_that_mask_alone(source, roots, tmp_path):
    hide(source)
    data, labels = roots
    images, before = contents(data), contents(labels)
    times = {path: path.stat().st_ino for path in data.rglob("*")}
    save(source / "screw/ground_truth/crack/001_mask.png", mask(marked=6))
    told = hide(source, "--regenerate")
    name = mapping(labels)["screw/test/crack/001.png"].replace("/test/", "/")
    assert {path for path, content in contents(labels).items() if content != before[path]} == {f"masks/{name}"}
    assert contents(data) == images
    assert {path: path.stat().st_ino for path in data.rglob("*")} == times
    assert "Different from before, test images and masks: masks 1." in told
    assert "Nothing is different: both folders stay as they are." in hide(source, "--regenerate")


def test_an_image_of_another_kind_keeps_its_name(source, roots):
    hide(source)
    data, labels = roots
    images, name = contents(data), mapping(labels)["screw/test/crack/001.png"]
    (source / "screw/test/crack/001.png").rename(source / "screw/test/good/777.png")
    (source / "screw/ground_truth/crack/001_mask.png").unlink()
    told = hide(source, "--regenerate")
    assert "of another kind 1, masks 1." in told
    assert (label_rows(labels)[name]["kind"], label_rows(labels)[name]["mask"]) == ("good", "")
    assert contents(data) == images
    assert not (labels / "masks" / name.replace("/test/", "/")).exists()


def test_added_and_removed_images_leave_the_others_names(source, roots):
    hide(source)
    data, labels = roots
    before = mapping(labels)
    gone = before["screw/test/good/002.png"]
    (source / "screw/test/good/002.png").unlink()
    save(source / "screw/test/good/003.png", noise(200))
    told = hide(source, "--regenerate")
    after = mapping(labels)
    assert after["screw/test/good/003.png"] == "screw/test/0007.png"
    assert {path: name for path, name in after.items() if path in before} == before
    assert (gone in label_rows(labels), (data / gone).exists()) == (False, False)
    assert "added 1, removed 1." in told
    assert "Participants can tell added images from the others by their numbers." in told


def test_folders_of_an_earlier_version_get_their_names_from_the_images(source, roots):
    hide(source)
    labels = roots[1]
    before = mapping(labels)
    mapping_of(labels).unlink()
    assert "Nothing is different" in hide(source, "--regenerate", "--dry-run")
    save(source / "screw/ground_truth/crack/000_mask.png", mask(marked=6))
    hide(source, "--regenerate")
    assert mapping(labels) == before


def test_a_run_that_is_cut_off_between_the_folders_can_be_repeated(source, roots, monkeypatch):
    hide(source)
    data, labels = roots
    save(source / "screw/test/crack/000.png", noise(210))
    with monkeypatch.context() as patch:
        patch.setattr(hiding, "exchange", lambda new, old: 1 / 0 if old == data else one_pass.exchange(new, old))
        with pytest.raises(ZeroDivisionError):
            write_split(plan_split(source, data, labels, is_again=True))
    assert not [path for path in (*data.parent.iterdir(), *labels.parent.iterdir()) if path.name.startswith(".parts-")]
    hide(source, "--regenerate")
    shown = Image.open(data / mapping(labels)["screw/test/crack/000.png"])
    assert shown.tobytes() == noise(210).tobytes()


def test_there_must_be_something_to_make_again(source, roots):
    with pytest.raises(CommandError, match="There is nothing to make again"):
        hide(source, "--regenerate")


def test_names_are_private_and_do_not_count_for_the_labels(source, roots, tmp_path):
    hide(source)
    labels = roots[1]
    assert mapping_of(labels).stat().st_mode & 0o777 == 0o600
    before = digest(labels)
    (source / "screw/test/crack/001.png").rename(source / "screw/test/crack/renamed.png")
    (source / "screw/ground_truth/crack/001_mask.png").rename(source / "screw/ground_truth/crack/renamed_mask.png")
    hide(source, "--regenerate")
    assert digest(labels) == before


def test_images_with_the_same_content_keep_their_own_names():
    known = [SourceRow("a/test/0001.png", "x", "s"), SourceRow("a/test/0002.png", "y", "s")]
    assert numbers_of("a", [("y", "s"), ("x", "s")], known) == ({"y": 2, "x": 1}, [])
    assert numbers_of("a", [("z", "s"), ("x", "s")], known) == ({"x": 1, "z": 2}, [])
    assert numbers_of("a", [("x", "t"), ("new", "u")], known) == ({"x": 1, "new": 3}, ["new"])
