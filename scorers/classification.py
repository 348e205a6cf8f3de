"""Classes by id: `labels.csv` has id,label; `predictions.csv` has id,label, and a score where the board ranks by one.

accuracy            the share of right ones
balanced_accuracy   the mean over the classes of the share that was found
macro_f1            the mean F1 over the classes of the labels
auc, log_loss       of the column `score`: the probability (for auc any scale) of the class `positive` in scoring.json
"""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path

from base import BadPredictions, Scorer, auc, labels, matched, number, settings, shown, table

OF_SCORES = {"auc", "log_loss"}
SMALLEST = 1e-15


class Classification(Scorer):
    def score(self, predictions: Path, truth: Path) -> dict[str, float]:
        true = {name: row["label"] for name, row in labels(truth, "id", "label").items()}
        wants_score = bool(OF_SCORES & set(self.wanted))
        wants_label = not self.wanted or bool(set(self.wanted) - OF_SCORES)
        columns = [*(["label"] if wants_label else []), *(["score"] if wants_score else [])]
        found = table(predictions, "id", *columns)
        matched(found, true, "ids")
        metrics: dict[str, float] = {}
        if wants_label:
            metrics |= of_labels([(true[name], found[name]["label"]) for name in true])
        if wants_score:
            positive = str(settings(truth)["positive"])
            metrics |= of_scores(
                [
                    (number(found[name]["score"], "score", name), label == positive, name)
                    for name, label in true.items()
                ],
                wants_log_loss="log_loss" in self.wanted,
            )
        return metrics


def of_labels(pairs: list[tuple[str, str]]) -> dict[str, float]:
    """Of (true, predicted) classes; one that no label has counts as wrong, and has no F1 of its own."""
    hits = Counter(true for true, predicted in pairs if true == predicted)
    there = Counter(true for true, _ in pairs)
    called = Counter(predicted for _, predicted in pairs)
    return {
        "accuracy": sum(hits.values()) / len(pairs),
        "balanced_accuracy": sum(hits[name] / count for name, count in there.items()) / len(there),
        "macro_f1": sum(2 * hits[name] / (count + called[name]) for name, count in there.items()) / len(there),
    }


def of_scores(rows: list[tuple[float, bool, str]], *, wants_log_loss: bool) -> dict[str, float]:
    metrics = {"auc": auc([(score, is_positive) for score, is_positive, _ in rows])}
    if wants_log_loss:
        total = 0.0
        for score, is_positive, name in rows:
            if not 0 <= score <= 1:
                raise BadPredictions(f"predictions.csv: score of {shown(name)} must be from 0 to 1 for log_loss")
            total -= math.log(max(SMALLEST, score if is_positive else 1 - score))
        metrics["log_loss"] = total / len(rows)
    return metrics
