"""A whole site of its own for tests that break it: servers, web, workers and reconcilers as real processes.

Everything is short: a lease of seconds instead of a minute and a half. What a test then measures is the same protocol.
"""

from __future__ import annotations

import ctypes
import hashlib
import json
import os
import secrets
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg

from leaderboard_site.embedded.locations import REPOSITORY, environments_folder
from leaderboard_site.embedded.servers import free_port, http_answers
from leaderboard_site.embedded.testing import TestServers

SHORT = {
    "HEARTBEAT_SECONDS": "0.5", "LEASE_SECONDS": "4", "FENCE_SECONDS": "3", "RECONCILE_SECONDS": "0.5",
    "SETTLE_SECONDS": "4", "REPUSH_SECONDS": "2", "RETRY_DELAY_SECONDS": "0.2", "POLL_SECONDS": "1",
    "TRACKING_BACKOFF_SECONDS": "2", "SUBMISSIONS_PER_HOUR": "100000", "CONCURRENT_JOBS": "100000",
}  # fmt: skip
METRICS = """
import json, pathlib, sys, time
out = pathlib.Path(sys.argv[sys.argv.index("--output") + 1])
print("hello", flush=True)
time.sleep({seconds})
(out / "metrics.json").write_text(json.dumps({{"params": {{"k": 1}}, "metrics": {{"image_auc": {score}}}}}))
"""
FINAL = ("completed", "failed", "cancelled")
_LIBC = ctypes.CDLL(None)


def _die_with_parent() -> None:
    _LIBC.prctl(1, signal.SIGKILL)


def wait_for(condition: Callable[[], Any], *, seconds: float, what: str = "") -> float:
    """Wait until it holds; how long that took. Fails after `seconds`."""
    began = time.monotonic()
    while not condition():
        if time.monotonic() - began > seconds:
            raise AssertionError(f"not within {seconds:g} s: {what or condition}")
        time.sleep(0.05)
    return time.monotonic() - began


def living(marker: str) -> list[int]:
    """Processes (not zombies) with the marker in their command line, but this one."""
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            if marker.encode() in Path("/proc", name, "cmdline").read_bytes() and int(name) != os.getpid():
                found.append(int(name))
        except OSError:
            continue
    return found


def children(pid: int) -> list[int]:
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def descendants(pid: int) -> list[int]:
    return [one for child in children(pid) for one in (child, *descendants(child))]


def signal_all(pids: list[int], number: int) -> None:
    for pid in pids:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            pass


class Site:
    def __init__(self, folder: Path, *, with_mlflow: bool = True, settings: dict[str, str] | None = None) -> None:
        self.folder = folder
        self.servers = TestServers(folder / "var", with_mlflow=with_mlflow)
        self.settings = SHORT | (settings or {})
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.environment: dict[str, str] = {}
        self.processes: list[subprocess.Popen[bytes]] = []
        self._tokens: dict[str, str] = {}

    # --- starting and ending --------------------------------------------------------------------------------------
    def start(self) -> None:
        addresses = self.servers.start()
        roots = {
            name: str(self.folder / name.lower())
            for name in (
                "UPLOAD_ROOT",
                "ARTIFACT_ROOT",
                "WORK_ROOT",
                "DATASET_ROOT",
                "GROUND_TRUTH_ROOT",
                "SCORER_ROOT",
                "STATIC_ROOT",
            )
        }
        for root in roots.values():
            Path(root).mkdir(parents=True, exist_ok=True)
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("PYTEST", "COV_"))},
            **addresses,
            **roots,
            "UPLOAD_TEMP_DIR": str(self.folder / "upload_root" / "incoming"),
            "RUNNER_PYTHON": str(environments_folder() / "runner" / "bin" / "python"),
            "SECRET_KEY": "for-tests-only-" + "0" * 50,
            "STATIC_MANIFEST": "0",
            "MLFLOW_EXPERIMENT_PREFIX": "broken/",
            "MLFLOW_PUBLIC_URL": "",
            "SITE_URL": self.url,
            "DJANGO_SETTINGS_MODULE": "leaderboard_site.settings",
            **self.settings,
        }
        subprocess.run(
            [sys.executable, "manage.py", "migrate", "-v0"], cwd=REPOSITORY, env=self.environment, check=True
        )

    def stop(self) -> None:
        # A stopped process would keep a stopped server's connection; a kill reaches it all the same.
        for process in self.processes:
            self.end(process, signal.SIGKILL)
        self.servers.stop()

    def _spawn(self, name: str, command: list[str], **changes: str) -> subprocess.Popen[bytes]:
        with (self.folder / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, *command],
                cwd=REPOSITORY,
                env=self.environment | changes,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                preexec_fn=_die_with_parent,
            )
        self.processes.append(process)
        return process

    def worker(self, **changes: str) -> subprocess.Popen[bytes]:
        return self._spawn("worker", ["manage.py", "worker", "--classes", "small"], **changes)

    def ready_worker(self) -> subprocess.Popen[bytes]:
        process = self.worker()
        self.wait_ready(process)
        return process

    def drain_now(self) -> subprocess.Popen[bytes]:
        return self._spawn("drain", ["manage.py", "worker", "--drain-now"])

    def wait_ready(self, process: subprocess.Popen[bytes]) -> None:
        def is_ready() -> bool:
            if process.poll() is not None:
                log = (self.folder / "worker.log").read_text(errors="replace")[-2000:]
                raise AssertionError(f"the worker ended with {process.returncode}: {log}")
            return bool(self.sql("SELECT 1 FROM jobs_worker WHERE pid = %s", process.pid))

        wait_for(is_ready, seconds=90, what="a worker")

    def reconciler(self, **changes: str) -> subprocess.Popen[bytes]:
        return self._spawn("reconciler", ["manage.py", "reconcile"], **changes)

    def web(self, workers: int = 1) -> subprocess.Popen[bytes]:
        command = [
            "-m",
            "gunicorn",
            "leaderboard_site.wsgi",
            "--bind",
            f"127.0.0.1:{self.port}",
        ]
        command += ["--workers", str(workers), "--threads", "4", "--timeout", "30", "--graceful-timeout", "3"]
        process = self._spawn("web", [*command, "--no-control-socket"])
        wait_for(lambda: http_answers(self.port, "/healthz"), seconds=60, what="web")
        return process

    def end(self, process: subprocess.Popen[bytes], number: int = signal.SIGKILL, *, seconds: float = 20) -> int:
        if process.poll() is None:
            process.send_signal(number)
            process.send_signal(signal.SIGCONT)
        code = process.wait(seconds)
        if process in self.processes:
            self.processes.remove(process)
        return code

    # --- asking and looking -----------------------------------------------------------------------------------------
    def sql(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.environment["DATABASE_URL"], autocommit=True, connect_timeout=5) as connection:
            cursor = connection.execute(query, values)
            return cursor.fetchall() if cursor.description else []

    def token(self, user: str) -> str:
        if user not in self._tokens:
            secret = f"lb_{secrets.token_urlsafe(32)}"
            rows = self.sql(
                "INSERT INTO accounts_user (password, is_superuser, username, first_name, last_name, email, is_staff, "
                "is_active, date_joined) VALUES ('!', false, %s, '', '', '', false, true, now()) RETURNING id",
                user,
            )
            digest = hashlib.sha256(secret.encode()).hexdigest()
            self.sql("INSERT INTO accounts_apitoken (user_id, name, digest) VALUES (%s, 't', %s)", rows[0][0], digest)
            self._tokens[user] = secret
        return self._tokens[user]

    def call(self, method: str, path: str, user: str, body: bytes | None = None, **headers: str) -> tuple[int, Any]:
        """(status, JSON) of an API call; (0, None) when nobody answered."""
        request = urllib.request.Request(f"{self.url}/api{path}", body, method=method)
        request.add_header("Authorization", f"Bearer {self.token(user)}")
        for name, value in headers.items():
            request.add_header(name.replace("_", "-"), value)
        try:
            with urllib.request.urlopen(request, timeout=20) as answer:
                return answer.status, json.loads(answer.read() or b"null")
        except urllib.error.HTTPError as error:
            with error:
                text = error.read()
            try:
                return error.code, json.loads(text)
            except ValueError:
                return error.code, text.decode(errors="replace")
        except (OSError, ValueError, EOFError):
            return 0, None
        except Exception as error:  # http.client's own, when a server dies within its answer
            return 0, str(error)

    def upload(self, user: str, code: str, name: str = "main.py") -> tuple[int, Any]:
        edge = "x" * 30
        body = f'--{edge}\r\nContent-Disposition: form-data; name="files"; filename="{name}"\r\n\r\n{code}\r\n'
        body += f'--{edge}\r\nContent-Disposition: form-data; name="entrypoint"\r\n\r\n{name}\r\n--{edge}--\r\n'
        return self.call(
            "POST", "/submissions", user, body.encode(), Content_Type=f"multipart/form-data; boundary={edge}"
        )

    def post_job(self, user: str, submission_id: str, **headers: str) -> tuple[int, Any]:
        body = json.dumps({"submission_id": submission_id}).encode()
        return self.call("POST", "/jobs", user, body, Content_Type="application/json", **headers)

    def submit(
        self, *, seconds: float = 0, score: float = 0.5, user: str | None = None, code: str | None = None
    ) -> Submitted:
        """A job over HTTP; its processes are found by its name."""
        user = user or f"u{secrets.token_hex(4)}"
        name = f"run_{secrets.token_hex(6)}.py"
        status, answer = self.upload(user, code or METRICS.format(seconds=seconds, score=score), name)
        assert status == 201, (status, answer)
        status, answer = self.post_job(user, answer["submission_id"])
        assert status == 202, (status, answer)
        return Submitted(self, answer["job_id"], user, name)


class Submitted:
    """A job that was answered 202."""

    def __init__(self, site: Site, job_id: str, user: str, name: str) -> None:
        self.site, self.id, self.user, self.name = site, job_id, user, name

    def row(self) -> dict[str, Any]:
        fields = "status, attempt, losses, releases, error_code, score, run_id, worker_id"
        values = self.site.sql(f"SELECT {fields} FROM jobs_job WHERE id = %s", self.id)[0]
        return dict(zip(fields.split(", "), values, strict=True))

    @property
    def status(self) -> str:
        return str(self.row()["status"])

    def holder(self) -> int | None:
        """The pid of the worker that runs it; None while nobody does."""
        query = "SELECT w.pid FROM jobs_job j JOIN jobs_worker w ON w.id = j.worker_id WHERE j.id = %s"
        rows = self.site.sql(query, self.id)
        return int(rows[0][0]) if rows else None

    def runs(self) -> list[int]:
        return living(self.name)

    def wait_running(self, *, seconds: float = 90) -> float:
        return wait_for(lambda: self.status == "running" and self.runs(), seconds=seconds, what=f"{self.row()} runs")

    def wait_final(self, *, seconds: float) -> float:
        return wait_for(lambda: self.status in FINAL, seconds=seconds, what=f"{self.id} final")

    def effects(self) -> tuple[int, int, int]:
        """(results, entries, outbox rows or published runs)."""
        return self.site.sql(
            "SELECT (SELECT count(*) FROM jobs_job WHERE id = %s AND score IS NOT NULL), "
            "(SELECT count(*) FROM leaderboards_entry WHERE job_id = %s), "
            "(SELECT count(*) FROM jobs_trackingoutbox WHERE job_id = %s) + "
            "(SELECT count(*) FROM jobs_job WHERE id = %s AND run_id <> '')",
            *[self.id] * 4,
        )[0]  # type: ignore[return-value]
