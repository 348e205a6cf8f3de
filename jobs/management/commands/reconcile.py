"""`manage.py reconcile`: brings every job to its end."""

import json
import logging
import signal
from typing import Any

from accounts.commands import TaughtCommand
from jobs import tracking
from jobs.reconciler import Reconciler, reconcile_once

logger = logging.getLogger("jobs.reconciler")


class Command(TaughtCommand):
    help = (
        "Take back jobs of lost workers, wake workers again, bring results to MLflow, prune what is old. Run at least "
        "one; of several one leads and the others stand by."
    )
    examples = """\
  manage.py reconcile                   until it is stopped; a second one stands by
  manage.py reconcile --once            one pass, for a look or from cron
"""

    def add_arguments(self, parser):
        parser.add_argument("--once", action="store_true", help="One pass, print what was done as JSON, and end.")

    def handle(self, **options: Any) -> None:
        if options["once"]:
            done = reconcile_once()
            published, failed = tracking.publish_due()
            self.stdout.write(json.dumps({**done, "published": published, "publish_failed": failed}))
            return
        reconciler = Reconciler()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: reconciler.stopping.set())
        reconciler.run()
