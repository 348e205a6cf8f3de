"""Metrics that scorers declare: those of the platform's scorers in code, those of an organizer's in a file in its folder.

A scorer below SCORER_ROOT may have a file metrics.yaml or metrics.json:

    metrics:
      - {name: dice, label: Dice, direction: higher, minimum: 0, maximum: 1}
    per_category: true

Without the file, or on a machine without the scorer's folder, the scorer declares nothing and any name is accepted.
"""

import math
import os
import stat
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from django.conf import settings
from django.utils.translation import gettext_lazy as _

from accounts.refusals import InvalidInput, reason_of
from core.untrusted import Bounds, TextRefused, load_json, load_yaml

HIGHER, LOWER = "higher", "lower"
FILES: dict[str, Callable[[bytes, Bounds], Any]] = {"metrics.yaml": load_yaml, "metrics.json": load_json}
MOST_METRICS = 100
_BOUNDS = Bounds(bytes=64 * 1024, tokens=5000, depth=8)
_LONGEST = {"name": 100, "label": 100, "unit": 20}


@dataclass(frozen=True)
class MetricDeclaration:
    """One metric of a scorer. Without a bound (None) the range is open."""

    name: str
    label: str = ""
    direction: str = HIGHER
    minimum: float | None = None
    maximum: float | None = None
    unit: str = ""

    @property
    def defaults(self) -> dict[str, Any]:
        """The fields of a leaderboard's metric that follow from the name."""
        return {field.name: getattr(self, field.name) for field in fields(self) if field.name != "name"}


@dataclass(frozen=True)
class DeclaredMetrics:
    """All metrics of a scorer. With `per_category` it also gives CATEGORY_NAME for each of them."""

    scorer: str
    metrics: tuple[MetricDeclaration, ...]
    per_category: bool = False

    @property
    def names(self) -> list[str]:
        return [metric.name for metric in self.metrics]

    def named(self, name: str) -> MetricDeclaration | None:
        """Return the declaration of the metric; that of a category's own metric bears the category in its label."""
        for metric in self.metrics:
            if metric.name == name:
                return metric
        for metric in self.metrics if self.per_category else ():
            category = name.removesuffix(f"_{metric.name}")
            if category and category != name:
                label = f"{metric.label or metric.name} ({category})"[: _LONGEST["label"]]
                return MetricDeclaration(**{**metric.defaults, "name": name, "label": label})
        return None


class BadDeclaration(InvalidInput):
    """The file of an organizer's scorer breaks a rule; the message names the file, the rule and the value."""


def read_declaration(scorer: str, folder: Path) -> DeclaredMetrics | None:
    """Return what an organizer's scorer declares in its folder; None if there is no such file. Raises BadDeclaration."""
    for file_name, load in FILES.items():
        raw = _content(folder / file_name, f"{scorer}/{file_name}")
        if raw is None:
            continue
        where = f"{scorer}/{file_name}"
        try:
            content = load(raw, _BOUNDS)
        except TextRefused as error:
            raise BadDeclaration("bad_declaration", "%(why)s.", field=where, why=reason_of(error)) from error
        return _declared(scorer, content, where)
    return None


def _content(path: Path, where: str) -> bytes | None:
    """Read a regular file, and never wait for another kind."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        sentence = _("cannot be read: %(why)s.")
        raise BadDeclaration("bad_declaration", sentence, field=where, why=error.strerror) from error
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise BadDeclaration("bad_declaration", _("must be a regular file."), field=where)
        return file.read(_BOUNDS.bytes + 1)


def _declared(scorer: str, content: Any, where: str) -> DeclaredMetrics:
    if not isinstance(content, dict) or not {"metrics"} <= content.keys() <= {"metrics", "per_category"}:
        sentence = _("must be a mapping with metrics, and per_category if wanted, not %(found)s.")
        raise BadDeclaration("bad_declaration", sentence, field=where, found=_short(content))
    listed, per_category = content["metrics"], content.get("per_category", False)
    if not isinstance(per_category, bool):
        _refuse(where, "per_category", _("true or false"), per_category)
    if not isinstance(listed, list) or not 0 < len(listed) <= MOST_METRICS:
        _refuse(where, "metrics", _("a list of 1 to 100 mappings"), listed)
    metrics = tuple(_metric(given, f"metrics[{index}]", where) for index, given in enumerate(listed))
    names = [metric.name for metric in metrics]
    for name in names:
        if names.count(name) > 1:
            _refuse(where, "metrics", _("metrics of different names"), name)
    return DeclaredMetrics(scorer, metrics, per_category)


def _metric(given: Any, place: str, where: str) -> MetricDeclaration:
    known = [field.name for field in fields(MetricDeclaration)]
    if not isinstance(given, dict) or not {"name", "direction"} <= given.keys() <= set(known):
        sentence = _("%(place)s must have name and direction, and no more than %(known)s, not %(found)s.")
        found = {"place": place, "known": ", ".join(known), "found": _short(given)}
        raise BadDeclaration("bad_declaration", sentence, field=where, retry_after=None, **found)
    for name, longest in _LONGEST.items():
        value = given.get(name, "")
        if not isinstance(value, str) or len(value) > longest or (name == "name" and not value):
            _refuse(where, f"{place}.{name}", _("text of at most %(most)d characters"), value, most=longest)
    if given["direction"] not in (HIGHER, LOWER):
        _refuse(where, f"{place}.direction", _("higher or lower"), given["direction"])
    for name in ("minimum", "maximum"):
        value = given.get(name)
        if value is not None and (isinstance(value, bool) or not _is_finite(value)):
            _refuse(where, f"{place}.{name}", _("a finite number"), value)
    metric = MetricDeclaration(**given)
    if metric.minimum is not None and metric.maximum is not None and metric.minimum > metric.maximum:
        _refuse(where, f"{place}.minimum", _("at most its maximum"), metric.minimum)
    return metric


def _is_finite(value: Any) -> bool:
    try:
        return isinstance(value, int | float) and math.isfinite(value)
    except OverflowError:  # a whole number that no float can hold
        return False


def _refuse(where: str, place: str, rule: Any, found: Any, **parameters: Any) -> None:
    parameters = {"place": place, "rule": str(rule) % parameters, "found": _short(found)}
    raise BadDeclaration("bad_declaration", _("%(place)s must be %(rule)s, not %(found)s."), field=where, **parameters)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def own_folder(name: str) -> Path:
    """Return the folder of an organizer's scorer, which need not be on this machine."""
    return Path(settings.SCORER_ROOT, name)
