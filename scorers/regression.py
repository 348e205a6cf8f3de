"""Numbers by id: `labels.csv` and `predictions.csv` have id,value.

rmse   root of the mean squared error
mae    mean absolute error
r2     the share of the variance that is explained (1 is all; below 0 is worse than the mean)
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from base import Scorer, Scores, labels, table
from faults import Faults


class Regression(Scorer):
    def score(self, predictions: Path, truth: Path) -> Scores:
        true = labels(truth, "id", numbers=("value",))
        faults = Faults()
        predicted = table(predictions, true, faults, numbers=("value",))["value"]
        faults.refuse()
        return Scores(of_numbers(true.numbers["value"], predicted))


def of_numbers(true: Sequence[float], predicted: Sequence[float]) -> dict[str, float]:
    mean = math.fsum(true) / len(true)
    squared = math.fsum((value - other) ** 2 for value, other in zip(true, predicted, strict=True))
    spread = math.fsum((value - mean) ** 2 for value in true)
    metrics = {
        "rmse": math.sqrt(squared / len(true)),
        "mae": math.fsum(abs(value - other) for value, other in zip(true, predicted, strict=True)) / len(true),
    }
    # Of labels that are all the same, no variance can be explained. Far beyond any use it is cut, so that a wild
    # prediction is a bad result and not a number that cannot be stored.
    if spread:
        metrics["r2"] = max(1 - squared / spread, -1e9)
    return metrics
