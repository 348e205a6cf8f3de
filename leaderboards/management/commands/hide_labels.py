"""`manage.py hide_labels SOURCE NAME`: a data set without its test labels, and the labels apart from it."""

import dataclasses
import time
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.exceptions import ValidationError
from django.core.management.base import CommandError

from accounts.commands import TaughtCommand
from leaderboards.hiding import CannotHide, Hidden, hide_labels, journal_of, leak_of, place_of_sources
from leaderboards.hiding.plan import Changes
from leaderboards.hiding.reading import Report
from leaderboards.hiding.source import some
from leaderboards.scoring import folder_name

_SECONDS_BETWEEN_LINES = 2.0
_MOST_NAMED = 10


class Command(TaughtCommand):
    help = (
        "Split data in the layout of MVTec AD for a leaderboard that is scored on hidden labels: below DATASET_ROOT the "
        "images, test images under neutral names in a random order; below GROUND_TRUTH_ROOT masks and labels, and next to "
        "them NAME.sources.csv, which says what each name stands for. Every file of SOURCE is taken or named. It hides "
        "labels, not images: those of a public data set can be told by their pixels."
    )
    examples = """\
  manage.py hide_labels /data/our_parts parts --dry-run       # check everything, write nothing
  manage.py hide_labels /data/our_parts parts --leave-out validation --leave-out '*.txt'
  manage.py create_leaderboard parts --dataset parts --scorer anomaly_detection --ground-truth parts --metric image_auc

  After a correction in /data/our_parts, with the same names of images:
  manage.py hide_labels /data/our_parts parts --leave-out validation --leave-out '*.txt' --regenerate
"""

    def add_arguments(self, parser):
        parser.add_argument("source", type=Path, help="A folder with CATEGORY/train/good, test/ and ground_truth/.")
        parser.add_argument("name", help="Of both new folders, below DATASET_ROOT and GROUND_TRUTH_ROOT.")
        parser.add_argument(
            "--leave-out", action="append", default=[], metavar="PATTERN",
            help="Leave out the files that fit: a name, a path below SOURCE or a pattern with *, of a file or of a "
            "folder around it. May be given several times.",
        )  # fmt: skip
        parser.add_argument(
            "--allow-empty-masks", action="store_true",
            help="Accept masks of defective images that mark no pixel. Pixel metrics then count such an image as good.",
        )  # fmt: skip
        parser.add_argument(
            "--regenerate", action="store_true",
            help="Make NAME anew after a correction of SOURCE. Images keep their names, also in another folder.",
        )  # fmt: skip
        parser.add_argument(
            "--dry-run", action="store_true", help="Check everything and print the plan; write nothing."
        )
        parser.add_argument("--json", action="store_true", help="Print what was made as JSON.")

    def handle(self, **options: Any) -> None:
        name = options["name"]
        try:
            folder_name(name)
        except ValidationError as error:
            raise CommandError(f"name: {error.messages[0]}") from error
        data, labels = settings.DATASET_ROOT / name, settings.GROUND_TRUTH_ROOT / name
        try:
            made = hide_labels(
                options["source"], data, labels, leave_out=options["leave_out"], regenerate=options["regenerate"],
                allow_empty_masks=options["allow_empty_masks"], dry_run=options["dry_run"], report=self._progress(),
            )  # fmt: skip
        except CannotHide as error:
            raise CommandError(f"{error}\nNothing was written.") from error
        except (OSError, KeyboardInterrupt) as error:
            if journal_of(labels).exists():
                self.stderr.write(
                    f"{labels} and {data} are complete, but not all is in its place yet. The same command with "
                    "--regenerate finishes that first. Workers take no jobs on labels that differ from the board's."
                )
            if isinstance(error, KeyboardInterrupt):
                raise
            raise CommandError(str(error)) from error
        leak = "" if options["dry_run"] else leak_of(data, labels)
        if options["json"]:
            self.write_json(_as_json(name, made, is_dry=options["dry_run"]))
        else:
            self._write_summary(made, data, labels, is_dry=options["dry_run"])
        if leak:
            self.stderr.write(f"Warning: {leak}. Run manage.py rewrite_dataset {name} {name}.")

    def _progress(self) -> Report:
        """Return a report that writes a line when something begins, and one every two seconds, to standard error."""
        said, said_at = "", 0.0

        def report(what: str, done: int, total: int) -> None:
            nonlocal said, said_at
            now = time.monotonic()
            if what != said or now - said_at >= _SECONDS_BETWEEN_LINES:
                said, said_at = what, now
                count = f": {done:,} of {total:,} files" if total else ""
                self.stderr.write(what + count, self.style.NOTICE)

        return report

    def _write_summary(self, made: Hidden, data: Path, labels: Path, *, is_dry: bool) -> None:
        would = "would be " if is_dry else ""
        write = self.stdout.write
        write(
            f"{made.categories} categories: {made.train} images to learn from and {made.test} to test in {data}\n"
            f"labels and {made.masks} masks in {labels}\n"
            f"names and their files in {place_of_sources(labels)}"
        )
        for category, counts in made.counts.items():
            write(f"  {category}: " + ", ".join(f"{count} {kind}" for kind, count in counts.items()))
        for why, count in made.ignored.items():
            write(f"Ignored {why}: {count}")
        for pattern, count in made.left_out.items():
            write(f"Left out by --leave-out {pattern}: {count}")
        if masks := made.normalised_masks:
            write(f"Masks {would}written anew with 0 and 255: {len(masks)}, as {some(masks)}")
        if masks := made.empty_masks:
            write(f"Masks that mark no pixel: {len(masks)}, as {some(masks)}")
        if made.changes is not None:
            self._write_changes(made, made.changes, labels, is_dry=is_dry)
        if is_dry:
            for space in made.space:
                write(f"Space: {space}")
            write("Nothing was written: this was a dry run.")

    def _write_changes(self, made: Hidden, changes: Changes, labels: Path, *, is_dry: bool) -> None:
        for what, names in dataclasses.asdict(changes).items():
            if names:
                self.stdout.write(f"{_CHANGES[what]}: {len(names):,}, {some(names, _MOST_NAMED)}")
        if not made.written:
            self.stdout.write("Nothing changed: both folders are as the source says.")
            return
        for folder in made.written:
            self.stdout.write(f"{'Would be written' if is_dry else 'Written'} anew: {folder}")
        if made.previous:
            kept = "would be kept" if is_dry else "is kept"
            self.stdout.write(
                f"What was there {kept} until the next --regenerate, for jobs that run now: {', '.join(made.previous)}"
            )
        if str(labels) in made.written:
            self.stdout.write(
                "Next: copy it to every worker, then adopt the labels on the board's page in the console."
            )
        else:
            self.stdout.write(
                "Next: copy it to every worker. The labels stay, so the score version stays: run the jobs again that count."
            )


_CHANGES = {
    "added": "New images",
    "removed": "Images taken away",
    "replaced": "Images with other pixels",
    "relabelled": "Images with another kind",
    "masks": "Images with another mask",
    "other": "Other files of the data set that changed",
}


def _as_json(name: str, made: Hidden, *, is_dry: bool) -> dict[str, Any]:
    return {"dataset": name, "ground_truth": name, "dry_run": is_dry, **dataclasses.asdict(made)}
