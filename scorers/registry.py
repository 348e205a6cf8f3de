"""The kinds of scorers by name and version. A kind's file is only imported when it scores: one needs numpy, the others nothing.

A change that can change a score goes into a new file with the next version; the file before it stays.
"""

from importlib import import_module

from base import Scorer

KINDS = {
    ("anomaly_detection", 1): ("anomaly_detection", "AnomalyDetection"),
    ("classification", 1): ("classification", "Classification"),
    ("regression", 1): ("regression", "Regression"),
}


def scorer_named(name: str, version: int) -> type[Scorer]:
    module, kind = KINDS[name, version]
    found: type[Scorer] = getattr(import_module(module), kind)
    return found
