"""A launcher in a process of its own, because what is tested is mostly what stays when that process is killed."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from leaderboard_site.embedded.locations import REPOSITORY, Locations
from leaderboard_site.embedded.processes import end_leftovers, processes_of

NOBODY = 65534
PACKAGES = sysconfig.get_path("purelib")
LAUNCHER = """
import json, sys, time
from leaderboard_site.embedded.locations import Locations
from leaderboard_site.embedded.servers import MlflowServer, PostgresServer, ValkeyServer, free_port
from leaderboard_site.embedded.stack import Stack, StopAsked
stack = Stack(Locations())
stack.listen_for_signals()
stack.claim(web_port=None)
pids = {}
for name in sys.argv[1:]:
    if name == "mlflow":
        part = MlflowServer(stack.locations, preferred_ports=(free_port(),))
    else:
        part = {"postgres": PostgresServer, "valkey": ValkeyServer}[name](stack.locations)
    stack.start(part, part.start)
    pids[name] = part.pid
try:
    print("ready " + json.dumps(pids), flush=True)
    stack.serve()
except StopAsked:
    stack.stop([])
"""


class Launcher:
    """Starts servers in another process and knows what of them is alive."""

    def __init__(self, locations: Locations, as_user: tuple[str, ...] = (), python: str = sys.executable) -> None:
        self.python = python
        self.locations = locations
        self.as_user = as_user
        self.process: subprocess.Popen[str] | None = None
        self.guards: dict[str, int] = {}

    def start(self, *names: str, **environment: str) -> Launcher:
        self.process = subprocess.Popen(
            [*self.as_user, self.python, "-c", LAUNCHER, *names],
            cwd=REPOSITORY,
            env=os.environ | {"LEADERSBOARD_VAR": str(self.locations.var), "PYTHONPATH": PACKAGES, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert self.process.stdout is not None
        said = []
        for line in self.process.stdout:
            said.append(line)
            if line.startswith("ready "):
                self.guards = json.loads(line.removeprefix("ready "))
                return self
        raise AssertionError("the launcher ended: " + "".join(said))

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.communicate()

    def stop(self) -> int:
        assert self.process is not None
        self.process.send_signal(signal.SIGINT)
        self.process.communicate(timeout=30)
        return self.process.returncode

    def living(self) -> list[str]:
        """The command lines of what was started for this folder and runs."""
        found = []
        for pid in processes_of(self.locations):
            try:
                found.append(Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode().strip())
            except OSError:
                continue
        return found


def wait_for(condition: Callable[[], bool], *, seconds: float = 12.0) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.05)
    return False


@pytest.fixture
def launcher(tmp_path: Path) -> Iterator[Launcher]:
    launcher = Launcher(Locations(tmp_path / "var"))
    yield launcher
    if launcher.process is not None and launcher.process.returncode is None:
        launcher.kill()
    end_leftovers(launcher.locations, seconds=5)
    shutil.rmtree(launcher.locations.sockets, ignore_errors=True)


def python_for(as_user: tuple[str, ...]) -> str:
    """A Python of our version that the user may execute: ours can lie in a closed /root."""
    works = "import subprocess, sys, psycopg; subprocess.run([sys.executable, '-c', ''], check=True)"
    works += f"; assert sys.version_info[:2] == {sys.version_info[:2]}"
    for python in (sys.executable, "/usr/bin/python3", "/usr/local/bin/python3"):
        try:
            subprocess.run(
                [*as_user, python, "-c", works],
                cwd=REPOSITORY,
                env=os.environ | {"PYTHONPATH": PACKAGES},
                check=True,
                capture_output=True,
            )
        except (OSError, subprocess.CalledProcessError):
            continue
        return python
    pytest.skip("no Python and checkout that user nobody may read")


@pytest.fixture
def ordinary_user_launcher(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Launcher]:
    """The same as somebody who is not root: ourselves, or `nobody` when we are root."""
    as_user: tuple[str, ...] = ()
    python = sys.executable
    folder = tmp_path_factory.mktemp("ordinary")
    if os.getuid() == 0:
        if shutil.which("setpriv") is None:
            pytest.skip("setpriv is not installed")
        as_user = (
            "setpriv",
            f"--reuid={NOBODY}",
            f"--regid={NOBODY}",
            "--clear-groups",
        )
        python = python_for(as_user)
        # Not below pytest's own folder, which only root can enter.
        folder = Path("/tmp") / f"lb-nobody-{os.getpid()}"
        folder.mkdir()
        os.chown(folder, NOBODY, NOBODY)
    launcher = Launcher(Locations(folder / "var"), as_user, python)
    yield launcher
    if launcher.process is not None and launcher.process.returncode is None:
        launcher.kill()
    end_leftovers(launcher.locations, seconds=5)
    if as_user:
        shutil.rmtree(
            Path("/tmp") / f"lb-{NOBODY}-{launcher.locations.marker}",
            ignore_errors=True,
        )
        shutil.rmtree(folder, ignore_errors=True)
