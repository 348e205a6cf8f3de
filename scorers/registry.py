"""The kinds of scorers by name and version. A file is only imported when it scores: one needs numpy, the others nothing.

A version is added when a score can change; the one before stays, in a file of its own, for the boards that are on it.
"""

from importlib import import_module

from base import Scorer

KINDS = {
    "anomaly_detection": {1: ("anomaly_detection", "AnomalyDetection")},
    "classification": {1: ("classification", "Classification")},
    "regression": {1: ("regression", "Regression")},
}


def scorer_named(name: str, version: int | None = None) -> type[Scorer]:
    """Return the kind's class, by default of its newest version."""
    versions = KINDS[name]
    module, kind = versions[max(versions) if version is None else version]
    found: type[Scorer] = getattr(import_module(module), kind)
    return found
