"""`manage.py doctor`: what is wrong, and the command that mends it."""

import dataclasses
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

from django.core.management.base import CommandError
from django.db import OperationalError, connection

from accounts.commands import TaughtCommand
from leaderboard_site.doctor import machine, parts, scoring, work
from leaderboard_site.doctor.findings import OK, SKIPPED, WARNING, WRONG, Check, Finding, run_check

CHECKS: dict[str, Check] = {
    "software": machine.software, "secrets": machine.secrets, "disk": machine.disk,
    "postgresql": parts.postgresql, "schema": parts.schema, "clock": parts.clock, "redis": parts.redis,
    "mlflow": parts.mlflow, "storage": parts.storage, "datasets": machine.datasets, "scoring": scoring.scoring, "gpu": machine.gpu,
    "sandbox": machine.sandbox, "workers": work.workers, "reconciler": work.reconciler, "stuck": work.stuck, "faults": work.faults,
    "outbox": work.outbox,
}  # fmt: skip
NEED_DATABASE = ("schema", "clock", "datasets", "scoring", "workers", "reconciler", "stuck", "faults", "outbox")
NEED_SCHEMA = ("datasets", "scoring", "workers", "reconciler", "stuck", "faults", "outbox")
SECONDS = {"sandbox": 120.0, "scoring": 120.0}
# All scorers, one after the other.
TRYING_SECONDS = 3600.0


class Command(TaughtCommand):
    help = (
        "Look at everything that the site needs, from this machine: each part, versions, migrations, permissions, disk, "
        "clock, secrets, GPU, sandbox, workers. It says what is wrong and the command that mends it; exit code 1 then."
    )
    examples = """\
  manage.py doctor
  manage.py doctor --only postgresql redis storage
  manage.py doctor --only scoring                     # runs each leaderboard's scorer once
  manage.py doctor --skip sandbox --json
"""
    requires_system_checks = []

    def add_arguments(self, parser):
        names = ", ".join(CHECKS)
        parser.add_argument("--only", nargs="+", metavar="CHECK", default=[], help=f"These checks alone: {names}.")
        parser.add_argument("--skip", nargs="+", metavar="CHECK", default=[], help="All but these.")
        parser.add_argument("--json", action="store_true", help="Print a JSON list of findings.")

    def handle(self, **options: Any) -> None:
        for option in ("only", "skip"):
            if unknown := set(options[option]) - set(CHECKS):
                raise CommandError(f"--{option}: unknown {sorted(unknown)[0]!r}; known are {', '.join(CHECKS)}.")
        chosen = [name for name in CHECKS if name in (options["only"] or CHECKS) and name not in options["skip"]]
        findings: list[Finding] = []
        missing = self._missing()
        for name in chosen:
            check, seconds = CHECKS[name], SECONDS.get(name, 20.0)
            if name == "scoring" and name in options["only"]:
                check, seconds = partial(scoring.scoring, is_trying=True), TRYING_SECONDS
            found = self._skipped(name, missing) or run_check(name, check, seconds=seconds)
            findings += found
            if not options["json"]:
                for finding in found:
                    self._show(finding)
        wrong = sum(finding.state == WRONG for finding in findings)
        if options["json"]:
            self.write_json([dataclasses.asdict(finding) for finding in findings])
        else:
            warnings = sum(finding.state == WARNING for finding in findings)
            self.stdout.write(f"{len(findings)} findings: {wrong} wrong, {warnings} to look at.")
        if wrong:
            sys.exit(1)

    def _missing(self) -> str:
        """What the later checks would stumble over: "database", "schema" or nothing."""
        try:
            tables = connection.introspection.table_names()
        except OperationalError:
            return "database"
        finally:
            if not connection.in_atomic_block:
                connection.close()
        return "" if "jobs_job" in tables else "schema"

    def _skipped(self, name: str, missing: str) -> list[Finding]:
        if (missing == "database" and name in NEED_DATABASE) or (missing == "schema" and name in NEED_SCHEMA):
            return [Finding(name, SKIPPED, f"not looked at: it needs the {missing}")]
        return []

    def _show(self, finding: Finding) -> None:
        style: dict[str, Callable[[str], str]] = {
            OK: self.style.SUCCESS,
            WARNING: self.style.WARNING,
            WRONG: self.style.ERROR,
            SKIPPED: str,
        }
        self.stdout.write(f"{style[finding.state](f'{finding.state:<8}')} {finding.check:<11} {finding.what}")
        if finding.mend:
            self.stdout.write(f"{'':<21}-> {finding.mend}")
