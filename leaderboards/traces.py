"""Measure whether file metadata, which a run sees without reading files, tells defective test images from good ones.

A mask that was written right after its image leaves a gap in the inode numbers and in the times of the images. Only the
standard library is imported, because the tests run this module inside the sandbox too.
"""

import ctypes
import itertools
import os
import struct
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

# In standard deviations of chance: reached once in two million times for each of some twenty compared numbers.
CLEAR = 5.0
# The file size follows from the pixels, so other numbers count only if they tell more than it does.
MORE_THAN_SIZE = 0.1
_AT_FDCWD, _AT_SYMLINK_NOFOLLOW, _STATX_BASIC_AND_BIRTH = -100, 0x100, 0xFFF
_STATX_BIRTH = 0x800


@dataclass(frozen=True)
class Image:
    """A test image with its label and the metadata of its file and of its mask's."""

    category: str
    is_defective: bool
    shown: Mapping[str, int]
    mask: Mapping[str, int] | None = None


def shown_by(path: str | Path) -> dict[str, int]:
    """Return all numbers that the file system shows of a file besides its content."""
    state = Path(path).stat(follow_symlinks=False)
    shown = {
        "inode number": state.st_ino, "change time": state.st_ctime_ns, "modification time": state.st_mtime_ns,
        "access time": state.st_atime_ns, "links": state.st_nlink, "blocks": state.st_blocks, "mode": state.st_mode,
        "owner": state.st_uid, "group": state.st_gid, "device": state.st_dev, "size": state.st_size,
    }  # fmt: skip
    birth = _birth_time(path)
    return shown if birth is None else shown | {"birth time": birth}


def _birth_time(path: str | Path) -> int | None:
    """Return it in nanoseconds; None if the C library or the file system does not tell it."""
    statx = getattr(ctypes.CDLL(None), "statx", None)
    answer = ctypes.create_string_buffer(256)
    if statx is None or statx(_AT_FDCWD, os.fsencode(path), _AT_SYMLINK_NOFOLLOW, _STATX_BASIC_AND_BIRTH, answer):
        return None
    seconds, nanoseconds = struct.unpack_from("=qI", answer, 80)
    return seconds * 10**9 + nanoseconds if struct.unpack_from("=I", answer, 0)[0] & _STATX_BIRTH else None


def leak(images: Sequence[Image]) -> str:
    """Return in a few words what tells the labels; empty if nothing does. `images` are in name order."""
    categories: dict[str, list[Image]] = defaultdict(list)
    for image in images:
        categories[image.category].append(image)
    return _masks_between(categories) or _clear_numbers(categories)


def _masks_between(categories: Mapping[str, Sequence[Image]]) -> str:
    """Look for masks that were written between images. This works for a few files too, where statistics tell nothing."""
    within: dict[str, list[bool]] = defaultdict(list)
    for members in categories.values():
        for name in ("birth time", "change time"):
            times = [image.shown[name] for image in members if name in image.shown]
            masks = [image.mask[name] for image in members if image.mask and name in image.mask]
            within[name] += [min(times) < time < max(times) for time in masks if times]
        for image, following in itertools.pairwise(members):
            if image.mask and image.mask["device"] == image.shown["device"]:
                first, last = image.shown["inode number"], following.shown["inode number"]
                within["inode number"].append(first < image.mask["inode number"] < last)
    for name, answers in within.items():
        if answers and sum(answers) * 2 >= len(answers):
            return f"{sum(answers)} of {len(answers)} masks lie between the images by their {name}"
    return ""


def _clear_numbers(categories: Mapping[str, Sequence[Image]]) -> str:
    size, _ = separation(
        [_labelled(members, [image.shown["size"] for image in members]) for members in categories.values()]
    )
    for name, auc, deviations in tellings(categories.values()):
        if abs(deviations) >= CLEAR and abs(auc - 0.5) > abs(size - 0.5) + MORE_THAN_SIZE:
            return f"the {name} tells defective images from good ones (AUC {max(auc, 1 - auc):.2f})"
    return ""


def tellings(categories: Iterable[Sequence[Image]]) -> list[tuple[str, float, float]]:
    """Return (name, AUC, standard deviations from chance) for each number of the files, and for the gaps to its neighbours."""
    series: dict[str, list[list[tuple[int, bool]]]] = defaultdict(list)
    for members in categories:
        for name in sorted(set.intersection(*(set(image.shown) for image in members)) - {"size", "blocks"}):
            values = [image.shown[name] for image in members]
            series[name].append(_labelled(members, values))
            before, after = _gaps(values)
            series[f"gap before the {name}"].append(_labelled(members, before))
            series[f"gap after the {name}"].append(_labelled(members, after))
    return [(name, *separation(strata)) for name, strata in series.items()]


def _labelled(members: Sequence[Image], values: Sequence[int]) -> list[tuple[int, bool]]:
    return [(value, image.is_defective) for value, image in zip(values, members, strict=True)]


def _gaps(values: Sequence[int]) -> tuple[list[int], list[int]]:
    """Return for each value the distances to the next smaller and the next larger one; 0 at the ends."""
    order = sorted(range(len(values)), key=values.__getitem__)
    before, after = [0] * len(values), [0] * len(values)
    for left, right in itertools.pairwise(order):
        after[left] = before[right] = values[right] - values[left]
    return before, after


def separation(strata: Iterable[Sequence[tuple[int, bool]]]) -> tuple[float, float]:
    """Return (AUC, standard deviations from chance) by the Mann-Whitney test within each stratum; ties count half."""
    wins = pairs = variance = 0.0
    for values in strata:
        good, defective = (sum(is_defective is kind for _, is_defective in values) for kind in (False, True))
        count, ranks, ties = len(values), 0.0, 0.0
        if not good or not defective:
            continue
        ordered = sorted(values)
        start = 0
        while start < count:
            end = start
            while end < count and ordered[end][0] == ordered[start][0]:
                end += 1
            ranks += (start + end + 1) / 2 * sum(is_defective for _, is_defective in ordered[start:end])
            ties += (end - start) ** 3 - (end - start)
            start = end
        wins += ranks - defective * (defective + 1) / 2
        pairs += good * defective
        variance += good * defective / 12 * (count + 1 - ties / (count * (count - 1)))
    if not variance:
        return 0.5, 0.0
    return wins / pairs, (wins - pairs / 2) / variance**0.5
