"""A site spread over hosts that share no disk: web and reconciler, services, storage, and workers on machines of their own."""

from __future__ import annotations

import hashlib
import secrets
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg

from leaderboard_site.embedded.locations import REPOSITORY, environments_folder
from tests.chaos.promises import AUDIT
from tests.multihost.network import Host
from tests.object_storage.server import ObjectServer

# A tenth of the real ones, in their proportions; a link that is slow must not look like one that is cut.
TIMINGS = {
    "HEARTBEAT_SECONDS": "1", "LEASE_SECONDS": "9", "FENCE_SECONDS": "7", "RECONCILE_SECONDS": "1", "SETTLE_SECONDS": "9",
    "REPUSH_SECONDS": "4", "RETRY_DELAY_SECONDS": "1", "POLL_SECONDS": "1", "TRACKING_BACKOFF_SECONDS": "4",
    "SUBMISSIONS_PER_HOUR": "100000", "CONCURRENT_JOBS": "100000",
}  # fmt: skip
FINAL = ("completed", "failed", "cancelled")


def wait_for(condition: Callable[[], Any], *, seconds: float, what: str) -> float:
    """Wait until it holds; how long that took. AssertionError after `seconds`."""
    began = time.monotonic()
    while not condition():
        if time.monotonic() - began > seconds:
            raise AssertionError(f"not within {seconds:g} s: {what}")
        time.sleep(0.1)
    return time.monotonic() - began


class SpreadSite:
    def __init__(self, folder: Path, *, machines: int) -> None:
        self.services = Host("services", 10, folder)
        self.storage = Host("storage", 11, folder)
        self.web = Host("web", 20, folder)
        self.machines = [Host(f"gpu{number}", 30 + number, folder) for number in range(1, machines + 1)]
        self.hosts = [self.services, self.storage, self.web, *self.machines]
        self.password = secrets.token_hex(16)
        self.database_url = f"postgresql://leadersboard:{self.password}@{self.services.address}:5432/leadersboard"
        self.url = f"http://{self.web.address}:8010"
        self.objects = ObjectServer(self.storage.folder, host=self.storage.address, within=tuple(self.storage.within()))

    # --- starting and ending --------------------------------------------------------------------------------------
    def start(self) -> None:
        self.objects.start()
        own = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8", "DRILL_PASSWORD": self.password}
        own["LEADERSBOARD_ENVIRONMENTS"] = str(environments_folder())
        servers = ["-m", "tests.multihost.services", str(self.services.folder / "var"), self.services.address]
        process = self.services.start([sys.executable, *servers], cwd=REPOSITORY, environment=own, log="services")
        self.objects.wait(seconds=120)
        self._wait_for_line(process, self.services, "services", "ready", seconds=240)
        self.manage("migrate", "-v0")
        web = ["-m", "gunicorn", "leaderboard_site.wsgi", "--bind", f"{self.web.address}:8010", "--threads", "8"]
        self.run(self.web, [*web, "--no-control-socket"], log="web")
        self.run(self.web, ["manage.py", "reconcile"], log="reconciler")
        wait_for(self._is_up, seconds=90, what=f"the web server: {self.web.log('web')[-1500:]}")
        with psycopg.connect(self.database_url, autocommit=True) as connection:
            connection.execute(AUDIT)

    def _is_up(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/readyz", timeout=5) as answer:
                return answer.status == 200
        except OSError:
            return False

    @staticmethod
    def _wait_for_line(process: subprocess.Popen[bytes], host: Host, log: str, line: str, *, seconds: float) -> None:
        def said() -> bool:
            if process.poll() is not None:
                raise AssertionError(f"{host.name}: ended with {process.returncode}: {host.log(log)[-2000:]}")
            return line in host.log(log).splitlines()

        wait_for(said, seconds=seconds, what=f"{host.name} {line}: {host.log(log)[-1500:]}")

    def environment(self, host: Host) -> dict[str, str]:
        """All that a machine needs: four addresses, and folders of its own."""
        folders = ("UPLOAD_ROOT", "ARTIFACT_ROOT", "WORK_ROOT", "DATASET_ROOT", "STATIC_ROOT", "GPU_LOCK_ROOT")
        return {
            "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
            "LANG": "C.UTF-8",
            "LEADERSBOARD_ENVIRONMENTS": str(environments_folder()),
            "DATABASE_URL": self.database_url,
            "REDIS_URL": f"redis://:{self.password}@{self.services.address}:6379/0",
            "MLFLOW_TRACKING_URI": f"http://{self.services.address}:5010",
            **self.objects.environment(),
            "SECRET_KEY": "for-the-drill-only-" + "0" * 50,
            "ALLOWED_HOSTS": self.web.address,
            "TLS": "0",
            "STATIC_MANIFEST": "0",
            **{name: str(host.folder / name.lower()) for name in folders},
            **TIMINGS,
        }

    def run(self, host: Host, words: list[str], *, log: str) -> subprocess.Popen[bytes]:
        return host.start([sys.executable, *words], cwd=REPOSITORY, environment=self.environment(host), log=log)

    def manage(self, *words: str) -> None:
        process = self.run(self.web, ["manage.py", *words], log="manage")
        assert process.wait(120) == 0, self.web.log("manage")[-2000:]

    def worker(self, host: Host, number: int) -> None:
        self.run(host, ["manage.py", "worker", "--classes", "small"], log=f"worker{number}")

    def stop(self) -> None:
        for host in (*self.machines, self.web, self.services):
            host.stop()
        self.objects.stop()
        self.storage.stop()

    # --- asking and looking -----------------------------------------------------------------------------------------
    def sql(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.database_url, autocommit=True, connect_timeout=5) as connection:
            cursor = connection.execute(query, values)
            return cursor.fetchall() if cursor.description else []

    def person(self, name: str) -> str:
        """A participant's token."""
        secret = f"lb_{secrets.token_urlsafe(32)}"
        rows = self.sql(
            "INSERT INTO accounts_user (password, is_superuser, username, first_name, last_name, email, is_staff, "
            "is_active, date_joined) VALUES ('!', false, %s, '', '', '', false, true, now()) RETURNING id",
            name,
        )
        digest = hashlib.sha256(secret.encode()).hexdigest()
        self.sql("INSERT INTO accounts_apitoken (user_id, name, digest) VALUES (%s, 'drill', %s)", rows[0][0], digest)
        return secret

    def job(self, job_id: str) -> dict[str, Any]:
        fields = "status, attempt, losses, releases, error_code, score, run_id"
        row = self.sql(f"SELECT {fields} FROM jobs_job WHERE id = %s", job_id)[0]
        return dict(zip(fields.split(", "), row, strict=True))

    def holder(self, job_id: str) -> str:
        """The name of the machine that has the job."""
        rows = self.sql(
            "SELECT w.hostname FROM jobs_job j JOIN jobs_worker w ON w.id = j.worker_id WHERE j.id = %s", job_id
        )
        return str(rows[0][0]) if rows else ""

    def host(self, name: str) -> Host:
        return next(host for host in self.hosts if host.name == name)
