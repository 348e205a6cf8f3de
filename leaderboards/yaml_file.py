"""A leaderboard as one YAML file: what it is and how it ranks, not who stands on it.

    leadersboard: 1
    slug: textures
    title: Texture defects
    metrics:
    - name: image_auc
      direction: higher

`export_leaderboard` and `import_leaderboard` are each other's reverse. The fields are the models' own editable ones, so a
new field is in the file at once; every error names the field, the rule and the value.
"""

import json
import math
import re
from collections.abc import Callable
from datetime import datetime
from typing import Any

import yaml
from django.core.exceptions import ValidationError
from django.db import models, transaction
from django.utils import timezone
from django.utils.functional import Promise
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, gettext_noop

from accounts.models import User
from accounts.refusals import Conflict, InvalidInput, reason_of
from core.untrusted import BoundedLoader, Bounds, TextRefused, load_yaml
from leaderboards.declarations import BadDeclaration, DeclaredMetrics
from leaderboards.metric_defaults import MetricRefused, complete_metric, known_declaration
from leaderboards.models import Leaderboard, Metric
from leaderboards.score_contents import fit
from leaderboards.scoring import declared_metrics
from leaderboards.services import HAS_SUBMISSIONS
from leaderboards.versioning import Preview, RankingChange

VERSION = 1
VERSION_KEY = "leadersboard"
LARGEST_BYTES = 1024 * 1024
MOST_METRICS = 100
MOST_PROBLEMS = 50
# A hundred metrics with all their fields have some 6,000 tokens; a long file consists mostly of description and rules.
_BOUNDS = Bounds(bytes=LARGEST_BYTES, tokens=20_000, depth=16)
# The position is the place in the list; the leaderboard is the file.
_LEFT_OUT = {"id", "leaderboard", "position"}
# Fields that the file calls otherwise.
_FILE_NAMES = {"is_draft": "draft"}
# Text that a YAML block gives back as it was: printable, and LF alone breaks its lines.
_BLOCK = re.compile("[\n\t\x20-\x7e\xa0-\u2027\u202a-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010fffe]+")
_UNPRINTABLE = re.compile("[\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]")
# Among a metric's fields in the file: its direction is against the one that the scorer declares, on purpose.
FORCE_KEY = "force_direction"
_KINDS: list[tuple[type[models.Field], tuple[type, ...], str | Promise]] = [
    (models.BooleanField, (bool,), gettext_lazy("true or false")),
    (models.DateTimeField, (datetime,), gettext_lazy("a time with its zone, such as 2027-01-31T09:00:00+09:00")),
    (models.FloatField, (float, int), gettext_lazy("a number")),
    (models.IntegerField, (int,), gettext_lazy("a whole number")),
    (models.CharField, (str,), gettext_lazy("text")),
    (models.TextField, (str,), gettext_lazy("text")),
]


class WrongFile(InvalidInput):
    """The file is not a leaderboard's; `problems` are sentences, one a mistake, each with its field, rule and value."""

    def __init__(self, problems: list[str]) -> None:
        self.problems = problems[:MOST_PROBLEMS]
        super().__init__("bad_leaderboard_file", "%(problems)s", problems="\n".join(self.problems))


class AlreadyThere(Conflict):
    def __init__(self, slug: str) -> None:
        sentence = gettext_lazy("there is %(slug)s already: replace it, or import the file under another name.")
        super().__init__("leaderboard_exists", sentence, field="slug", slug=slug)


def file_fields(model: type[models.Model]) -> list[models.Field]:
    """The fields of the model that the file holds, in the model's order."""
    plain = tuple(kind for kind, _, _ in _KINDS)
    return [
        field
        for field in model._meta.concrete_fields
        if field.editable and field.name not in _LEFT_OUT and isinstance(field, plain)
    ]


def file_name(field: models.Field) -> str:
    return _FILE_NAMES.get(field.name, field.name)


# --- out -----------------------------------------------------------------------------------------------------------
class _Dumper(yaml.SafeDumper):
    """Text of several lines as it reads, one line a line, and metrics indented below their name."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        super().increase_indent(flow, False)

    def analyze_scalar(self, scalar: str) -> Any:
        # PyYAML takes no block with tabs or with spaces at the end of a line, though it reads both back as they were.
        analysis = super().analyze_scalar(scalar)
        analysis.allow_block = bool(_BLOCK.fullmatch(scalar))
        return analysis

    def write_double_quoted(self, text: str, split: bool = True) -> None:
        """Write what no block can hold, such as CRLF, with a line break after each of its own."""
        if "\n" not in text:
            super().write_double_quoted(text, split)
            return
        lines = [_escaped(line) for line in text.splitlines(keepends=True)]
        # A space that begins a line would be indentation.
        lines[1:] = [f"\\{line}" if line.startswith(" ") else line for line in lines[1:]]
        self.write_indicator('"' + f"\\\n{' ' * (self.indent or 0)}".join(lines) + '"', True)


def _escaped(line: str) -> str:
    return _UNPRINTABLE.sub(lambda found: f"\\u{ord(found[0]):04x}", json.dumps(line, ensure_ascii=False)[1:-1])


def _text(dumper: yaml.SafeDumper, value: str) -> yaml.Node:
    is_block = _BLOCK.fullmatch(value)
    style = ("|" if "\n" in value else None) if is_block or not value else '"'
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)


_Dumper.add_representer(str, _text)


def export_leaderboard(leaderboard: Leaderboard) -> str:
    """Return the file's text. Of metrics, what is empty is left out, so that it reads well; not where a scorer has defaults."""
    content: dict[str, Any] = {VERSION_KEY: VERSION}
    content |= {file_name(field): _plain(field.value_from_object(leaderboard)) for field in file_fields(Leaderboard)}
    declared = known_declaration(leaderboard.scorer)
    content["metrics"] = [_metric(metric, leaderboard, declared) for metric in leaderboard.metrics.all()]
    return dump(content)


def dump(content: dict[str, Any]) -> str:
    return str(yaml.dump(content, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100))


def _metric(metric: Metric, leaderboard: Leaderboard, declared: DeclaredMetrics | None) -> dict[str, Any]:
    values = {field.name: _plain(field.value_from_object(metric)) for field in file_fields(Metric)}
    kept = {"name", "direction"} | ({"label", "unit", "minimum", "maximum"} if leaderboard.is_scored else set())
    content = {name: value for name, value in values.items() if name in kept or not _is_empty(value)}
    declaration = declared.named(metric.name) if declared else None
    if declaration is not None and declaration.direction != metric.direction:
        content[FORCE_KEY] = True
    return content


def _is_empty(value: Any) -> bool:
    return value is None or value is False or value == ""


def _plain(value: Any) -> Any:
    return str(value) if isinstance(value, str) else value


# --- in ------------------------------------------------------------------------------------------------------------
class _Loader(BoundedLoader):
    """Plain YAML in which no mapping has a name twice."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        names = set()
        for key, _value in node.value:
            if key.id == "scalar" and key.value in names:
                self.refuse(gettext_noop("%(name)r stands twice"), "names", key, name=key.value[:60])
            names.add(str(key.value))
        return super().construct_mapping(node, deep)


@transaction.atomic
def import_leaderboard(
    text: str,
    *,
    slug: str = "",
    replace: bool = False,
    as_draft: bool = False,
    by: User | None = None,
    reason: str = "",
    look: Callable[[Preview], None] = lambda preview: None,
) -> tuple[Leaderboard, bool]:
    """The leaderboard that the file describes, and whether it is new. `slug` makes a copy under another name.

    With `as_draft` it is a draft, whatever the file says.
    With `replace` one that exists becomes what the file says; entries are computed again when it ranks in another way.
    `look` is given what that does to its rows, and stops it by an exception.
    Raises WrongFile with every mistake in it; AlreadyThere when it exists and `replace` is not given.
    """
    leaderboard, change = write_leaderboard(text, slug=slug, replace=replace, as_draft=as_draft)
    if change is None:
        fit(leaderboard, by=by, reason=reason)
    else:
        look(change.preview())
        change.finish(by=by, reason=reason)
    return leaderboard, change is None


@transaction.atomic
def write_leaderboard(
    text: str, *, slug: str, replace: bool, as_draft: bool = False
) -> tuple[Leaderboard, RankingChange | None]:
    """Write what the file says: the leaderboard, and the change to finish where it existed before.

    The same refusals as `import_leaderboard`.
    """
    values, metrics = read_file(text)
    if slug:
        values["slug"] = slug
    if as_draft:
        values["is_draft"] = True
    # Not its key: who enqueues a job on it holds their own row, which the entries made here will want.
    found = Leaderboard.objects.select_for_update(no_key=True).filter(slug=values["slug"]).first()
    if found is not None and not replace:
        raise AlreadyThere(values["slug"])
    leaderboard = found or Leaderboard()
    change = RankingChange(found) if found else None
    scorer_before = leaderboard.scorer
    becomes_draft = found is not None and not found.is_draft and values.get("is_draft", False)
    for field in file_fields(Leaderboard):
        # What the file does not say becomes what it is for a new one.
        setattr(leaderboard, field.attname, values.get(field.name, field.get_default()))
    earlier = {metric.name: metric for metric in leaderboard.metrics.all()} if found else {}
    scorer = values.get("scorer", "")
    rows, problems = _rows(leaderboard, metrics, scorer, earlier if scorer == scorer_before else {})
    if becomes_draft and leaderboard.submissions.exists():
        problems.append(f"draft: {HAS_SUBMISSIONS}")
    _validate(leaderboard, rows, problems)
    leaderboard.save()
    _save_metrics(leaderboard, rows)
    leaderboard = Leaderboard.objects.get(pk=leaderboard.pk)
    if change is not None:
        change.board = leaderboard
    return leaderboard, change


def _rows(
    leaderboard: Leaderboard, metrics: list[dict[str, Any]], scorer: str, earlier: dict[str, Metric]
) -> tuple[list[Metric], list[str]]:
    """Return the metrics in the file's order, with the scorer's defaults, and what the scorer does not accept.

    `earlier` are the board's metrics under the same scorer, by name.
    """
    rows: list[Metric] = []
    problems: list[str] = []
    try:
        declared = declared_metrics(scorer)
    except BadDeclaration as refusal:
        declared = None
        problems.append(refusal.message)
    for position, given in enumerate(metrics):
        fields = {name: value for name, value in given.items() if name != FORCE_KEY}
        before = earlier.get(given["name"])
        try:
            fields = complete_metric(declared, fields, is_forced=given.get(FORCE_KEY, False), before=before)
        except MetricRefused as refusal:
            hint = _(" %(key)s: true beside it does.") % {"key": FORCE_KEY} if refusal.field == "direction" else ""
            problems.append(f"metrics[{position}].{refusal.field}: {refusal.sentence}{hint}")
        rows.append(Metric(leaderboard=leaderboard, position=position, **fields))
    return rows, problems


def _save_metrics(leaderboard: Leaderboard, rows: list[Metric]) -> None:
    """Metrics that stay keep their rows."""
    known = {metric.name: metric.pk for metric in leaderboard.metrics.all()}
    leaderboard.metrics.exclude(name__in=[row.name for row in rows]).delete()
    for row in rows:
        row.leaderboard, row.pk = leaderboard, known.get(row.name)
        row.save()


def read_file(text: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """(fields of the leaderboard, fields of each metric), of the right types. Raises WrongFile."""
    try:
        content = load_yaml(text, _BOUNDS, _Loader)
    except TextRefused as error:
        sentence = _("not valid YAML: %(why)s.") if error.is_syntax else _("not accepted: %(why)s.")
        raise WrongFile(["file: " + sentence % {"why": str(reason_of(error))[:300]}]) from error
    if not isinstance(content, dict) or VERSION_KEY not in content:
        raise WrongFile(
            ["file: " + _("must be a mapping that begins with `%(line)s`.") % {"line": f"{VERSION_KEY}: {VERSION}"}]
        )
    if content[VERSION_KEY] != VERSION:
        raise WrongFile(
            [
                f"{VERSION_KEY}: "
                + _("must be %(version)d, the version that this site reads, not %(found)r.")
                % {"version": VERSION, "found": content[VERSION_KEY]}
            ]
        )
    problems: list[str] = []
    given = {name: value for name, value in content.items() if name not in (VERSION_KEY, "metrics")}
    values = _typed(Leaderboard, given, "", problems)
    problems += [f"{name}: " + _("is missing.") for name in ("slug", "title") if name not in content]
    listed = content.get("metrics") or []
    if not isinstance(listed, list) or len(listed) > MOST_METRICS:
        said = {"most": MOST_METRICS, "found": _short(listed)}
        problems.append("metrics: " + _("must be a list of at most %(most)d, not %(found)s.") % said)
        listed = []
    metrics = []
    for position, fields in enumerate(listed):
        if not isinstance(fields, dict) or "name" not in fields:
            said = {"found": _short(fields)}
            problems.append(f"metrics[{position}]: " + _("must be a mapping with a name, not %(found)s.") % said)
            continue
        force = fields.pop(FORCE_KEY, False)
        if not isinstance(force, bool):
            rule = _("must be %(rule)s, not %(found)s.") % {"rule": _("true or false"), "found": _short(force)}
            problems.append(f"metrics[{position}].{FORCE_KEY}: {rule}")
        metrics.append(_typed(Metric, fields, f"metrics[{position}].", problems) | ({FORCE_KEY: True} if force else {}))
    names = [str(fields.get("name")) for fields in metrics]
    problems += [
        "metrics: " + _("the name %(name)r stands twice.") % {"name": name}
        for name in sorted(set(names))
        if names.count(name) > 1
    ]
    if problems:
        raise WrongFile(problems)
    return values, metrics


def _typed(model: type[models.Model], given: dict[Any, Any], prefix: str, problems: list[str]) -> dict[str, Any]:
    fields = {file_name(field): field for field in file_fields(model)}
    values: dict[str, Any] = {}
    for name, value in given.items():
        if name not in fields:
            said = _("is no field; known are %(known)s.") % {"known": ", ".join(fields)}
            problems.append(f"{prefix}{_short(name)}: {said}")
            continue
        field = fields[name]
        types, rule = next((types, rule) for kind, types, rule in _KINDS if isinstance(field, kind))
        if value is None and field.null:
            values[field.name] = None
        elif not isinstance(value, types) or (isinstance(value, bool) and bool not in types):
            said = _("must be %(rule)s, not %(found)s.") % {"rule": rule, "found": _short(value)}
            problems.append(f"{prefix}{name}: {said}")
        elif isinstance(field, models.FloatField) and not _is_finite(value):
            said = _("must be a finite number, not %(found)s.") % {"found": _short(value)}
            problems.append(f"{prefix}{name}: {said}")
        elif isinstance(value, datetime) and timezone.is_naive(value):
            said = _("must be %(rule)s, not %(found)s without a zone.") % {"rule": rule, "found": value.isoformat()}
            problems.append(f"{prefix}{name}: {said}")
        else:
            values[field.name] = value
    return values


def _validate(leaderboard: Leaderboard, rows: list[Metric], problems: list[str]) -> None:
    """Raise WrongFile with these problems and those of the values."""
    problems = _broken_rules(leaderboard, "", []) + problems
    for position, row in enumerate(rows):
        problems += _broken_rules(row, f"metrics[{position}].", ["leaderboard"])
        if row.minimum is not None and row.maximum is not None and row.minimum > row.maximum:
            said = _("must not exceed maximum %(maximum)s, not %(minimum)s.")
            said %= {"maximum": row.maximum, "minimum": row.minimum}
            problems.append(f"metrics[{position}].minimum: {said}")
    if problems:
        raise WrongFile(problems)


def _broken_rules(row: models.Model, prefix: str, excluded: list[str]) -> list[str]:
    try:
        row.full_clean(exclude=excluded, validate_unique=False)
    except ValidationError as error:
        return [
            _in_words(row, prefix, name, broken, message)
            for name, errors in error.error_dict.items()
            for broken in errors
            for message in broken.messages
        ]
    return []


def _in_words(row: models.Model, prefix: str, name: str, broken: ValidationError, message: str) -> str:
    """The sentence with its field and the value, unless it counts the value already."""
    if not hasattr(row, name):
        return f"{prefix or 'file: '}{message}"
    counted = "found" in (broken.params or {})
    value = "" if counted else " " + _("Not %(found)s.") % {"found": _short(getattr(row, name, None))}
    return f"{prefix}{name}: {message}{value}"


def _is_finite(value: Any) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number that no float can hold
        return False


def _short(value: Any) -> str:
    text = value.isoformat() if isinstance(value, datetime) else repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
