"""`manage.py create_leaderboard`: from options, or from a file that `leaderboard SLUG --yaml` wrote."""

import difflib
import sys
from datetime import datetime
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.exceptions import NON_FIELD_ERRORS, ValidationError
from django.core.management.base import CommandError

from accounts.commands import TaughtCommand
from accounts.refusals import RequestRefused
from accounts.services import record_action
from jobs.unrunnable import unmet_needs
from jobs.waiting import live_workers
from leaderboards.metric_defaults import MetricRefused, usual_direction
from leaderboards.models import Leaderboard, Metric
from leaderboards.scoring import BUILT_IN, OWN, declared_metrics
from leaderboards.services import create_leaderboard
from leaderboards.versioning import Preview
from leaderboards.yaml_file import import_leaderboard

# With --from-yaml these stand in the file: given beside it they would be passed over in silence.
FROM_THE_FILE = (
    "title", "description", "rules", "dataset", "scorer", "ground_truth", "metric", "required_metric", "force_direction",
    "visibility", "opens_at", "closes_at", "writable_code",
)  # fmt: skip
# The metrics of the scorers, for --help.
GIVEN = "; ".join(
    f"{scorer.name} gives {', '.join(one.name for one in scorer.metrics)}" for scorer in BUILT_IN.values()
)


A_TIME = "2027-01-31T09:00:00+09:00"


class Command(TaughtCommand):
    help = "Make a leaderboard from options or from a YAML file. The first metric ranks."
    examples = """\
  manage.py create_leaderboard bottles --title "Bottles" --metric image_auc --metric seconds:lower:s
  manage.py create_leaderboard bottles --dataset bottles --scorer anomaly_detection --ground-truth bottles --metric image_auc
  manage.py create_leaderboard bottles --metric image_auc --closes-at 2027-01-31T18:00:00+09:00 --rules @rules.md --draft
  manage.py create_leaderboard --from-yaml bottles.yaml
  manage.py create_leaderboard bottles-2 --from-yaml bottles.yaml       a copy under another name
  manage.py create_leaderboard --from-yaml bottles.yaml --replace      bring the one that exists to what the file says
  manage.py leaderboard bottles --yaml > bottles.yaml                  writes such a file
"""

    def add_arguments(self, parser):
        parser.add_argument("slug", nargs="?", default="", help="Its name in addresses.")
        parser.add_argument("--title", help="Its name for people; the slug if left out.")
        parser.add_argument("--description", default="", metavar="TEXT", help="Markdown; @FILE reads it from a file.")
        parser.add_argument("--rules", default="", metavar="TEXT", help="Markdown; @FILE reads it from a file.")
        parser.add_argument("--dataset", default="", help="A folder below DATASET_ROOT, shown read-only to every run.")
        parser.add_argument(
            "--scorer",
            default="",
            help=f"Score runs on hidden labels: {', '.join(BUILT_IN)}, or own/NAME (docs/scoring.md).",
        )
        parser.add_argument("--ground-truth", default="", help="The hidden labels: a folder below GROUND_TRUTH_ROOT.")
        parser.add_argument(
            "--metric",
            action="append",
            default=[],
            metavar="NAME[:lower|:higher[:UNIT]]",
            help="May be repeated, in order. What is left out is as the scorer declares it: " + GIVEN + ". Without a "
            "scorer, errors, losses and times rank lowest first (rmse, val_loss, seconds), all other names highest first.",
        )
        parser.add_argument(
            "--required-metric",
            action="append",
            default=[],
            metavar="NAME",
            help="One of them without which no run ranks.",
        )
        parser.add_argument(
            "--force-direction",
            action="store_true",
            help="Accept a direction against the one that the scorer declares.",
        )
        parser.add_argument("--visibility", choices=Leaderboard.Visibility.values, help="public if left out.")
        parser.add_argument(
            "--writable-code", action="store_true", help="Give every run its own copy of the code folder to write to."
        )
        for name, what in (
            ("--opens-at", "When it begins to take submissions"),
            ("--closes-at", "When it takes no more"),
        ):
            parser.add_argument(name, metavar="TIME", help=f"{what}, with its zone: {A_TIME}.")
        parser.add_argument("--draft", action="store_true", help="Only operators see it until they publish it.")
        parser.add_argument("--from-yaml", metavar="FILE", help="All of it from this file (-: standard input).")
        parser.add_argument("--replace", action="store_true", help="With --from-yaml: change the one that exists.")
        parser.add_argument(
            "--yes", action="store_true", help="With --replace: do it even if rows leave the board or change places."
        )
        parser.add_argument("--json", action="store_true", help="Print what was made as JSON.")

    def handle(self, **options: Any) -> None:
        try:
            leaderboard, is_new = self._import(options) if options["from_yaml"] else self._create(options)
        except MetricRefused as refusal:
            hint = " --force-direction does." if refusal.field == "direction" else ""
            raise CommandError(f"--metric: {refusal.sentence}{hint}") from refusal
        except RequestRefused as refusal:
            raise CommandError(refusal.message) from refusal
        except ValidationError as error:
            raise CommandError(
                # A rule of several fields at once has no field's name.
                "\n".join(
                    " ".join(told) if name == NON_FIELD_ERRORS else f"{name}: {' '.join(told)}"
                    for name, told in error.message_dict.items()
                )
            ) from error
        for sentence in _needs(leaderboard):
            self.stderr.write(sentence)
        record_action(None, "create_leaderboard" if is_new else "import_leaderboard", [leaderboard])
        if options["json"]:
            self.write_json({
                "slug": leaderboard.slug, "title": leaderboard.title, "created": is_new, "is_draft": leaderboard.is_draft,
                "metrics": [metric.name for metric in leaderboard.metrics.all()],
            })  # fmt: skip
            return
        self._tell_directions(options, leaderboard)
        verb = "is made" if is_new else "is changed"
        draft = " It is a draft: publish it in the console." if leaderboard.is_draft else ""
        self.stdout.write(f"{leaderboard.slug} {verb}: {leaderboard.get_absolute_url()}{draft}")

    def _import(self, options: dict[str, Any]) -> tuple[Leaderboard, bool]:
        for given in FROM_THE_FILE:
            if options[given]:
                raise CommandError(f"--{given.replace('_', '-')}: not with --from-yaml, the file says it.")
        name = options["from_yaml"]
        try:
            text = sys.stdin.read() if name == "-" else Path(name).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise CommandError(f"--from-yaml: {name} cannot be read: {error}.") from error
        return import_leaderboard(
            text,
            slug=options["slug"],
            replace=options["replace"],
            as_draft=options["draft"],
            look=lambda preview: self._look(preview, options),
        )

    def _look(self, preview: Preview, options: dict[str, Any]) -> None:
        """Say what the change does to the rows of the board, and stop it unless --yes was given."""
        if not preview.is_needed:
            return
        told = "\n".join(preview.sentences())
        is_disturbing = preview.dropped or preview.moved or not preview.is_counted
        if is_disturbing and not options["yes"]:
            raise CommandError(f"{told}\nNothing is changed; with --yes it is.")
        self.stderr.write(told)

    def _create(self, options: dict[str, Any]) -> tuple[Leaderboard, bool]:
        if not options["slug"]:
            raise CommandError("slug: give the leaderboard's name, or --from-yaml FILE.")
        for flag in ("replace", "yes"):
            if options[flag]:
                raise CommandError(f"--{flag}: only with --from-yaml.")
        if not options["metric"]:
            raise CommandError("--metric: at least one; the first one ranks.")
        made = create_leaderboard(
            slug=options["slug"],
            title=options["title"] or options["slug"],
            description=_text("description", options),
            rules=_text("rules", options),
            dataset=options["dataset"],
            scorer=options["scorer"],
            ground_truth=options["ground_truth"],
            visibility=options["visibility"] or Leaderboard.Visibility.PUBLIC,
            has_writable_code=options["writable_code"],
            opens_at=_time("opens_at", options),
            closes_at=_time("closes_at", options),
            is_draft=options["draft"],
            metrics=_metrics(options["metric"], options["required_metric"]),
            force_direction=options["force_direction"],
        )
        return made, True

    def _tell_directions(self, options: dict[str, Any], leaderboard: Leaderboard) -> None:
        """Say which directions follow from a name alone, so that a wrong one is noticed."""
        declared = declared_metrics(leaderboard.scorer)
        named = {given["name"] for given in map(_metric, options["metric"]) if "direction" not in given}
        for metric in leaderboard.metrics.all():
            is_declared = declared is not None and declared.named(metric.name) is not None
            if metric.name in named and not is_declared and usual_direction(metric.name):
                self.stdout.write(
                    f"{metric.name}: lower is better, by its name; --metric {metric.name}:higher says otherwise."
                )


def _text(name: str, options: dict[str, Any]) -> str:
    """Return the option's text, or that of the file that it names."""
    given: str = options[name]
    if not given.startswith("@"):
        return given
    try:
        return Path(given[1:]).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise CommandError(f"--{name}: {given[1:]} cannot be read: {error}.") from error


def _time(name: str, options: dict[str, Any]) -> datetime | None:
    given: str | None = options[name]
    if not given:
        return None
    try:
        moment = datetime.fromisoformat(given)
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        zone = "" if moment is None else " without a zone"
        option = name.replace("_", "-")
        raise CommandError(f"--{option}: must be a time with its zone, such as {A_TIME}, not {given!r}{zone}.")
    return moment


def _needs(leaderboard: Leaderboard) -> list[str]:
    """Return sentences on what the leaderboard needs and no worker has; without any worker, what this machine lacks."""
    if live_workers():
        return unmet_needs(leaderboard)
    folders = [("dataset", settings.DATASET_ROOT, leaderboard.dataset)]
    if leaderboard.is_scored:
        folders.append(("ground_truth", settings.GROUND_TRUTH_ROOT, leaderboard.ground_truth))
        if leaderboard.scorer.startswith(OWN):
            folders.append(("scorer", settings.SCORER_ROOT, leaderboard.scorer.removeprefix(OWN)))
    return [
        f"{name}: there is no {folder} on this machine; each machine with a worker needs it."
        for name, root, value in folders
        if value and not (folder := Path(root) / value).is_dir()
    ]


def _metrics(given: list[str], required: list[str]) -> list[dict[str, Any]]:
    metrics = [_metric(text) for text in given]
    names = [metric["name"] for metric in metrics]
    for name in required:
        if name not in names:
            alike = difflib.get_close_matches(name, names, n=1)
            guess = f"; did you mean {alike[0]}?" if alike else "."
            raise CommandError(f"--required-metric: must be one of {', '.join(names)}, not {name}{guess}")
    return [{**metric, "is_required": metric["name"] in required} for metric in metrics]


def _metric(given: str) -> dict[str, Any]:
    """Return `seconds:lower:s` as fields. A name may hold colons of its own, as long as no direction follows one."""
    for direction in Metric.Direction.values:
        name, mark, unit = given.partition(f":{direction}")
        if mark and unit and not unit.startswith(":"):
            raise CommandError(f"--metric: NAME, NAME:lower, NAME:lower:UNIT or NAME:higher:UNIT, not {given!r}.")
        if mark:
            return {"name": name, "direction": direction} | ({"unit": unit[1:]} if unit else {})
    return {"name": given}
