"""Which neutral name each test image of a hidden data set has: kept next to the labels, so that labels can be corrected.

The file `NAME.sources.csv` lies in GROUND_TRUTH_ROOT beside the folder NAME, not in it: no scorer reads it, it is not
copied to workers, and it does not count for the digest of the ground truth.
"""

import csv
import io
import os
import random
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

COLUMNS = ["image", "source", "sha256", "mask"]


@dataclass(frozen=True)
class SourceRow:
    """A test image: its path in the data set, its path and its mask's below the source, its SHA-256 as participants have it."""

    image: str
    source: str
    sha256: str
    mask: str = ""

    @property
    def category(self) -> str:
        return self.image.partition("/")[0]

    @property
    def number(self) -> int:
        return int(Path(self.image).stem)


def mapping_of(labels: Path) -> Path:
    """Return where the names of a ground truth's images are kept."""
    return labels.with_name(f"{labels.name}.sources.csv")


def read_mapping(path: Path) -> list[SourceRow]:
    with path.open(newline="", encoding="utf-8", errors="surrogateescape") as file:
        return [SourceRow(*(row[name] or "" for name in COLUMNS)) for row in csv.DictReader(file)]


def write_mapping(path: Path, rows: Iterable[SourceRow]) -> None:
    """Write the file whole or not at all, readable by its owner alone."""
    text = io.StringIO(newline="")
    table = csv.writer(text)
    table.writerow(COLUMNS)
    table.writerows([row.image, row.source, row.sha256, row.mask] for row in sorted(rows, key=lambda row: row.image))
    handle, temporary = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(text.getvalue().encode("utf-8", "surrogateescape"))
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).rename(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def numbers_of(
    category: str, images: Sequence[tuple[str, str]], known: Iterable[SourceRow]
) -> tuple[dict[str, int], list[str]]:
    """Return the number of each image of a category, given as (source path, SHA-256), and those that have a new one.

    An image keeps its number by its content, wherever it lies now; if the content has changed, by its path. The others get
    the next free numbers in a random order. Numbers of images that are gone are not given away.
    """
    rows = [row for row in known if row.category == category]
    by_content: dict[str, list[SourceRow]] = defaultdict(list)
    for row in rows:
        by_content[row.sha256].append(row)
    by_path = {row.source: row for row in rows if row.source}
    taken: dict[str, int] = {}
    used: set[int] = set()
    for is_same_path in (True, False):
        for source, digest in images:
            if source in taken:
                continue
            same = [row for row in by_content[digest] if row.number not in used]
            same = [row for row in same if row.source == source] if is_same_path else same
            if same:
                taken[source] = same[0].number
                used.add(same[0].number)
    for source, _digest in images:
        if source not in taken and (old := by_path.get(source)) and old.number not in used:
            taken[source] = old.number
            used.add(old.number)
    new = [image for image in images if image[0] not in taken]
    highest = max((row.number for row in rows), default=0)
    for number, (source, _digest) in enumerate(shuffled(new), highest + 1):
        taken[source] = number
    return taken, [source for source, _digest in new]


def shuffled(images: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """Return them in a random order that cannot be guessed from a seed."""
    return random.SystemRandom().sample(images, len(images))
