"""Splitting data in the layout of MVTec AD: what participants' runs may read, and the labels that they may not.

    from    CATEGORY/train/good/*   CATEGORY/test/{good,KIND}/*   CATEGORY/ground_truth/KIND/*_mask.png
    data    CATEGORY/train/good/*   CATEGORY/test/0001.png ...
    labels  labels.csv              masks/CATEGORY/0001.png ...
    sources LABELS.sources.csv      which file each name stands for, next to the labels

Test images get neutral names in a random order and lose the metadata in the files. Both folders are written in one pass in
name order, so that the file system's metadata tells nothing either. The pixels, and so the file sizes, stay as they are: the
images must never have been published with labels.
"""

import os
import random
from collections.abc import Callable, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from leaderboards.hiding.install import Place, alone, finish, journal_of, put_in_place
from leaderboards.hiding.names import (
    LABELS,
    labels_of,
    name_images,
    place_of_sources,
    read_sources,
    table_of_sources,
)
from leaderboards.hiding.plan import (
    Changes,
    Files,
    Plan,
    Space,
    changes,
    check_space,
    differing,
    make_plan,
    needed_bytes,
)
from leaderboards.hiding.reading import Read, Report, read_images
from leaderboards.hiding.source import CannotHide, Source, read_source
from leaderboards.one_pass import give_to_owner, write_folder
from leaderboards.traces import Image, leak, shown_by

__all__ = ["LABELS", "CannotHide", "Hidden", "hide_labels", "journal_of", "leak_of", "place_of_sources"]


@dataclass
class Hidden:
    """What was made, or would be made, of a source."""

    categories: int
    train: int
    test: int
    masks: int
    # Images by category and kind, those to learn from as `train`.
    counts: dict[str, dict[str, int]]
    ignored: dict[str, int]
    left_out: dict[str, int]
    normalised_masks: list[str]
    empty_masks: list[str]
    # Of the folders that were written anew.
    space: list[Space] = field(default_factory=list)
    changes: Changes | None = None
    # Folders that were written anew.
    written: list[str] = field(default_factory=list)
    previous: list[str] = field(default_factory=list)


def _quiet(what: str, done: int, total: int) -> None:
    pass


def hide_labels(
    source: Path,
    data: Path,
    labels: Path,
    *,
    leave_out: Sequence[str] = (),
    allow_empty_masks: bool = False,
    regenerate: bool = False,
    dry_run: bool = False,
    report: Report = _quiet,
) -> Hidden:
    """Make the folders `data` and `labels` of `source`, or make them anew with the same names. Raises CannotHide.

    They appear, or change, whole or not at all. What an interrupted run has begun to exchange is finished first.
    """
    data = data.resolve()  # a link may lead to a larger disk, and stays
    if regenerate:
        _finish_interrupted(labels, dry_run=dry_run, report=report)
    else:
        _refuse_existing(data, labels)
    files = read_source(source, leave_out)
    needed = needed_bytes(files, data, labels)
    if not regenerate:
        check_space(needed)  # before the images are read, which takes long
    if not dry_run:
        labels.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        data.parent.mkdir(parents=True, exist_ok=True)
    with nullcontext() if dry_run else alone(labels):
        old = read_sources(labels, data) if regenerate else []
        read = read_images(files, empty_masks=allow_empty_masks, report=report)
        plan = make_plan(files, name_images(read, old, _shuffled), old, labels)
        made = _hidden(files, read)
        to_write = {Place(data): plan.data, Place(labels): plan.labels}
        if regenerate:
            of_data, of_labels = (differing(place.target, content, report) for place, content in to_write.items())
            made.changes = changes(plan, old, of_data, of_labels)
            # A folder that stays the same is not touched: then nothing in it tells that labels were corrected.
            to_write = {
                place: content
                for (place, content), different in zip(to_write.items(), (of_data, of_labels), strict=True)
                if different
            }
        else:
            _refuse_existing(data, labels)
        made.space = check_space({place.target: needed[place.target] for place in to_write})
        made.written = [str(place.target) for place in to_write]
        made.previous = [str(place.previous) for place in to_write if place.target.exists()]
        if not dry_run:
            _write(to_write, plan, labels, report)
    return made


def _refuse_existing(data: Path, labels: Path) -> None:
    if journal_of(labels).exists():
        raise CannotHide(
            f"An earlier run was interrupted while it put {labels} in place: --regenerate finishes it first."
        )
    for target in (data, labels):
        if target.exists():
            raise CannotHide(
                f"{target} is there already: choose another name, or take it away first. --regenerate makes it anew with "
                "the same names of images."
            )
    if (sources := place_of_sources(labels)).exists():
        raise CannotHide(f"{sources} is there already: --regenerate keeps its names. Without them, take it away first.")


def _finish_interrupted(labels: Path, *, dry_run: bool, report: Report) -> None:
    journal = journal_of(labels)
    if journal.exists():
        if dry_run:
            raise CannotHide("An earlier run was interrupted. The next one without --dry-run finishes it first.")
        with alone(labels):
            finish(journal)
        report("Finished what an interrupted run had begun", 0, 0)


def _hidden(source: Source, read: dict[str, list[Read]]) -> Hidden:
    every = [image for images in read.values() for image in images]
    return Hidden(
        categories=len(read),
        train=source.train,
        test=len(every),
        masks=sum(image.test.mask is not None for image in every),
        counts=source.counts(),
        ignored=dict(source.ignored),
        left_out=dict(source.left_out),
        normalised_masks=[image.test.mask_name for image in every if not image.is_mask_as_it_was],
        empty_masks=[image.test.mask_name for image in every if image.is_mask_empty],
    )


def _write(to_write: dict[Place, Files], plan: Plan, labels: Path, report: Report) -> None:
    """Write what is new next to its places, the data set first, then put it there, the labels first.

    Between the two, workers see that the labels are not those of the board's score version, and take no jobs.
    """
    sources = Place(place_of_sources(labels))
    table = table_of_sources(plan.sources)
    is_known = sources.target.exists() and sources.target.read_bytes() == table
    places = [*reversed(to_write), *([] if is_known else [sources])]
    if not places:
        return
    try:
        # One folder after the other: a mask written between two images would leave a gap between them.
        for place, files in to_write.items():
            place.clear()
            place.new.mkdir(mode=0o755)
            place.new.chmod(0o755)  # whatever the umask
            write_folder(place.new, _counted(files, f"Writing {place.target}", report))
        if not is_known:
            _write_private(sources.new, table)
        for place in places:
            owner = place.target if place.target.exists() else labels
            if owner.exists():
                give_to_owner(owner, [place.new, *sorted(place.new.rglob("*"))])
        put_in_place(places, journal_of(labels))
    finally:
        if not journal_of(labels).exists():
            for place in places:
                place.clear()


def _write_private(path: Path, content: bytes) -> None:
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _counted(files: Files, what: str, report: Report) -> Files:
    done = 0

    def content(give: Callable[[], bytes]) -> bytes:
        nonlocal done
        done += 1
        report(what, done, len(files))
        return give()

    return {name: partial(content, give) for name, give in files.items()}


def leak_of(data: Path, labels: Path) -> str:
    """Return in a few words what file metadata of the data set tells about the labels.

    Empty if it tells nothing, or if there is no table of labels as `hide_labels` writes it.
    """
    images: dict[str, Image] = {}
    for name, row in labels_of(labels).items():
        mask = row.get("mask")
        with suppress(OSError):  # doctor says elsewhere what is missing
            of_mask = shown_by(labels / mask) if mask else None
            images[name] = Image(str(Path(name).parent), row.get("defect") == "1", shown_by(data / name), of_mask)
    return leak([images[name] for name in sorted(images, key=os.fsencode)])


def _shuffled(images: list[Read]) -> list[Read]:
    return random.SystemRandom().sample(images, len(images))  # not to be guessed from a seed
