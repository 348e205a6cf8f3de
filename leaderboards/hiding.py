"""Splitting data in the layout of MVTec AD: what participants' runs may read, and the labels that they may not.

    from   CATEGORY/train/good/*   CATEGORY/test/{good,KIND}/*   CATEGORY/ground_truth/KIND/*_mask.png
    data   CATEGORY/train/good/*   CATEGORY/test/0001.png ...
    labels labels.csv              masks/CATEGORY/0001.png ...

Test images get neutral names in a random order and lose the metadata in the files. Both folders are written in one pass in
name order, so that the file system's metadata tells nothing either. The pixels, and so the file sizes, stay as they are: the
images must never have been published with labels.

`plan_split` reads and checks everything, `write_split` writes. Which name each image has is kept (`source_names`), so that
the same folders can be made again after a correction.
"""

import csv
import hashlib
import io
import os
import shutil
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from core.sizes import human_bytes
from leaderboards.masks import BadMask, as_png, read_mask
from leaderboards.one_pass import beside, exchange, write_folder
from leaderboards.pictures import UnknownPicture, picture_size, without_metadata
from leaderboards.source_layout import GOOD, CannotHide, Source, read_source, refuse
from leaderboards.source_names import SourceRow, mapping_of, numbers_of, read_mapping, write_mapping
from leaderboards.traces import Image, leak, shown_by

LABELS = "labels.csv"
_CONVERTED = {".bmp", ".tif", ".tiff"}
_COLUMNS = ["image", "kind", "defect", "mask", "height", "width"]
_BLOCK = 4096

Files = dict[str, Callable[[], bytes]]
Report = Callable[[int, int], None]


@dataclass(frozen=True)
class _Read:
    """A picture of the source as it will be written. `was_scaled`: a mask of 0 and 1."""

    sha256: str
    bytes: int
    height: int
    width: int
    was_scaled: bool = False


@dataclass(frozen=True)
class LabelRow:
    """A line of labels.csv. `mask` is empty for a good image."""

    image: str
    kind: str
    mask: str
    height: int
    width: int

    def cells(self) -> list[object]:
        return [self.image, self.kind, int(self.kind != GOOD), self.mask, self.height, self.width]


@dataclass
class Split:
    """Two folders to write, and what there is to say about them."""

    data: Path
    labels: Path
    source: Source
    data_files: Files = field(default_factory=dict)
    label_files: Files = field(default_factory=dict)
    names: list[SourceRow] = field(default_factory=list)
    kinds: dict[str, Counter[str]] = field(default_factory=dict)  # category -> kind of its test images -> how many
    train: int = 0
    masks: int = 0
    masks_scaled: int = 0
    data_bytes: int = 0
    label_bytes: int = 0
    changes: dict[str, int] = field(default_factory=dict)  # when made again: what changes -> how many
    is_again: bool = False

    @property
    def test(self) -> int:
        return sum(kinds.total() for kinds in self.kinds.values())


def hide_labels(source: Path, data: Path, labels: Path) -> Split:
    """Make the folders `data` and `labels` of `source`; both appear whole or not at all. Raises CannotHide."""
    split = plan_split(source, data, labels)
    write_split(split)
    return split


def plan_split(
    source: Path,
    data: Path,
    labels: Path,
    *,
    leave_out: Sequence[str] = (),
    is_again: bool = False,
    report: Report | None = None,
) -> Split:
    """Read and check the whole source, and the room on the disks; write nothing. Raises CannotHide with all problems.

    `is_again`: the folders exist and are to be made again with the same names. `report` hears how many files are read.
    """
    known = _names_so_far(data, labels) if is_again else []
    if not is_again:
        refuse([f"{target} is there already: choose another name, or make it again with --regenerate."
                for target in (data, labels) if target.exists()])  # fmt: skip
    found = read_source(source, leave_out)
    split = Split(data, labels, found, is_again=is_again)
    pictures, masks = _read_all(found, report)
    _check(found, pictures, masks)
    refuse(found.problems)
    rows = _name_images(split, known, pictures, masks)
    _list_files(split, rows, pictures, masks)
    if is_again:
        split.changes = _changes(split, rows, pictures)
    _refuse_without_room(split)
    return split


def write_split(split: Split) -> None:
    """Write what was planned. New folders appear whole or not at all; folders made again change places with the old ones.

    The names come first, so that a run that is cut off can be repeated. Then the labels: a board whose labels changed holds
    its jobs until an organizer adopts them, so none is scored on the old images with the new labels.
    """
    labels, data = split.labels, split.data
    labels.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    data.parent.mkdir(parents=True, exist_ok=True)
    with beside(data) as new_data, beside(labels) as new_labels:
        # One after the other: a mask written between two images would leave a gap between them.
        if changes_data(split):
            write_folder(new_data, split.data_files)
        write_folder(new_labels, split.label_files)
        write_mapping(mapping_of(labels), split.names)
        if not split.is_again:
            new_labels.rename(labels)
            new_data.rename(data)
            return
        exchange(new_labels, labels)
        if changes_data(split):
            exchange(new_data, data)


def changes_data(split: Split) -> bool:
    """Return whether the folder that participants' runs see is written: always but after a change of labels alone."""
    return not split.is_again or any(split.changes[name] for name in ("added", "removed", "replaced", "train"))


def leak_of(data: Path, labels: Path) -> str:
    """Return in a few words what file metadata of the data set tells about the labels.

    Empty if it tells nothing, or if there is no table of labels as `hide_labels` writes it.
    """
    images: dict[str, Image] = {}
    for row in _label_rows(labels):
        name, mask = row.get("image"), row.get("mask")
        if not name:
            continue
        with suppress(OSError):  # doctor says elsewhere what is missing
            of_mask = shown_by(labels / mask) if mask else None
            images[name] = Image(str(Path(name).parent), row.get("defect") == "1", shown_by(data / name), of_mask)
    return leak([images[name] for name in sorted(images, key=os.fsencode)])


def _label_rows(labels: Path) -> list[dict[str, str]]:
    with suppress(FileNotFoundError), (labels / LABELS).open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))
    return []


def _names_so_far(data: Path, labels: Path) -> list[SourceRow]:
    """Read the names of the folders' images; of folders that an earlier version made, known by their content alone."""
    rows = _label_rows(labels)
    if not rows or not data.is_dir():
        raise CannotHide(f"There is nothing to make again: {data} or {labels / LABELS} is missing.")
    if mapping_of(labels).is_file():
        return read_mapping(mapping_of(labels))
    return [SourceRow(row["image"], "", _sha256((data / row["image"]).read_bytes())) for row in rows]


def _read_all(source: Source, report: Report | None) -> tuple[dict[Path, _Read], dict[Path, _Read]]:
    """Read all pictures and masks once; what is wrong with them joins the source's problems."""
    pictures: dict[Path, _Read] = {}
    masks: dict[Path, _Read] = {}
    tests = [image for images in source.tests.values() for image in images]
    images = [*(path for paths in source.train.values() for path in paths), *(image.path for image in tests)]
    marked = [image.mask for image in tests if image.mask is not None]
    for done, path in enumerate([*images, *marked], 1):
        try:
            if done <= len(images):
                shown = _as_shown(path) if done > len(images) - len(tests) else _as_trained(path)
                width, height = picture_size(shown)
                pictures[path] = _Read(_sha256(shown), len(shown), height, width)
            else:
                mask = read_mask(path.read_bytes())
                masks[path] = _Read(_sha256(mask.png), len(mask.png), mask.height, mask.width, mask.was_scaled)
        except (UnknownPicture, BadMask) as error:
            source.problems.append(f"{source.name(path)}: {error}.")
        if report:
            report(done, len(images) + len(marked))
    return pictures, masks


def _check(source: Source, pictures: Mapping[Path, _Read], masks: Mapping[Path, _Read]) -> None:
    """Add to the source's problems: masks of another size, endings that tell the kind, names that would meet."""
    for category, images in source.tests.items():
        for image in images:
            picture, mask = pictures.get(image.path), masks.get(image.mask) if image.mask else None
            if picture and mask and (picture.height, picture.width) != (mask.height, mask.width):
                source.problems.append(
                    f"{source.name(image.mask or image.path)} has {mask.width} x {mask.height} pixels, its image "
                    f"{picture.width} x {picture.height}."
                )
        good = {image.path.suffix for image in images if image.kind == GOOD}
        other = {image.path.suffix for image in images if image.kind != GOOD}
        if good and other and good != other:
            source.problems.append(
                f"{category}/test: the names' ends {sorted(good)} and {sorted(other)} tell good from bad."
            )
        names = Counter(_suffixed(path).name for path in source.train[category])
        source.problems += [
            f"{category}/train/good: {count} images would be called {name}."
            for name, count in names.items()
            if count > 1
        ]


def _name_images(
    split: Split, known: Sequence[SourceRow], pictures: Mapping[Path, _Read], masks: Mapping[Path, _Read]
) -> dict[Path, LabelRow]:
    """Give each test image its neutral name, and remember all names, those of images that are gone too."""
    source, rows = split.source, {}
    names: dict[str, SourceRow] = {row.image: row for row in known}
    for category, images in source.tests.items():
        listed = [(source.name(image.path), pictures[image.path].sha256) for image in images]
        numbers, _new = numbers_of(category, listed, known)
        for image in images:
            place = source.name(image.path)
            name = f"{category}/test/{numbers[place]:04}{_suffixed(image.path).suffix.lower()}"
            mask = f"masks/{category}/{numbers[place]:04}.png" if image.mask is not None else ""
            picture = pictures[image.path]
            rows[image.path] = LabelRow(name, image.kind, mask, picture.height, picture.width)
            names[name] = SourceRow(name, place, picture.sha256, source.name(image.mask) if image.mask else "")
            split.masks_scaled += image.mask is not None and masks[image.mask].was_scaled
    split.names = list(names.values())
    return rows


def _list_files(
    split: Split, rows: Mapping[Path, LabelRow], pictures: Mapping[Path, _Read], masks: Mapping[Path, _Read]
) -> None:
    """List what stands in each folder, and count it."""
    source = split.source
    for category, paths in source.train.items():
        split.train += len(paths)
        for path in paths:
            split.data_files[f"{category}/train/{GOOD}/{_suffixed(path).name}"] = partial(_as_trained, path)
    for path in source.licenses:
        split.data_files[source.name(path)] = path.read_bytes
    for category, images in source.tests.items():
        split.kinds[category] = Counter(image.kind for image in images)
        for image in images:
            row = rows[image.path]
            split.data_files[row.image] = partial(_as_shown, image.path)
            if image.mask is not None:
                split.masks += 1
                split.label_files[row.mask] = partial(_png_of, image.mask)
                split.label_bytes += _on_disk(masks[image.mask].bytes)
    split.label_files[LABELS] = partial(_table, sorted(rows.values(), key=lambda row: row.image))
    split.label_bytes += _on_disk(len(_table(list(rows.values()))))
    split.data_bytes = sum(_on_disk(picture.bytes) for picture in pictures.values())


def _changes(split: Split, rows: Mapping[Path, LabelRow], pictures: Mapping[Path, _Read]) -> dict[str, int]:
    """Count what becomes different from the folders as they are."""
    before = {row["image"]: row for row in _label_rows(split.labels)}
    counts = Counter({"added": 0, "removed": 0, "replaced": 0, "relabelled": 0, "masks": 0, "train": 0})
    images = {image.path: image for found in split.source.tests.values() for image in found}
    for path, row in rows.items():
        old = before.get(row.image)
        if old is None:
            counts["added"] += 1
            continue
        # Against the file: the names may be newer, if a run was cut off before it exchanged the data set.
        shown = _content(split.data / row.image)
        counts["replaced"] += shown is None or _sha256(shown) != pictures[path].sha256
        counts["relabelled"] += old["kind"] != row.kind
        mask = images[path].mask
        counts["masks"] += old["mask"] != row.mask or (
            mask is not None and _png_of(mask) != _content(split.labels / row.mask)
        )
    there = {path.relative_to(split.data).as_posix() for path in split.data.glob("*/test/*")}
    counts["removed"] = len((set(before) | there) - {row.image for row in rows.values()})
    counts["train"] = _changed_train(split)
    return dict(counts)


def _changed_train(split: Split) -> int:
    """Count the images to learn from, and the licenses, that are new, gone or different."""
    now = {name: read for name, read in split.data_files.items() if "/test/" not in name}
    there = {path.relative_to(split.data).as_posix() for path in split.data.rglob("*") if path.is_file()}
    gone = {name for name in there if "/test/" not in name} - set(now)
    return len(gone) + sum(_content(split.data / name) != read() for name, read in now.items())


def _refuse_without_room(split: Split) -> None:
    """Raise CannotHide unless the disks have room for both folders; folders made again stand there twice for a while."""
    needs: Counter[int] = Counter()
    places: dict[int, Path] = {}
    for target, count in ((split.data, split.data_bytes), (split.labels, split.label_bytes)):
        parent = next(path for path in target.absolute().parents if path.exists())
        needs[parent.stat().st_dev] += count
        places[parent.stat().st_dev] = parent
    for device, count in needs.items():
        free = shutil.disk_usage(places[device]).free
        if count > free:
            raise CannotHide(f"{places[device]} has {human_bytes(free)} free; {human_bytes(count)} are needed there.")


def _on_disk(count: int) -> int:
    return -(-count // _BLOCK) * _BLOCK


def _content(path: Path) -> bytes | None:
    return path.read_bytes() if path.is_file() else None


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _suffixed(path: Path) -> Path:
    """Return the name that an image of the source has in the data set."""
    return path.with_suffix(".png") if path.suffix.lower() in _CONVERTED else path


def _as_trained(path: Path) -> bytes:
    raw = path.read_bytes()
    return as_png(raw) if path.suffix.lower() in _CONVERTED else raw


def _as_shown(path: Path) -> bytes:
    return without_metadata(_as_trained(path))


def _png_of(mask: Path) -> bytes:
    return read_mask(mask.read_bytes()).png


def _table(rows: Sequence[LabelRow]) -> bytes:
    text = io.StringIO(newline="")
    csv.writer(text).writerows([_COLUMNS, *(row.cells() for row in rows)])
    return text.getvalue().encode()
