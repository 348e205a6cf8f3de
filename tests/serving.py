"""A web server in a process of its own, on the test's database."""

import os
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from django.conf import settings
from django.db import connection

from leaderboard_site.embedded.servers import http_answers

START_SECONDS = 120


@contextmanager
def serving(
    command: Sequence[str], port: int, folder: Path, *, end: int = signal.SIGTERM, **changes: str
) -> Iterator[subprocess.Popen[bytes]]:
    """Run the command until the block ends, its log in folder/log. `changes` are environment variables."""
    database, log = connection.settings_dict, folder / "log"
    inherited = {
        name: value for name, value in os.environ.items() if not name.startswith(("PYTEST", "COV_", "PROMETHEUS"))
    }
    environment = {
        **inherited,
        "DATABASE_URL": f"postgresql://{database['USER']}@/{database['NAME']}?host={database['HOST']}&port={database['PORT']}",
        "MAINTENANCE_FILE": str(folder / "maintenance"),
        **changes,
    }
    with log.open("wb") as output:
        process = subprocess.Popen(command, cwd=settings.BASE_DIR, env=environment, stdout=output, stderr=output)
        try:
            deadline = time.monotonic() + START_SECONDS
            while not http_answers(port, "/healthz"):
                assert process.poll() is None and time.monotonic() < deadline, log.read_text()
                time.sleep(0.1)
            yield process
        finally:
            process.send_signal(end)
            process.wait(60)
