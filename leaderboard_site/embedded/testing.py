"""The three servers for one test session, in a temporary folder, without the cost of surviving a power cut.

The process that runs the session starts them once; xdist's workers get the addresses through their environment.
They end with the process that started them, also when that is killed with -9.
"""

from __future__ import annotations

import http.client
import os
import shutil
import threading
import time
import urllib.parse
from pathlib import Path
from typing import TYPE_CHECKING

from leaderboard_site.embedded.locations import MLFLOW_USER, Locations
from leaderboard_site.embedded.processes import PartError, end_leftovers
from leaderboard_site.embedded.servers import (
    MlflowServer,
    PostgresServer,
    ValkeyServer,
    free_port,
)

if TYPE_CHECKING:
    from mlflow import MlflowClient


class TestServers:
    """PostgreSQL and Valkey answer when `start` returns; MLflow comes up behind, at once or when `ask_for_mlflow` is called."""

    __test__ = False

    def __init__(self, folder: Path | str, *, with_mlflow: bool = True, mlflow_when_asked: bool = False) -> None:
        self.locations = Locations(folder)
        self.locations.make()
        self.postgres = PostgresServer(self.locations, durable=False)
        self.valkey = ValkeyServer(self.locations, durable=False)
        # Never the default port: a site that is started meanwhile gets it.
        self.mlflow_port = free_port()
        self.mlflow = MlflowServer(self.locations, preferred_ports=(self.mlflow_port,)) if with_mlflow else None
        self.mlflow_error: PartError | None = None
        self._mlflow_when_asked = mlflow_when_asked
        self._stopping = threading.Event()
        self._mlflow_thread: threading.Thread | None = None

    def start(self) -> dict[str, str]:
        end_leftovers(self.locations)
        valkey = threading.Thread(target=self.valkey.start)
        valkey.start()
        self.postgres.start()
        valkey.join()
        if not self.valkey.is_running():
            raise PartError(self.valkey.why("did not start"))
        self.locations.write_state(mlflow_port=self.mlflow_port, pid=os.getpid())
        if self.mlflow is not None:
            self._mlflow_thread = threading.Thread(target=self._start_mlflow, daemon=True)
            self._mlflow_thread.start()
        return self.locations.environment()

    def _start_mlflow(self) -> None:
        assert self.mlflow is not None
        while self._mlflow_when_asked and not _asked(self.locations.var).exists():
            if self._stopping.wait(0.1):
                return
        try:
            self.mlflow.start()
        except PartError as error:
            self.mlflow_error = error

    def stop(self) -> None:
        self._stopping.set()
        for server in (self.mlflow, self.valkey, self.postgres):
            if server is not None:
                server.stop()
        if self._mlflow_thread is not None:
            self._mlflow_thread.join(5)
        # The folder of a running site stays; that of a test session would be one more each time.
        shutil.rmtree(self.locations.sockets, ignore_errors=True)


_started: dict[str, TestServers] = {}


def _asked(folder: Path | str) -> Path:
    return Path(folder, "mlflow-asked")


def ask_for_mlflow(folder: Path | str) -> None:
    """Have the session's MLflow started; from any of its processes, as often as one likes."""
    _asked(folder).touch()


def start_for_tests(folder: Path | str, *, with_mlflow: bool = True) -> dict[str, str]:
    """Start the servers and return the environment variables that lead to them (MLFLOW_TRACKING_URI answers once asked for)."""
    servers = TestServers(folder, with_mlflow=with_mlflow, mlflow_when_asked=True)
    try:
        environment = servers.start()
    except BaseException:
        servers.stop()
        raise
    _started[str(servers.locations.var)] = servers
    return environment


def stop_for_tests(folder: Path | str) -> None:
    servers = _started.pop(str(Path(folder).resolve()), None)
    if servers is not None:
        servers.stop()


def mlflow_client(locations: Locations) -> MlflowClient:
    """Return MLflow's own client for the server of this folder; it reads the secret from this process's environment."""
    from mlflow import MlflowClient

    os.environ["MLFLOW_TRACKING_USERNAME"] = MLFLOW_USER
    os.environ["MLFLOW_TRACKING_PASSWORD"] = locations.mlflow_password_file.read_text().strip()
    return MlflowClient(locations.mlflow_url())


def wait_for_mlflow(url: str | None = None, *, seconds: float = 120.0) -> str:
    """Return MLflow's address once it answers; works in any process of the session, xdist's workers included."""
    url = url or os.environ["MLFLOW_TRACKING_URI"]
    address = urllib.parse.urlsplit(url)
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        for servers in _started.values():
            if servers.mlflow_error is not None:
                raise servers.mlflow_error
        connection = http.client.HTTPConnection(address.hostname or "127.0.0.1", address.port or 80, timeout=5)
        try:
            connection.request("GET", "/health")
            if connection.getresponse().status == 200:
                return url
        except (OSError, http.client.HTTPException):
            pass
        finally:
            connection.close()
        time.sleep(0.1)
    raise PartError(f"MLflow at {url} did not answer within {seconds:.0f} s")
