"""`manage.py create_token USER`: a token for programs."""

from datetime import timedelta
from typing import Any

from django.conf import settings
from django.core.management.base import CommandError

from accounts.commands import TaughtCommand
from accounts.models import User
from accounts.services import create_token

# Ten years: a date far enough, and one that the database can hold.
LONGEST_DAYS = 3650


class Command(TaughtCommand):
    help = "Make an API token for a user and print it, and nothing else, on standard output. It cannot be shown again."
    examples = """\
  manage.py create_token ada
  export LEADERSBOARD_TOKEN=$(manage.py create_token ada --name "training server" --days 30)
"""

    def add_arguments(self, parser):
        parser.add_argument("username")
        parser.add_argument("--name", default="command line", help="What it is for (%(default)s).")
        parser.add_argument("--days", type=int, default=settings.TOKEN_DAYS, help="Until it expires (%(default)s).")
        parser.add_argument("--json", action="store_true", help="With its name and when it expires, as JSON.")

    def handle(self, **options: Any) -> None:
        user = User.objects.filter(username=options["username"], is_active=True).first()
        if user is None:
            raise CommandError(
                f"There is no active user {options['username']!r}. `manage.py createsuperuser` makes one."
            )
        if not 1 <= options["days"] <= LONGEST_DAYS:
            raise CommandError(f"--days: 1 to {LONGEST_DAYS}, not {options['days']}.")
        token, secret = create_token(user, name=options["name"], lifetime=timedelta(days=options["days"]))
        if options["json"]:
            told = {"token": secret, "user": user.username, "name": token.name, "expires_at": token.expires_at}
            self.write_json(told)
            return
        self.stdout.write(secret)
