"""`manage.py check_sandbox`: is the sandbox tight on this machine?"""

import dataclasses
import json
import sys
from typing import Any

from django.conf import settings
from django.core.management.base import CommandError

from accounts.commands import TaughtCommand
from jobs.execution.limit_table import held_limits
from jobs.execution.preflight import is_tight
from jobs.management.commands.worker import refuse_executor, refuse_missing_runner
from jobs.sandbox import probe_sandbox


class Command(TaughtCommand):
    help = (
        "Try to break out of the sandbox as a submission could, and print what came of it. Exit code 1 when it is open."
    )
    examples = """\
  manage.py check_sandbox
  manage.py check_sandbox --json | jq '.[] | select(.contained | not)'
"""

    def add_arguments(self, parser):
        parser.add_argument("--json", action="store_true", help="Print the table as JSON.")
        parser.add_argument("--image", default="", help="Try this container image instead of the default one.")

    def handle(self, **options: Any) -> None:
        if options["image"] and settings.EXECUTOR != "container":
            raise CommandError(f"--image needs EXECUTOR=container; this site has {settings.EXECUTOR}.")
        refuse_executor()
        refuse_missing_runner()
        report = probe_sandbox(options["image"])
        if options["json"]:
            self.stdout.write(json.dumps([dataclasses.asdict(found) for found in report], indent=2))
        else:
            for found in report:
                word = self.style.SUCCESS("contained") if found.contained else self.style.ERROR("OPEN     ")
                self.stdout.write(f"{word}  {found.what}: {found.how}")
            for limit in held_limits(report.limits_applied):
                self.stdout.write(f"{limit.words:<11}  {limit.label}: {limit.by}")
        if not is_tight(report):
            sys.exit(1)
