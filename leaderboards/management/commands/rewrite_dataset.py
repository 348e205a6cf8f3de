"""`manage.py rewrite_dataset DATASET GROUND_TRUTH`: write the same files anew, so that file metadata tells nothing."""

from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.exceptions import ValidationError
from django.core.management.base import CommandError

from accounts.commands import TaughtCommand
from leaderboards.hiding import leak_of
from leaderboards.one_pass import UnusualFile, rewrite
from leaderboards.scoring import folder_name


class Command(TaughtCommand):
    help = (
        "Write a hidden leaderboard's data set and labels anew, in one pass in name order, so that inode numbers, times "
        "and places on the disk tell nothing about the labels. Names and contents stay, and jobs may run meanwhile. `doctor` "
        "says where this is needed. The disk must hold both a second time until it is done."
    )
    examples = """\
  manage.py doctor --only scoring
  manage.py rewrite_dataset mvtec mvtec
"""

    def add_arguments(self, parser):
        parser.add_argument("dataset", help="The folder below DATASET_ROOT.")
        parser.add_argument("ground_truth", help="The folder of its labels, below GROUND_TRUTH_ROOT.")

    def handle(self, **options: Any) -> None:
        data = _folder(settings.DATASET_ROOT, options["dataset"], "dataset")
        labels = _folder(settings.GROUND_TRUTH_ROOT, options["ground_truth"], "ground_truth")
        try:
            rewrite(data, labels)
        except (UnusualFile, OSError) as error:
            raise CommandError(f"{error}. Every file is still there.") from error
        if leak := leak_of(data, labels):
            raise CommandError(f"All files were written anew, but {leak}: choose another file system for {data}.")
        self.stdout.write(f"{data} and {labels} were written anew.")


def _folder(root: Path, name: str, argument: str) -> Path:
    try:
        folder_name(name)
    except ValidationError as error:
        raise CommandError(f"{argument}: {error.messages[0]} Not {name!r}.") from error
    folder = (Path(root) / name).resolve()
    if not folder.is_dir():
        raise CommandError(f"{argument}: there is no folder {folder}.")
    return folder
