"""Defaults of a leaderboard's metrics, and the names and directions that fit the scorer.

The command, the console and YAML files take the defaults from here, and refuse in the same words.
"""

import difflib
import re
from collections.abc import Iterable
from typing import Any, Protocol

from django.utils.translation import gettext_lazy as _

from accounts.refusals import InvalidInput
from leaderboards.declarations import HIGHER, LOWER, BadDeclaration, DeclaredMetrics
from leaderboards.scoring import declared_metrics

NAMES_SHOWN = 20
# Names for which a lower value is better by convention; also at the end of a longer name, as in val_loss and test/rmse.
LOWER_BY_CONVENTION = frozenset(["mae", "mse", "rmse", "msle", "rmsle", "mape", "smape", "medae", "error", "error_rate", "loss", "log_loss", "logloss", "cross_entropy", "nll", "perplexity", "ppl", "brier", "ece", "wer", "cer", "ter", "eer", "fid", "kid", "lpips", "fpr", "fnr", "seconds", "latency", "duration", "runtime", "wall_time"])  # fmt: skip
# neg_mean_squared_error and the like: an error with its sign turned, of which more is better.
_TURNED = re.compile(r"(?:^|[^a-z])(?:neg|negative|inverse|inv)(?:[^a-z]|$)")
_DIRECTION_WORDS = {HIGHER: _("higher is better"), LOWER: _("lower is better")}


class MetricRefused(InvalidInput):
    """A metric does not fit its scorer. Only organizers make metrics, so no call of the API is refused with it."""


class MetricRow(Protocol):
    """A row of a leaderboard's metrics."""

    name: str
    direction: str


def usual_direction(name: str) -> str | None:
    """Return the direction that a well-known name has by convention; None if the name says nothing."""
    plain = name.lower()
    if _TURNED.search(plain):
        return None
    parts = re.split(r"[^a-z0-9]+", plain)
    ends = {"_".join(parts[-count:]) for count in (1, 2)}
    return LOWER if ends & LOWER_BY_CONVENTION else None


def unknown_metric(scorer: str, names: Iterable[str], name: str) -> MetricRefused:
    """Return the refusal of a metric that the scorer does not give, with the name that was probably meant."""
    given = list(names)
    shown = ", ".join(given[:NAMES_SHOWN]) + (", ..." if len(given) > NAMES_SHOWN else "")
    parameters: dict[str, Any] = {"scorer": scorer, "names": shown, "name": name}
    if alike := difflib.get_close_matches(name.lower(), given, n=1, cutoff=0.6):
        sentence = _("the scorer %(scorer)s gives %(names)s, not %(name)s; did you mean %(alike)s?")
        return MetricRefused("unknown_metric", sentence, field="name", alike=alike[0], **parameters)
    return MetricRefused(
        "unknown_metric", _("the scorer %(scorer)s gives %(names)s, not %(name)s."), field="name", **parameters
    )


def complete_metric(
    declared: DeclaredMetrics | None, given: dict[str, Any], *, is_forced: bool = False, before: MetricRow | None = None
) -> dict[str, Any]:
    """Return the fields of a metric with the defaults for those that were not given.

    A new metric that is declared takes all defaults from its scorer, another one its direction from its name. `before` is the row as
    it was under the same scorer: what an earlier version accepted stays valid until it is changed.

    Raises:
        MetricRefused: the scorer does not give the metric, or declares the other direction and `is_forced` is not set.
    """
    name = str(given["name"])
    direction = given.get("direction")
    if declared is None:
        return {**given, "direction": direction or usual_direction(name) or HIGHER}
    declaration = declared.named(name)
    if declaration is None:
        if before is None or before.name != name:
            raise unknown_metric(declared.scorer, declared.names, name)
        return {**given, "direction": direction or usual_direction(name) or HIGHER}
    is_kept = before is not None and (before.name, before.direction) == (name, direction)
    is_contradicting = direction in _DIRECTION_WORDS and direction != declaration.direction
    if is_contradicting and not is_forced and not is_kept:
        raise contradicting_direction(declared.scorer, name, declaration.direction)
    chosen = {field: value for field, value in given.items() if field != "direction" or value}
    if before is not None and before.name == name:
        # Its bounds stay as they were: other ones make another score version.
        return {"direction": declaration.direction, **chosen}
    return {**declaration.defaults, **chosen}


def contradicting_direction(scorer: str, name: str, direction: str) -> MetricRefused:
    """Return the refusal of the direction that the scorer does not declare."""
    sentence = _("the scorer %(scorer)s declares for %(name)s: %(direction)s. The opposite must be chosen explicitly.")
    return MetricRefused(
        "contradicting_direction", sentence, field="direction", scorer=scorer, name=name,
        direction=_DIRECTION_WORDS[direction],
    )  # fmt: skip


def known_declaration(scorer: str) -> DeclaredMetrics | None:
    """Return what the scorer declares; None also where its file is wrong, which only matters when metrics change."""
    try:
        return declared_metrics(scorer)
    except BadDeclaration:
        return None


def metric_problems(scorer: str, metrics: Iterable[MetricRow]) -> list[str]:
    """Return a sentence for each metric that does not fit the scorer: boards of earlier versions may have such ones."""
    try:
        declared = declared_metrics(scorer)
    except BadDeclaration as refusal:
        return [refusal.message]
    problems = []
    for metric in metrics:
        try:
            complete_metric(declared, {"name": metric.name, "direction": metric.direction})
        except MetricRefused as refusal:
            problems.append(refusal.sentence)
    return problems
