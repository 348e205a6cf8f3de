"""`manage.py invite`: a link with which one person can make an account."""

from datetime import timedelta
from typing import Any

from django.conf import settings
from django.core.management.base import CommandError

from accounts.commands import TaughtCommand
from accounts.signing_up import create_invitation, invitation_link, refuse_while_closed


class Command(TaughtCommand):
    help = "Make invitations and print their links, one a line, and nothing else. They cannot be shown again."
    examples = """\
  manage.py invite --note "Ada, Vision Lab"
  manage.py invite --count 20 --days 3 > links.txt
"""

    def add_arguments(self, parser):
        parser.add_argument("--note", default="", help="Whom it is for; operators see it.")
        parser.add_argument(
            "--days", type=int, default=settings.INVITATION_DAYS, help="Until it expires (%(default)s)."
        )
        parser.add_argument("--count", type=int, default=1, help="How many, at most 1000 (%(default)s).")
        parser.add_argument("--json", action="store_true", help="As a JSON list with when each expires.")

    def handle(self, **options: Any) -> None:
        refuse_while_closed()
        if not 1 <= options["days"] <= 365:
            raise CommandError(f"--days: 1 to 365, not {options['days']}.")
        if not 1 <= options["count"] <= 1000:
            raise CommandError(f"--count: 1 to 1000, not {options['count']}.")
        if len(options["note"]) > 200:
            raise CommandError(f"--note: at most 200 characters, not {len(options['note'])}.")
        made = []
        for _number in range(options["count"]):
            invitation, secret = create_invitation(
                by=None, note=options["note"], lifetime=timedelta(days=options["days"])
            )
            made.append({"link": invitation_link(secret), "note": options["note"], "expires_at": invitation.expires_at})
            if not options["json"]:
                self.stdout.write(made[-1]["link"])
        if options["json"]:
            self.write_json(made)
