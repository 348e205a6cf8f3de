"""Where everything of one embedded site is: its data, logs, sockets and state.

All of it hangs on one folder, `var/` in the repository or the one named by LEADERSBOARD_VAR. The settings ask this
module how to reach the parts whenever DATABASE_URL, REDIS_URL or MLFLOW_TRACKING_URI is not in the environment.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import stat
import tempfile
from pathlib import Path
from typing import Any
from urllib.parse import quote

from core.environments import is_usable

REPOSITORY = Path(__file__).resolve().parents[2]
DATABASE_NAME = "leadersboard"
DATABASE_USER = "leadersboard"
DATABASE_PORT = "5432"
MLFLOW_DATABASE_NAME = "mlflow"
MLFLOW_USER = "leadersboard"
DEFAULT_MLFLOW_PORT = 5010
DEFAULT_WEB_PORT = 8010
# The environments that submissions run on, the fullest first.
RUNNERS = ("worker", "worker-cpu", "runner")
# Content of the VAR folder that only its owner may read. The Python environments in `env` stay readable: submissions run on
# them under another user, and other sites may share them.
PRIVATE_FOLDERS = (
    "artifacts", "datasets", "gpus", "ground_truth", "log", "mlflow", "postgres", "scorers", "static", "uploads", "valkey",
    "work",
)  # fmt: skip
PRIVATE_FILES = ("state.json", "run.lock", "secret_key", "maintenance", "*.password")


class LocationError(RuntimeError):
    """A folder cannot be used; the message says which and why."""


def environments_folder() -> Path:
    """Shared by every VAR folder, so that a test's temporary one needs no second installation."""
    return Path(os.environ.get("LEADERSBOARD_ENVIRONMENTS") or REPOSITORY / "var" / "env")


def unfinished_environments() -> list[Path]:
    """Return the folders of environments for submissions that are there and not usable."""
    folder = environments_folder()
    return [folder / name for name in RUNNERS if (folder / name).is_dir() and not is_usable(folder / name)]


def made_by(environment: str) -> str:
    """Return the command that makes, or completes, an environment for submissions."""
    return "make environments" if environment == RUNNERS[-1] else "make worker-environment"


def runner_python() -> Path:
    """Return the interpreter that submissions run on: the fullest environment that is complete."""
    folder = environments_folder()
    complete = (folder / name for name in RUNNERS if is_usable(folder / name))
    return next(complete, folder / RUNNERS[-1]) / "bin" / "python"


def own_secret(path: Path) -> str:
    """Return the secret in the file: made once, readable by its owner alone."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=path.parent, prefix=".secret-", delete=False) as file:
            file.write(secrets.token_urlsafe(48))
        try:
            os.link(file.name, path)  # two processes at once: the first one's secret stands
        except FileExistsError:
            pass
        os.unlink(file.name)
    return path.read_text().strip()


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
        self.close_to_others()
        own_secret(self.mlflow_password_file)
        self.make_socket_folder()

    def close_to_others(self) -> None:
        """Close the site's files to other accounts, those that an older version left open too.

        The top of each folder is enough: what lies below cannot be reached past it. Only names that a site makes and
        files of this user are touched, and links are not followed. Other accounts can pass through VAR, to `env`,
        but not list it.
        """
        _take_access(self.var, 0o711)
        for name in PRIVATE_FOLDERS:
            _take_access(self.var / name, 0o700)
        for pattern in PRIVATE_FILES:
            for path in self.var.glob(pattern):
                _take_access(path, 0o600)

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

    @property
    def mlflow_password_file(self) -> Path:
        return self.var / "mlflow.password"

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
            "MLFLOW_TRACKING_USERNAME": MLFLOW_USER,
            "MLFLOW_TRACKING_PASSWORD_FILE": str(self.mlflow_password_file),
        }


def _take_access(path: Path, most: int) -> None:
    """Remove the permissions beyond `most`, if the path is a folder or a file of this user."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return  # not there, a link, or not ours to open
    try:
        found = os.fstat(descriptor)
        is_plain = stat.S_ISDIR(found.st_mode) or stat.S_ISREG(found.st_mode)
        mode = stat.S_IMODE(found.st_mode)
        if is_plain and found.st_uid == os.geteuid() and mode & ~most:
            os.fchmod(descriptor, mode & most)
    finally:
        os.close(descriptor)


def database_settings() -> dict[str, Any]:
    return Locations().database_settings()


def database_url() -> str:
    return Locations().database_url()


def redis_url() -> str:
    return Locations().redis_url()


def mlflow_url() -> str:
    return Locations().mlflow_url()
