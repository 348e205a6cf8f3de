"""`manage.py hide_labels SOURCE NAME`: a data set without its test labels, and the labels apart from it."""

import sys
import time
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.exceptions import ValidationError
from django.core.management.base import CommandError

from accounts.commands import TaughtCommand
from core.sizes import human_bytes
from leaderboards.hiding import Split, changes_data, plan_split, write_split
from leaderboards.scoring import folder_name
from leaderboards.source_layout import CannotHide, counted
from leaderboards.source_names import mapping_of

PROGRESS_SECONDS = 0.5
CHANGES = {
    "added": "added", "removed": "removed", "replaced": "replaced", "relabelled": "of another kind", "masks": "masks",
    "train": "images to learn from or licenses",
}  # fmt: skip


class Command(TaughtCommand):
    help = (
        "Split data in the layout of MVTec AD for a leaderboard that is scored on hidden labels: below DATASET_ROOT the "
        "images, test images under neutral names in a random order; below GROUND_TRUTH_ROOT masks and labels. Every file "
        "is taken or named, and every mask is checked, before anything is written. It hides labels, not images: those of a "
        "public data set can be told by their pixels. NAME.sources.csv next to the labels says which image is which; "
        "with it, --regenerate makes both folders again after a correction, under the same names."
    )
    examples = """\
  manage.py hide_labels /data/our_parts parts --dry-run
  manage.py hide_labels /data/our_parts parts --leave-out '*/validation/*'
  manage.py hide_labels /data/our_parts parts --leave-out '*/validation/*' --regenerate
  manage.py create_leaderboard parts --dataset parts --scorer anomaly_detection --ground-truth parts --metric image_auc
"""

    def add_arguments(self, parser):
        parser.add_argument("source", type=Path, help="A folder with CATEGORY/train/good, test/ and ground_truth/.")
        parser.add_argument("name", help="Of both new folders, below DATASET_ROOT and GROUND_TRUTH_ROOT.")
        parser.add_argument(
            "--leave-out", action="append", default=[], metavar="PATTERN",
            help="Files that are not taken, by their path below the source; * stands for any part of it. Repeatable.",
        )  # fmt: skip
        parser.add_argument("--regenerate", action="store_true", help="Make both folders again, under the same names.")
        parser.add_argument(
            "--dry-run", action="store_true", help="Check everything, say what would be made, and stop."
        )
        parser.add_argument("--json", action="store_true", help="Print what was made as JSON.")

    def handle(self, **options: Any) -> None:
        name = options["name"]
        try:
            folder_name(name)
            data, labels = settings.DATASET_ROOT / name, settings.GROUND_TRUTH_ROOT / name
            progress = Progress()
            split = plan_split(
                options["source"], data, labels, leave_out=options["leave_out"], is_again=options["regenerate"],
                report=progress,
            )  # fmt: skip
            progress.end()
            is_written = not options["dry_run"] and not (split.is_again and not any(split.changes.values()))
            if is_written:
                write_split(split)
        except ValidationError as error:
            raise CommandError(f"name: {error.messages[0]}") from error
        except CannotHide as error:
            raise CommandError(f"{error}\nNothing was written.") from error
        except OSError as error:
            raise CommandError(str(error)) from error
        if options["json"]:
            self.write_json(_as_json(name, split, is_written=is_written))
            return
        for line in _told(split, is_dry=options["dry_run"]):
            self.stdout.write(line)


class Progress:
    """A line on standard error, rewritten twice a second; none where that is no terminal."""

    def __init__(self) -> None:
        self._is_shown = sys.stderr.isatty()
        self._last = time.monotonic()

    def __call__(self, done: int, total: int) -> None:
        if self._is_shown and time.monotonic() - self._last >= PROGRESS_SECONDS:
            self._last = time.monotonic()
            sys.stderr.write(f"\rchecked {done} of {total} images and masks")
            sys.stderr.flush()

    def end(self) -> None:
        if self._is_shown:
            sys.stderr.write("\r\x1b[K")


def _as_json(name: str, split: Split, *, is_written: bool) -> dict[str, Any]:
    return {
        "dataset": name, "ground_truth": name, "written": is_written, "categories": len(split.kinds), "train": split.train,
        "test": split.test, "masks": split.masks, "masks_scaled": split.masks_scaled,
        "kinds": {category: dict(kinds) for category, kinds in split.kinds.items()},
        "left_out": dict(split.source.left_out), "data_bytes": split.data_bytes, "label_bytes": split.label_bytes,
        "changes": split.changes, "sources": str(mapping_of(split.labels)),
    }  # fmt: skip


def _told(split: Split, *, is_dry: bool) -> list[str]:
    lines = [
        f"{len(split.kinds)} categories: {split.train} images to learn from and {split.test} to test in {split.data}",
        f"labels and {split.masks} masks in {split.labels}",
        f"which image is which in {mapping_of(split.labels)}: keep it, and keep it to yourself",
    ]
    if is_dry:
        lines += [
            f"  {category}: {', '.join(f'{count} {kind}' for kind, count in sorted(kinds.items()))}"
            for category, kinds in split.kinds.items()
        ]
        size = human_bytes(split.data_bytes + split.label_bytes)
        lines.append(f"They take {size}. Nothing was written (--dry-run).")
    if split.masks_scaled:
        lines.append(f"Masks of 0 and 1, written as masks of 0 and 255: {split.masks_scaled}.")
    lines += [
        f"Left out: {counted(count, 'file')}, {reason}." for reason, count in sorted(split.source.left_out.items())
    ]
    if split.is_again:
        lines += _changes_told(split)
    return lines


def _changes_told(split: Split) -> list[str]:
    changed = [f"{CHANGES[name]} {count}" for name, count in split.changes.items() if count]
    if not changed:
        return ["Nothing is different: both folders stay as they are."]
    lines = [f"Different from before, test images and masks: {', '.join(changed)}."]
    if not changes_data(split):
        lines.append(
            "The data set stays as it is; copy the labels to the workers, then adopt them on the board's page."
        )
    else:
        lines.append("Copy both folders to the workers, then adopt the labels on the board's page.")
    if split.changes["added"]:
        lines.append(
            "Participants can tell added images from the others by their numbers. Add good and defective ones alike."
        )
    return lines
