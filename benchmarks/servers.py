"""The two servers that are measured side by side: a whole site of ours, and the reference peer."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

import psycopg
import redis

from leaderboard_site.client import Client
from leaderboard_site.embedded import environments
from leaderboard_site.embedded.locations import REPOSITORY, Locations
from leaderboard_site.embedded.processes import Part
from leaderboard_site.embedded.progress import Progress
from leaderboard_site.embedded.run import STOP_ORDER, Site, settle
from leaderboard_site.embedded.servers import ValkeyServer, free_port, http_answers

PEOPLE = 100
# Quotas that a load without pauses cannot use up; they are counted all the same, on both sides.
_SETUP = f"""
import json
from accounts.models import User
from accounts.services import create_token
from django.conf import settings
User.objects.create_superuser("operator", password="operator-benchmark")
people = [User(username=f"user{{n}}", submissions_per_hour=10**6, concurrent_jobs=10**6) for n in range({PEOPLE})]
User.objects.bulk_create(people)
print(json.dumps([create_token(one, name="benchmark")[1] for one in User.objects.filter(is_staff=False).order_by("id")]))
"""
_TABLES = "jobs_job, submissions_submission, jobs_jobattempt, jobs_trackingoutbox, leaderboards_entry"


class OurSite(Site):
    """What `make run` starts, in a folder of its own; which parts run is the measurement's choice."""

    def __init__(self, folder: Path, **settings: str) -> None:
        super().__init__(Locations(folder), free_port())
        self.settings = settings
        self.stack.progress = Progress(sys.stderr)
        self.tokens: list[str] = []
        self.parts: dict[str, Part] = {}

    def environment(self) -> dict[str, str]:
        return super().environment() | self.settings

    def __enter__(self) -> OurSite:
        self.stack.claim(web_port=self.port)
        self.start_services()
        self.migrate()
        self.collect_static()
        self.tokens = json.loads(self.shell(_SETUP).splitlines()[-1])
        return self

    def __exit__(self, *_: object) -> None:
        self.stack.stop(STOP_ORDER)

    def shell(self, code: str) -> str:
        command = [sys.executable, str(REPOSITORY / "manage.py"), "shell", "--verbosity", "0", "-c", code]
        done = subprocess.run(
            command, cwd=REPOSITORY, env=os.environ | self.environment(), capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise RuntimeError(f"{code}\n{done.stderr}")
        return done.stdout

    def open_web(self, *, workers: int | None = None) -> Part:
        web = self.web()
        if workers is not None:
            web.command[web.command.index("--workers") + 1] = str(workers)
        self.stack.start(web, lambda: self.start_web(web), lambda: self.url)
        self.parts["web"] = web
        return web

    def open_worker(self) -> Part:
        worker = self.manage("worker", "worker")
        worker.stop_plan = "TERM:10,TERM:4"
        self.stack.start(worker, lambda: settle(worker))
        self.parts["worker"] = worker
        pids = tree(worker.pid or 0)
        deadline = time.monotonic() + 60
        while not self.sql("SELECT 1 FROM jobs_worker WHERE pid = ANY(%s) AND state = 'idle'", list(pids)):
            if time.monotonic() > deadline:
                raise RuntimeError(worker.why("did not become ready"))
            time.sleep(0.1)
            pids = tree(worker.pid or 0)
        return worker

    def close(self, name: str) -> None:
        self.parts.pop(name).stop()

    def client(self, number: int = 0) -> Client:
        return Client(self.url, self.tokens[number])

    def sql(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.locations.database_url(), autocommit=True) as connection:
            cursor = connection.execute(query, values)  # type: ignore[call-overload]
            return cursor.fetchall() if cursor.description else []

    def cpu(self) -> float:
        pids = [kept.part.pid for kept in self.stack._kept if kept.part.pid]
        return sum(cpu_seconds(one) for pid in pids for one in tree(pid))

    def forget_jobs(self) -> None:
        self.sql("DELETE FROM jobs_job")
        self.sql("VACUUM jobs_job")
        self.flush()

    def forget_all(self) -> None:
        self._truncate()
        self.flush()
        for path in (self.locations.var / "uploads").glob("*.*"):
            path.unlink()

    def _truncate(self) -> None:
        """Requests whose client has gone may still be in hand, and hold what this waits for."""
        for left in reversed(range(20)):
            try:
                self.sql(f"TRUNCATE {_TABLES} CASCADE")
                return
            except psycopg.errors.DeadlockDetected:
                if not left:
                    raise
                time.sleep(0.5)

    def flush(self) -> None:
        with redis.Redis.from_url(self.locations.redis_url()) as connection:
            connection.flushall()


class Peer:
    """benchmarks/peer/app.py under two uvicorn workers, with a Redis server of its own that keeps nothing on disk."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port, self.redis_port = free_port(), free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.tokens = [f"token-{number:04d}" for number in range(PEOPLE)]
        self._processes: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Peer:
        self.folder.mkdir(parents=True, exist_ok=True)
        valkey = ValkeyServer(Locations(self.folder)).command[0]
        self._spawn([valkey, "--bind", "127.0.0.1", "--port", str(self.redis_port), "--save", "", "--appendonly", "no"])
        command = [str(environments.python("bench")), "-m", "uvicorn", "--app-dir", str(Path(__file__).parent / "peer")]
        command += ["app:app", "--host", "127.0.0.1", "--port", str(self.port), "--workers", "2"]
        self._spawn(
            [*command, "--no-access-log", "--log-level", "warning"],
            REF_REDIS_URL=f"redis://127.0.0.1:{self.redis_port}/0",
            REF_DATA=str(self.folder / "data"),
        )
        deadline = time.monotonic() + 60
        while not http_answers(self.port, "/openapi.json"):
            if time.monotonic() > deadline:
                raise RuntimeError(f"the peer does not answer: {(self.folder / 'peer.log').read_text()[-2000:]}")
            time.sleep(0.1)
        return self

    def _spawn(self, command: list[str], **changes: str) -> None:
        with (self.folder / "peer.log").open("ab") as log:
            self._processes.append(
                subprocess.Popen(
                    command, cwd=self.folder, env=os.environ | changes, stdin=subprocess.DEVNULL, stdout=log, stderr=log
                )
            )

    def __exit__(self, *_: object) -> None:
        for process in reversed(self._processes):
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def post(self, path: str, number: int, body: bytes, content_type: str) -> Any:
        headers = {"Authorization": f"Bearer {self.tokens[number]}", "Content-Type": content_type}
        request = urllib.request.Request(self.url + path, data=body, headers=headers, method="POST")
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)

    def cpu(self) -> float:
        return sum(cpu_seconds(one) for process in self._processes for one in tree(process.pid))

    def forget_jobs(self) -> None:
        with redis.Redis(port=self.redis_port) as connection:
            connection.flushall()

    def forget_all(self) -> None:
        self.forget_jobs()
        shutil.rmtree(self.folder / "data", ignore_errors=True)


def cpu_seconds(pid: int) -> float:
    """User and system time of the process and of its ended children."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")


def tree(pid: int) -> set[int]:
    """The process and all below it."""
    found = {pid}
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        children = []
    for child in children:
        found |= tree(int(child))
    return found
