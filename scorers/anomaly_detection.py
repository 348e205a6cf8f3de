"""Defects in images, of data in the layout of MVTec AD whose labels `manage.py hide_labels` took away.

    labels.csv        image,defect,mask,height,width: the path below the data set, 0 or 1, the mask's path here or nothing
    predictions.csv   image,score: the same paths; a higher score is worse, on any scale
    maps/IMAGE.png    for pixel metrics: grey, 8 or 16 bits, brighter is worse; one scale for all of a category

    image_auc, image_f1    of the images' scores, as docs/examples.md defines them
    pixel_auc, pixel_pro   of all pixels of a category together; maps are brought to the size of the image first

Each is the mean over the categories (an image's first folder), whose own values are given apart.

Maps have 65 536 levels, so every curve is counted level by level: exact, and one image at a time is in memory.
"""

from __future__ import annotations

import struct
from pathlib import Path

import cv2
import numpy as np
from base import Labels, Scorer, Scores, auc, best_f1, labels, table
from faults import Faults

LEVELS = 65536
FPR_LIMIT = 0.3
# Of any map, and of one whose image is smaller than half of it: what is decoded for nothing could time the scorer out, whose
# failures cost no quota.
LARGEST_SIDE, SIDE_FOR_ALL = 8192, 1024
MOST_MAP_BYTES = 128 * 1024 * 1024
_PNG = b"\x89PNG\r\n\x1a\n"


class AnomalyDetection(Scorer):
    def score(self, predictions: Path, truth: Path) -> Scores:
        true = labels(truth, "image", "defect", "height", "width", optional=("mask",))
        faults = Faults()
        scores = table(predictions, true, faults, numbers=("score",))["score"]
        wants_pixels = any("pixel" in name for name in self.wanted)
        if wants_pixels:
            check_maps(predictions / "maps", true, faults)
        faults.refuse()  # before anything is decoded
        metrics: dict[str, list[float]] = {}
        own: dict[str, dict[str, float]] = {}
        for category, names in _categories(true).items():
            places = [true.places[name] for name in names]
            chosen = [scores[place] for place in places]
            is_defective = [true.texts["defect"][place] == "1" for place in places]
            measured = {"image_auc": auc(chosen, is_defective), "image_f1": best_f1(chosen, is_defective)}
            if wants_pixels:
                rows = [{"image": name, **true.row(true.places[name])} for name in names]
                measured |= pixel_metrics(rows, predictions / "maps", truth, faults)
            for name, value in measured.items():
                metrics.setdefault(name, []).append(value)
            own[category] = measured
        faults.refuse()
        return Scores({name: sum(values) / len(values) for name, values in metrics.items()}, own)


def _categories(true: Labels) -> dict[str, list[str]]:
    """Return the images by category, which is their first folder."""
    categories: dict[str, list[str]] = {}
    for name in true.places:
        categories.setdefault(name.partition("/")[0], []).append(name)
    return categories


class Levels:
    """How many good pixels, defective ones and shares of regions stand at each of a map's levels."""

    def __init__(self) -> None:
        self.good = np.zeros(LEVELS)
        self.bad = np.zeros(LEVELS)
        self.shares = np.zeros(LEVELS)
        self.regions = 0

    def add(self, level: np.ndarray, mask: np.ndarray) -> None:
        self.good += np.bincount(level[~mask], minlength=LEVELS)
        if not mask.any():
            return
        self.bad += np.bincount(level[mask], minlength=LEVELS)
        count, numbers = cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)
        sizes = np.bincount(numbers.ravel())
        self.shares += np.bincount(level[mask], weights=1 / sizes[numbers[mask]], minlength=LEVELS)
        self.regions += count - 1

    def metrics(self) -> dict[str, float]:
        if not self.regions or not self.good.any():
            raise ValueError("the masks of a category have one kind of pixels only")
        wrong = np.append(0, np.cumsum(self.good[::-1])) / self.good.sum()
        right = np.append(0, np.cumsum(self.bad[::-1])) / self.bad.sum()
        overlap = np.append(0, np.cumsum(self.shares[::-1])) / self.regions
        return {"pixel_auc": area(wrong, right), "pixel_pro": area(*up_to(wrong, overlap, FPR_LIMIT)) / FPR_LIMIT}


def area(x: np.ndarray, y: np.ndarray) -> float:
    return float(np.sum(np.diff(x) * (y[1:] + y[:-1]) / 2))


def up_to(x: np.ndarray, y: np.ndarray, limit: float) -> tuple[np.ndarray, np.ndarray]:
    """The part of a curve with x <= limit, its last point interpolated."""
    inside = int(np.searchsorted(x, limit, side="right"))
    if inside == x.size or x[inside - 1] == limit:
        return x[:inside], y[:inside]
    share = (limit - x[inside - 1]) / (x[inside] - x[inside - 1])
    last = y[inside - 1] + share * (y[inside] - y[inside - 1])
    return np.append(x[:inside], limit), np.append(y[:inside], last)


def pixel_metrics(rows: list[dict[str, str]], maps: Path, truth: Path, faults: Faults) -> dict[str, float]:
    """Of the test images of one category; nothing once a map cannot be decoded, but the others are still looked at."""
    levels = Levels()
    for row in rows:
        shape = (int(row["height"]), int(row["width"]))
        level = read_map(maps, row["image"], shape, faults)
        if level is not None and not faults:
            levels.add(level, read_mask(truth, row, shape))
    return {} if faults else levels.metrics()


def read_mask(truth: Path, row: dict[str, str], shape: tuple[int, int]) -> np.ndarray:
    if not row["mask"]:
        return np.zeros(shape, dtype=bool)
    mask = cv2.imread(str(truth / row["mask"]), cv2.IMREAD_GRAYSCALE)
    if mask is None or mask.shape != shape:
        raise ValueError(f"the mask {row['mask']} cannot be read or has another size than its image")
    return mask > 127


def map_name(image: str) -> str:
    return str(Path(image).with_suffix(".png"))


def check_maps(maps: Path, true: Labels, faults: Faults) -> None:
    """Look at each map's file and head."""
    missing = []
    for image, place in true.places.items():
        name = map_name(image)
        if not (maps / name).is_file():
            missing.append(f"predictions/maps/{name}")
        else:
            row = true.row(place)
            check_map(maps / name, f"maps/{name}", max(int(row["height"]), int(row["width"])), faults)
    if missing:
        faults.add_missing("no_map", len(true.places), len(missing), missing)


def check_map(path: Path, name: str, longer_side: int, faults: Faults) -> None:
    if path.stat().st_size > MOST_MAP_BYTES:
        faults.add("map_too_large", {"most": f"{MOST_MAP_BYTES // 1024**2} MiB"}, name=name)
        return
    with path.open("rb") as file:
        head = file.read(26)
    # Its size by its head, before anything is decoded: a small file can be a huge picture.
    if len(head) < 26 or head[:8] != _PNG or head[12:16] != b"IHDR" or head[25] != 0 or head[24] not in (8, 16):
        faults.add("map_not_grey", name=name)
        return
    side, most = max(struct.unpack(">II", head[16:24])), min(LARGEST_SIDE, max(SIDE_FOR_ALL, 2 * longer_side))
    if side > most:
        faults.add("map_side", name=name, side=side, most=most)


def read_map(folder: Path, image: str, shape: tuple[int, int], faults: Faults) -> np.ndarray | None:
    """A stranger's anomaly map, its head checked, as levels (H, W) at the image's size; None if it cannot be decoded."""
    name = map_name(image)
    level = cv2.imread(str(folder / name), cv2.IMREAD_UNCHANGED)
    if level is None or level.ndim != 2 or level.dtype not in (np.uint8, np.uint16):
        faults.add("map_unreadable", name=f"maps/{name}")
        return None
    if level.dtype == np.uint8:
        level = level.astype(np.uint16) * 257
    if level.shape != shape:
        level = cv2.resize(level, (shape[1], shape[0]), interpolation=cv2.INTER_LINEAR)
    return level
