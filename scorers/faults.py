"""The faults of a run's predictions, collected so that its author reads all of them at once.

A fault is an id from the platform's list (jobs/scorer_faults.py), numbers and texts: the platform puts it into words in
the reader's language. Equal faults are counted together, and only the first few are given as examples, so the memory is
bounded whatever a stranger left. A fault speaks of what the run left and of names that its author has, never of a label.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from typing import Any

MOST_EXAMPLES = 3
MOST_COUNTED = 10_000
LONGEST_TEXT = 200


class BadPredictions(Exception):
    """The predictions break a rule. `faults` is what metrics.json gets under `rejected`."""

    def __init__(self, faults: list[dict[str, Any]]) -> None:
        super().__init__(faults)
        self.faults = faults


class Faults:
    """The faults found so far, by id and by the values that they share."""

    def __init__(self) -> None:
        self.count = 0
        self._found: dict[tuple[Any, ...], dict[str, Any]] = {}

    def __bool__(self) -> bool:
        return bool(self._found)

    @property
    def are_too_many(self) -> bool:
        """Return whether it is time to stop looking for more."""
        return self.count >= MOST_COUNTED

    def add(self, fault: str, values: dict[str, int | str] | None = None, **example: int | str) -> None:
        """Count a fault. `values` are the same in each of its kind, `example` tells this one from the others."""
        self.count += 1
        shared = {name: _cut(value) for name, value in (values or {}).items()}
        found = self._found.setdefault((fault, *shared.values()), {"id": fault, "values": shared, "count": 0})
        found["count"] += 1
        if example and found["count"] <= MOST_EXAMPLES:
            found.setdefault("examples", []).append({name: _cut(value) for name, value in example.items()})

    def add_missing(self, fault: str, total: int, count: int, names: Iterable[str]) -> None:
        """Count what is missing of a total; of the names only the first few are looked at."""
        found: dict[str, Any] = {"id": fault, "values": {"total": total}, "count": count}
        found["examples"] = [{"name": _cut(name)} for name in islice(names, MOST_EXAMPLES)]
        self.count += count
        self._found[fault, total] = found

    def refuse(self) -> None:
        """Raise BadPredictions if there is any fault."""
        if self._found:
            raise BadPredictions(list(self._found.values()))


def _cut(value: int | str) -> int | str:
    return value[:LONGEST_TEXT] if isinstance(value, str) else value
