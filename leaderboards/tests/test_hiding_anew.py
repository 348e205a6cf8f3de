"""Making hidden labels anew after a correction: images keep their names, and only what was corrected changes."""

import csv
import hashlib
import io
import os
import shutil

import pytest
from django.core.management import CommandError, call_command

from core.folder_digest import FolderDigests, read_without_a_trace
from leaderboards.hiding import CannotHide, Changes, hide_labels, install, journal_of, leak_of, place_of_sources
from leaderboards.hiding import plan as planning
from leaderboards.pictures import without_metadata
from leaderboards.tests.made_pictures import make_parts, png
from leaderboards.traces import shown_by


@pytest.fixture
def source(tmp_path):
    return make_parts(tmp_path / "source")


@pytest.fixture
def targets(tmp_path, source):
    """Return data set and labels, made of the source. One mask has the values 0 and 1."""
    (source / "screw" / "ground_truth" / "dent" / "003_mask.png").write_bytes(png(1))
    data, labels = tmp_path / "datasets" / "parts", tmp_path / "truth" / "parts"
    hide_labels(source, data, labels)
    return data, labels


def contents(folder):
    return {
        path.relative_to(folder).as_posix(): read_without_a_trace(path) for path in folder.rglob("*") if path.is_file()
    }


def states(folder):
    """Return everything by which the file system could tell that a file was written."""
    return {path: shown_by(path) | {"access time": 0} for path in folder.rglob("*") if path.is_file()}


def table(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def name_of(targets, file):
    (row,) = [row for row in table(place_of_sources(targets[1])) if row["source"] == file]
    return row["image"]


def anew(source, targets, **options):
    return hide_labels(source, *targets, regenerate=True, **options)


def different(before, after):
    return {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}


def test_sources_say_which_file_each_name_stands_for(source, targets):
    data, labels = targets
    place = place_of_sources(labels)
    assert (place.parent, place.name, place.stat().st_mode & 0o777) == (labels.parent, "parts.sources.csv", 0o600)
    rows = table(place)
    assert len(rows) == 26 and {row["present"] for row in rows} == {"1"}
    for row in rows:
        raw = (source / row["source"]).read_bytes()
        assert row["source_sha256"] == hashlib.sha256(raw).hexdigest()
        assert row["sha256"] == hashlib.sha256((data / row["image"]).read_bytes()).hexdigest()
        assert (data / row["image"]).read_bytes() == without_metadata(raw)
        assert row["source"].split("/")[2] == row["kind"]
        mask = (source / row["mask_source"]).read_bytes() if row["kind"] != "good" else None
        assert row["mask_sha256"] == (hashlib.sha256(mask).hexdigest() if mask else "")
    assert {path.name for path in labels.iterdir()} == {"labels.csv", "masks"}


def test_corrected_mask_changes_that_mask_alone(source, targets):
    data, labels = targets
    mask = source / "screw" / "ground_truth" / "crack" / "002_mask.png"
    image = name_of(targets, "screw/test/crack/002.png")
    corrected = png(255, text=b"corrected")
    mask.write_bytes(corrected)
    before, touched, digests = contents(labels), states(data), FolderDigests(source.parent / "digests")
    first = digests.state(labels).digest
    made = anew(source, targets)
    assert made.changes == Changes(masks=[image])
    place = f"masks/screw/{image[-8:]}"
    assert different(before, contents(labels)) == {place}
    assert contents(labels)[place] == corrected
    # Nothing of the data set tells that an image was corrected.
    assert states(data) == touched
    assert {path.stat().st_atime_ns for path in data.rglob("*") if path.is_file()} == {0}
    assert made.written == [str(labels)]
    assert leak_of(data, labels) == ""
    assert digests.state(labels).digest != first


def test_source_that_stays_changes_nothing(source, targets):
    touched = [states(folder) for folder in targets]
    # A mask that was written anew stays as it is: another zlib could pack it in another way.
    mask = next((targets[1] / "masks").rglob("*.png"))
    made = anew(source, targets)
    assert (made.changes, made.written) == (Changes(), [])
    assert [states(folder) for folder in targets] == touched
    assert mask.is_file()


def test_renamed_files_keep_their_names_and_the_labels_their_digest(source, targets):
    os.rename(source / "screw/test/dent/000.png", source / "screw/test/dent/900.png")
    os.rename(source / "screw/ground_truth/dent/000_mask.png", source / "screw/ground_truth/dent/900_mask.png")
    image = name_of(targets, "screw/test/dent/000.png")
    touched = [states(folder) for folder in targets]
    assert anew(source, targets).changes == Changes()
    assert name_of(targets, "screw/test/dent/900.png") == image
    assert [states(folder) for folder in targets] == touched


def test_image_that_moves_to_another_kind_keeps_its_name(source, targets):
    """The next image takes the path that it leaves: content goes before paths."""
    moved, follows = (name_of(targets, f"screw/test/dent/00{number}.png") for number in (0, 1))
    os.rename(source / "screw/test/dent/000.png", source / "screw/test/good/900.png")
    os.unlink(source / "screw/ground_truth/dent/000_mask.png")
    for folder, end in (("test", ".png"), ("ground_truth", "_mask.png")):
        os.rename(source / f"screw/{folder}/dent/001{end}", source / f"screw/{folder}/dent/000{end}")
    touched = states(targets[0])
    made = anew(source, targets)
    assert made.changes == Changes(relabelled=[moved])
    assert (name_of(targets, "screw/test/good/900.png"), name_of(targets, "screw/test/dent/000.png")) == (
        moved,
        follows,
    )
    (row,) = [row for row in table(targets[1] / "labels.csv") if row["image"] == moved]
    assert (row["kind"], row["defect"], row["mask"]) == ("good", "0", "")
    assert states(targets[0]) == touched


def test_new_images_get_new_names_and_old_names_are_not_given_twice(source, targets):
    last = name_of(targets, "screw/test/dent/003.png")
    (row,) = [row for row in table(place_of_sources(targets[1])) if row["image"] == "screw/test/0013.png"]
    mask = row["mask_source"]
    raw = (source / row["source"]).read_bytes(), (source / mask).read_bytes() if mask else b""
    os.unlink(source / row["source"])
    if mask:
        os.unlink(source / mask)
    (source / "screw/test/good/900.png").write_bytes(png(201))
    (source / "screw/train/good/900.png").write_bytes(png(202))
    made = anew(source, targets)
    assert made.changes == Changes(
        added=["screw/test/0014.png"], removed=["screw/test/0013.png"], other=["screw/train/good/900.png"]
    )
    assert made.written == [str(target) for target in targets]
    assert {path.stat().st_mtime_ns for path in targets[0].rglob("*")} == {0}
    # An image that comes back has its old name.
    (source / row["source"]).write_bytes(raw[0])
    if mask:
        (source / mask).write_bytes(raw[1])
    assert anew(source, targets).changes == Changes(added=["screw/test/0013.png"])
    assert last in {row["image"] for row in table(targets[1] / "labels.csv")}


def test_image_with_other_pixels_keeps_its_name(source, targets):
    image = name_of(targets, "screw/test/good/000.png")
    (source / "screw/test/good/000.png").write_bytes(png(203))
    before = contents(targets[0])
    assert anew(source, targets).changes == Changes(replaced=[image])
    assert different(before, contents(targets[0])) == {image}


def test_link_to_a_data_set_elsewhere_stays(source, targets):
    data = targets[0]
    data.rename(source.parent / "elsewhere")
    data.symlink_to(source.parent / "elsewhere")
    image = name_of(targets, "screw/test/good/000.png")
    (source / "screw/test/good/000.png").write_bytes(png(203))
    assert anew(source, targets).written == [str(source.parent / "elsewhere")]
    assert data.is_symlink() and (data / image).read_bytes() == png(203)


def test_names_of_an_earlier_version_are_found_by_the_pixels(source, targets):
    """Earlier versions kept no table of sources."""
    image = name_of(targets, "screw/test/crack/002.png")
    kept = table(place_of_sources(targets[1]))
    place_of_sources(targets[1]).unlink()
    (source / "screw/ground_truth/crack/002_mask.png").write_bytes(png(255, text=b"corrected"))
    assert anew(source, targets).changes.masks == [image]
    assert [row["source"] for row in table(place_of_sources(targets[1]))] == [row["source"] for row in kept]


def test_lost_folders_come_back_with_the_same_names(source, targets):
    before = [contents(folder) for folder in targets]
    for folder in targets:
        shutil.rmtree(folder)
    with pytest.raises(CannotHide, match=r"sources\.csv is there already"):
        hide_labels(source, *targets)
    anew(source, targets)
    assert [set(contents(folder)) for folder in targets] == [set(files) for files in before]
    assert contents(targets[0]) == before[0]


@pytest.mark.parametrize(
    ("breaking", "told"),
    [
        (lambda source, data, labels: [shutil.rmtree(data), shutil.rmtree(labels), place_of_sources(labels).unlink()],
         "no names to keep. Run without --regenerate"),
        (lambda source, data, labels: place_of_sources(labels).write_text("image,kind\na,b\n"), "is not the table"),
        (lambda source, data, labels: [path.write_bytes(png(250 - n)) for n, path in
                                       enumerate(sorted(source.glob("*/test/*/*.png")))],
         "it is another data set"),
        (lambda source, data, labels: [place_of_sources(labels).unlink(), (data / "screw/test/0001.png").unlink()],
         "without it .*0001.png must be read"),
    ],
)  # fmt: skip
def test_what_cannot_be_made_anew_is_refused(source, targets, breaking, told):
    breaking(source, *targets)
    before = [states(folder.parent) for folder in targets]
    with pytest.raises(CannotHide, match=told):
        anew(source, targets)
    assert [states(folder.parent) for folder in targets] == before


def test_dry_run_says_what_would_change(source, targets, settings):
    settings.DATASET_ROOT, settings.GROUND_TRUTH_ROOT = (target.parent for target in targets)
    (source / "screw/ground_truth/crack/002_mask.png").write_bytes(png(255, text=b"corrected"))
    before = [states(folder.parent) for folder in targets]
    out = io.StringIO()
    call_command("hide_labels", source, "parts", "--regenerate", "--dry-run", stdout=out, stderr=io.StringIO())
    image = name_of(targets, "screw/test/crack/002.png")
    assert f"Images with another mask: 1, {image}\nWould be written anew: {targets[1]}\n" in out.getvalue()
    assert [states(folder.parent) for folder in targets] == before


def test_space_is_needed_for_what_changes_alone(source, targets, monkeypatch):
    """A corrected mask of a large data set needs no room for the data set."""
    (source / "screw/ground_truth/crack/002_mask.png").write_bytes(png(255, text=b"corrected"))
    (space,) = anew(source, targets, dry_run=True).space
    assert space.folders == [str(targets[1])]

    class State:
        f_bavail, f_frsize = 1, 4096

    monkeypatch.setattr(planning.os, "statvfs", lambda place: State)
    with pytest.raises(CannotHide, match=rf"Not enough free space. {targets[1]}: \d+ KiB needed, [\d.]+ (KiB|B) free"):
        anew(source, targets)
    assert hidden_names(targets) == set()


# --- Interruptions --------------------------------------------------------------------------------------------------
def correct(source):
    """Change both folders."""
    (source / "screw/ground_truth/crack/002_mask.png").write_bytes(png(255, text=b"corrected"))
    (source / "screw/test/good/000.png").write_bytes(png(203))


def hidden_names(targets):
    return {path.name for target in targets for path in target.parent.iterdir() if path.name.startswith(".")}


def test_old_folders_are_kept_until_the_next_time(source, targets):
    before = [contents(folder) for folder in targets]
    correct(source)
    made = anew(source, targets)
    assert made.previous == [str(target.with_name(".parts.previous")) for target in targets]
    assert [contents(target.with_name(".parts.previous")) for target in targets] == before
    (source / "screw/test/good/000.png").write_bytes(png(204))
    anew(source, targets)
    assert contents(targets[0].with_name(".parts.previous")) != before[0]
    assert hidden_names(targets) == {".parts.previous"}


def test_writing_that_breaks_off_changes_nothing(source, targets, monkeypatch):
    before = [contents(folder) for folder in targets]
    correct(source)

    def stop(what, done, total):
        if what.startswith(f"Writing {targets[1]}") and done == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        anew(source, targets, report=stop)
    assert [contents(folder) for folder in targets] == before
    assert hidden_names(targets) == set()


def break_off(source, targets, patch, names, step, of=install):
    """Make it anew, and break off before one of the steps that these functions are."""
    steps = iter(range(100))

    def breaking(do):
        def instead(*given):
            if next(steps) == step:
                raise OSError("the power is gone")
            return do(*given)

        return instead

    for name in names:
        patch.setattr(of, name, breaking(getattr(of, name)))
    with pytest.raises(OSError, match="the power is gone"):
        anew(source, targets)


def assert_next_run_finishes(source, targets):
    anew(source, targets)
    assert not journal_of(targets[1]).exists()
    assert hidden_names(targets) == {".parts.previous"}
    assert anew(source, targets).changes == Changes()
    assert leak_of(*targets) == ""


@pytest.mark.parametrize("step", range(12))
def test_exchange_that_breaks_off_is_finished_by_the_next_run(source, targets, monkeypatch, step):
    correct(source)
    with monkeypatch.context() as patch:
        break_off(source, targets, patch, ("_sync", "_swap", "_remove", "_exchange"), step)
    assert_next_run_finishes(source, targets)


@pytest.mark.parametrize("step", range(4))
def test_exchange_by_two_renames_is_finished_too(source, targets, monkeypatch, step):
    """Not every file system exchanges two folders in one step."""
    correct(source)
    with monkeypatch.context() as patch:
        patch.setattr(install.ctypes, "CDLL", lambda *given, **options: None)
        break_off(source, targets, patch, ("rename",), step, of=install.Path)
    assert_next_run_finishes(source, targets)


def test_command_says_how_an_exchange_is_finished(source, targets, settings, monkeypatch):
    settings.DATASET_ROOT, settings.GROUND_TRUTH_ROOT = (target.parent for target in targets)
    correct(source)
    err = io.StringIO()
    with monkeypatch.context() as patch:
        patch.setattr(install, "_swap", lambda place: (_ for _ in ()).throw(OSError("the power is gone")))
        with pytest.raises(CommandError, match="the power is gone"):
            call_command("hide_labels", source, "parts", "--regenerate", stdout=io.StringIO(), stderr=err)
    assert "The same command with --regenerate finishes that first." in err.getvalue()
    for option, told in (
        ((), "--regenerate finishes it"),
        (("--regenerate", "--dry-run"), "without --dry-run finishes it"),
    ):
        with pytest.raises(CommandError, match=told):
            call_command("hide_labels", source, "parts", *option, stdout=io.StringIO(), stderr=io.StringIO())
    out = io.StringIO()
    call_command("hide_labels", source, "parts", "--regenerate", stdout=out, stderr=io.StringIO())
    assert "Nothing changed: both folders are as the source says." in out.getvalue()


def test_two_commands_at_once_are_refused(source, targets):
    with install.alone(targets[1]), pytest.raises(CannotHide, match="Another hide_labels is at work"):
        anew(source, targets)
