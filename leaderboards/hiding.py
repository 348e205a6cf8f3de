"""Splitting data in the layout of MVTec AD: what participants' runs may read, and the labels that they may not.

    from   CATEGORY/train/good/*   CATEGORY/test/{good,KIND}/*   CATEGORY/ground_truth/KIND/*_mask.png
    data   CATEGORY/train/good/*   CATEGORY/test/0001.png ...
    labels labels.csv              masks/CATEGORY/0001.png ...

Test images get neutral names in a random order and lose the metadata in the files. Both folders are written in one pass in
name order, so that the file system's metadata tells nothing either. The pixels, and so the file sizes, stay as they are: the
images must never have been published with labels.
"""

import csv
import io
import os
import random
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from leaderboards.one_pass import beside, write_folder
from leaderboards.pictures import UnknownPicture, picture_size, without_metadata
from leaderboards.traces import Image, leak, shown_by

SUFFIXES = {".png", ".jpg", ".jpeg"}
GOOD = "good"
LABELS = "labels.csv"
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
    shown, masks, rows = _train_and_licenses(source, categories), {}, []
    train = sum("/train/" in name for name in shown)
    for category in categories:
        for number, test in enumerate(_shuffled(tests[category]), 1):
            name = f"{category.name}/test/{number:04}{test.path.suffix.lower()}"
            mask = f"masks/{category.name}/{number:04}.png" if test.mask is not None else ""
            rows.append([name, test.kind, int(test.kind != GOOD), mask, *_size(test)])
            shown[name] = partial(_bare, test.path)
            if test.mask is not None:
                masks[mask] = test.mask.read_bytes
    labels.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    data.parent.mkdir(parents=True, exist_ok=True)
    with beside(data) as new_data, beside(labels) as new_labels:
        # One after the other: a mask written between two images would leave a gap between them.
        write_folder(new_data, shown)
        write_folder(new_labels, masks | {LABELS: partial(_table, rows)})
        new_labels.rename(labels)
        new_data.rename(data)
    return Hidden(len(categories), train, len(rows), len(masks))


def leak_of(data: Path, labels: Path) -> str:
    """Return in a few words what file metadata of the data set tells about the labels.

    Empty if it tells nothing, or if there is no table of labels as `hide_labels` writes it.
    """
    images: dict[str, Image] = {}
    with suppress(FileNotFoundError), (labels / LABELS).open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            name, mask = row.get("image"), row.get("mask")
            if not name:
                continue
            with suppress(OSError):  # doctor says elsewhere what is missing
                of_mask = shown_by(labels / mask) if mask else None
                images[name] = Image(str(Path(name).parent), row.get("defect") == "1", shown_by(data / name), of_mask)
    return leak([images[name] for name in sorted(images, key=os.fsencode)])


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


def _train_and_licenses(source: Path, categories: list[Path]) -> dict[str, Callable[[], bytes]]:
    found: dict[str, Callable[[], bytes]] = {}
    for category in categories:
        for path in _pictures(category / "train" / GOOD):
            found[f"{category.name}/train/{GOOD}/{path.name}"] = path.read_bytes
    for path in [*source.glob("[Ll][Ii][Cc][Ee][Nn][Ss][Ee]*"), *source.glob("*/[Ll][Ii][Cc][Ee][Nn][Ss][Ee]*")]:
        if path.is_file():
            found[str(path.relative_to(source))] = path.read_bytes
    return found


def _shuffled(tests: list[_Test]) -> list[_Test]:
    return random.SystemRandom().sample(tests, len(tests))  # not to be guessed from a seed


def _size(test: _Test) -> tuple[int, int]:
    """Return (height, width) of the image, which its mask must share."""
    try:
        width, height = picture_size(_bare(test.path))
        if test.mask is not None and picture_size(test.mask.read_bytes()) != (width, height):
            raise CannotHide(f"{test.mask} has another size than {test.path}.")
    except UnknownPicture as error:
        raise CannotHide(f"{test.path} or its mask: {error}") from error
    return height, width


def _bare(path: Path) -> bytes:
    return without_metadata(path.read_bytes())


def _table(rows: list[list[object]]) -> bytes:
    text = io.StringIO(newline="")
    csv.writer(text).writerows([_COLUMNS, *sorted(rows, key=lambda row: str(row[0]))])
    return text.getvalue().encode()
