"""Reports of a run about itself, in two kinds of lines on its output, read as a stranger's words:

    ::progress 0.35 epoch 7 of 20
    ::metric step=7 train_loss=0.031 image_auc=0.94

Everything is bounded, and nothing breaks a run: what does not keep a rule (docs/submissions.md) is counted and left out,
and so is a line that only resembles one of these. The first such is kept, for a note to the job's owner.
The state goes to PostgreSQL as one row a job, seldom and only when it changed, guarded by the attempt like the log.
"""

import difflib
import json
import math
import re
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID

from django.db import connection

from core.names import LONGEST_NAME, plain_name
from jobs.execution.metrics import MAX_MAGNITUDE
from jobs.execution.output_lines import LONGEST_REPORT
from jobs.execution.told import Told as _
from jobs.logs import plain_line

MAX_CURVES = 200
# Of one curve, and of all curves of a run: with many curves each has fewer.
MAX_POINTS, MAX_POINTS_IN_ALL = 256, 8192
MAX_MESSAGE = 200
LONGEST_EXAMPLE = 100
# How much is parsed at a time: a run that prints nothing else must not hold its own log up.
READ_BYTES = 256 * 1024
# A row of many points is written less often: each time it is written as a whole.
SHIP_SECONDS, LARGE_SHIP_SECONDS, LARGE_BYTES = 1.0, 5.0, 32 * 1024

_NUMBER = re.compile(r"[+-]?(?:[0-9]{1,30}(?:\.[0-9]{0,30})?|\.[0-9]{1,30})(?:[eE][+-]?[0-9]{1,3})?")
_STEP = re.compile(r"[0-9]{1,15}")
# Names that MLflow takes as they are.
_NAME = re.compile(r"\w[\w.:-]*(?:/\w[\w.:-]*)*")
_REPORT = re.compile(r"::(progress|metric)(?:[ \t]+(.*))?", re.DOTALL)
# Perhaps meant as a report: C++ and Rust have names with `::` too, but not of these words.
_ALIKE = re.compile(r"::[ \t]*([A-Za-z]{5,10})(?=[ \t]|:(?!:)|$)")
_HOW_ALIKE = 0.82

# An attempt that was taken over meanwhile must not write over its successor's row either.
_UPSERT = """
INSERT INTO jobs_jobprogress AS kept (job_id, attempt, fraction, fraction_at, message, curves, ignored, updated_at)
SELECT id, attempt, %(fraction)s::float8, statement_timestamp(), %(message)s, %(curves)s::jsonb, %(ignored)s,
    statement_timestamp()
FROM jobs_job WHERE id = %(job)s AND status = 'running' AND attempt = %(attempt)s
ON CONFLICT (job_id) DO UPDATE SET attempt = excluded.attempt, fraction = excluded.fraction, message = excluded.message,
    curves = excluded.curves, ignored = excluded.ignored, updated_at = excluded.updated_at,
    fraction_at = CASE WHEN kept.attempt = excluded.attempt AND kept.fraction IS NOT DISTINCT FROM excluded.fraction
        THEN kept.fraction_at ELSE excluded.fraction_at END
WHERE kept.attempt <= excluded.attempt
"""


_RULE_PLACE = _("such a line has nothing before ::progress or ::metric")
_RULE_WORD = _("such a line begins with ::progress or ::metric, spelled so, and a space")
_RULE_LENGTH = _("such a line has at most %(most)d bytes", most=LONGEST_REPORT)
_RULE_FRACTION = _("the fraction is a number from 0 to 1")
_RULE_STEP = _("the step is a whole number of at most 15 digits")
_RULE_ORDER = _("the step never goes back")
_RULE_NOTHING = _("::metric has one NAME=VALUE or more")
_RULE_VALUE = _("a value is a finite number of at most 1e15 either way")
_RULE_NAME = _("a name has 1 to %(most)d letters, digits and _ . : / -", most=LONGEST_NAME)
_RULE_MANY = _("a run has at most %(most)d names", most=MAX_CURVES)


@dataclass
class Curve:
    """A metric over its steps, thinned evenly so that it never has more than `most` points; the last is always there."""

    points: list[list[float]] = field(default_factory=list)
    last: list[float] | None = None
    count: int = 0
    stride: int = 1
    most: int = MAX_POINTS
    # Of all values, also of those that were thinned out.
    lowest: float = math.inf
    highest: float = -math.inf

    def add(self, step: int | None, value: float, seconds: float) -> bool:
        """False when the step goes back: a curve has one value a step. The same step again replaces its value."""
        latest = int(self.last[0]) if self.last else -1
        step = latest + 1 if step is None else step
        if step < latest:
            return False
        self.lowest, self.highest = min(self.lowest, value), max(self.highest, value)
        point = [step, value, round(seconds, 1)]
        if step == latest:
            if self.points and self.points[-1][0] == step:
                self.points[-1] = point
        else:
            if self.count % self.stride == 0:
                self._keep(point)
            self.count += 1
        self.last = point
        return True

    def _keep(self, point: list[float]) -> None:
        self.thin(self.most - 2)
        if self.count % self.stride == 0:
            self.points.append(point)

    def thin(self, most: int) -> None:
        """Leave at most so many points, besides the last."""
        while len(self.points) > most:
            del self.points[1::2]
            self.stride *= 2

    @property
    def shown(self) -> list[list[float]]:
        is_missing = self.last is not None and (not self.points or self.points[-1][0] != self.last[0])
        return [*self.points, self.last] if is_missing and self.last else self.points


class Reports:
    """The state that a run's report lines add up to."""

    def __init__(self) -> None:
        self.fraction: float | None = None
        self.curves: dict[str, Curve] = {}
        self.ignored = 0
        self._first_ignored: tuple[str, str] = "", ""
        self._message = ""

    def take(self, lines: bytes, *, seconds: float) -> None:
        """Complete lines, `seconds` after the run began."""
        for raw in lines.split(b"\n"):
            line = raw.decode("utf-8", "replace")
            report = _REPORT.fullmatch(line)
            if report is None:
                self._take_alike(line)
            elif len(raw) > LONGEST_REPORT:
                self._ignore(line, _RULE_LENGTH)
            elif report[1] == "progress":
                self._take_progress(line, report[2] or "")
            else:
                self._take_metrics(line, (report[2] or "").split(), seconds)

    def _ignore(self, line: str, rule: str, count: int = 1) -> None:
        if not self.ignored:
            self._first_ignored = line, rule
        self.ignored += count

    def _take_alike(self, line: str) -> None:
        """Count a line that has a report in its middle, or begins with something like one."""
        for found in _ALIKE.finditer(line):
            word = found[1].casefold()
            is_exact = found[0] in ("::progress", "::metric")
            if found.start() and is_exact and line[found.end() :].strip():
                return self._ignore(line, _RULE_PLACE)
            if not found.start() and difflib.get_close_matches(word, ("progress", "metric"), 1, _HOW_ALIKE):
                return self._ignore(line, _RULE_WORD)
        return None

    def _take_progress(self, line: str, rest: str) -> None:
        text, _space, message = rest.strip().partition(" ")
        value = _number(text)
        if value is None or not 0 <= value <= 1:
            self._ignore(line, _RULE_FRACTION)
            return
        self.fraction, self._message = value, message

    def _take_metrics(self, line: str, words: list[str], seconds: float) -> None:
        step: int | None = None
        if words and words[0].startswith("step="):
            text = words.pop(0).removeprefix("step=")
            if not _STEP.fullmatch(text):
                self._ignore(line, _RULE_STEP, max(1, len(words)))
                return
            step = int(text)
        if not words:
            self._ignore(line, _RULE_NOTHING)
        for word in words:
            if broken := self._take_metric(word, step, seconds):
                self._ignore(line, broken)

    def _take_metric(self, word: str, step: int | None, seconds: float) -> str:
        """Take NAME=VALUE; the rule that it breaks, else nothing."""
        name, _equals, text = word.partition("=")
        name = plain_name(name)
        if len(name) > LONGEST_NAME or not _NAME.fullmatch(name):
            return _RULE_NAME
        value = _number(text)
        if value is None:
            return _RULE_VALUE
        curve = self._curve(name)
        if curve is None:
            return _RULE_MANY
        return "" if curve.add(step, value, seconds) else _RULE_ORDER

    def _curve(self, name: str) -> Curve | None:
        """The one of that name; None if it were one too many."""
        curve = self.curves.get(name)
        if curve is None and len(self.curves) < MAX_CURVES:
            curve = self.curves[name] = Curve()
            most = min(MAX_POINTS, MAX_POINTS_IN_ALL // len(self.curves))
            for each in self.curves.values():
                each.most = most
                each.thin(most - 1)
        return curve

    @property
    def notes(self) -> tuple[str, ...]:
        """Notes for the job's owner: how much was ignored, and why the first."""
        if not self.ignored:
            return ()
        line, rule = self._first_ignored
        example = plain_line(line)
        example = example if len(example) <= LONGEST_EXAMPLE else f"{example[:LONGEST_EXAMPLE]}…"
        if self.ignored == 1:
            return (
                _("A ::progress or ::metric line was ignored: “%(example)s” (%(rule)s).", example=example, rule=rule),
            )
        told = _(
            "%(count)d reports in ::progress and ::metric lines were ignored. The first: “%(example)s” (%(rule)s).",
            count=self.ignored, example=example, rule=rule,
        )  # fmt: skip
        return (told,)

    @property
    def is_empty(self) -> bool:
        return self.fraction is None and not self.curves and not self.ignored

    @property
    def message(self) -> str:
        """Safe to show."""
        return plain_line(self._message)[:MAX_MESSAGE]

    def as_json(self) -> str:
        curves = [
            {"name": name, "points": curve.shown, "lowest": curve.lowest, "highest": curve.highest}
            for name, curve in self.curves.items()
            if curve.last is not None
        ]
        return json.dumps(curves, separators=(",", ":"), allow_nan=False)


def _number(text: str) -> float | None:
    """A finite number of a size that charts and MLflow can hold; None for anything else."""
    if not _NUMBER.fullmatch(text):
        return None
    value = float(text)
    return value if abs(value) <= MAX_MAGNITUDE else None


class ProgressShipper:
    """Follows the file of report lines that the supervisor writes; what they add up to goes to PostgreSQL."""

    def __init__(self, source: Path, *, job_id: UUID, attempt: int) -> None:
        self._source = source
        self._job_id, self._attempt = job_id, attempt
        self._reports = Reports()
        self._began = time.monotonic()
        self._read_bytes = 0
        self._rest = b""
        self._next_at = 0.0
        self._shipped: tuple[Any, ...] = ()

    def collect(self, *, is_last: bool = False) -> None:
        """Read what the run has reported since; all of it when `is_last`, else a bounded part."""
        if not self._source.exists():
            return
        with self._source.open("rb") as source:
            source.seek(self._read_bytes)
            while raw := source.read(READ_BYTES):
                self._read_bytes += len(raw)
                lines, _newline, self._rest = (self._rest + raw).rpartition(b"\n")
                self._reports.take(lines, seconds=time.monotonic() - self._began)
                if not is_last:
                    return

    @property
    def notes(self) -> tuple[str, ...]:
        return self._reports.notes

    def ship(self, *, is_last: bool = False) -> None:
        """Write the state if it changed and was not written just now. A database error propagates; the next call tries
        again."""
        if self._reports.is_empty or (time.monotonic() < self._next_at and not is_last):
            return
        reports = self._reports
        state = (reports.fraction, reports.message, reports.as_json(), min(reports.ignored, 2**31 - 1))
        if state == self._shipped:
            return
        names = ("fraction", "message", "curves", "ignored")
        values: dict[str, Any] = dict(zip(names, state, strict=True))
        with connection.cursor() as cursor:
            cursor.execute(_UPSERT, {**values, "job": self._job_id, "attempt": self._attempt})
        self._shipped = state
        self._next_at = time.monotonic() + (LARGE_SHIP_SECONDS if len(state[2]) > LARGE_BYTES else SHIP_SECONDS)
