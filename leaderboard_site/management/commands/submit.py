"""`manage.py submit`: a participant's program. Over HTTP alone: it opens no database."""

import argparse
import sys
from typing import Any

from accounts.commands import TaughtCommand
from leaderboard_site import submit


class Command(TaughtCommand):
    help = (
        "Upload code to a site over HTTP, run it, show its log live, print the result and the rank. It needs the site's "
        "address and a token, no database; on another machine `python3 client.pyz` does the same (the site serves it)."
    )
    examples = submit.EXAMPLES.format(prog="manage.py submit").partition("\n")[2]
    requires_system_checks = []

    def add_arguments(self, parser):
        submit.add_arguments(parser)

    def handle(self, **options: Any) -> None:
        session = submit.Session(argparse.Namespace(**options), "manage.py submit", self.stdout, self.stderr._out)
        if code := session.run():
            sys.exit(code)
