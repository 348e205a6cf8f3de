"""podman with a store of its own: builds the images, and runs a service of the compose file as docker compose would.

What docker compose would do with a service is read from `docker compose config`, not written down a second time.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

from leaderboard_site.embedded import environments
from leaderboard_site.embedded.locations import REPOSITORY

CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
BASE = "localhost/python-base:drill"


class DrillError(RuntimeError):
    """A step did not do what it must; the message says which and what came out."""


def deploy_tool(name: str) -> str:
    return str(environments.folder("deploy") / "bin" / name)


def call(*words: str, timeout: float = 900, **options: Any) -> str:
    """The output of a command that must succeed."""
    done = subprocess.run(words, capture_output=True, text=True, timeout=timeout, **options)
    if done.returncode != 0:
        raise DrillError(f"{' '.join(words[:12])} ended with {done.returncode}:\n{(done.stdout + done.stderr)[-3000:]}")
    return done.stdout


class Podman:
    def __init__(self, store: Path) -> None:
        # It stays, so that a second drill builds what has changed and no more.
        state = store.with_name(f"{store.name}-run")
        self.command = [
            "podman", "--root", str(store), "--runroot", str(state), "--storage-driver", "overlay", "--cgroup-manager",
            "cgroupfs", "--events-backend", "none", "--runtime", "runc",
        ]  # fmt: skip

    def __call__(self, *words: str, timeout: float = 900) -> str:
        return call(*self.command, *words, timeout=timeout)

    def has(self, image: str) -> bool:
        return subprocess.run([*self.command, "image", "exists", image], check=False).returncode == 0

    def make_base(self, suite: str = "bookworm") -> None:
        """A bare Debian with its Python, in the place of python:*-slim: no registry is needed."""
        folder = Path(self.command[2])
        folder.mkdir(parents=True, exist_ok=True)
        archive = folder.parent / "base.tar"
        call(
            "mmdebstrap", "--quiet", "--variant=minbase", "--include=python3,python3-venv,ca-certificates",
            "--dpkgopt=path-exclude=/usr/share/doc/*", "--dpkgopt=path-exclude=/usr/share/man/*",
            '--customize-hook=ln -s /usr/bin/python3 "$1/usr/local/bin/python3"',
            '--customize-hook=ln -s python3 "$1/usr/local/bin/python"', suite, str(archive),
        )  # fmt: skip
        self("import", str(archive), BASE)
        archive.unlink()

    def build(self, target: str, *, runner: str, log: Path) -> None:
        """Every step of docker/Dockerfile up to the target, with this machine's way to the package indexes lent to it."""
        lent = [path for path in (CERTIFICATES, Path("/etc/pip.conf")) if path.exists()]
        words = [
            *self.command, "build", "--network", "host", "--file", "docker/Dockerfile", "--target", target, "--tag",
            image(target), "--build-arg", f"PYTHON_IMAGE={BASE}", "--build-arg", f"RUNNER={runner}",
            *(word for path in lent for word in ("--volume", f"{path}:{path}:ro")), ".",
        ]  # fmt: skip
        with log.open("w") as output:
            code = subprocess.run(
                words, cwd=REPOSITORY, stdout=output, stderr=output, timeout=1800, check=False
            ).returncode
        if code != 0:
            raise DrillError(f"the image {target} could not be built; the end of {log}:\n{log.read_text()[-3000:]}")

    def size(self, target: str) -> int:
        return int(json.loads(self("image", "inspect", image(target)))[0]["Size"])


def image(target: str) -> str:
    return f"localhost/leadersboard-{target}:drill"


class Compose:
    """The services of the compose files, as docker compose understands them with this environment file."""

    def __init__(self, *files: str, environment_file: Path, secrets: Path) -> None:
        words = [deploy_tool("docker-compose"), "--project-directory", ".", "--env-file", str(environment_file)]
        words += [word for file in files for word in ("--file", file)]
        words += ["--profile", "*", "config", "--format", "json"]
        self.services: dict[str, dict[str, Any]] = json.loads(call(*words, cwd=REPOSITORY))["services"]
        self.settings = _settings(environment_file)
        self.secrets = secrets

    def podman_arguments(self, name: str, *, volumes: Path) -> list[str]:
        """The options of `podman run` that mean the same as the service's entry, but for its network and its GPU."""
        service = self.services[name]
        words = ["--network", "host", "--user", service["user"]]
        # There is no name service: every part is on this machine's own address.
        words += [
            word for host in ("postgres", "redis", "mlflow", "web") for word in ("--add-host", f"{host}:127.0.0.1")
        ]
        words += ["--read-only", "--read-only-tmpfs=false"] if service.get("read_only") else []
        words += [word for one in service.get("cap_drop", []) for word in ("--cap-drop", one)]
        for option in service.get("security_opt", []):
            words += self._security(option)
        for place in service.get("tmpfs", []):
            words += ["--tmpfs", place]
        for volume in service.get("volumes", []):
            words += self._volume(volume, volumes)
        for secret in service.get("secrets", []):
            words += ["--volume", f"{self.secrets / secret['source']}:{secret['target']}:ro"]
        for key, value in (self.settings | service.get("environment", {})).items():
            words += ["--env", f"{key}={value}"]
        # runc wants the limits named where this process may not raise its own.
        words += ["--ulimit", "nofile=1024:1024", "--ulimit", "nproc=8192:8192"]
        return words

    def _security(self, option: str) -> list[str]:
        name, _, value = option.replace(":", "=", 1).partition("=")
        if name == "systempaths":
            return ["--security-opt", "unmask=ALL"]  # podman's word for docker's
        if name == "seccomp":
            return ["--security-opt", f"seccomp={REPOSITORY / value}"]
        return [] if name == "apparmor" else ["--security-opt", name]

    @staticmethod
    def _volume(volume: dict[str, Any], volumes: Path) -> list[str]:
        source = volume.get("source")
        if source is None:
            return ["--volume", volume["target"]]
        place = Path(source) if volume["type"] == "bind" else volumes / source
        if volume["type"] == "volume" and not place.exists():
            place.mkdir(parents=True)
            os.chown(place, 10001, 10001)  # docker takes over the owner of the image's folder
        return ["--volume", f"{place}:{volume['target']}{':ro' if volume.get('read_only') else ''}"]


def _settings(file: Path) -> dict[str, str]:
    lines = (line.partition("=") for line in file.read_text().splitlines() if line and not line.startswith("#"))
    return {name: value for name, _, value in lines}
