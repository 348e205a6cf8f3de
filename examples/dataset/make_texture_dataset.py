#!/usr/bin/env python3
"""Make the demonstration data: real textures, synthetic defects, in the folder layout of MVTec AD.

The textures are the photographs brick, grass and gravel that ship with scikit-image (512 x 512, grey, CC0).
The defects (scratch, blob, cutpaste) are drawn, each with its mask. Train and test crops come from disjoint
halves of a photograph, so no test pixel was seen in training.

    OUT/CATEGORY/train/good/000.png
    OUT/CATEGORY/test/{good,scratch,blob,cutpaste}/000.png
    OUT/CATEGORY/ground_truth/{scratch,blob,cutpaste}/000_mask.png    (0 good, 255 defect)
    OUT/dataset.json                                    (what it is, and a digest of each category)

The same arguments give the same bytes. OUT appears whole or not at all; a whole OUT is left as it is, and a
folder that this program did not make is never touched. One JSON line a category goes to standard output.

Needs numpy, pillow and scikit-image: the runner's environment (requirements/runner.txt) has them.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter
from skimage import data

CATEGORIES = ("brick", "grass", "gravel")
SPLIT_ROW = 288  # the photograph's rows above are for training, the rows below for testing
MANIFEST = "dataset.json"
MADE_BY = "make_texture_dataset.py 1"  # raise the number when the pictures change: older folders are then remade

Drawing = tuple[np.ndarray, np.ndarray]  # (image, mask): grey float (S, S) and bool (S, S)


@dataclass(frozen=True)
class Recipe:
    """How much of what; a data set is wholly determined by it."""

    categories: tuple[str, ...] = CATEGORIES
    size: int = 128
    train: int = 60
    test_good: int = 10
    per_defect: int = 10
    seed: int = 0

    def as_json(self) -> dict:
        return asdict(self) | {"categories": list(self.categories)}


def crop(texture: np.ndarray, rng: np.random.Generator, size: int, rows: tuple[int, int]) -> np.ndarray:
    """A random crop between two rows, with flips and mild exposure changes: one camera, one day."""
    side = min(int(size * rng.uniform(1.0, 1.15)), rows[1] - rows[0])
    top = int(rng.integers(rows[0], rows[1] - side + 1))
    left = int(rng.integers(0, texture.shape[1] - side + 1))
    image = Image.fromarray(texture[top : top + side, left : left + side])
    grey = np.asarray(image.resize((size, size), Image.Resampling.BICUBIC), dtype=np.float32)
    if rng.random() < 0.5:
        grey = grey[:, ::-1]
    grey = (grey - grey.mean()) * rng.uniform(0.92, 1.08) + grey.mean() + rng.uniform(-8, 8)
    return np.clip(grey + rng.normal(0, 1.5, grey.shape), 0, 255)


def scratch(image: np.ndarray, rng: np.random.Generator, other: np.ndarray) -> Drawing:
    """A thin wandering line, clearly darker or brighter than the texture."""
    size = image.shape[0]
    mask = Image.new("L", (size, size), 0)
    x, y = rng.uniform(0.15, 0.85, 2) * size
    angle, points = rng.uniform(0, 2 * np.pi), [(x, y)]
    for _ in range(int(rng.integers(6, 12))):
        angle += rng.normal(0, 0.25)
        x, y = x + np.cos(angle) * size * 0.06, y + np.sin(angle) * size * 0.06
        points.append((x, y))
    ImageDraw.Draw(mask).line(points, fill=255, width=int(rng.integers(2, 4)), joint="curve")
    alpha = np.asarray(mask.filter(ImageFilter.GaussianBlur(0.6)), dtype=np.float32) / 255
    tone = np.clip(image.mean() + rng.choice([-1, 1]) * rng.uniform(70, 110), 5, 250)
    return image * (1 - alpha) + tone * alpha, np.asarray(mask) > 0


def blob(image: np.ndarray, rng: np.random.Generator, other: np.ndarray) -> Drawing:
    """A stain with a wobbly outline; the texture shows through."""
    size = image.shape[0]
    yy, xx = np.mgrid[:size, :size]
    cy, cx = rng.uniform(0.2, 0.8, 2) * size
    ry, rx = rng.uniform(0.06, 0.14, 2) * size
    turn = rng.uniform(0, np.pi)
    u = (xx - cx) * np.cos(turn) + (yy - cy) * np.sin(turn)
    v = (yy - cy) * np.cos(turn) - (xx - cx) * np.sin(turn)
    wobble = 1 + 0.2 * np.sin(np.arctan2(v, u) * int(rng.integers(2, 5)) + rng.uniform(0, 6))
    radius = np.sqrt((u / rx) ** 2 + (v / ry) ** 2) / wobble
    alpha = np.clip((1.15 - radius) / 0.3, 0, 1) * rng.uniform(0.55, 0.85)
    tone = np.clip(image.mean() + rng.choice([-1, 1]) * rng.uniform(60, 100), 5, 250)
    return image * (1 - alpha) + tone * alpha, radius < 1.0


def cutpaste(image: np.ndarray, rng: np.random.Generator, other: np.ndarray) -> Drawing:
    """A patch of another texture, at the brightness of what it covers: wrong in its structure only."""
    size = image.shape[0]
    h, w = (rng.uniform(0.14, 0.28, 2) * size).astype(int)
    y, x = int(rng.integers(2, size - h - 2)), int(rng.integers(2, size - w - 2))
    from_y, from_x = int(rng.integers(0, size - h)), int(rng.integers(0, size - w))
    patch = other[from_y : from_y + h, from_x : from_x + w]
    drawn, mask = image.copy(), np.zeros(image.shape, bool)
    drawn[y : y + h, x : x + w] = patch - patch.mean() + image[y : y + h, x : x + w].mean()
    mask[y : y + h, x : x + w] = True
    return drawn, mask


DEFECTS: dict[str, Callable[[np.ndarray, np.random.Generator, np.ndarray], Drawing]] = {
    "scratch": scratch,
    "blob": blob,
    "cutpaste": cutpaste,
}


def save(path: Path, grey: np.ndarray) -> None:
    """Write a grey picture as RGB, as the data sets of the field are."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.clip(np.rint(grey), 0, 255).astype(np.uint8)).convert("RGB").save(path, compress_level=3)


def save_mask(path: Path, mask: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(mask.astype(np.uint8) * 255).save(path)


def build_category(folder: Path, category: str, recipe: Recipe) -> None:
    number = CATEGORIES.index(category)
    rng = np.random.default_rng([recipe.seed, number])
    texture = getattr(data, category)()
    foreign = getattr(data, CATEGORIES[(number + 1) % len(CATEGORIES)])()
    train_rows, test_rows = (0, SPLIT_ROW), (SPLIT_ROW, texture.shape[0])
    for i in range(recipe.train):
        save(folder / f"train/good/{i:03}.png", crop(texture, rng, recipe.size, train_rows))
    for i in range(recipe.test_good):
        save(folder / f"test/good/{i:03}.png", crop(texture, rng, recipe.size, test_rows))
    for kind, draw in DEFECTS.items():
        for i in range(recipe.per_defect):
            image, other = (crop(source, rng, recipe.size, test_rows) for source in (texture, foreign))
            drawn, mask = draw(image, rng, other)
            save(folder / f"test/{kind}/{i:03}.png", drawn)
            save_mask(folder / f"ground_truth/{kind}/{i:03}_mask.png", mask)


def describe(folder: Path) -> dict:
    """Count and digest of a category's pictures, names included: what "right" is compared by."""
    files = sorted(folder.rglob("*.png"))
    digest = hashlib.sha256()
    for path in files:
        digest.update(str(path.relative_to(folder)).encode() + b"\0" + hashlib.sha256(path.read_bytes()).digest())
    size = sum(path.stat().st_size for path in files)
    return {"category": folder.name, "images": len(files), "bytes": size, "sha256": digest.hexdigest()}


def read_manifest(out: Path) -> dict:
    try:
        return json.loads((out / MANIFEST).read_text())
    except (OSError, ValueError):
        return {}


def is_complete(out: Path, recipe: Recipe) -> bool:
    """Whether OUT holds what this program makes of this recipe, to the last byte."""
    manifest = read_manifest(out)
    if (manifest.get("made_by"), manifest.get("recipe")) != (MADE_BY, recipe.as_json()):
        return False
    return manifest["categories"] == [describe(out / category) for category in recipe.categories]


def may_replace(out: Path) -> bool:
    """Nothing there, an empty folder, or an older or damaged one of ours; never someone's own files."""
    if not out.exists():
        return True
    ours = str(read_manifest(out).get("made_by", "")).startswith(MADE_BY.split()[0])
    return out.is_dir() and (ours or not any(out.iterdir()))


def build(folder: Path, recipe: Recipe) -> None:
    for category in recipe.categories:
        build_category(folder / category, category, recipe)
    manifest = {
        "title": "Textures: real textures, synthetic defects",
        "source": "scikit-image's photographs brick, grass and gravel (CC0); defects drawn by a program",
        "made_by": MADE_BY,
        "recipe": recipe.as_json(),
        "categories": [describe(folder / category) for category in recipe.categories],
    }
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n")


@contextlib.contextmanager
def alone(out: Path) -> Iterator[None]:
    """One maker of OUT at a time: the others wait, and then find it complete. It locks the folder above, so that no file
    is left; on a file system that cannot do that, two at once do the work twice."""
    out.parent.mkdir(parents=True, exist_ok=True)
    above = os.open(out.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with contextlib.suppress(OSError):
            fcntl.flock(above, fcntl.LOCK_EX)
        yield
    finally:
        os.close(above)


def make(out: Path, recipe: Recipe) -> None:
    """Build beside OUT and rename: whoever looks sees the old folder or the new one, never half of one."""
    if is_complete(out, recipe):
        return
    if not may_replace(out):
        raise SystemExit(f"{out} holds files that this program did not make; name an empty or a new folder")
    aside = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
    try:
        fresh = aside / "new"
        fresh.mkdir()  # not mkdtemp's 0700: a sandbox under another user id reads it
        build(fresh, recipe)
        if out.exists():
            out.rename(aside / "old")
        fresh.rename(out)
    except OSError:
        if not is_complete(out, recipe):  # without a lock: the other one's is as good
            raise
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def parse_arguments(argv: list[str] | None = None) -> tuple[Path, Recipe]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="the folder to make")
    parser.add_argument("--category", nargs="+", choices=CATEGORIES, default=CATEGORIES)
    parser.add_argument("--size", type=int, default=128, help="side of a picture in pixels (at most 192)")
    parser.add_argument("--train", type=int, default=60, help="good pictures to train on, a category")
    parser.add_argument("--test-good", type=int, default=10)
    parser.add_argument("--per-defect", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    a = parser.parse_args(argv)
    if not 32 <= a.size <= 192:
        parser.error("--size must be between 32 and 192: a crop has to fit into half a photograph")
    recipe = Recipe(tuple(a.category), a.size, a.train, a.test_good, a.per_defect, a.seed)
    return a.out, recipe


def main(argv: list[str] | None = None) -> int:
    out, recipe = parse_arguments(argv)
    out = out.resolve()
    with alone(out):
        make(out, recipe)
        made = read_manifest(out)["categories"]
    for line in made:
        print(json.dumps(line))
    return 0


if __name__ == "__main__":
    sys.exit(main())
