"""Score fixed predictions with every version of every platform scorer, for test_golden.py.

python golden_scores.py SCORERS FOLDER
"""

import csv
import json
import sys
from pathlib import Path

scorers, folder = (Path(argument) for argument in sys.argv[1:3])
sys.path[:0] = [str(scorers)]
import cv2  # noqa: E402
import numpy as np  # noqa: E402
from registry import KINDS, scorer_named  # noqa: E402

COUNT, SIZE = 12, 16
WANTED = {"classification": ["accuracy", "balanced_accuracy", "macro_f1", "auc", "log_loss"]}


def table(path: Path, *rows: list[object]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        csv.writer(file).writerows(rows)


def classification(truth: Path, left: Path) -> None:
    names = range(COUNT)
    table(truth / "labels.csv", ["id", "label"], *([name, "defect" if name % 3 else "ok"] for name in names))
    rows = [[name, "defect" if name % 4 else "ok", round((name * 7 % 12 + 0.5) / 12, 3)] for name in names]
    table(left / "predictions.csv", ["id", "label", "score"], *rows)
    (truth / "scoring.json").write_text('{"positive": "defect"}')


def regression(truth: Path, left: Path) -> None:
    table(truth / "labels.csv", ["id", "value"], *([name, name * name / 7] for name in range(COUNT)))
    table(left / "predictions.csv", ["id", "value"], *([name, name * 1.5 - 1] for name in range(COUNT)))


def anomaly_detection(truth: Path, left: Path) -> None:
    labels, predicted = [], []
    for number in range(COUNT):
        y, x = np.mgrid[0:SIZE, 0:SIZE]
        mask = np.where((abs(y - number) < 3) & (abs(x - 8) < 2) & bool(number % 2), 255, 0).astype(np.uint8)
        level = ((y * 37 + x * 91 + number * 13) % 180 + (mask > 0) * 60).astype(np.uint8)
        name = f"a/{number}.png"
        place = f"masks/{name}" if mask.any() else ""
        for path, picture in ((left / "maps" / name, level), *([(truth / place, mask)] if place else [])):
            path.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(path), picture)
        labels.append([name, int(mask.any()), place, SIZE, SIZE])
        predicted.append([name, number * 5 % 12])
    table(truth / "labels.csv", ["image", "defect", "mask", "height", "width"], *labels)
    table(left / "predictions.csv", ["image", "score"], *predicted)


found = {}
for name, version in sorted(KINDS):
    truth, left = folder / f"{name}-truth", folder / f"{name}-left"
    if not truth.exists():
        globals()[name](truth, left)
    wanted = WANTED.get(name, ["image_auc", "image_f1", "pixel_auc", "pixel_pro"])
    found[f"{name} {version}"] = scorer_named(name, version)(wanted).score(left, truth)
print(json.dumps(found))
