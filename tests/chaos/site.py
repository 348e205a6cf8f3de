"""A whole site of its own for the storm: real servers and processes, with short timings, any of which may be hurt."""

import os
import random
import secrets
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

from leaderboard_site.embedded.locations import REPOSITORY, Locations
from leaderboard_site.embedded.servers import MlflowServer, PostgresServer, ValkeyServer, free_port

# A tenth and less of the real timings, in the same proportions.
TIMINGS = {
    "HEARTBEAT_SECONDS": "0.5", "LEASE_SECONDS": "5", "FENCE_SECONDS": "4", "RECONCILE_SECONDS": "0.5",
    "SETTLE_SECONDS": "5", "REPUSH_SECONDS": "2", "RETRY_DELAY_SECONDS": "0.2", "POLL_SECONDS": "1",
    "TRACKING_BACKOFF_SECONDS": "4", "LOG_LEVEL": "INFO", "SUBMISSIONS_PER_HOUR": "100000", "CONCURRENT_JOBS": "100000",
}  # fmt: skip


def children(pid: int) -> list[int]:
    """All descendants of a process, parents first."""
    found, todo = [], [pid]
    while todo:
        parent = todo.pop(0)
        try:
            tasks = list(Path(f"/proc/{parent}/task").iterdir())
            kids = [int(word) for task in tasks for word in (task / "children").read_text().split()]
        except OSError:
            continue
        found += kids
        todo += kids
    return found


def send(pids: list[int], number: signal.Signals) -> None:
    for pid in pids:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            pass


class Site:
    """`processes` holds the site's own; `keeper` starts again what died, as an init system would."""

    def __init__(self, folder: Path, rng: random.Random) -> None:
        self.folder, self.rng = folder, rng
        self.locations = Locations(folder)
        self.locations.make()
        self.postgres = PostgresServer(self.locations)
        self.valkey = ValkeyServer(self.locations)
        self.mlflow = MlflowServer(self.locations, preferred_ports=(free_port(),))
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.stopping = threading.Event()
        self.keeper = threading.Thread(target=self._keep, daemon=True)
        self.mending = threading.Lock()
        self.environment: dict[str, str] = {}

    def start(self) -> None:
        self.postgres.start()
        self.valkey.start()
        self.mlflow.start()
        self.environment = {
            **os.environ, **self.locations.environment(), **TIMINGS, "SITE_URL": self.url, "STATIC_MANIFEST": "0",
            "SECRET_KEY": secrets.token_hex(32), "PYTHONWARNINGS": "ignore",
        }  # fmt: skip
        for name in (
            "UPLOAD_ROOT",
            "ARTIFACT_ROOT",
            "WORK_ROOT",
            "DATASET_ROOT",
            "GROUND_TRUTH_ROOT",
            "SCORER_ROOT",
            "UPLOAD_TEMP_DIR",
            "MLFLOW_EXPERIMENT_PREFIX",
        ):
            self.environment.pop(name, None)
        self.manage("migrate", "--noinput")
        for name in ("web", "worker-1", "worker-2", "reconciler-1", "reconciler-2"):
            self._spawn(name)
        self.keeper.start()

    def manage(self, *arguments: str, text: str | None = None) -> str:
        command = [sys.executable, str(REPOSITORY / "manage.py"), *arguments]
        done = subprocess.run(command, env=self.environment, input=text, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise RuntimeError(f"{arguments}: {done.stderr[-2000:]}")
        return done.stdout

    def _spawn(self, name: str) -> None:
        manage = [sys.executable, str(REPOSITORY / "manage.py")]
        command = {
            "web": [sys.executable, "-m", "gunicorn", "leaderboard_site.wsgi", "--bind", f"127.0.0.1:{self.port}",
                    "--workers", "2", "--threads", "4", "--no-control-socket"],
            "worker": [*manage, "worker"],
            "reconciler": [*manage, "reconcile"],
        }[name.partition("-")[0]]  # fmt: skip
        with self.locations.log(name).open("ab") as log:
            self.processes[name] = subprocess.Popen(
                command, env=self.environment, cwd=REPOSITORY, stdout=log, stderr=log, start_new_session=True
            )

    def _keep(self) -> None:
        while not self.stopping.wait(0.5):
            for name, process in list(self.processes.items()):
                if process.poll() is not None and not self.stopping.is_set():
                    self._spawn(name)

    def server_pids(self, server: PostgresServer | ValkeyServer | MlflowServer) -> list[int]:
        """The server's processes without the guard that started them."""
        return children(server.pid) if server.pid else []

    def restart(self, server: PostgresServer | ValkeyServer | MlflowServer, pause: float) -> None:
        """Kill the server with -9, wait, start it again on the same data."""
        with self.mending:
            send(self.server_pids(server), signal.SIGKILL)
            server.stop()
            time.sleep(pause)
            if server is self.mlflow:
                self.mlflow.preferred_ports = (self.mlflow.port,)
            server.start()

    def stop(self) -> None:
        self.stopping.set()
        if self.keeper.is_alive():
            self.keeper.join(5)
        for process in self.processes.values():
            send([process.pid, *children(process.pid)], signal.SIGCONT)
            process.terminate()
        for process in self.processes.values():
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                send([*children(process.pid), process.pid], signal.SIGKILL)
                process.wait(5)

    def stop_servers(self) -> None:
        for server in (self.mlflow, self.valkey, self.postgres):
            server.stop()
