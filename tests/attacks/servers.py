"""Web servers started with the command lines of `make run` and of the web image, on the test's database."""

import json
import re
import signal
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from django.conf import settings

from leaderboard_site.embedded.run import web_command
from leaderboard_site.embedded.servers import free_port
from tests.serving import serving

# `make run` on two cores, and WEB_CONCURRENCY of docker-compose.yml.
PROCESSES = {"make run": 2, "compose": 4}
THREADS = 8


@dataclass(frozen=True)
class Server:
    port: int
    threads: int

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
    port = free_port()
    changes = {"WEB_CONCURRENCY": str(PROCESSES[kind]), **changes}
    # Slow clients are still connected at the end: a graceful one would wait for them.
    with serving([*command_of(kind, port), *arguments], port, folder, end=signal.SIGQUIT, **changes):
        yield Server(port, PROCESSES[kind] * THREADS)
