"""`manage.py backup`: the whole site in one archive, while it runs."""

import time
from pathlib import Path
from typing import Any

from django.core.management.base import CommandError

from accounts.commands import TaughtCommand
from core.sizes import human_bytes
from leaderboard_site.backup.archive import BackupError
from leaderboard_site.backup.create import create_backup, default_name
from leaderboard_site.backup.progress import Progress


class Command(TaughtCommand):
    help = (
        "Write the database, the stored files and MLflow into one archive with a SHA-256 of each part, while the site runs. "
        "The archive holds what people submitted: keep it as safe as the site."
    )
    examples = """\
  manage.py backup /backups                         into a file named by the time
  manage.py backup /backups/before-upgrade.zip
  manage.py restore /backups/before-upgrade.zip     brings it back
"""

    def add_arguments(self, parser):
        parser.add_argument("target", type=Path, metavar="FOLDER|FILE")
        parser.add_argument("--json", action="store_true", help="Print the manifest as JSON.")

    def handle(self, **options: Any) -> None:
        target: Path = options["target"]
        if target.is_dir():
            target /= default_name()
        elif target.exists():
            raise CommandError(f"{target} is there already; name another file, or a folder.")
        elif not target.parent.is_dir():
            raise CommandError(f"There is no folder {target.parent}. Make it first: mkdir -p {target.parent}")
        began = time.monotonic()
        try:
            with Progress(self.stderr) as progress:
                manifest = create_backup(target, progress=progress)
        except BackupError as error:
            raise CommandError(f"No backup was made: {error}") from error
        if options["json"]:
            self.write_json({"path": str(target), "bytes": target.stat().st_size, **manifest})
        else:
            self._tell(target, manifest, time.monotonic() - began)
        if missing := manifest["missing_files"]["count"]:
            raise CommandError(
                f"The backup is made, but {missing} files that the database names were not in the storage, the first: "
                f"{manifest['missing_files']['first'][0]}."
            )

    def _tell(self, target: Path, manifest: dict[str, Any], seconds: float) -> None:
        files = sum(part["files"] for part in manifest["files"].values())
        counts = ", ".join(f"{label} {number}" for label, number in manifest["counts"].items())
        mlflow = manifest["mlflow"]
        held = "its database" if mlflow["database"] else "nothing"
        self.stdout.write(f"{target}: {human_bytes(target.stat().st_size)} in {seconds:.1f} s")
        self.stdout.write(f"  database of {manifest['snapshot_at']}: {counts}")
        self.stdout.write(f"  {files} stored files; of MLflow {held} and {mlflow['artifacts']} files")
        for line in manifest["not_included"]:
            self.stdout.write(f"  not in it: {line}")
