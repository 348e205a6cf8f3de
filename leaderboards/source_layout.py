"""Data in the layout of MVTec AD: which files are images, masks and licenses, and which are none of these.

    CATEGORY/train/good/*   CATEGORY/test/{good,KIND}/*   CATEGORY/ground_truth/KIND/*_mask.png

Every file is taken, counted among those left out, or named as a problem: none is dropped in silence.
"""

import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath

from core.system_files import is_system_file

# JPEG is lossy, so no mask is one.
MASK_SUFFIXES = {".png", ".bmp", ".tif", ".tiff"}
IMAGE_SUFFIXES = MASK_SUFFIXES | {".jpg", ".jpeg"}
GOOD = "good"
PROBLEMS_SHOWN = 20


class CannotHide(Exception):
    """The source is not laid out as it must be, or a target is in the way; the message says what."""


def counted(count: int, noun: str) -> str:
    """Return "1 file" or "2 files"."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def refuse(problems: Sequence[str]) -> None:
    """Raise CannotHide with all problems, or the first of many; do nothing if there is none."""
    if problems:
        more = len(problems) - PROBLEMS_SHOWN
        shown = [*problems[:PROBLEMS_SHOWN], *([f"... and {more} more"] if more > 0 else [])]
        raise CannotHide("\n".join(shown))


@dataclass(frozen=True)
class LabelledImage:
    """A test image, its kind (`good` or a kind of defect) and its mask."""

    path: Path
    kind: str
    mask: Path | None


@dataclass
class Source:
    """What a folder holds. `left_out` counts files by reason; `problems` name the files that nothing can be done with."""

    root: Path
    train: dict[str, list[Path]] = field(default_factory=dict)
    tests: dict[str, list[LabelledImage]] = field(default_factory=dict)
    licenses: list[Path] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)

    def name(self, path: Path) -> str:
        """Return the path below the source."""
        return path.relative_to(self.root).as_posix()


@dataclass
class _Sorted:
    """The files of a source by where they lie, as paths below it. `others` are grouped by folder."""

    train: dict[str, list[PurePosixPath]] = field(default_factory=lambda: defaultdict(list))
    tests: dict[str, dict[str, list[PurePosixPath]]] = field(
        default_factory=lambda: defaultdict(lambda: defaultdict(list))
    )
    masks: dict[tuple[str, str], dict[str, PurePosixPath]] = field(default_factory=lambda: defaultdict(dict))
    others: dict[str, list[PurePosixPath]] = field(default_factory=lambda: defaultdict(list))


def read_source(root: Path, leave_out: Sequence[str] = ()) -> Source:
    """Sort the files of a folder. Patterns of `leave_out` match paths below it; `*` matches slashes too.

    Raises CannotHide if nothing there can be split at all, or if a pattern matches no file.
    """
    source, found = Source(root), _Sorted()
    unused = set(leave_out)
    for path in _files(root):
        if is_system_file(path.parts[:-1], path.name):
            source.left_out["files of the operating system"] += 1
        elif matching := [pattern for pattern in leave_out if fnmatchcase(str(path), pattern)]:
            unused -= set(matching)
            source.left_out[f"matching {matching[0]}"] += 1
        else:
            _sort(path, source, found)
    refuse([f"--leave-out {pattern}: no file below {root} matches it." for pattern in sorted(unused)])
    if not found.train:
        raise CannotHide(f"{root} has no images in CATEGORY/train/good: it is not laid out as MVTec AD is.")
    _categories(source, found)
    _name_the_rest(source, found)
    return source


def _files(root: Path) -> Iterable[PurePosixPath]:
    for folder, folders, names in os.walk(root, onerror=_not_readable, followlinks=False):
        folders.sort()
        links = [name for name in folders if Path(folder, name).is_symlink()]
        for name in sorted([*names, *links]):
            yield PurePosixPath(Path(folder, name).relative_to(root).as_posix())


def _not_readable(error: OSError) -> None:
    raise error


def _sort(path: PurePosixPath, source: Source, found: _Sorted) -> None:
    is_image = path.suffix.lower() in IMAGE_SUFFIXES
    if not (source.root / path).is_file():
        source.problems.append(f"{path} is no regular file: put a copy of what it stands for in its place.")
        return
    match path.parts:
        case (category, "train", "good", _) if is_image:
            found.train[category].append(path)
        case (category, "test", kind, _) if is_image:
            found.tests[category][kind].append(path)
        case (category, "ground_truth", kind, _) if path.suffix.lower() in MASK_SUFFIXES:
            found.masks[category, kind][path.name] = path
        case (_,) | (_, _) if path.name.lower().startswith("license"):
            source.licenses.append(source.root / path)
        case (_,) | (_, _) if not is_image:
            source.left_out["other files next to the categories or in them"] += 1
        case _:
            found.others[str(path.parent)].append(path)


def _categories(source: Source, found: _Sorted) -> None:
    for category, paths in sorted(found.train.items()):
        source.train[category] = [source.root / path for path in paths]
        kinds = found.tests.get(category, {})
        if GOOD not in kinds or len(kinds) < 2:
            source.problems.append(
                f"{category}/test must have images in good/ and in a folder for each kind of defect."
            )
        source.tests[category] = [
            LabelledImage(source.root / path, kind, _mask_of(path, kind, source, found))
            for kind, images in sorted(kinds.items())
            for path in images
        ]
    for category in sorted(set(found.tests) - set(found.train)):
        source.problems.append(f"{category} has a test folder and no images in train/good.")


def _mask_of(path: PurePosixPath, kind: str, source: Source, found: _Sorted) -> Path | None:
    """Take the image's mask from those found: what is left in the end belongs to no image."""
    if kind == GOOD:
        return None
    masks = found.masks[path.parts[0], kind]
    names = [f"{path.stem}{end}{suffix}" for end in ("_mask", "") for suffix in sorted(MASK_SUFFIXES)]
    of_this = [name for name in masks if Path(name).with_suffix(Path(name).suffix.lower()).name in names]
    if len(of_this) == 1:
        return source.root / masks.pop(of_this[0])
    if of_this:
        source.problems.append(f"{path} has more than one mask: {', '.join(sorted(of_this))}.")
        for name in of_this:
            del masks[name]
    else:
        source.problems.append(f"{path} has no mask in {path.parts[0]}/ground_truth/{kind}.")
    return None


def _name_the_rest(source: Source, found: _Sorted) -> None:
    for (category, kind), masks in sorted(found.masks.items()):
        if masks:
            first = min(masks)
            source.problems.append(
                f"{category}/ground_truth/{kind}: {counted(len(masks), 'mask')} without an image, such as {first}."
            )
    for folder, paths in sorted(found.others.items()):
        source.problems.append(
            f"{folder}: {counted(len(paths), 'file')} that can be taken neither as image nor as mask, such as "
            f"{paths[0].name}. "
            f"Mend or convert them, or pass --leave-out '{folder}/*'."
        )
