"""`manage.py submit`: the participant's program. Over HTTP alone: it opens no database."""

import sys
from typing import Any

from django.core.management.base import BaseCommand

from leaderboard_site.client.main import create_parser, examples, main


class Command(BaseCommand):
    help = (
        "Upload code to a site over HTTP, run it, show its log live, print the result and the rank. It needs the site's "
        "address and a token, no database; on another machine `python3 client.pyz` does the same (the site serves it)."
    )
    examples = examples("manage.py submit").partition("\n")[2]
    requires_system_checks = []

    def create_parser(self, prog_name: str, subcommand: str, **kwargs: Any) -> Any:
        return create_parser(f"{prog_name} {subcommand}")

    def run_from_argv(self, argv: list[str]) -> None:
        """Run the program itself, which has its own options, language and exit codes."""
        sys.exit(main(argv[2:], prog="manage.py submit"))
