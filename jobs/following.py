"""Following a run to its end, while its log and progress go to the database."""

import time
from collections.abc import Callable

from jobs.execution.client import Supervisor
from jobs.execution.spec import Result
from jobs.logs import LogShipper
from jobs.progress import ProgressShipper
from jobs.pulse import DATABASE_ERRORS, forget_connection

SHIP_SECONDS = 0.5


def follow(
    supervisor: Supervisor, *shippers: LogShipper | ProgressShipper, when_ending: Callable[[], object]
) -> Result:
    """Poll until the end. `when_ending` is called before the supervisor has collected what the run left."""
    shipped = time.monotonic()
    while supervisor.result is None:
        for event in supervisor.poll(SHIP_SECONDS):
            if event["event"] == "ending":
                when_ending()
        if time.monotonic() - shipped >= SHIP_SECONDS:
            for shipper in shippers:
                _ship(shipper)
            shipped = time.monotonic()
    return supervisor.result


def _ship(shipper: LogShipper | ProgressShipper) -> None:
    shipper.collect()
    try:
        shipper.ship()
    except DATABASE_ERRORS:
        forget_connection()  # the same part goes with the next call
