"""Makes the Python environments from the pinned requirements, before anything is installed.

    python3 -m leaderboard_site.embedded.environments local mlflow runner

An environment is complete when its stamp (requirements, Python, place) matches. Any other is made again or, if it was
complete for older requirements, brought up to date. One that another user made is never changed. In a folder that
LEADERSBOARD_ENVIRONMENTS names, which several sites may share, neither is one that another Python made. Standard library only.
"""

from __future__ import annotations

import sys

OLDEST_PYTHON = (3, 11)

if sys.version_info < OLDEST_PYTHON:  # before any import below could fail less clearly
    sys.exit(
        f"LeadersBoard needs Python 3.11 or newer; {sys.executable} is {sys.version.split()[0]}. "
        "Name another one: make run PYTHON=python3.12"
    )

import argparse
import fcntl
import hashlib
import importlib.util
import os
import platform
import re
import shlex
import shutil
import signal
import subprocess
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from core.environments import HALF_MADE, STAMP
from leaderboard_site.embedded.locations import (
    REPOSITORY,
    Locations,
    environments_folder,
)
from leaderboard_site.embedded.progress import Progress, Step

NAMES = {
    "local": "the site and its embedded servers",
    "dev": "the same, and what tests and checks need",
    "mlflow": "the MLflow server",
    "runner": "what a light submission imports: numpy, OpenCV",
    "deploy": "what the tests of the deployment look with",
    "bench": "the reference peer and the load of `make bench`",
    "worker": "what any submission imports: torch, anomalib",
    "worker-cpu": "the same on the CPU build of torch",
}
# PyPI has no CPU build of torch for Linux. Who brings the wheel in a folder (PIP_FIND_LINKS) needs no other place.
EXTRA_ARGUMENTS = {
    "worker-cpu": []
    if os.environ.get("PIP_FIND_LINKS")
    else ["--extra-index-url", "https://download.pytorch.org/whl/cpu"]
}


class EnvironmentFailed(RuntimeError):
    """An environment could not be made; the message says which, why and where the log is."""


def folder(name: str) -> Path:
    return environments_folder() / name


def python(name: str) -> Path:
    """The interpreter of an environment, whether or not it has been made."""
    return folder(name) / "bin" / "python"


def requirements(name: str) -> Path:
    return REPOSITORY / "requirements" / f"{name}.txt"


def _hooks(name: str) -> list[Path]:
    """Return the scripts that adapt the environment once its packages are installed."""
    return [REPOSITORY / "requirements" / "torchvision_hook.py"] if name in ("worker", "worker-cpu") else []


def stamp(name: str) -> str:
    """The place is part of it: an environment's scripts name their interpreter by its full path."""
    content = requirements(name).read_bytes() + b"".join(path.read_bytes() for path in _hooks(name))
    digest = hashlib.sha256(content).hexdigest()
    return f"{digest} python{platform.python_version()} {folder(name).resolve()}\n"


def is_complete(name: str) -> bool:
    try:
        return (folder(name) / STAMP).read_text() == stamp(name) and os.access(python(name), os.X_OK)
    except OSError:
        return False


def refuse_to_replace(name: str) -> None:
    """Raise EnvironmentFailed if this site may not change or remove what lies in the environment's place."""
    place = folder(name)
    try:
        owner = place.lstat().st_uid
    except FileNotFoundError:
        return
    reason = ""
    if place.is_symlink() or not place.is_dir():
        reason = "is a link or a file, not a folder"
    elif owner != os.geteuid():
        reason = f"was made by user {owner}, and this is user {os.geteuid()}"
    elif os.environ.get("LEADERSBOARD_ENVIRONMENTS"):
        made_by, ours = python(name).resolve(), Path(sys.executable).resolve()
        if made_by.exists() and made_by != ours:
            reason = f"was made by another Python, {made_by}; this one is {ours}"
        elif not (place / STAMP).exists() and not (place / HALF_MADE).exists():
            reason = "was not made by LeadersBoard"
    if reason:
        raise EnvironmentFailed(
            f"environment {name}: {place} is not up to date, and it is left alone because it {reason}. Let "
            f"LEADERSBOARD_ENVIRONMENTS name another folder, or remove it if it is not needed: rm -r {shlex.quote(str(place))}"
        )


class Maker:
    """Makes several environments at once; on Ctrl-C it takes its pips with it."""

    def __init__(self, progress: Progress | None = None) -> None:
        self.progress = progress or Progress()
        self.logs = Locations().logs
        self._running: set[subprocess.Popen[str]] = set()
        self._stopped = threading.Event()
        self._locks: dict[str, int] = {}

    def make(self, names: Sequence[str]) -> None:
        wanted = [name for name in dict.fromkeys(names) if not is_complete(name)]
        if not wanted:
            return
        self.progress.say(f"Making the Python environments {', '.join(wanted)} (Python {platform.python_version()})")
        self.logs.mkdir(parents=True, exist_ok=True)
        environments_folder().mkdir(parents=True, exist_ok=True)
        # pip is half computing, half waiting: as many at once as there are cores.
        pool = ThreadPoolExecutor(max_workers=max(1, min(len(wanted), os.cpu_count() or 1)))
        try:
            for outcome in [pool.submit(self._make_one, name) for name in wanted]:
                outcome.result()
        except BaseException:
            self._stopped.set()
            for process in list(self._running):
                # Its whole group: `venv` runs ensurepip, and pip what builds a package.
                try:
                    os.killpg(process.pid, signal.SIGTERM)
                except ProcessLookupError:
                    pass
            raise
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def _make_one(self, name: str) -> None:
        with (
            self.progress.step(f"environment {name}") as step,
            self._locked(name, step),
        ):
            if is_complete(name):
                step.result = "made by another process"
                return
            refuse_to_replace(name)
            log = self.logs / f"env-{name}.log"
            with log.open("w") as output:
                before = (folder(name) / STAMP).exists() and self._same_python(name)
                # From here until the new stamp it counts as half made.
                folder(name).mkdir(exist_ok=True)
                (folder(name) / HALF_MADE).touch()
                (folder(name) / STAMP).unlink(missing_ok=True)
                if not before:
                    empty(folder(name))
                    self._create(name, output, log)
                self._run(
                    name,
                    self._pip(
                        name,
                        "install",
                        "--require-hashes",
                        *EXTRA_ARGUMENTS.get(name, []),
                        "-r",
                        str(requirements(name)),
                        # For pip before 23.3 a pin of `coverage` does not hold `coverage[toml]`, which some package asks
                        # for: the day a newer one is published it takes that, and refuses it for want of a hash.
                        "--constraint",
                        str(requirements(name)),
                    ),
                    output,
                    log,
                    step,
                )
                if before:
                    self._remove_unlisted(name, output, log)
                for script in _hooks(name):
                    self._run(name, [str(python(name)), str(script)], output, log)
                # Written beside and renamed: a stamp is there whole or not at all.
                temporary = folder(name) / f"{STAMP}.new"
                temporary.write_text(stamp(name))
                temporary.replace(folder(name) / STAMP)
                (folder(name) / HALF_MADE).unlink(missing_ok=True)
            step.result = f"{'brought up to date' if before else 'made'}: {NAMES[name]}"[:44]

    def _same_python(self, name: str) -> bool:
        parts = (folder(name) / STAMP).read_text().split(" ", 1)
        return os.access(python(name), os.X_OK) and parts[-1] == stamp(name).split(" ", 1)[-1]

    def _create(self, name: str, output: TextIO, log: Path) -> None:
        has_pip = importlib.util.find_spec("pip") is not None
        if not has_ensurepip() and not has_pip:
            version = f"{sys.version_info[0]}.{sys.version_info[1]}"
            raise EnvironmentFailed(
                f"{sys.executable} can make no environments: it has neither ensurepip nor pip. On Debian and Ubuntu: "
                f"apt install python{version}-venv"
            )
        command = [sys.executable, "-m", "venv", str(folder(name))]
        self._run(name, command if has_ensurepip() else [*command, "--without-pip"], output, log)

    def _pip(self, name: str, *arguments: str) -> list[str]:
        options = ["--disable-pip-version-check", "--no-input"]
        if not has_ensurepip():
            return [
                sys.executable,
                "-m",
                "pip",
                "--python",
                str(python(name)),
                *options,
                *arguments,
            ]
        return [str(python(name)), "-m", "pip", *options, *arguments]

    def _remove_unlisted(self, name: str, output: TextIO, log: Path) -> None:
        listing = subprocess.run(
            self._pip(name, "list", "--format=freeze"),
            capture_output=True,
            text=True,
            check=True,
        )
        installed = {normal(line.partition("==")[0]) for line in listing.stdout.splitlines() if "==" in line}
        listed = set(
            re.findall(
                r"^([A-Za-z0-9][\w.-]*)(?:\[[^]]*\])?==",
                requirements(name).read_text(),
                re.MULTILINE,
            )
        )
        unlisted = installed - {normal(one) for one in listed} - {"pip", "setuptools", "wheel"}
        if unlisted:
            self._run(
                name,
                self._pip(name, "uninstall", "--yes", *sorted(unlisted)),
                output,
                log,
            )

    def _run(
        self,
        name: str,
        command: list[str],
        output: TextIO,
        log: Path,
        step: Step | None = None,
    ) -> None:
        if self._stopped.is_set():
            raise EnvironmentFailed(f"environment {name}: interrupted")
        print("$", *command, file=output, flush=True)
        with subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            errors="replace", start_new_session=True, cwd=REPOSITORY,
            # Should we be killed with -9, the lock stays held until this child, too, has ended.
            pass_fds=[self._locks[name]],
        ) as process:  # fmt: skip
            self._running.add(process)
            collected = 0
            assert process.stdout is not None
            for line in process.stdout:
                print(line, end="", file=output, flush=True)
                collected += line.startswith("Collecting ")
                if step is not None:
                    doing = "installing" if line.startswith("Installing") else f"{collected} packages"
                    step.note(f"({doing})")
            code = process.wait()
        self._running.discard(process)
        if self._stopped.is_set():
            raise EnvironmentFailed(f"environment {name}: interrupted")
        if code != 0:
            tail = [line for line in log.read_text(errors="replace").splitlines() if line.strip()][-15:]
            raise EnvironmentFailed(
                f"The environment {name} could not be made: {' '.join(command[:4])} ... ended with exit code {code}.\n"
                + "".join(f"    {line}\n" for line in tail)
                + f"The whole log: {log}"
            )

    @contextmanager
    def _locked(self, name: str, step: Step) -> Iterator[None]:
        path = environments_folder() / f"{name}.lock"
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise EnvironmentFailed(
                f"environment {name}: {path} cannot be written ({error.strerror}). "
                "Let LEADERSBOARD_ENVIRONMENTS name a folder that belongs to you, or leave it out."
            ) from error
        with os.fdopen(descriptor, "w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                step.note("(another process is making it)")
                fcntl.flock(lock, fcntl.LOCK_EX)
            self._locks[name] = lock.fileno()
            yield


def empty(place: Path) -> None:
    """Remove all content but the mark that says that this site is making the environment."""
    for path in place.iterdir():
        if path.name == HALF_MADE:
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def has_ensurepip() -> bool:
    """Debian splits it off into python3-venv; where it is missing, a pip of this Python installs from outside."""
    return importlib.util.find_spec("ensurepip") is not None


def normal(package: str) -> str:
    return re.sub(r"[-_.]+", "-", package).lower()


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="environments", description="Makes Python environments under var/env.")
    parser.add_argument("names", nargs="+", choices=list(NAMES), metavar="NAME", help=", ".join(NAMES))
    names = parser.parse_args(arguments).names
    os.umask(0o022)  # a worker that is root runs submissions on them as another user
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        Maker().make(names)
    except EnvironmentFailed as error:
        print(f"\n{error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nInterrupted. What was half made will be made again.", file=sys.stderr)
        return 130
    except OSError as error:
        print(f"\nCannot make the environments: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
