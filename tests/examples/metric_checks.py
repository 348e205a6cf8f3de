"""The examples' metric functions against their definitions, counted plainly, run where a submission runs.

    python metric_checks.py FOLDER [NAME ...]

FOLDER holds ad_metrics.py. Prints {"NAME": null, or the trace of what differed} as JSON, for
test_example_metrics.py.
"""

from __future__ import annotations

import itertools
import json
import sys
import traceback
from collections.abc import Callable, Iterator

import numpy as np

Case = tuple[np.ndarray, np.ndarray]


def load_metrics(folder: str) -> None:
    global ad_metrics
    sys.path.insert(0, folder)
    import ad_metrics


def label_cases() -> Iterator[Case]:
    """Labels and scores: separable, random, with many ties, all equal, a single defect."""
    rng = np.random.default_rng(7)
    yield np.array([0, 0, 1, 1]), np.array([0.1, 0.2, 0.3, 0.4])
    yield np.array([0, 1, 0, 1]), np.zeros(4)
    yield np.array([1, 0, 0, 0]), np.array([-1.0, 0, 1, 2])
    for size in (5, 40, 200):
        labels = np.append(rng.integers(0, 2, size), [0, 1])
        yield labels, rng.normal(labels * 0.7, 1)
        yield labels, np.round(rng.normal(labels * 0.7, 1))


def mask_cases() -> Iterator[Case]:
    """Masks (N, H, W) and maps: regions of several sizes, diagonal neighbours, ties, a good image between."""
    rng = np.random.default_rng(11)
    masks = np.zeros((3, 12, 12), dtype=bool)
    masks[0, 1:3, 1:3] = masks[0, 6:11, 6:11] = True
    masks[2, 0, 0] = masks[2, 1, 1] = masks[2, 2, 2] = True  # one region: neighbours by the corner
    masks[2, 8, 2:6] = True
    noise = rng.normal(size=masks.shape)
    yield masks, noise
    yield masks, masks + noise
    yield masks, np.round(masks + noise)
    yield masks, masks * 10 + rng.random(masks.shape)
    yield masks, np.ones(masks.shape)


def pair_auroc(labels: np.ndarray, scores: np.ndarray) -> float:
    """The chance that a defect scores above a good one; equal scores count half."""
    bad, good = scores[labels == 1], scores[labels == 0]
    return float(np.mean((bad[:, None] > good) + (bad[:, None] == good) / 2))


def check_auroc_is_the_chance_to_order_a_pair() -> None:
    for labels, scores in label_cases():
        np.testing.assert_allclose(ad_metrics.auroc(labels, scores), pair_auroc(labels, scores), atol=1e-12)


def check_pixel_auroc_takes_all_pixels_together() -> None:
    for masks, maps in mask_cases():
        expected = pair_auroc(masks.ravel(), maps.ravel().astype(float))
        np.testing.assert_allclose(ad_metrics.auroc(masks, maps), expected, atol=1e-12)


def check_best_f1_over_every_threshold() -> None:
    for labels, scores in label_cases():
        f1s = {}
        for threshold in np.unique(scores):
            called = scores >= threshold
            hits = np.sum(called & (labels == 1))
            precision, recall = hits / called.sum(), hits / labels.sum()
            f1s[threshold] = 2 * precision * recall / (precision + recall) if hits else 0.0
        f1, threshold = ad_metrics.best_f1(labels, scores)
        np.testing.assert_allclose(f1, max(f1s.values()), atol=1e-12)
        np.testing.assert_allclose(f1s[threshold], f1, atol=1e-12)


def flood_regions(mask: np.ndarray) -> list[np.ndarray]:
    """The connected regions (8 neighbours) of a mask (H, W), each as a mask."""
    todo, regions = {tuple(map(int, place)) for place in np.argwhere(mask)}, []
    while todo:
        border, region = [todo.pop()], np.zeros(mask.shape, dtype=bool)
        while border:
            y, x = border.pop()
            region[y, x] = True
            near = {(y + dy, x + dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)} & todo
            todo -= near
            border += near
        regions.append(region)
    return regions


def plain_aupro(masks: np.ndarray, maps: np.ndarray, limit: float) -> float:
    """Threshold by threshold, region by region; then the area, with the last piece cut at the limit."""
    regions = [(maps[i], region) for i, mask in enumerate(masks) for region in flood_regions(mask)]
    points = [(0.0, 0.0)]
    for threshold in np.unique(maps)[::-1]:
        overlap = np.mean([np.mean(anomaly[region] >= threshold) for anomaly, region in regions])
        points.append((float(np.mean(maps[~masks] >= threshold)), float(overlap)))
    area = 0.0
    for (x0, y0), (x1, y1) in itertools.pairwise(points):
        if x0 >= limit:
            break
        if x1 > limit:
            x1, y1 = limit, y0 + (y1 - y0) * (limit - x0) / (x1 - x0)
        area += (x1 - x0) * (y0 + y1) / 2
    return area / limit


def check_aupro_counts_every_region_alike() -> None:
    for masks, maps in mask_cases():
        for limit in (0.05, 0.3, 1.0):
            got = ad_metrics.aupro(masks, maps, limit)
            np.testing.assert_allclose(got, plain_aupro(masks, maps, limit), atol=1e-12)


def check_aupro_of_a_perfect_map_is_1_and_of_a_flat_one_half_the_limit() -> None:
    masks = next(mask_cases())[0]
    np.testing.assert_allclose(ad_metrics.aupro(masks, masks.astype(float)), 1.0)
    np.testing.assert_allclose(ad_metrics.aupro(masks, np.zeros(masks.shape)), ad_metrics.FPR_LIMIT / 2)


def check_a_small_defect_weighs_as_much_as_a_large_one() -> None:
    masks = np.zeros((1, 20, 20), dtype=bool)
    masks[0, 2, 2] = masks[0, 8:18, 8:18] = True
    small, large = np.zeros(masks.shape), np.zeros(masks.shape)
    small[0, 2, 2] = 1
    large[0, 8:18, 8:18] = 1
    np.testing.assert_allclose(ad_metrics.aupro(masks, small), ad_metrics.aupro(masks, large))


def check_evaluate_gives_the_same_as_each_function() -> None:
    masks, maps = list(mask_cases())[1]
    labels, scores = masks.any(axis=(1, 2)), maps.max(axis=(1, 2))
    got = ad_metrics.evaluate(labels, scores, masks, maps).metrics
    expected = {
        "image_auc": ad_metrics.auroc(labels, scores),
        "image_f1": ad_metrics.best_f1(labels, scores)[0],
        "pixel_auc": ad_metrics.auroc(masks, maps),
        "pixel_pro": ad_metrics.aupro(masks, maps),
    }
    assert list(got) == list(expected)
    np.testing.assert_allclose(list(got.values()), list(expected.values()))


def refusal(call: Callable[[], object]) -> str:
    try:
        call()
    except ValueError as error:
        return str(error)
    raise AssertionError("it was not refused")


def check_what_cannot_be_measured_is_refused() -> None:
    assert "one kind only" in refusal(lambda: ad_metrics.auroc(np.ones(3), np.arange(3)))
    assert "one kind only" in refusal(lambda: ad_metrics.best_f1(np.zeros(3), np.arange(3)))
    assert "one kind only" in refusal(lambda: ad_metrics.aupro(np.zeros((1, 4, 4), bool), np.ones((1, 4, 4))))
    assert "not a finite number" in refusal(lambda: ad_metrics.auroc([0, 1], [0.0, float("nan")]))
    assert "2 labels for 3 scores" in refusal(lambda: ad_metrics.auroc([0, 1], [1, 2, 3]))


def check_auroc_and_f1_agree_with_scikit_learn() -> None:
    from sklearn.metrics import precision_recall_curve, roc_auc_score

    for labels, scores in label_cases():
        np.testing.assert_allclose(ad_metrics.auroc(labels, scores), roc_auc_score(labels, scores))
        precision, recall, _ = precision_recall_curve(labels, scores)
        f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
        np.testing.assert_allclose(ad_metrics.best_f1(labels, scores)[0], f1.max())


def check_aupro_agrees_with_anomalib() -> None:
    import torch
    from anomalib.metrics.aupro import _AUPRO

    for masks, maps in mask_cases():
        theirs = _AUPRO(fpr_limit=0.3)
        theirs.update(torch.tensor(maps, dtype=torch.float32), torch.tensor(masks, dtype=torch.int32))
        np.testing.assert_allclose(ad_metrics.aupro(masks, maps), theirs.compute().item(), atol=1e-5)


def run(name: str) -> str | None:
    try:
        globals()[f"check_{name}"]()
    except Exception:
        return traceback.format_exc()
    return None


if __name__ == "__main__":
    load_metrics(sys.argv[1])
    print(json.dumps({name: run(name) for name in sys.argv[2:]}))
