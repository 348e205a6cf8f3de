"""`manage.py restore FILE`: a site back from an archive of `manage.py backup`."""

import time
from pathlib import Path
from typing import Any

from django.core.management.base import CommandError

from accounts.commands import TaughtCommand
from leaderboard_site.backup.archive import ArchiveReader, BackupError
from leaderboard_site.backup.progress import Progress
from leaderboard_site.backup.restore import restore_backup


class Command(TaughtCommand):
    help = (
        "Verify an archive whole, then restore stored files, database and MLflow from it. The servers must run, the site "
        "must not. It refuses a site that has something in it, and an archive of a newer version."
    )
    examples = """\
  make services                                       PostgreSQL, Valkey and MLflow alone, of an embedded site
  manage.py restore /backups/monday.zip --verify      only look whether it is whole
  manage.py restore /backups/monday.zip
  manage.py restore /backups/monday.zip --force       replaces what is there
"""
    requires_system_checks = []

    def add_arguments(self, parser):
        parser.add_argument("file", type=Path)
        parser.add_argument("--verify", action="store_true", help="Verify the archive and change nothing.")
        parser.add_argument(
            "--force", action="store_true", help="Replace a site that has something in it, or still runs."
        )
        parser.add_argument("--json", action="store_true", help="Print what was done as JSON.")

    def handle(self, **options: Any) -> None:
        began = time.monotonic()
        try:
            with Progress(self.stderr) as progress:
                done = self._do(options, progress)
        except BackupError as error:
            raise CommandError(str(error)) from error
        if options["json"]:
            self.write_json(done)
            return
        for name, value in done.items():
            self.stdout.write(f"{name.replace('_', ' '):<20} {value}")
        self.stdout.write(f"Done in {time.monotonic() - began:.1f} s.")
        if not options["verify"]:
            self.stdout.write(
                "Start the site; `manage.py doctor` looks whether all is well. Jobs that ran then run again."
            )

    def _do(self, options: dict[str, Any], progress: Progress) -> dict[str, Any]:
        if not options["verify"]:
            return restore_backup(options["file"], force=options["force"], progress=progress)
        reader = ArchiveReader(options["file"])
        parts = reader.verify(progress)
        about = {
            name: reader.manifest[name] for name in ("snapshot_at", "version", "counts", "jobs_by_status", "mlflow")
        }
        return {"parts_verified": parts, **about}
