"""Where everything of one embedded site is: its data, logs, sockets and state.

All of it hangs on one folder, `var/` in the repository or the one named by LEADERSBOARD_VAR. The settings ask this
module how to reach the parts whenever DATABASE_URL, REDIS_URL or MLFLOW_TRACKING_URI is not in the environment.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
import tempfile
from pathlib import Path
from typing import Any
from urllib.parse import quote

REPOSITORY = Path(__file__).resolve().parents[2]
DATABASE_NAME = "leadersboard"
DATABASE_USER = "leadersboard"
DATABASE_PORT = "5432"
MLFLOW_DATABASE_NAME = "mlflow"
DEFAULT_MLFLOW_PORT = 5010
DEFAULT_WEB_PORT = 8010
DEFAULT_WEB_PORT = 8010


class LocationError(RuntimeError):
    """A folder cannot be used; the message says which and why."""


def environments_folder() -> Path:
    """Shared by every VAR folder, so that a test's temporary one needs no second installation."""
    return Path(os.environ.get("LEADERSBOARD_ENVIRONMENTS") or REPOSITORY / "var" / "env")


class Locations:
    """The paths and addresses belonging to one VAR folder."""

    def __init__(self, var: Path | str | None = None) -> None:
        self.var = Path(var or os.environ.get("LEADERSBOARD_VAR") or REPOSITORY / "var").resolve()
        self.logs = self.var / "log"
        self.postgres = self.var / "postgres"
        self.valkey = self.var / "valkey"
        self.mlflow = self.var / "mlflow"
        self.state_file = self.var / "state.json"
        self.lock_file = self.var / "run.lock"

    @property
    def marker(self) -> str:
        """The word in the environment of every process of this folder: its leftovers are found by it."""
        return hashlib.sha256(os.fsencode(self.var)).hexdigest()[:12]

    @property
    def sockets(self) -> Path:
        """A short path, because a socket's is limited to 107 bytes and a checkout can lie deep."""
        # Not tempfile.gettempdir(): a shell with another TMPDIR must find the same sockets.
        return Path("/tmp") / f"lb-{os.getuid()}-{self.marker}"

    @property
    def valkey_socket(self) -> Path:
        return self.sockets / "valkey.sock"

    def log(self, name: str) -> Path:
        return self.logs / f"{name}.log"

    def make(self) -> None:
        for folder in (self.var, self.logs):
            folder.mkdir(parents=True, exist_ok=True)
        self.make_socket_folder()

    def make_socket_folder(self) -> None:
        """Who can enter this folder can use the database: it must be ours alone."""
        try:
            self.sockets.mkdir(mode=0o700)
        except FileExistsError:
            pass
        found = self.sockets.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
            raise LocationError(
                f"{self.sockets} is not a folder of user {os.getuid()}. Somebody else made it: remove it, or set "
                "LEADERSBOARD_VAR to another folder."
            )
        if found.st_mode & 0o077:
            self.sockets.chmod(0o700)

    def read_state(self) -> dict[str, Any]:
        try:
            state = json.loads(self.state_file.read_text())
        except (OSError, ValueError):
            return {}
        return state if isinstance(state, dict) else {}

    def write_state(self, **changes: Any) -> None:
        """Merge changes into state.json; a reader never sees half a file."""
        state = self.read_state() | changes
        with tempfile.NamedTemporaryFile("w", dir=self.var, prefix=".state-", delete=False) as file:
            json.dump(state, file, indent=2)
        os.chmod(file.name, 0o644)
        os.replace(file.name, self.state_file)

    def database_settings(self) -> dict[str, Any]:
        """The embedded database as an entry of Django's DATABASES."""
        return {
            "ENGINE": "django.db.backends.postgresql",
            "NAME": DATABASE_NAME,
            "USER": DATABASE_USER,
            "PASSWORD": "",
            "HOST": str(self.sockets),
            "PORT": DATABASE_PORT,
        }

    def database_url(self, name: str = DATABASE_NAME) -> str:
        return f"postgresql://{DATABASE_USER}@{quote(str(self.sockets), safe='')}:{DATABASE_PORT}/{name}"

    def redis_url(self) -> str:
        return f"unix://{self.valkey_socket}"

    def mlflow_url(self) -> str:
        port = self.read_state().get("mlflow_port") or DEFAULT_MLFLOW_PORT
        return f"http://127.0.0.1:{port}"

    def site_url(self) -> str:
        """Where `make run` serves, or would."""
        return f"http://127.0.0.1:{self.read_state().get('web_port') or DEFAULT_WEB_PORT}"

    def environment(self) -> dict[str, str]:
        """What a process needs in its environment to reach exactly these parts."""
        return {
            "LEADERSBOARD_VAR": str(self.var),
            "DATABASE_URL": self.database_url(),
            "REDIS_URL": self.redis_url(),
            "MLFLOW_TRACKING_URI": self.mlflow_url(),
        }


def database_settings() -> dict[str, Any]:
    return Locations().database_settings()


def database_url() -> str:
    return Locations().database_url()


def redis_url() -> str:
    return Locations().redis_url()


def mlflow_url() -> str:
    return Locations().mlflow_url()
