"""`manage.py create_token USER`: a token for programs."""

from datetime import timedelta
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from accounts.models import User
from accounts.services import create_token


class Command(BaseCommand):
    help = "Make an API token for a user and print it, and nothing else, on standard output. It cannot be shown again."

    def add_arguments(self, parser):
        parser.add_argument("username")
        parser.add_argument("--name", default="command line", help="What it is for (%(default)s).")
        parser.add_argument("--days", type=int, default=settings.TOKEN_DAYS, help="Until it expires (%(default)s).")

    def handle(self, **options: Any) -> None:
        user = User.objects.filter(username=options["username"], is_active=True).first()
        if user is None:
            raise CommandError(
                f"There is no active user {options['username']!r}. `manage.py createsuperuser` makes one."
            )
        if options["days"] < 1:
            raise CommandError(f"--days: at least 1, not {options['days']}.")
        _, secret = create_token(user, name=options["name"], lifetime=timedelta(days=options["days"]))
        self.stdout.write(secret)
