"""`manage.py allow_login USER`: let a person sign in while others guess their password."""

import ipaddress
from typing import Any

from django.core.management.base import CommandError

from accounts.commands import TaughtCommand
from accounts.models import User
from accounts.throttle import allow_login


class Command(TaughtCommand):
    help = (
        "Forget an account's failed logins. With --address, forget that address's too, and let the account sign in from "
        "there whatever others do elsewhere."
    )
    examples = """\
  manage.py allow_login ada
  manage.py allow_login operator --address 203.0.113.7
"""

    def add_arguments(self, parser):
        parser.add_argument("username", help="The person who cannot sign in.")
        parser.add_argument(
            "--address", default="", help="The address that the person comes from, as the site sees it."
        )

    def handle(self, **options: Any) -> None:
        user = User.objects.filter(username=options["username"]).first()
        if user is None:
            raise CommandError(f"There is no user {options['username']!r}.")
        if options["address"]:
            try:
                ipaddress.ip_address(options["address"])
            except ValueError as error:
                raise CommandError(
                    f"--address: an IPv4 or IPv6 address such as 203.0.113.7, not {options['address']!r}."
                ) from error
        allow_login(user.username, options["address"])
        where = f" from {options['address']}" if options["address"] else ""
        self.stdout.write(f"{user.username} may try to sign in again{where}.")
