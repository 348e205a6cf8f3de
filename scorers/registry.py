"""The kinds of scorers by name. A kind's file is only imported when it scores: one needs numpy, the others nothing."""

from importlib import import_module

from base import Scorer

KINDS = {
    "anomaly_detection": ("anomaly_detection", "AnomalyDetection"),
    "classification": ("classification", "Classification"),
    "regression": ("regression", "Regression"),
}


def scorer_named(name: str) -> type[Scorer]:
    module, kind = KINDS[name]
    found: type[Scorer] = getattr(import_module(module), kind)
    return found
