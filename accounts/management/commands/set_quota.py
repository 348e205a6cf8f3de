"""`manage.py set_quota USER`: how much one person may submit."""

from typing import Any

from django.core.management.base import CommandError
from django.db import transaction

from accounts.commands import TaughtCommand
from accounts.models import User
from accounts.services import set_quota

MOST = {"submissions_per_hour": 100_000, "concurrent_jobs": 10_000}


class Command(TaughtCommand):
    help = "Give a person a quota of their own, or the site's back. Without options, print the one that holds."
    examples = """\
  manage.py set_quota ada                                       what holds for ada
  manage.py set_quota ada --submissions-per-hour 40 --reason "final week"
  manage.py set_quota ada --concurrent-jobs 4                   the other number stays
  manage.py set_quota ada --default                             the site's quota again
"""

    def add_arguments(self, parser):
        parser.add_argument("username", metavar="USER")
        for name, most in MOST.items():
            option = "--" + name.replace("_", "-")
            parser.add_argument(option, type=int, metavar="N", help=f"From 0 to {most}.")
        parser.add_argument("--default", action="store_true", help="The site's, for what no other option gives.")
        parser.add_argument("--reason", default="", help="Why; kept with the record.")
        parser.add_argument("--json", action="store_true", help="Print the quota that holds as JSON.")

    @transaction.atomic
    def handle(self, **options: Any) -> None:
        user = User.objects.select_for_update().filter(username=options["username"]).first()
        if user is None:
            raise CommandError(f"There is no user {options['username']!r}.")
        given = {name: options[name] for name in MOST if options[name] is not None}
        for name, number in given.items():
            if not 0 <= number <= MOST[name]:
                raise CommandError(f"--{name.replace('_', '-')}: from 0 to {MOST[name]}, not {number}.")
        if given or options["default"]:
            own = {name: None if options["default"] else getattr(user, name) for name in MOST}
            set_quota(user, by=None, reason=options["reason"], **{**own, **given})
        elif options["reason"]:
            raise CommandError("--reason: of which change? Give a number, or --default.")
        holds = {"submissions_per_hour": user.submission_quota, "concurrent_jobs": user.job_quota}
        if options["json"]:
            self.write_json(
                {"user": user.username, **holds, "own": [name for name in MOST if getattr(user, name) is not None]}
            )
            return
        for name, number in holds.items():
            whose = "the site's" if getattr(user, name) is None else f"{user.username}'s own"
            self.stdout.write(f"{name.replace('_', ' ')}: {number} ({whose})")
