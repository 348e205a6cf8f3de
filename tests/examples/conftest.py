"""The examples run in the environments that submissions run in, not in the one that runs pytest."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from leaderboard_site.embedded.locations import environments_folder

REPOSITORY = Path(__file__).resolve().parents[2]
EXAMPLES = REPOSITORY / "examples"
ENVIRONMENTS = environments_folder().absolute()


@dataclass(frozen=True)
class Run:
    """What an example printed and left."""

    log: str
    output: Path

    @property
    def metrics(self) -> dict[str, float]:
        return json.loads((self.output / "metrics.json").read_text())["metrics"]

    @property
    def params(self) -> dict[str, object]:
        return json.loads((self.output / "metrics.json").read_text())["params"]


def interpreter(*names: str) -> str | None:
    candidates = [ENVIRONMENTS / name / "bin" / "python" for name in names]
    return next((str(path) for path in candidates if os.access(path, os.X_OK)), None)


@pytest.fixture(scope="session")
def runner() -> str:
    """The Python that a light submission runs on; `make test` makes it."""
    python = interpreter("runner")
    if python is None:
        pytest.fail(f"{ENVIRONMENTS}/runner is missing: run `make environments`")
    return python


@pytest.fixture(scope="session")
def worker() -> str:
    """The Python with torch and anomalib, which is large and therefore made on demand only."""
    python = interpreter("worker-cpu", "worker")
    if python is None:
        pytest.skip(f"neither worker-cpu nor worker is in {ENVIRONMENTS}: docs/examples.md says how to make one")
    return python


@pytest.fixture(scope="session")
def shared_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One folder for all of xdist's processes: what one of them made the others use."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "examples"
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def dataset(runner: str, shared_folder: Path) -> Path:
    """The demonstration data, whole; the program itself sees to it that several at once do no harm."""
    out = shared_folder / "textures"
    program = EXAMPLES / "dataset" / "make_texture_dataset.py"
    subprocess.run([runner, str(program), str(out)], check=True, capture_output=True, timeout=60)
    return out


def sandbox_environment(dataset: Path, tmp: Path) -> dict[str, str]:
    """As little as the sandbox gives, and a proxy that is not there: no library may need the network."""
    nowhere = "http://127.0.0.1:9"
    return {
        "PATH": "/usr/bin:/bin",
        "HOME": str(tmp),
        "TMPDIR": str(tmp),
        "LANG": "C.UTF-8",
        "DATASET_DIR": str(dataset),
        "PYTHONDONTWRITEBYTECODE": "1",
        "HTTP_PROXY": nowhere,
        "HTTPS_PROXY": nowhere,
    }


def copy_and_run(name: str, python: str, folder: Path, dataset: Path, config: str | None, expect: int) -> Run:
    work, output, tmp = folder / "work", folder / "output", folder / "tmp"
    shutil.copytree(EXAMPLES / name, work, ignore=shutil.ignore_patterns("__pycache__", "README.md"))
    output.mkdir()
    tmp.mkdir()
    if config is not None:
        (work / "config.yaml").write_text(config)
    before = sorted(work.rglob("*"))
    done = subprocess.run(
        [python, "main.py", "--config", "config.yaml", "--output", str(output)],
        cwd=work,
        env=sandbox_environment(dataset, tmp),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
    )
    assert done.returncode == expect, done.stdout
    assert sorted(work.rglob("*")) == before, "it wrote into its own folder, which is read-only in a run"
    return Run(done.stdout, output)


@pytest.fixture(scope="session")
def run_example(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Run]:
    """Run an example as the platform does: a copy of its own files, a config, an output folder."""

    def run(name: str, python: str, config: str | None = None, expect: int = 0) -> Run:
        return copy_and_run(name, python, tmp_path_factory.mktemp(name), dataset, config, expect)

    return run


@pytest.fixture(scope="session")
def run_as_shipped(dataset: Path, shared_folder: Path) -> Callable[[str, str], Run]:
    """The run of an example with its own config: one for the session, in whichever process asks first."""

    def run(name: str, python: str) -> Run:
        folder = shared_folder / name
        with (shared_folder / f"{name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not (folder / "log").exists():
                shutil.rmtree(folder, ignore_errors=True)
                done = copy_and_run(name, python, folder, dataset, config=None, expect=0)
                (folder / "log").write_text(done.log)
        return Run((folder / "log").read_text(), folder / "output")

    return run
