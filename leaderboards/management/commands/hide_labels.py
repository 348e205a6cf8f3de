"""`manage.py hide_labels SOURCE NAME`: a data set without its test labels, and the labels apart from it."""

import dataclasses
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.exceptions import ValidationError
from django.core.management.base import CommandError

from accounts.commands import TaughtCommand
from leaderboards.hiding import CannotHide, hide_labels
from leaderboards.scoring import folder_name


class Command(TaughtCommand):
    help = (
        "Split data in the layout of MVTec AD for a leaderboard that is scored on hidden labels: below DATASET_ROOT the "
        "images, test images under neutral names in a random order; below GROUND_TRUTH_ROOT masks and labels. It hides "
        "labels, not images: those of a public data set can be told by their pixels."
    )
    examples = """\
  manage.py hide_labels /data/our_parts parts
  manage.py create_leaderboard parts --dataset parts --scorer anomaly_detection --ground-truth parts --metric image_auc
"""

    def add_arguments(self, parser):
        parser.add_argument("source", type=Path, help="A folder with CATEGORY/train/good, test/ and ground_truth/.")
        parser.add_argument("name", help="Of both new folders, below DATASET_ROOT and GROUND_TRUTH_ROOT.")
        parser.add_argument("--json", action="store_true", help="Print what was made as JSON.")

    def handle(self, **options: Any) -> None:
        name = options["name"]
        try:
            folder_name(name)
            data, labels = settings.DATASET_ROOT / name, settings.GROUND_TRUTH_ROOT / name
            made = hide_labels(options["source"], data, labels)
        except ValidationError as error:
            raise CommandError(f"name: {error.messages[0]}") from error
        except (CannotHide, OSError) as error:
            raise CommandError(str(error)) from error
        if options["json"]:
            self.write_json({"dataset": name, "ground_truth": name, **dataclasses.asdict(made)})
            return
        self.stdout.write(
            f"{made.categories} categories: {made.train} images to learn from and {made.test} to test in {data}\n"
            f"labels and {made.masks} masks in {labels}"
        )
