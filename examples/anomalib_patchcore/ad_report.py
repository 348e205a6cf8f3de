"""What a run leaves in its output folder: metrics.json for the platform, and pictures and tables for people.

    metrics.json     {"params": {...}, "metrics": {...}}: means over the categories, and each category's own
    curves.json      the ROC and per-region-overlap curves, and the histograms of the images' scores
    scores.csv       every test image: its category, kind, label, score, and how it was called
    roc.png pro.png scores.png   the same, drawn
    maps_CATEGORY.png            the clearest find of each kind of defect: image, true mask, anomaly map

Where labels are hidden, predictions/ for the platform's scorer instead: predictions.csv, and a map of each image.

Each example carries its own identical copy of this file, because a submission has nothing but its own files.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from ad_metrics import FPR_LIMIT, Curve, area

if TYPE_CHECKING:
    from ad_harness import Result

MAIN_METRICS = ("image_auc", "image_f1", "pixel_auc", "pixel_pro")
CURVE_POINTS = 200
BINS = 20
TILE = 128
Colour = tuple[int, int, int]  # BGR
BLUE, ORANGE, GREEN, RED = (180, 119, 31), (14, 127, 255), (44, 160, 44), (40, 39, 214)
COLOURS: tuple[Colour, ...] = (BLUE, ORANGE, GREEN, (189, 103, 148), (75, 86, 140), (194, 119, 227))
GREY, BLACK = (215, 215, 215), (60, 60, 60)


def summarise(results: list[Result]) -> dict[str, float]:
    """The means over the categories first, then each category's own metrics, then what it cost."""
    metrics = {key: float(np.mean([r.evaluation.metrics[key] for r in results])) for key in MAIN_METRICS}
    for result in results:
        name = result.category.name
        metrics |= {f"{name}_{key}": value for key, value in result.evaluation.metrics.items()}
    return {key: round(value, 6) for key, value in (metrics | cost(results)).items()}


def thin(curve: Curve) -> dict[str, list[float]]:
    """At most CURVE_POINTS points, spread evenly along both axes, the two ends among them."""
    along = curve.x / max(curve.x[-1], 1e-12) + curve.y
    wanted = np.linspace(along[0], along[-1], CURVE_POINTS)
    kept = np.unique(np.append(np.searchsorted(along, wanted).clip(max=along.size - 1), [0, along.size - 1]))
    return {"x": np.round(curve.x[kept], 5).tolist(), "y": np.round(curve.y[kept], 5).tolist()}


def histogram(result: Result) -> dict[str, Any]:
    """How the scores of good and of defective images spread, over the same bins."""
    edges = np.linspace(result.scores.min(), result.scores.max(), BINS + 1)
    labels = result.category.labels
    good, bad = (np.histogram(result.scores[labels == kind], edges)[0].tolist() for kind in (False, True))
    threshold = round(result.evaluation.threshold, 6)
    return {"edges": np.round(edges, 6).tolist(), "good": good, "defect": bad, "threshold": threshold}


def curves(results: list[Result]) -> dict[str, Any]:
    roc = {"x_label": "false positive rate", "y_label": "true positive rate"}
    pro = {"x_label": "false positive rate", "y_label": "mean overlap with a defect"}
    return {
        "image_roc": roc | {"curves": {r.category.name: thin(r.evaluation.image_roc) for r in results}},
        "pixel_roc": roc | {"curves": {r.category.name: thin(r.evaluation.pixel_roc) for r in results}},
        "pro": pro | {"curves": {r.category.name: thin(r.evaluation.pro) for r in results}},
        "image_scores": {r.category.name: histogram(r) for r in results},
    }


def text(canvas: np.ndarray, words: str, x: int, y: int, colour: Colour = BLACK) -> None:
    cv2.putText(canvas, words, (x, y), cv2.FONT_HERSHEY_SIMPLEX, 0.42, colour, 1, cv2.LINE_AA)


Place = Callable[[float, float], tuple[int, int]]


def axes(title: str, x_label: str, x_max: float) -> tuple[np.ndarray, Place]:
    """An empty chart with its grid (y from 0 to 1), and the function from values to its pixels."""
    canvas = np.full((400, 480, 3), 255, dtype=np.uint8)
    left, right, top, bottom = 52, 462, 36, 352

    def place(x: float, y: float) -> tuple[int, int]:
        return round(left + (right - left) * x / x_max), round(bottom - (bottom - top) * y)

    for tick in np.linspace(0, 1, 6):
        cv2.line(canvas, place(0, tick), place(x_max, tick), GREY, 1)
        cv2.line(canvas, place(tick * x_max, 0), place(tick * x_max, 1), GREY, 1)
        text(canvas, f"{tick:.1f}", 20, place(0, tick)[1] + 4)
        text(canvas, f"{tick * x_max:.2f}", place(tick * x_max, 0)[0] - 14, bottom + 18)
    text(canvas, title, left, 22)
    text(canvas, x_label, left, bottom + 38)
    return canvas, place


def draw_curves(title: str, x_label: str, x_max: float, lines: dict[str, Curve]) -> np.ndarray:
    """A chart with a line for each category, named in its lower right corner with the area below it."""
    canvas, place = axes(title, x_label, x_max)
    for number, (name, curve) in enumerate(lines.items()):
        colour = COLOURS[number % len(COLOURS)]
        points = np.array([place(x, y) for x, y in zip(*thin(curve).values(), strict=True)], dtype=np.int32)
        cv2.polylines(canvas, [points], False, colour, 2, cv2.LINE_AA)
        y = 340 - 18 * (len(lines) - number - 1)
        cv2.line(canvas, (290, y - 4), (312, y - 4), colour, 2)
        text(canvas, f"{name} {area(curve) / x_max:.3f}", 320, y)
    return canvas


def draw_histogram(result: Result) -> np.ndarray:
    """Good images green, defective ones red, the best threshold as a line."""
    bars = histogram(result)
    highest = max(max(bars["good"]), max(bars["defect"]), 1)
    canvas = np.full((180, 480, 3), 255, dtype=np.uint8)
    width = 420 // BINS
    for kind, colour, shift in (("good", GREEN, 0), ("defect", RED, width // 2)):
        for number, count in enumerate(bars[kind]):
            x, top = 30 + number * width + shift, 150 - round(110 * count / highest)
            cv2.rectangle(canvas, (x, top), (x + width // 2 - 1, 150), colour, -1)
    low, high = bars["edges"][0], bars["edges"][-1]
    line = 30 + round(BINS * width * (bars["threshold"] - low) / max(high - low, 1e-12))
    cv2.line(canvas, (line, 34), (line, 154), BLACK, 1)
    words = "scores of good (green) and defective (red) images, best threshold"
    text(canvas, f"{result.category.name}: {words}", 30, 22)
    text(canvas, f"{low:.3g}", 30, 168)
    text(canvas, f"{high:.3g}", 420, 168)
    return canvas


def heat(image: np.ndarray, anomaly: np.ndarray, low: float, high: float) -> np.ndarray:
    """The anomaly map in colours over the grey image (BGR)."""
    level = np.clip((anomaly - low) / max(high - low, 1e-12), 0, 1)
    colours = cv2.applyColorMap((level * 255).astype(np.uint8), cv2.COLORMAP_JET)
    grey = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2BGR)
    return cv2.addWeighted(colours, 0.5, grey, 0.5, 0)


def tile(image: np.ndarray, words: str) -> np.ndarray:
    canvas = np.full((TILE + 20, TILE + 4, 3), 255, dtype=np.uint8)
    canvas[18 : 18 + TILE, 2 : 2 + TILE] = cv2.resize(image, (TILE, TILE), interpolation=cv2.INTER_AREA)
    text(canvas, words, 2, 13)
    return canvas


def draw_maps(result: Result) -> np.ndarray:
    """A row for the highest score of each kind: image with the true outline, mask, anomaly map."""
    category, rows = result.category, []
    low, high = np.percentile(result.maps, 5), np.percentile(result.maps, 99.5)
    for kind in sorted(set(category.kinds), key=lambda kind: (kind == "good", kind)):
        shown = max((i for i, k in enumerate(category.kinds) if k == kind), key=lambda i: result.scores[i])
        image, mask = category.test[shown], category.masks[shown].astype(np.uint8)
        outlined = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
        outlines, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
        cv2.drawContours(outlined, outlines, -1, RED, 1)
        truth = cv2.cvtColor(mask * 255, cv2.COLOR_GRAY2BGR)
        hot, score = heat(image, result.maps[shown], low, high), f"{result.scores[shown]:.3g}"
        rows.append(np.hstack([tile(outlined, kind), tile(truth, "truth"), tile(hot, score)]))
    return np.vstack(rows)


def write_scores(path: Path, results: list[Result]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["category", "image", "kind", "defect", "score", "called_defect"])
        for result in results:
            category, threshold = result.category, result.evaluation.threshold
            rows = zip(category.paths, category.kinds, category.labels, result.scores, strict=True)
            for image, kind, defect, score in rows:
                called = int(score >= threshold)
                table.writerow([category.name, image, kind, int(defect), f"{score:.6g}", called])


def write_pictures(out: Path, results: list[Result]) -> None:
    roc = {result.category.name: result.evaluation.image_roc for result in results}
    pro = {result.category.name: result.evaluation.pro for result in results}
    pictures = {
        "roc.png": draw_curves("Images: true positive rate", "false positive rate", 1.0, roc),
        "pro.png": draw_curves("Pixels: mean overlap with a defect", "false positive rate", FPR_LIMIT, pro),
        "scores.png": np.vstack([draw_histogram(result) for result in results]),
    }
    for result in results:
        pictures[f"maps_{result.category.name}.png"] = draw_maps(result)
    for name, picture in pictures.items():
        if not cv2.imwrite(str(out / name), picture):
            raise OSError(f"cannot write {out / name}")


def write_metrics(out: Path, method: str, config: dict[str, Any], metrics: dict[str, float]) -> None:
    params = {key: ", ".join(map(str, v)) if isinstance(v, list) else v for key, v in config.items()}
    record = {"params": {"method": method} | params, "metrics": metrics}
    (out / "metrics.json").write_text(json.dumps(record, indent=2, allow_nan=False) + "\n", encoding="utf-8")


def cost(results: list[Result]) -> dict[str, float]:
    tested = sum(len(result.scores) for result in results)
    return {
        "fit_seconds": sum(result.seconds["fit"] for result in results),
        "test_ms_per_image": 1000 * sum(result.seconds["test"] for result in results) / tested,
    }


def write_predictions(out: Path, method: str, config: dict[str, Any], results: list[Result]) -> None:
    """A score and a map of each test image; a category's maps are brought to one scale of 16 bits."""
    folder = out / "predictions"
    folder.mkdir()
    with (folder / "predictions.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["image", "score"])
        for result in results:
            low, high = float(result.maps.min()), float(result.maps.max())
            levels = (result.maps - low) / max(high - low, 1e-12) * 65535
            for path, score, level in zip(result.category.paths, result.scores, levels, strict=True):
                name = f"{result.category.name}/{path}"
                table.writerow([name, f"{score:.9g}"])
                place = (folder / "maps" / name).with_suffix(".png")
                place.parent.mkdir(parents=True, exist_ok=True)
                if not cv2.imwrite(str(place), np.rint(level).astype(np.uint16)):
                    raise OSError(f"cannot write {place}")
    write_metrics(out, method, config, {key: round(value, 6) for key, value in cost(results).items()})


def write(out: Path, method: str, config: dict[str, Any], results: list[Result]) -> dict[str, float]:
    """Write everything, metrics.json last: where it is, the rest is too. Returns the metrics."""
    write_pictures(out, results)
    write_scores(out / "scores.csv", results)
    (out / "curves.json").write_text(json.dumps(curves(results)) + "\n", encoding="utf-8")
    metrics = summarise(results)
    write_metrics(out, method, config, metrics)
    return metrics
