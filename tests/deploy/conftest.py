"""The programs that look at the deployment, from the environment `deploy`; without it these tests say that they were skipped."""

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from django.conf import settings

from leaderboard_site.embedded import environments

ROOT = Path(settings.BASE_DIR)
LAYERS = {
    "production": ["docker-compose.yml"],
    "development": ["docker-compose.yml", "docker-compose.override.yml"],
    "cpu": ["docker-compose.yml", "deploy/compose/cpu.yml"],
    "gpus": ["docker-compose.yml", "deploy/compose/gpus.yml"],
    "s3": ["docker-compose.yml", "deploy/compose/s3.yml"],
    "reachable": ["docker-compose.yml", "deploy/compose/reachable.yml"],
    "container-executor": ["docker-compose.yml", "deploy/compose/container-executor.yml"],
    "worker-host": ["docker-compose.yml", "deploy/compose/s3.yml", "deploy/compose/worker-host.yml"],
    "worker-host-gpus": [
        "docker-compose.yml", "deploy/compose/s3.yml", "deploy/compose/worker-host.yml", "deploy/compose/gpus.yml",
    ],
}  # fmt: skip

OWN = {"PATH": "/usr/bin:/bin", "HOME": "/nonexistent", "PRIVATE_ADDRESS": "192.0.2.1"}


@pytest.fixture(scope="session")
def tool() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs a program of the environment in the repository."""

    def run(name: str, *words: str, **options: Any) -> subprocess.CompletedProcess[str]:
        program = environments.folder("deploy") / "bin" / name
        if not program.exists():
            pytest.skip(f"{program} is missing: python -m leaderboard_site.embedded.environments deploy")
        return subprocess.run(
            [str(program), *words], cwd=ROOT, capture_output=True, text=True, timeout=600, check=False, **options
        )

    return run


@pytest.fixture(scope="session")
def composed(tool: Callable[..., subprocess.CompletedProcess[str]]) -> Callable[..., dict[str, Any]]:
    """What docker compose makes of a set of files, without any .env; every profile, or those named."""
    known: dict[Any, dict[str, Any]] = {}

    def compose(layers: str, *profiles: str) -> dict[str, Any]:
        if (layers, profiles) not in known:
            words = ["--project-directory", ".", "--env-file", "/dev/null"]
            words += [word for file in LAYERS[layers] for word in ("--file", file)]
            words += [word for profile in profiles or ("*",) for word in ("--profile", profile)]
            done = tool("docker-compose", *words, "config", env=OWN)
            assert (done.returncode, done.stderr) == (0, "")
            known[layers, profiles] = yaml.safe_load(done.stdout)
        return known[layers, profiles]

    return compose
