"""Numbers by id: `labels.csv` and `predictions.csv` have id,value.

rmse   root of the mean squared error
mae    mean absolute error
r2     the share of the variance that is explained (1 is all; below 0 is worse than the mean)
"""

from __future__ import annotations

import math
from pathlib import Path

from base import Scorer, labels, matched, number, table


class Regression(Scorer):
    def score(self, predictions: Path, truth: Path) -> dict[str, float]:
        true = {name: float(row["value"]) for name, row in labels(truth, "id", "value").items()}
        found = table(predictions, "id", "value")
        matched(found, true, "ids")
        pairs = [(value, number(found[name]["value"], "value", name)) for name, value in true.items()]
        return of_numbers(pairs)


def of_numbers(pairs: list[tuple[float, float]]) -> dict[str, float]:
    mean = math.fsum(true for true, _ in pairs) / len(pairs)
    squared = math.fsum((true - predicted) ** 2 for true, predicted in pairs)
    spread = math.fsum((true - mean) ** 2 for true, _ in pairs)
    metrics = {
        "rmse": math.sqrt(squared / len(pairs)),
        "mae": math.fsum(abs(true - predicted) for true, predicted in pairs) / len(pairs),
    }
    # Of labels that are all the same, no variance can be explained. Far beyond any use it is cut, so that a wild
    # prediction is a bad result and not a number that cannot be stored.
    if spread:
        metrics["r2"] = max(1 - squared / spread, -1e9)
    return metrics
