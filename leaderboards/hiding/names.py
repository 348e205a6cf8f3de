"""The private table of sources: which file of the source each neutral name stands for.

    sources.csv   image,kind,source,source_sha256,sha256,mask_source,mask_sha256,present

`sha256` is that of the image as runs read it, without metadata; `source_sha256` and `mask_sha256` are those of the source's
files. An image that has left the source keeps its row (`present` is 0) and its name.

The table lies next to the folder of labels, not in it: in it, renaming a file of the source would change the digest of the
labels and so the score version.
"""

import csv
import io
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

from core.folder_digest import read_without_a_trace
from leaderboards.hiding.reading import Read, digest
from leaderboards.hiding.source import CannotHide

LABELS = "labels.csv"
_NUMBER = re.compile(r"/test/(\d+)\.[a-z]+$")


@dataclass(frozen=True)
class Row:
    """A test image in the table of sources."""

    image: str
    kind: str
    source: str
    source_sha256: str
    sha256: str
    mask_source: str
    mask_sha256: str
    present: str = "1"

    @property
    def category(self) -> str:
        return self.image.partition("/")[0]

    @classmethod
    def of(cls, image: str, read: Read) -> "Row":
        test = read.test
        return cls(image, test.kind, test.name, read.source_sha256, read.sha256, test.mask_name, read.mask_sha256)


def place_of_sources(labels: Path) -> Path:
    return labels.with_name(f"{labels.name}.sources.csv")


def read_sources(labels: Path, data: Path) -> list[Row]:
    """Return the table's rows. Where an earlier version kept no table, make them from the labels and the images.

    Raises CannotHide.
    """
    place = place_of_sources(labels)
    try:
        with place.open(newline="", encoding="utf-8") as file:
            return [
                Row(**{column.name: row[column.name] or "" for column in fields(Row)}) for row in csv.DictReader(file)
            ]
    except FileNotFoundError:
        return _rows_of_labels(labels, data)
    except (KeyError, UnicodeError, csv.Error) as error:
        raise CannotHide(f"{place} is not the table that hide_labels wrote: {error}.") from error


def _rows_of_labels(labels: Path, data: Path) -> list[Row]:
    place = place_of_sources(labels)
    try:
        table = labels_of(labels)
    except (UnicodeError, csv.Error) as error:
        raise CannotHide(f"{labels / LABELS} cannot be read: {error}.") from error
    if not table:
        raise CannotHide(f"There is neither {place} nor {labels / LABELS}: no names to keep. Run without --regenerate.")
    rows = []
    for name, label in table.items():
        try:
            content = read_without_a_trace(data / name)
        except OSError as error:
            raise CannotHide(f"{place} is missing, and without it {data / name} must be read: {error}") from error
        rows.append(Row(name, label.get("kind") or "", "", "", digest(content), "", ""))
    return rows


def labels_of(labels: Path) -> dict[str, dict[str, str]]:
    """Return the rows of the folder's table of labels by image; empty where there is none."""
    with suppress(FileNotFoundError), (labels / LABELS).open(newline="", encoding="utf-8") as file:
        return {row["image"]: row for row in csv.DictReader(file) if row.get("image")}
    return {}


def table_of_sources(rows: Iterable[Row]) -> bytes:
    text = io.StringIO(newline="")
    ordered = sorted(rows, key=lambda row: os.fsencode(row.image))
    csv.writer(text).writerows([[column.name for column in fields(Row)], *(asdict(row).values() for row in ordered)])
    return text.getvalue().encode()


def name_images(
    read: Mapping[str, Sequence[Read]], old: Sequence[Row], shuffle: Callable[[list[Read]], list[Read]]
) -> list[tuple[str, Read]]:
    """Return each image with its neutral name: the old one where there is one, else the next number in a random order."""
    named = []
    for category, images in read.items():
        rows = [row for row in old if row.category == category]
        kept = _kept(images, rows)
        numbers = [int(match[1]) for row in rows if (match := _NUMBER.search(row.image))]
        named += [(row.image, image) for image, row in kept]
        taken = {id(image) for image, _ in kept}
        fresh = shuffle([image for image in images if id(image) not in taken])
        for number, image in enumerate(fresh, max(numbers, default=0) + 1):
            named.append((f"{category}/test/{number:04}{image.test.path.suffix.lower()}", image))
    return named


def _kept(images: Sequence[Read], rows: Sequence[Row]) -> list[tuple[Read, Row]]:
    """Pair images with their old rows: by content first, so that a file that got another's path keeps its own name."""
    ways: list[tuple[Callable[[Read], object], Callable[[Row], object]]] = [
        (lambda image: (image.sha256, image.test.name), lambda row: (row.sha256, row.source)),
        (lambda image: (image.sha256, image.test.kind), lambda row: (row.sha256, row.kind)),
        (lambda image: image.sha256, lambda row: row.sha256),
        (
            lambda image: (image.test.name, image.test.path.suffix.lower()),
            lambda row: (row.source, Path(row.image).suffix),
        ),
    ]
    pairs: list[tuple[Read, Row]] = []
    waiting, free = list(images), sorted(rows, key=lambda row: row.present != "1")
    for of_image, of_row in ways:
        by_key: dict[object, list[Row]] = {}
        for row in reversed(free):
            by_key.setdefault(of_row(row), []).append(row)
        still = []
        for image in waiting:
            if candidates := by_key.get(of_image(image)):
                pairs.append((image, candidates.pop()))
            else:
                still.append(image)
        used = {row.image for _, row in pairs}
        waiting, free = still, [row for row in free if row.image not in used]
    return pairs


def new_rows(named: Sequence[tuple[str, Read]], old: Sequence[Row]) -> list[Row]:
    """Return the rows of the new table: those of the images, and of images that have left the source."""
    rows = [Row.of(name, image) for name, image in named]
    names = {row.image for row in rows}
    return rows + [replace(row, present="0") for row in old if row.image not in names]
