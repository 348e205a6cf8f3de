"""The files of both folders before anything is written, what they change in old ones, and the disk space that they need."""

import csv
import io
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from core.folder_digest import read_without_a_trace
from core.sizes import human_bytes
from leaderboards.hiding.names import LABELS, Row, labels_of, new_rows
from leaderboards.hiding.reading import Read, Report, image_content, mask_content
from leaderboards.hiding.source import CannotHide, Source

Files = dict[str, Callable[[], bytes]]
_COLUMNS = ["image", "kind", "defect", "mask", "height", "width"]
_BLOCK, _TABLE_ROW_BYTES = 4096, 512


@dataclass(frozen=True)
class Plan:
    """The files of the data set and of the labels (path below the folder -> what gives its content), and the sources."""

    data: Files
    labels: Files
    sources: list[Row]


@dataclass(frozen=True)
class Changes:
    """Neutral names of what a regeneration changes; `other` are files of the data set that are no test images."""

    added: list[str] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    replaced: list[str] = field(default_factory=list)
    relabelled: list[str] = field(default_factory=list)
    masks: list[str] = field(default_factory=list)
    other: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Space:
    """Bytes that a file system must have free for the new files, and has."""

    folders: list[str]
    needed_bytes: int
    free_bytes: int

    def __str__(self) -> str:
        folders = " and ".join(self.folders)
        return f"{folders}: {human_bytes(self.needed_bytes)} needed, {human_bytes(self.free_bytes)} free"


def make_plan(source: Source, named: Sequence[tuple[str, Read]], old: Sequence[Row], labels: Path) -> Plan:
    """Lay out both folders. A mask whose source is as it was comes from the old labels, byte for byte."""
    known = {row.image: row.mask_sha256 for row in old}
    written = labels_of(labels) if old else {}
    data: Files = {name: path.read_bytes for name, path in source.copied.items()}
    masks: Files = {}
    table: list[list[object]] = []
    for name, image in named:
        data[name] = partial(image_content, image)
        mask, (width, height) = "", image.size
        if image.test.mask is not None:
            mask = _mask_of(name)
            before = labels / written.get(name, {}).get("mask", "")
            is_known = before.is_file() and known.get(name) == image.mask_sha256
            masks[mask] = partial(read_without_a_trace, before) if is_known else partial(mask_content, image)
        table.append([name, image.test.kind, int(image.test.is_defective), mask, height, width])
    return Plan(data, masks | {LABELS: partial(_table, table)}, new_rows(named, old))


def _table(rows: list[list[object]]) -> bytes:
    text = io.StringIO(newline="")
    csv.writer(text).writerows([_COLUMNS, *sorted(rows, key=lambda row: str(row[0]))])
    return text.getvalue().encode()


def differing(folder: Path, files: Mapping[str, Callable[[], bytes]], report: Report) -> set[str]:
    """Return the names whose content in the folder is another, or which only one side has."""
    there = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir()}
    different = there ^ set(files)
    common = sorted(there & set(files), key=os.fsencode)
    for done, name in enumerate(common):
        report(f"Comparing with {folder}", done, len(common))
        if read_without_a_trace(folder / name) != files[name]():
            different.add(name)
    return different


def changes(plan: Plan, old: Sequence[Row], of_data: set[str], of_labels: set[str]) -> Changes:
    """Say by neutral names what differs. Raises CannotHide if no image is the same: the source is then another one."""
    before = {row.image: row for row in old if row.present == "1"}
    after = {row.image: row for row in plan.sources if row.present == "1"}
    both = sorted(before.keys() & after.keys())
    if not any(before[name].sha256 == after[name].sha256 for name in both):
        raise CannotHide(f"The source has none of the {len(before):,} images that have names: it is another data set.")
    relabelled = [name for name in both if before[name].kind != after[name].kind]
    return Changes(
        added=sorted(after.keys() - before.keys()),
        removed=sorted(before.keys() - after.keys()),
        replaced=[name for name in both if name in of_data or before[name].sha256 != after[name].sha256],
        relabelled=relabelled,
        masks=[name for name in both if name not in relabelled and _mask_of(name) in of_labels],
        other=sorted(of_data - before.keys() - after.keys()),
    )


def _mask_of(image: str) -> str:
    return f"masks/{image.partition('/')[0]}/{Path(image).stem}.png"


def needed_bytes(source: Source, data: Path, labels: Path) -> dict[Path, int]:
    """Return what each folder takes on the disk."""
    tests = [test for images in source.tests.values() for test in images]
    return {
        data: _on_disk([*source.copied.values(), *(test.path for test in tests)]),
        labels: _on_disk(test.mask for test in tests if test.mask) + 2 * _TABLE_ROW_BYTES * len(tests),
    }


def check_space(needed: Mapping[Path, int]) -> list[Space]:
    """Return what each file system must hold for the folders, and has free. Raises CannotHide if that is too little."""
    spaces: dict[int, Space] = {}
    for folder, count in needed.items():
        place = next(path for path in folder.absolute().parents if path.exists())
        device, state = place.stat().st_dev, os.statvfs(place)
        other = spaces.get(device)
        folders = [*(other.folders if other else []), str(folder)]
        spaces[device] = Space(folders, count + (other.needed_bytes if other else 0), state.f_bavail * state.f_frsize)
    if short := [space for space in spaces.values() if space.free_bytes < space.needed_bytes]:
        raise CannotHide("Not enough free space. " + "; ".join(map(str, short)))
    return list(spaces.values())


def _on_disk(paths: Iterable[Path]) -> int:
    return sum(-(-path.stat().st_size // _BLOCK) * _BLOCK for path in paths)
