"""Everything around a detector: command line, configuration, images, the loop over the categories.

A detector learns from good images, then scores any image and draws its anomaly map; the rest is the same for
all of them, so that the leaderboard compares detectors and not the ways they were measured.

The data lie as MVTec AD does, below $DATASET_DIR:

    CATEGORY/train/good/*   CATEGORY/test/{good,KIND}/*   CATEGORY/ground_truth/KIND/*_mask.png

or without labels, as CATEGORY/test/*: then the run leaves predictions, which the platform scores on labels that it keeps.

Each example carries its own identical copy of this file, because a submission has nothing but its own files.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import ad_metrics
import ad_report
import cv2
import numpy as np
import yaml

IMAGE_SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff"}
COMMON: dict[str, Any] = {"categories": "all", "image_size": 128}


class Detector(Protocol):
    """What an example has to bring. Images are (N, S, S, 3) uint8 RGB."""

    def fit(self, images: np.ndarray) -> None: ...

    def predict(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Scores (N,) and anomaly maps (N, S, S), both higher where it is worse."""


@dataclass
class Category:
    name: str
    train: np.ndarray  # (N, S, S, 3) uint8
    test: np.ndarray  # (M, S, S, 3) uint8
    masks: np.ndarray  # (M, S, S) bool
    kinds: list[str]  # M names: "good", or the kind of the defect; "" where labels are hidden
    paths: list[str]  # M paths below the category

    @property
    def is_hidden(self) -> bool:
        return "" in self.kinds

    @property
    def labels(self) -> np.ndarray:
        return np.array([kind != "good" for kind in self.kinds])


@dataclass
class Result:
    """What a detector made of one category."""

    category: Category
    scores: np.ndarray  # (M,)
    maps: np.ndarray  # (M, S, S)
    evaluation: ad_metrics.Evaluation | None  # none where labels are hidden
    seconds: dict[str, float] = field(default_factory=dict)


def progress(fraction: float, message: str) -> None:
    """A line for the log that a program can read too: `::progress 0.35 message`."""
    print(f"::progress {fraction:.2f} {message}", flush=True)


def report(step: int, metrics: dict[str, float]) -> None:
    """Points of curves, for the log and for programs: `::metric step=1 category/image_auc=0.94`."""
    values = " ".join(f"category/{name}={value:.6g}" for name, value in metrics.items() if np.isfinite(value))
    print(f"::metric step={step} {values}", flush=True)


def read_config(path: Path, own: dict[str, Any]) -> dict[str, Any]:
    """The example's defaults, and over them the file's settings. An unknown name is a mistake."""
    given = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    if not isinstance(given, dict):
        raise SystemExit(f"{path.name} must hold names and values")
    known = COMMON | own
    unknown = sorted(set(given) - set(known))
    if unknown:
        raise SystemExit(f"{path.name}: unknown {', '.join(unknown)}; known are {', '.join(sorted(known))}")
    return known | given


def find_categories(root: Path, wanted: str | list[str]) -> list[str]:
    there = sorted(path.parent.parent.name for path in root.glob("*/train/good"))
    if not there:
        raise SystemExit(f"no CATEGORY/train/good below {root}: is $DATASET_DIR right?")
    names = there if wanted == "all" else [wanted] if isinstance(wanted, str) else list(wanted)
    missing = [name for name in names if name not in there]
    if missing:
        raise SystemExit(f"the data set has no {', '.join(missing)}; it has {', '.join(there)}")
    return names


def image_files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("*") if path.suffix.lower() in IMAGE_SUFFIXES)


def read_image(path: Path, size: int) -> np.ndarray:
    """RGB, resized to a square."""
    image = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if image is None:
        raise SystemExit(f"cannot read {path}")
    image = cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
    if image.shape[:2] == (size, size):
        return image
    return cv2.resize(image, (size, size), interpolation=cv2.INTER_AREA)


def read_mask(path: Path, size: int) -> np.ndarray:
    mask = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
    if mask is None:
        raise SystemExit(f"cannot read the mask {path}")
    return cv2.resize(mask, (size, size), interpolation=cv2.INTER_NEAREST) > 127


def test_images(root: Path, size: int) -> Iterator[tuple[str, Path, np.ndarray]]:
    """The kind, the path and the mask of each test image, kind by kind."""
    for path in image_files(root / "test"):
        yield "", path, np.zeros((size, size), dtype=bool)
    for folder in sorted(path for path in (root / "test").iterdir() if path.is_dir()):
        for path in image_files(folder):
            if folder.name == "good":
                mask = np.zeros((size, size), dtype=bool)
            else:
                mask = read_mask(root / "ground_truth" / folder.name / f"{path.stem}_mask.png", size)
            yield folder.name, path, mask


def load_category(root: Path, name: str, size: int) -> Category:
    train = np.stack([read_image(path, size) for path in image_files(root / name / "train" / "good")])
    kinds, paths, masks = zip(*test_images(root / name, size), strict=True)
    test = np.stack([read_image(path, size) for path in paths])
    relative = [str(path.relative_to(root / name)) for path in paths]
    return Category(name, train, test, np.stack(masks), list(kinds), relative)


def run_category(category: Category, detector: Detector) -> Result:
    started = time.perf_counter()
    detector.fit(category.train)
    fitted = time.perf_counter()
    scores, maps = detector.predict(category.test)
    seconds = {"fit": fitted - started, "test": time.perf_counter() - fitted}
    if category.is_hidden:
        return Result(category, scores, maps, None, seconds)
    evaluation = ad_metrics.evaluate(category.labels, scores, category.masks, maps)
    return Result(category, scores, maps, evaluation, seconds)


def run_categories(names: list[str], root: Path, size: int, make: Callable[[], Detector]) -> Iterator[Result]:
    share = 0.95 / len(names)  # the rest is for the report
    for number, name in enumerate(names):
        progress(share * number, f"{name}: reading images")
        category = load_category(root, name, size)
        counts = f"{len(category.train)} images to learn from, {len(category.test)} to test"
        progress(share * (number + 0.2), f"{name}: {counts}")
        result = run_category(category, make())
        metrics = result.evaluation.metrics if result.evaluation else {}
        values = "  ".join(f"{key} {value:.4f}" for key, value in metrics.items()) or "labels are hidden"
        timing = ", ".join(f"{key} {value:.1f} s" for key, value in result.seconds.items())
        print(f"{name:<12} {values}  ({timing})", flush=True)
        report(number, metrics | {f"{key}_seconds": value for key, value in result.seconds.items()})
        yield result


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Learn from good images, find defects, write metrics.json.")
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--dataset", type=Path, help="default: $DATASET_DIR")
    arguments = parser.parse_args()
    if arguments.dataset is None and "DATASET_DIR" in os.environ:
        arguments.dataset = Path(os.environ["DATASET_DIR"])
    if arguments.dataset is None:
        parser.error("set DATASET_DIR, or give --dataset")
    return arguments


def run(method: str, own: dict[str, Any], make: Callable[[dict[str, Any]], Detector]) -> None:
    """An example's main: `own` are its settings and their defaults, `make` builds its detector from them."""
    arguments = parse_arguments()
    config = read_config(arguments.config, own)
    names = find_categories(arguments.dataset, config["categories"])
    arguments.output.mkdir(parents=True, exist_ok=True)
    print(f"{method} on {', '.join(names)}: {config}", flush=True)
    results = list(run_categories(names, arguments.dataset, config["image_size"], lambda: make(config)))
    if any(result.category.is_hidden for result in results):
        progress(0.95, "writing predictions")
        ad_report.write_predictions(arguments.output, method, config | {"categories": names}, results)
        progress(1.0, "done: the platform scores the predictions")
        return
    progress(0.95, "drawing curves and maps")
    metrics = ad_report.write(arguments.output, method, config | {"categories": names}, results)
    progress(1.0, f"done: image_auc {metrics['image_auc']:.4f}, pixel_pro {metrics['pixel_pro']:.4f}")
