"""Sorting every file of a source folder: taken, ignored, left out by the organizer, or named as not taken."""

import os
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath

from core.junk import is_junk

SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp"}
GOOD = "good"
MASK_ENDS = ("_mask.png", ".png")
_OTHER_PICTURES = {".tif", ".tiff", ".webp", ".gif", ".jp2", ".ppm", ".pgm"}
_MOST_NAMED = 3


class CannotHide(Exception):
    """The folder is not laid out as it must be, or a target is in the way; the message says what."""


@dataclass(frozen=True)
class SourceImage:
    """A test image of the source. Names are paths below the source."""

    path: Path
    name: str
    category: str
    kind: str
    mask: Path | None = None

    @property
    def is_defective(self) -> bool:
        return self.kind != GOOD

    @property
    def mask_name(self) -> str:
        return "" if self.mask is None else f"{self.category}/ground_truth/{self.kind}/{self.mask.name}"


@dataclass
class Source:
    """A source folder with what becomes of each of its files."""

    root: Path
    # Copied as they are, by their names below the source.
    copied: dict[str, Path] = field(default_factory=dict)
    tests: dict[str, list[SourceImage]] = field(default_factory=dict)
    ignored: Counter[str] = field(default_factory=Counter)
    left_out: Counter[str] = field(default_factory=Counter)

    @property
    def train(self) -> int:
        return sum(name.count("/") > 1 for name in self.copied)

    def counts(self) -> dict[str, dict[str, int]]:
        """Return for each category the number of images by kind, those to learn from as `train`."""
        trained = Counter(name.partition("/")[0] for name in self.copied if name.count("/") > 1)
        return {
            category: {"train": trained[category], **Counter(test.kind for test in tests)}
            for category, tests in self.tests.items()
        }


def read_source(root: Path, leave_out: Sequence[str] = ()) -> Source:
    """Sort all files below the root. Raises CannotHide, which counts and names what is not taken."""
    named = sorted(path.parent.parent.name for path in root.glob("*/train/good") if path.is_dir())
    categories = [name for name in named if _fitting(name, leave_out) is None]
    if not categories:
        raise CannotHide(f"{root} has no CATEGORY/train/good: it is not laid out as MVTec AD is.")
    source, not_taken = Source(root), defaultdict[str, list[str]](list)
    images: dict[str, list[str]] = {category: [] for category in categories}
    masks: dict[str, Path] = {}
    for name, problem in _files(root):
        if is_junk(name):
            source.ignored["files of macOS and Windows"] += 1
        elif (pattern := _fitting(name, leave_out)) is not None:
            source.left_out[pattern] += 1
        elif (role := problem or _role(name, categories)) == "image":
            images[name.partition("/")[0]].append(name)
        elif role == "mask":
            masks[name] = root / name
        elif role == "copied":
            source.copied[name] = root / name
        elif role == "readme":
            source.ignored["readme files"] += 1
        else:
            not_taken[role].append(name)
    without_mask = _pair(source, images, masks)
    for name in masks:
        not_taken["masks of no defective image"].append(name)
    _refuse(source, leave_out, not_taken, without_mask)
    return source


def shown(name: str) -> str:
    """Return the name as text that any terminal takes."""
    text = os.fsencode(name).decode("utf-8", "backslashreplace")
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def some(names: Sequence[str], most: int = _MOST_NAMED) -> str:
    """Return the first names, and how many more there are."""
    more = f" and {len(names) - most:,} more" if len(names) > most else ""
    return ", ".join(map(shown, names[:most])) + more


def _files(root: Path) -> Iterator[tuple[str, str]]:
    """Yield the path below the root of each file, in name order, and why it cannot be taken. Links are followed."""
    waiting: list[tuple[str, tuple[str, ...]]] = [("", (os.path.realpath(root),))]
    found = []
    while waiting:
        prefix, above = waiting.pop()
        for entry in os.scandir(root / prefix):
            name, place = prefix + entry.name, os.path.realpath(entry.path)
            if entry.is_dir() and place in above:
                found.append((name, "links to a folder around them"))
            elif entry.is_dir():
                waiting.append((f"{name}/", (*above, place)))
            else:
                found.append((name, _problem(name, entry)))
    yield from sorted(found, key=lambda pair: os.fsencode(pair[0]))


def _problem(name: str, entry: os.DirEntry[str]) -> str:
    if not entry.is_file():
        return "broken links and files that are not regular"
    is_text = not any(unicodedata.category(letter) in ("Cc", "Cs") for letter in name)
    return "" if is_text else "names that are not UTF-8, or have control characters"


def _fitting(name: str, patterns: Sequence[str]) -> str | None:
    """Return the first pattern that fits the file's path or name, or those of a folder around it."""
    paths = [PurePosixPath(name), *PurePosixPath(name).parents[:-1]]
    for pattern in patterns:
        if any(fnmatchcase(text, pattern.rstrip("/")) for path in paths for text in (str(path), path.name)):
            return pattern
    return None


def _role(name: str, categories: Sequence[str]) -> str:
    """Return what the file is: image, mask, copied, readme; or a name for the group of files that are not taken."""
    *folders, last = name.split("/")
    suffix = PurePosixPath(last).suffix.lower()
    match folders:
        case [] | [_] if not folders or folders[0] in categories:
            if last.lower().startswith(("license", "licence")):
                return "copied"
            return "readme" if last.lower().startswith("readme") else "files outside train/, test/ and ground_truth/"
        case [category, *_] if category not in categories:
            return f"files in {shown(category)}/, which has no train/good and so is no category"
        case [_, "train", "good"] | [_, "test", _] if suffix in SUFFIXES:
            return "copied" if folders[1] == "train" else "image"
        case [_, "train", "good"] | [_, "test", _]:
            return _other_suffix(suffix)
        case [_, "ground_truth", kind] if kind != GOOD:
            return "mask" if suffix == ".png" else f"masks that end in {suffix or 'nothing'}; convert them to PNG"
        case [_, "ground_truth", _]:
            return "masks of good images"
    return f"files in {shown('/'.join(['CATEGORY', *folders[1:]]))}/, which this layout does not have"


def _other_suffix(suffix: str) -> str:
    if suffix in _OTHER_PICTURES:
        return (
            f"files that end in {suffix}; images end in .png, .jpg, .jpeg or .bmp, so convert them to PNG without loss "
            f"(ImageMagick: mogrify -format png '*{suffix}') and take the old files away"
        )
    return f"files that end in {shown(suffix) or 'nothing'} and are no images"


def _pair(source: Source, images: dict[str, list[str]], masks: dict[str, Path]) -> list[str]:
    """Give each test image its mask, which leaves `masks`. Return the defective images that have none."""
    missing = []
    for category, names in images.items():
        source.tests[category] = []
        for name in names:
            path = source.root / name
            kind, mask = name.split("/")[2], None
            if kind != GOOD:
                ends = [f"{category}/ground_truth/{kind}/{path.stem}{end}" for end in MASK_ENDS]
                mask = next((masks.pop(end) for end in ends if end in masks), None)
                if mask is None:
                    missing.append(name)
            source.tests[category].append(SourceImage(path, name, category, kind, mask))
    return missing


def _refuse(
    source: Source, leave_out: Sequence[str], not_taken: dict[str, list[str]], without_mask: Sequence[str]
) -> None:
    """Raise CannotHide with all that is wrong with the names. The layout comes first: the rest may follow from it."""
    problems = []
    for category, tests in source.tests.items():
        place = source.root / category / "test"
        if not any(test.is_defective for test in tests) or all(test.is_defective for test in tests):
            problems.append(f"{shown(str(place))} must have images in good/ and in a folder for each kind of defect.")
        good, other = ({test.path.suffix for test in tests if test.is_defective is kind} for kind in (False, True))
        if good and other and good != other:
            problems.append(
                f"{shown(str(place))}: the names' ends {sorted(good)} and {sorted(other)} tell good from bad."
            )
    problems += [f"--leave-out {pattern}: fits no file." for pattern in leave_out if not source.left_out[pattern]]
    if without_mask:
        problems.append(
            f"Defective images that have no mask CATEGORY/ground_truth/KIND/NAME_mask.png ({len(without_mask):,}): "
            f"{some(without_mask)}"
        )
    if not_taken:
        count = sum(map(len, not_taken.values()))
        problems.append(f"Files that are not taken: {count:,}")
        problems += [f"  {why} ({len(names):,}): {some(names)}" for why, names in sorted(not_taken.items())]
        problems.append(
            "Correct the source, or leave them out on purpose: --leave-out with a file's or a folder's name, path or pattern."
        )
    if problems:
        raise CannotHide("\n".join(problems))
