"""The metrics of anomaly detection, on numpy and OpenCV alone.

A score says how anomalous an image (or a pixel) is: higher is worse, any scale. A label is true for a defect.

    image_auc   area under the ROC curve of the images' scores
    image_f1    the best F1 that any threshold on the images' scores reaches
    pixel_auc   area under the ROC curve of all pixels of all test images together
    pixel_pro   area under the per-region-overlap curve up to a false positive rate of 0.3, divided by 0.3
                (Bergmann et al., "The MVTec Anomaly Detection Dataset", IJCV 2021): at each threshold the
                part of a defect region that is found, averaged over all regions, against the part of all
                good pixels that is falsely found. A small defect counts as much as a large one.

Each example carries its own identical copy of this file, because a submission has nothing but its own files.
"""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np

FPR_LIMIT = 0.3


class Curve(NamedTuple):
    """A curve that starts at (0, 0); both axes between 0 and 1."""

    x: np.ndarray
    y: np.ndarray


class Evaluation(NamedTuple):
    """What one category's test images gave."""

    metrics: dict[str, float]
    image_roc: Curve
    pixel_roc: Curve
    pro: Curve
    threshold: float  # on the images' scores, where F1 is best


def _steps(scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The order of falling scores, and the last position of each run of equal ones.

    Equal scores pass a threshold together, so a curve has one point for a run, not one for each.
    """
    order = np.argsort(-scores, kind="stable")
    ranked = scores[order]
    ends = np.append(np.flatnonzero(ranked[1:] != ranked[:-1]), ranked.size - 1)
    return order, ends


def _checked(labels: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    labels = np.asarray(labels).ravel().astype(bool)
    scores = np.asarray(scores, dtype=np.float64).ravel()
    if labels.shape != scores.shape:
        raise ValueError(f"{labels.size} labels for {scores.size} scores")
    if not np.isfinite(scores).all():
        raise ValueError("a score is not a finite number")
    if labels.all() or not labels.any():
        raise ValueError("the metrics need defects and good ones; the test set has one kind only")
    return labels, scores


def roc_curve(labels: np.ndarray, scores: np.ndarray) -> Curve:
    """False positive rate against true positive rate, over all thresholds."""
    labels, scores = _checked(labels, scores)
    order, ends = _steps(scores)
    found = np.cumsum(labels[order])[ends]
    wrong = ends + 1 - found
    return Curve(np.append(0, wrong / wrong[-1]), np.append(0, found / found[-1]))


def area(curve: Curve) -> float:
    """The area below a curve, by the trapezoid rule."""
    return float(np.sum(np.diff(curve.x) * (curve.y[1:] + curve.y[:-1]) / 2))


def auroc(labels: np.ndarray, scores: np.ndarray) -> float:
    return area(roc_curve(labels, scores))


def best_f1(labels: np.ndarray, scores: np.ndarray) -> tuple[float, float]:
    """The highest F1 and its threshold (a score at or above it is called a defect)."""
    labels, scores = _checked(labels, scores)
    order, ends = _steps(scores)
    found = np.cumsum(labels[order])[ends]
    f1 = 2 * found / (ends + 1 + labels.sum())  # 2 TP / (TP + FP + TP + FN)
    best = int(np.argmax(f1))
    return float(f1[best]), float(scores[order][ends[best]])


def defect_regions(masks: np.ndarray) -> np.ndarray:
    """Number the connected defects (8 neighbours) of masks (N, H, W), on over all images; 0 is good."""
    numbers = np.zeros(masks.shape, dtype=np.int64)
    count = 0
    for number, mask in zip(numbers, masks, strict=True):
        found, regions = cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)
        number[:] = np.where(regions > 0, regions + count, 0)
        count += found - 1
    return numbers


def pro_curve(masks: np.ndarray, maps: np.ndarray) -> Curve:
    """False positive rate of the pixels against the mean overlap with a defect, over all thresholds."""
    regions = defect_regions(np.asarray(masks)).ravel()
    good, scores = _checked(regions == 0, maps)
    sizes = np.bincount(regions)
    share = np.where(good, 0, 1 / np.maximum(sizes, 1)[regions])  # of its region, for each defect pixel
    order, ends = _steps(scores)
    wrong = np.cumsum(good[order])[ends]
    overlap = np.cumsum(share[order])[ends] / (sizes.size - 1)
    return Curve(np.append(0, wrong / wrong[-1]), np.append(0, overlap))


def up_to(curve: Curve, limit: float) -> Curve:
    """The part of a curve with x <= limit, its last point interpolated."""
    inside = int(np.searchsorted(curve.x, limit, side="right"))
    if inside == curve.x.size or curve.x[inside - 1] == limit:
        return Curve(curve.x[:inside], curve.y[:inside])
    x0, x1, y0, y1 = *curve.x[inside - 1 : inside + 1], *curve.y[inside - 1 : inside + 1]
    y = y0 + (y1 - y0) * (limit - x0) / (x1 - x0)
    return Curve(np.append(curve.x[:inside], limit), np.append(curve.y[:inside], y))


def aupro(masks: np.ndarray, maps: np.ndarray, limit: float = FPR_LIMIT) -> float:
    return area(up_to(pro_curve(masks, maps), limit)) / limit


def evaluate(labels: np.ndarray, scores: np.ndarray, masks: np.ndarray, maps: np.ndarray) -> Evaluation:
    """All metrics of one category: labels and scores (N,), masks (N, H, W) bool, maps (N, H, W) float."""
    image_roc, pixel_roc = roc_curve(labels, scores), roc_curve(masks, maps)
    pro = up_to(pro_curve(masks, maps), FPR_LIMIT)
    f1, threshold = best_f1(labels, scores)
    metrics = {
        "image_auc": area(image_roc),
        "image_f1": f1,
        "pixel_auc": area(pixel_roc),
        "pixel_pro": area(pro) / FPR_LIMIT,
    }
    return Evaluation(metrics, image_roc, pixel_roc, pro, threshold)
