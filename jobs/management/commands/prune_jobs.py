"""`manage.py prune_jobs`: deletes what is older than the retention."""

import dataclasses
import json
from typing import Any

from django.conf import settings
from django.core.management.base import CommandError

from accounts.commands import TaughtCommand
from jobs.retention import prune_jobs, sweep_orphans


class Command(TaughtCommand):
    help = "Delete jobs that ended long ago, their files, and stored files that nothing refers to. Entries' jobs stay."
    examples = """\
  manage.py prune_jobs --dry-run         what would go
  manage.py prune_jobs --days 30 --json
"""

    def add_arguments(self, parser):
        parser.add_argument("--days", type=int, default=settings.RETENTION_DAYS, help="Older than this (%(default)s).")
        parser.add_argument("--dry-run", action="store_true", help="Only say what would go.")
        parser.add_argument("--json", action="store_true", help="Print the counts as JSON.")

    def handle(self, **options: Any) -> None:
        if options["days"] < 1:
            raise CommandError(f"--days: at least 1, not {options['days']}.")
        dry_run = options["dry_run"]
        pruned = prune_jobs(days=options["days"], dry_run=dry_run)
        pruned = dataclasses.replace(pruned, objects=sweep_orphans(dry_run=dry_run))
        if options["json"]:
            self.stdout.write(json.dumps({**dataclasses.asdict(pruned), "dry_run": dry_run}))
            return
        verb = "would go" if dry_run else "are gone"
        self.stdout.write(
            f"{pruned.jobs} jobs, {pruned.submissions} submissions and {pruned.objects} stray files {verb}."
        )
