"""Hidden labels and file metadata: neither a run's nor the host's view of a data set tells defective images from good ones."""

import io
import itertools
import json
import os
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.core.files.storage import storages
from django.core.management import call_command

from jobs.inventory import Inventory
from jobs.tests.factories import WorkerFactory
from leaderboard_site.doctor.findings import Found
from leaderboard_site.doctor.scoring import _digest, scoring
from leaderboard_site.management.commands import quickstart
from leaderboard_site.management.commands.quickstart import HIDDEN_SLUG
from leaderboards import hiding, one_pass
from leaderboards.hiding import hide_labels, leak_of
from leaderboards.tests.factories import LeaderboardFactory
from leaderboards.traces import CLEAR, separation
from tests.attacks.playing import Play, in_one_executor

from .file_traces import (
    LOOK,
    addresses,
    assert_nothing_tells,
    defective,
    hide_with_masks_between,
    images_of,
    make_source,
    one_shuffle,
    seen_on_host,
)

_HASH_SEED = "6c656164-6572-626f-6172-647368617368"


def pictures_to_test(data: Path) -> list[str]:
    return sorted(str(path.relative_to(data)) for path in data.glob("*/test/*"))


# --- The host's view ------------------------------------------------------------------------------------------------
@pytest.fixture
def source(tmp_path: Path) -> Path:
    return make_source(tmp_path / "source")


def rewritten(source: Path, data: Path, labels: Path) -> None:
    hide_with_masks_between(source, data, labels)
    one_pass.rewrite(data, labels)


def rewritten_twice(source: Path, data: Path, labels: Path) -> None:
    """The second copies may lie where the first files lay."""
    rewritten(source, data, labels)
    one_pass.rewrite(data, labels)


def regenerated(source: Path, data: Path, labels: Path) -> None:
    """A mask was corrected and an image to learn from was added: both folders are written anew."""
    hide_labels(source, data, labels)
    mask = min(source.glob("screw/ground_truth/crack/*.png"))
    mask.write_bytes(mask.read_bytes() + b"corrected")
    shutil.copy(source / "screw/train/good/000.png", source / "screw/train/good/900.png")
    made = hide_labels(source, data, labels, regenerate=True)
    assert made.written == [str(data), str(labels)]


def relabelled(source: Path, data: Path, labels: Path) -> None:
    """Only labels were corrected: the data set is not touched."""
    hide_labels(source, data, labels)
    for mask in sorted(source.glob("*/ground_truth/crack/*.png"))[:10]:
        mask.write_bytes(mask.read_bytes() + b"corrected")
    made = hide_labels(source, data, labels, regenerate=True)
    assert made.written == [str(labels)]


ways = pytest.mark.parametrize("make", [hide_labels, rewritten, rewritten_twice, regenerated, relabelled])


@ways
def test_nothing_on_the_host_tells_the_labels(source: Path, tmp_path: Path, make: Callable[..., Any]) -> None:
    data, labels = tmp_path / "data" / "parts", tmp_path / "truth" / "parts"
    make(source, data, labels)
    seen = seen_on_host(data, pictures_to_test(data))
    assert_nothing_tells(seen, defective(labels))
    assert leak_of(data, labels) == ""
    every = [data, *data.rglob("*")]
    assert {(path.stat().st_mtime_ns, path.stat().st_atime_ns) for path in every if path.is_file()} == {(0, 0)}
    assert {path.stat().st_mtime_ns for path in every} == {0}
    assert {path.stat().st_nlink for path in [*data.rglob("*"), *labels.rglob("*")] if path.is_file()} == {1}
    assert not [path for path in every if os.listxattr(path)]
    if any("address" not in shown for shown in seen.values()):
        pytest.skip("NOTHING WAS PROVEN OF ADDRESSES ON THE DISK: this file system has no FS_IOC_FIEMAP")


def test_layout_with_masks_between_images_is_found(source: Path, tmp_path: Path) -> None:
    data, labels = tmp_path / "data" / "parts", tmp_path / "truth" / "parts"
    hide_with_masks_between(source, data, labels)
    assert "masks lie between the images" in leak_of(data, labels)
    with pytest.raises(AssertionError):
        assert_nothing_tells(seen_on_host(data, pictures_to_test(data)), defective(labels))
    # Also when the masks have gone elsewhere since.
    one_pass.rewrite(labels)
    assert "tells defective images from good ones" in leak_of(data, labels)


# --- The same pictures with the labels exchanged --------------------------------------------------------------------
@pytest.fixture
def own_file_system(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """Make an ext4 file system for a name, alike for each name. On a shared one, other files lie in between."""
    if os.geteuid() != 0:
        pytest.skip("NOTHING WAS PROVEN OF THE ORDER ON THE DISK: only root may mount a file system for this")
    places = []

    def make(name: str) -> Path:
        image, place = tmp_path / f"{name}.img", tmp_path / name
        with image.open("wb") as file:
            file.truncate(64 * 1024**2)
        options = f"lazy_itable_init=0,lazy_journal_init=0,hash_seed={_HASH_SEED}"
        subprocess.run(["mkfs.ext4", "-q", "-E", options, "-U", _HASH_SEED, image], check=True)
        place.mkdir()
        mounted = subprocess.run(["mount", "-o", "loop", image, place], capture_output=True, text=True, check=False)
        if mounted.returncode:
            pytest.skip(f"NOTHING WAS PROVEN OF THE ORDER ON THE DISK: no loop mount here: {mounted.stderr.strip()}")
        places.append(place)
        return place

    processors = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(processors)})  # ext4 gives each processor a region of its own for small files
    yield make
    os.sched_setaffinity(0, processors)
    for place in places:
        subprocess.run(["umount", place], check=True)


def layout(data: Path) -> dict[str, Any]:
    """Return every order and gap of all files and folders by which the file system could tell something."""
    paths = sorted(data.rglob("*"), key=os.fsencode)
    shown = {
        str(path.relative_to(data)): one
        for path, one in zip(paths, seen_on_host(data, map(str, paths)).values(), strict=True)
    }
    files = [name for name in shown if (data / name).is_file()]
    extents = {name: addresses(data / name) for name in files}
    found: dict[str, Any] = {
        f"order by {key}": sorted(shown, key=lambda name: (shown[name][key], os.fsencode(name)))
        for key in (
            "inode number",
            "change time",
            "birth time",
            "modification time",
            "access time",
            "blocks",
            "links",
            "mode",
        )
    }
    found |= {
        f"each {key}": {name: shown[name][key] for name in shown} for key in ("blocks", "links", "modification time")
    }
    found["gaps between inode numbers"] = gaps([shown[name]["inode number"] for name in files])
    assert all(extents.values())
    found["order by address"] = sorted(files, key=lambda name: extents[name])  # type: ignore[arg-type,return-value]
    found["gaps between addresses"] = gaps([place for name in files for place, _ in extents[name] or ()])
    found["listings"] = {
        str(folder.relative_to(data)): os.listdir(folder) for folder in [data, *paths] if folder.is_dir()
    }
    return found


def gaps(values: list[int]) -> list[int]:
    return [later - earlier for earlier, later in itertools.pairwise(values)]


def both_ways(own_file_system: Any, tmp_path: Path, make: Callable[..., Any]) -> list[dict[str, Any]]:
    found = []
    for exchanged in (False, True):
        source = make_source(tmp_path / f"source-{exchanged}", exchanged=exchanged)
        place = own_file_system(f"disk-{exchanged}")
        make(source, place / "data" / "parts", place / "truth" / "parts")
        os.sync()
        found.append(layout(place / "data" / "parts"))
    return found


@ways
def test_exchanged_labels_leave_the_same_layout(
    own_file_system: Any, tmp_path: Path, make: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hiding, "_shuffled", one_shuffle)
    one, other = both_ways(own_file_system, tmp_path, make)
    for what in one:
        assert one[what] == other[what], what


def test_exchanged_labels_show_in_a_layout_with_masks_between(own_file_system: Any, tmp_path: Path) -> None:
    one, other = both_ways(own_file_system, tmp_path, hide_with_masks_between)
    assert {what for what in one if one[what] != other[what]} >= {
        "gaps between inode numbers",
        "gaps between addresses",
    }


# --- A data set that is there already -------------------------------------------------------------------------------
def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def old_board(settings: Any, tmp_path: Path, source: Path) -> tuple[Path, Path]:
    """Make data set and labels as an earlier version wrote them for the demonstration's hidden board."""
    settings.DATASET_ROOT, settings.GROUND_TRUTH_ROOT = tmp_path / "data", tmp_path / "truth"
    (tmp_path / "truth").mkdir(mode=0o700)
    data, labels = (root / HIDDEN_SLUG for root in (settings.DATASET_ROOT, settings.GROUND_TRUTH_ROOT))
    hide_with_masks_between(source, data, labels)
    return data, labels


def doctors_word() -> list[tuple[str, str, str]]:
    """Return what `doctor` finds once a worker has announced its labels."""
    Inventory(WorkerFactory().pk).refresh()
    report = Found("scoring")
    scoring(report)
    return [(finding.state, finding.what, finding.mend) for finding in report.findings]


@pytest.mark.django_db
def test_doctor_names_the_command_that_mends(old_board: tuple[Path, Path]) -> None:
    LeaderboardFactory(
        dataset=HIDDEN_SLUG, scorer="classification", ground_truth=HIDDEN_SLUG, metrics=[{"name": "accuracy"}]
    )
    before = [contents(folder) for folder in old_board]
    ((state, what, mend),) = doctors_word()
    assert state == "wrong" and "file metadata of the data set tells runs the labels" in what
    assert mend == f"manage.py rewrite_dataset {HIDDEN_SLUG} {HIDDEN_SLUG}"
    call_command(*mend.split()[1:], stdout=io.StringIO())
    assert [state for state, _, _ in doctors_word()] == ["ok"]
    assert [contents(folder) for folder in old_board] == before
    assert not [path for folder in old_board for path in folder.parent.iterdir() if path.name.startswith(".")]


@pytest.mark.django_db
def test_doctor_has_nothing_against_a_new_one_or_a_copy(settings: Any, tmp_path: Path, source: Path) -> None:
    settings.DATASET_ROOT, settings.GROUND_TRUTH_ROOT = tmp_path / "data", tmp_path / "truth"
    hide_labels(source, tmp_path / "data" / "parts", tmp_path / "truth" / "parts")
    board = LeaderboardFactory(
        dataset="parts", scorer="classification", ground_truth="parts", metrics=[{"name": "accuracy"}]
    )
    assert [state for state, _, _ in doctors_word()] == ["ok"]
    for root in ("data", "truth"):  # as one takes it to another worker
        subprocess.run(["cp", "-a", tmp_path / root / "parts", tmp_path / root / "copy"], check=True)
    board.dataset = board.ground_truth = "copy"
    board.save()
    assert [state for state, _, _ in doctors_word()] == ["ok"]


def test_doctor_leaves_no_access_time_on_what_it_compares(tmp_path: Path) -> None:
    """A file of a mask's size is compared with the mask, and a new access time would show that."""
    (tmp_path / "image").write_bytes(b"x")
    os.utime(tmp_path / "image", (0, 0))
    _digest(tmp_path / "image")
    assert (tmp_path / "image").stat().st_atime == 0


@pytest.mark.django_db
def test_demonstration_of_an_earlier_version_is_mended(old_board: tuple[Path, Path]) -> None:
    data, labels = old_board
    before = [contents(folder) for folder in old_board]
    quickstart.Command()._make_boards()
    assert leak_of(data, labels) == ""
    assert [contents(folder) for folder in old_board] == before
    written = data.stat().st_ctime_ns
    quickstart.Command()._make_boards()
    assert data.stat().st_ctime_ns == written


def test_every_file_is_there_while_a_data_set_is_rewritten(old_board: tuple[Path, Path]) -> None:
    """A run that has the data set mounted reads on: by name, in an open folder, and in an open file."""
    data, labels = old_board
    before = contents(data)
    is_done = threading.Event()
    wrong: list[object] = []

    def read() -> None:
        folder = os.open(data / "screw" / "test", os.O_RDONLY)
        with (data / "screw" / "test" / "0001.png").open("rb") as held:
            while not is_done.is_set():
                try:
                    wrong.extend(name for name, content in before.items() if (data / name).read_bytes() != content)
                    wrong.extend({"0001.png", "0120.png"} - set(os.listdir(folder)))
                except OSError as error:
                    wrong.append(error)
            wrong.extend([] if held.read() == before["screw/test/0001.png"] else ["the open file"])
        os.close(folder)

    thread = threading.Thread(target=read)
    thread.start()
    for _ in range(3):
        one_pass.rewrite(data, labels)
    is_done.set()
    thread.join()
    assert not wrong


def test_rewriting_that_breaks_off_loses_nothing(old_board: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    data, labels = old_board
    before = [contents(folder) for folder in old_board]
    rename, count = Path.rename, iter(range(100))

    def full(path: Path, target: Path) -> Path:
        if next(count) == 50:
            raise OSError("the disk is gone")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", full)
    with pytest.raises(OSError, match="the disk is gone"):
        one_pass.rewrite(data, labels)
    monkeypatch.undo()
    assert [contents(folder) for folder in old_board] == before
    assert not [path for folder in old_board for path in folder.parent.iterdir() if path.name.startswith(".")]
    one_pass.rewrite(data, labels)
    assert leak_of(data, labels) == ""


def test_rewriting_refuses_links(old_board: tuple[Path, Path]) -> None:
    (old_board[0] / "screw" / "link").symlink_to("test")
    with pytest.raises(one_pass.UnusualFile, match=r"screw/link is not a regular file"):
        one_pass.rewrite(*old_board)


def test_files_can_be_read_by_runs_whatever_the_umask(source: Path, tmp_path: Path) -> None:
    umask = os.umask(0o077)
    try:
        hide_labels(source, tmp_path / "data" / "parts", tmp_path / "truth" / "parts")
    finally:
        os.umask(umask)
    every = [tmp_path / "data" / "parts", *(tmp_path / "data" / "parts").rglob("*")]
    assert {path.stat().st_mode & 0o777 for path in every} == {0o644, 0o755}


# --- A run's view ---------------------------------------------------------------------------------------------------
def looked(play: Play, make: Callable[..., Any]) -> tuple[str, dict[str, dict[str, int]], dict[str, bool]]:
    """Return the log of a run that collects the metadata of a hidden board's files, what it saw, and the labels."""
    make(make_source(play.folder / "source"), play.data / "parts", play.truth / "parts")
    play.board.dataset = play.board.ground_truth = "parts"
    play.board.save(update_fields=["dataset", "ground_truth"])
    play.own_scorer("leave_metrics(accuracy=0.5)")
    job = play.run(LOOK)
    assert job.status == "completed", job.error_message
    (name,) = [item["name"] for item in job.artifacts if item["path"] == "predictions/seen.json"]
    with storages["artifacts"].open(job.log_name) as log, storages["artifacts"].open(name) as file:
        return log.read().decode(), json.load(file), defective(play.truth / "parts")


@pytest.mark.django_db
def test_run_learns_nothing_of_the_labels_from_metadata(play: Play) -> None:
    log, seen, labels = looked(play, hide_labels)
    assert "held FS_IOC_FIEMAP" in log and "OPEN" not in log, log
    assert_nothing_tells(seen, labels)
    # A run leaves no message for the next one either: the mount is read-only, so reading changes no access time.
    assert {(play.data / "parts" / name).stat().st_atime_ns for name in seen} == {0}


@in_one_executor
@pytest.mark.django_db
def test_run_would_have_learned_the_labels_of_masks_between_images(play: Play) -> None:
    _, seen, labels = looked(play, hide_with_masks_between)
    images = images_of(seen, labels)
    with pytest.raises(AssertionError):
        assert_nothing_tells(seen, labels)
    assert all(image.shown["change time"] for image in images)


# --- The measure itself ---------------------------------------------------------------------------------------------
def test_measure_knows_a_perfect_sign_from_none() -> None:
    labels = [True, False] * 50
    auc, deviations = separation([[(int(kind), kind) for kind in labels]])
    assert auc == 1 and deviations > CLEAR
    assert separation([[(7, kind) for kind in labels]]) == (0.5, 0.0)
    assert separation([[(1, True)], []]) == (0.5, 0.0)
    auc, deviations = separation([[(number, kind) for number, kind in enumerate(labels)]])
    assert abs(auc - 0.5) < 0.02 and abs(deviations) < 1
