"""Classes by id: `labels.csv` has id,label; `predictions.csv` has id,label, and a score where the board ranks by one.

accuracy            the share of right ones
balanced_accuracy   the mean over the classes of the share that was found
macro_f1            the mean F1 over the classes of the labels
auc, log_loss       of the column `score`: the probability (for auc any scale) of the class `positive` in scoring.json
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from base import LARGEST_NUMBER, Scorer, Scores, auc, labels, settings, table
from faults import Faults

OF_SCORES = {"auc", "log_loss"}
SMALLEST = 1e-15


class Classification(Scorer):
    def score(self, predictions: Path, truth: Path) -> Scores:
        true = labels(truth, "id", "label")
        wants_score = bool(OF_SCORES & set(self.wanted))
        wants_label = not self.wanted or bool(set(self.wanted) - OF_SCORES)
        classes = true.texts["label"]
        faults = Faults()
        found = table(
            predictions,
            true,
            faults,
            numbers=("score",) if wants_score else (),
            texts=[("label", set(classes))] if wants_label else [],
        )
        if "log_loss" in self.wanted:
            check_probabilities(found["score"], true.places, faults)
        faults.refuse()
        metrics = of_labels(classes, found["label"]) if wants_label else {}
        if wants_score:
            positive = str(settings(truth)["positive"])
            is_positive = bytearray(label == positive for label in classes)
            metrics["auc"] = auc(found["score"], is_positive)
            if "log_loss" in self.wanted:
                metrics["log_loss"] = log_loss(found["score"], is_positive)
        return Scores(metrics)


def of_labels(true: list[str], predicted: list[str]) -> dict[str, float]:
    """Compare true and predicted classes. A class that no label has counts as wrong and has no F1 of its own."""
    hits = Counter(label for label, other in zip(true, predicted, strict=True) if label == other)
    there = Counter(true)
    called = Counter(predicted)
    return {
        "accuracy": sum(hits.values()) / len(true),
        "balanced_accuracy": sum(hits[name] / count for name, count in there.items()) / len(there),
        "macro_f1": sum(2 * hits[name] / (count + called[name]) for name, count in there.items()) / len(there),
    }


def check_probabilities(scores: Sequence[float], names: Iterable[str], faults: Faults) -> None:
    for name, score in zip(names, scores, strict=True):
        if not 0 <= score <= 1 and abs(score) <= LARGEST_NUMBER:  # others have been told
            faults.add("not_probability", {"column": "score"}, value=f"{score:g}", name=name)


def log_loss(scores: Sequence[float], is_positive: Sequence[int]) -> float:
    total = 0.0
    for score, positive in zip(scores, is_positive, strict=True):
        total -= math.log(max(SMALLEST, score if positive else 1 - score))
    return total / len(scores)
