"""The scorer of anomaly detection against the examples' own metric functions, run where scorers run.

    python anomaly_checks.py SCORERS EXAMPLE FOLDER

Makes labels and predictions in FOLDER, scores them, and prints {"scorer": {...}, "example": {...}} and the refusals of
broken predictions as JSON, for test_anomaly_detection.py.
"""

import csv
import json
import shutil
import sys
from pathlib import Path

import cv2
import numpy as np

scorers, example, folder = (Path(argument) for argument in sys.argv[1:4])
sys.path[:0] = [str(scorers), str(example)]
import ad_metrics  # noqa: E402
from anomaly_detection import AnomalyDetection  # noqa: E402
from faults import BadPredictions  # noqa: E402

SIZE = 48
WANTED = ["image_auc", "pixel_pro"]
rng = np.random.default_rng(5)


def table(path: Path, rows: list[list[object]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        csv.writer(file).writerows(rows)


def make(category: str, truth: Path, left: Path):
    """Twelve images, half of them with one to three defects; maps of 16 bits with many ties."""
    labels, predicted, masks, maps, scores = [], [], [], [], []
    for number in range(12):
        mask = np.zeros((SIZE, SIZE), np.uint8)
        for _ in range((number % 2) * int(rng.integers(1, 4))):
            y, x = rng.integers(0, SIZE - 10, 2)
            mask[y : y + int(rng.integers(2, 10)), x : x + int(rng.integers(2, 10))] = 255
        level = (rng.normal(3000, 900, mask.shape) + (mask > 0) * 1200).clip(0, 65535).astype(np.uint16) // 50 * 50
        name = f"{category}/test/{number:04}.png"
        place = f"masks/{category}/{number:04}.png" if mask.any() else ""
        for path, picture in ((left / "maps" / name, level), *([(truth / place, mask)] if place else [])):
            path.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(path), picture)
        score = float(np.round(level.max() / 1000, 1))
        labels.append([name, int(mask.any()), place, SIZE, SIZE])
        predicted.append([name, score])
        masks.append(mask > 0)
        maps.append(level.astype(np.float64))
        scores.append(score)
    defects = np.array([mask.any() for mask in masks])
    return labels, predicted, ad_metrics.evaluate(defects, np.array(scores), np.stack(masks), np.stack(maps)).metrics


truth, left = folder / "truth", folder / "left"
labels, predicted, expected = [["image", "defect", "mask", "height", "width"]], [["image", "score"]], {}
for category in ("brick", "grass"):
    more_labels, more_predicted, measured = make(category, truth, left)
    labels += more_labels
    predicted += more_predicted
    expected[category] = measured
means = {name: (expected["brick"][name] + expected["grass"][name]) / 2 for name in expected["brick"]}
table(truth / "labels.csv", labels)
table(left / "predictions.csv", predicted)
scores = AnomalyDetection(WANTED).score(left, truth)
answer = {
    "scorer": {"means": scores.metrics, **scores.categories},
    "example": {"means": means, **expected},
    "images alone": sorted(AnomalyDetection(["image_auc"]).score(left, truth).metrics),
}


def refusal(breaking) -> list[dict]:
    broken = folder / "broken"
    shutil.rmtree(broken, ignore_errors=True)
    shutil.copytree(left, broken)
    breaking(broken / "maps" / "brick" / "test" / "0001.png")
    try:
        AnomalyDetection(WANTED).score(broken, truth)
    except BadPredictions as refused:
        return refused.faults
    return []


colour = np.zeros((SIZE, SIZE, 3), np.uint8)
huge = bytes.fromhex("89504e470d0a1a0a0000000d49484452") + (2**30).to_bytes(4, "big") * 2 + bytes([16, 0, 0, 0, 0])
answer["refusals"] = {
    "missing": refusal(lambda path: path.unlink()),
    "colour": refusal(lambda path: cv2.imwrite(str(path), colour)),
    "no picture": refusal(lambda path: path.write_bytes(b"\x80\x04c__builtin__\nexec")),
    "cut": refusal(lambda path: path.write_bytes(path.read_bytes()[:60])),
    "huge": refusal(lambda path: path.write_bytes(huge)),
    "large for nothing": refusal(lambda path: cv2.imwrite(str(path), np.zeros((1, 1025), np.uint8))),
    "as large as any": refusal(lambda path: cv2.imwrite(str(path), np.zeros((1024, 1024), np.uint8))),
    "another size": refusal(lambda path: cv2.imwrite(str(path), np.zeros((7, 300), np.uint8))),
}


def break_many(path: Path) -> None:
    """A table and maps with several faults."""
    for number in range(2, 9):
        path.with_name(f"{number:04}.png").unlink()
    path.write_bytes(b"x")
    path.with_name("0000.png").write_bytes(huge)
    table = path.parents[3] / "predictions.csv"
    lines = table.read_text().splitlines()
    table.write_text("\n".join([*lines[:-2], "brick/test/図.png,1", lines[-1].rpartition(",")[0] + ",-inf", ""]))


answer["refusals"]["many"] = refusal(break_many)
print(json.dumps(answer))
