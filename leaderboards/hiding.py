"""Splitting data in the layout of MVTec AD: what participants' runs may read, and the labels that they may not.

    from   CATEGORY/train/good/*   CATEGORY/test/{good,KIND}/*   CATEGORY/ground_truth/KIND/*_mask.png
    data   CATEGORY/train/good/*   CATEGORY/test/0001.png ...
    labels labels.csv              masks/CATEGORY/0001.png ...

Test images get neutral names in a random order, equal times, and lose the metadata in the files, all of which could tell
the kind of a defect. What their pixels tell stays: the images themselves must never have been published with labels.
"""

import csv
import os
import random
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from leaderboards.pictures import UnknownPicture, picture_size, without_metadata

SUFFIXES = {".png", ".jpg", ".jpeg"}
GOOD = "good"
_COLUMNS = ["image", "kind", "defect", "mask", "height", "width"]


class CannotHide(Exception):
    """The folder is not laid out as it must be, or a target is in the way; the message says what."""


@dataclass(frozen=True)
class Hidden:
    """What was made of each: categories, images to learn from, images to test, masks."""

    categories: int
    train: int
    test: int
    masks: int


@dataclass(frozen=True)
class _Test:
    path: Path
    kind: str
    mask: Path | None


def hide_labels(source: Path, data: Path, labels: Path) -> Hidden:
    """Make the folders `data` and `labels` of `source`; both appear whole or not at all. Raises CannotHide."""
    for target in (data, labels):
        if target.exists():
            raise CannotHide(f"{target} is there already: choose another name, or take it away first.")
    categories = sorted(path.parent.parent for path in source.glob("*/train/good") if path.is_dir())
    if not categories:
        raise CannotHide(f"{source} has no CATEGORY/train/good: it is not laid out as MVTec AD is.")
    tests = {category: list(_tests(category)) for category in categories}
    _refuse_telling_suffixes(tests)
    labels.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    data.parent.mkdir(parents=True, exist_ok=True)
    with _beside(data) as new_data, _beside(labels) as new_labels:
        rows: list[list[object]] = []
        train = 0
        for category in categories:
            train += _copy_train(category, new_data / category.name)
            rows += _split(category, tests[category], new_data / category.name, new_labels)
        for text in [*source.glob("[Ll][Ii][Cc][Ee][Nn][Ss][Ee]*"), *source.glob("*/[Ll][Ii][Cc][Ee][Nn][Ss][Ee]*")]:
            shutil.copyfile(text, new_data / text.relative_to(source))
        with (new_labels / "labels.csv").open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([_COLUMNS, *sorted(rows, key=lambda row: str(row[0]))])
        new_labels.rename(labels)
        new_data.rename(data)
    return Hidden(len(categories), train, len(rows), sum(bool(row[3]) for row in rows))


@contextmanager
def _beside(target: Path) -> Iterator[Path]:
    """A folder beside the target, readable by all like it, that goes when it was not renamed."""
    folder = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _pictures(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES and path.is_file())


def _tests(category: Path) -> Iterator[_Test]:
    """The test images with their kinds and masks."""
    kinds = sorted(path for path in (category / "test").glob("*") if path.is_dir())
    if not any(kind.name == GOOD for kind in kinds) or len(kinds) < 2:
        raise CannotHide(f"{category}/test must have good/ and a folder for each kind of defect.")
    for kind in kinds:
        for path in _pictures(kind):
            mask = None
            if kind.name != GOOD:
                folder = category / "ground_truth" / kind.name
                mask = next((folder / f"{path.stem}{end}" for end in ("_mask.png", ".png")
                             if (folder / f"{path.stem}{end}").is_file()), None)  # fmt: skip
                if mask is None:
                    raise CannotHide(f"{path} has no mask in {folder}.")
            yield _Test(path, kind.name, mask)


def _refuse_telling_suffixes(tests: dict[Path, list[_Test]]) -> None:
    for category, found in tests.items():
        good = {test.path.suffix for test in found if test.kind == GOOD}
        other = {test.path.suffix for test in found if test.kind != GOOD}
        if good != other:
            raise CannotHide(f"{category}/test: the names' ends {sorted(good)} and {sorted(other)} tell good from bad.")


def _copy_train(category: Path, target: Path) -> int:
    folder = target / "train" / GOOD
    folder.mkdir(parents=True)
    pictures = _pictures(category / "train" / GOOD)
    for path in pictures:
        _write(folder / path.name, path.read_bytes())
    return len(pictures)


def _split(category: Path, tests: list[_Test], data: Path, labels: Path) -> list[list[object]]:
    """Copy the test images of a category in a random order and their masks; the rows of the labels."""
    shuffled = random.SystemRandom().sample(tests, len(tests))  # not to be guessed from a seed
    (data / "test").mkdir()
    (labels / "masks" / category.name).mkdir(parents=True)
    rows: list[list[object]] = []
    for number, test in enumerate(shuffled, 1):
        name = f"{number:04}{test.path.suffix.lower()}"
        raw = test.path.read_bytes()
        try:
            width, height = picture_size(raw)
            _write(data / "test" / name, without_metadata(raw))
            mask = ""
            if test.mask is not None:
                drawn = test.mask.read_bytes()
                if picture_size(drawn) != (width, height):
                    raise CannotHide(f"{test.mask} has another size than {test.path}.")
                mask = f"masks/{category.name}/{number:04}.png"
                _write(labels / mask, drawn)
        except UnknownPicture as error:
            raise CannotHide(f"{test.path} or its mask: {error}") from error
        rows.append([f"{category.name}/test/{name}", test.kind, int(test.kind != GOOD), mask, height, width])
    return rows


def _write(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    path.chmod(0o644)
    os.utime(path, (0, 0))  # its time could tell which kind it was copied with
