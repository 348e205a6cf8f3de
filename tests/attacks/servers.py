"""Web servers started with the command lines of `make run` and of the web image, on the test's database."""

import json
import os
import re
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from django.conf import settings
from django.db import connection

from leaderboard_site.embedded.run import web_command
from leaderboard_site.embedded.servers import free_port, http_answers

# `make run` on two cores, and WEB_CONCURRENCY of docker-compose.yml.
PROCESSES = {"make run": 2, "compose": 4}
THREADS = 8


@dataclass(frozen=True)
class Server:
    port: int
    threads: int
    log: Path

    def get(self, path: str, seconds: float = 30) -> tuple[int, bytes]:
        """Fetch a page; raises when there is no answer within so many seconds."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=seconds) as answer:
            return answer.status, answer.read()


def command_of(kind: str, port: int) -> list[str]:
    if kind == "make run":
        return web_command(port)
    dockerfile = (Path(settings.BASE_DIR) / "docker" / "Dockerfile").read_text()
    command = json.loads(re.search(r'^CMD (\["gunicorn".*?\])', dockerfile, re.S | re.M)[1].replace("\\\n", ""))
    return [sys.executable, "-m", *[word.replace("0.0.0.0:8010", f"127.0.0.1:{port}") for word in command]]


@contextmanager
def started(kind: str, folder: Path, *arguments: str, **changes: str) -> Iterator[Server]:
    """Run the web server of that kind; `changes` are environment variables."""
    port, database, log = free_port(), connection.settings_dict, folder / "log"
    inherited = {
        name: value for name, value in os.environ.items() if not name.startswith(("PYTEST", "COV_", "PROMETHEUS"))
    }
    environment = {
        **inherited,
        "DATABASE_URL": f"postgresql://{database['USER']}@/{database['NAME']}?host={database['HOST']}&port={database['PORT']}",
        "MAINTENANCE_FILE": str(folder / "maintenance"),
        "WEB_CONCURRENCY": str(PROCESSES[kind]),
        **changes,
    }
    command = [*command_of(kind, port), *arguments]
    with log.open("wb") as output:
        process = subprocess.Popen(command, cwd=settings.BASE_DIR, env=environment, stdout=output, stderr=output)
        try:
            deadline = time.monotonic() + 120
            while not http_answers(port, "/healthz"):
                assert time.monotonic() < deadline, log.read_text()
                time.sleep(0.1)
            yield Server(port, PROCESSES[kind] * THREADS, log)
        finally:
            # Slow clients are still connected: a graceful end would wait for them.
            process.send_signal(3)
            process.wait(60)
