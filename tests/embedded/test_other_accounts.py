"""Other accounts of the machine can read no file of an embedded site, and get no answer from its MLflow."""

from __future__ import annotations

import base64
import http.client
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from leaderboard_site.embedded.locations import PRIVATE_FOLDERS, REPOSITORY, Locations
from leaderboard_site.embedded.servers import free_port, http_answers

from .conftest import NOBODY, wait_for

LOOK = """
import os, sys
for folder, folders, files in os.walk(sys.argv[1], followlinks=False):
    for name in files:
        try:
            open(os.path.join(folder, name), "rb").close()
            print(os.path.join(folder, name))
        except OSError:
            pass
for path in sys.argv[2:]:
    try:
        os.listdir(path) if os.path.isdir(path) else open(path, "rb").close()
        print(path)
    except OSError:
        pass
"""


@pytest.fixture
def shared_folder() -> Iterator[Path]:
    """A folder that every account can enter, which pytest's own is not."""
    folder = Path(tempfile.mkdtemp(prefix="lb-shared-", dir="/tmp"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def readable_by_another_account(folder: Path) -> list[str]:
    """List what another account can open below the folder, also by guessing names."""
    if os.geteuid() != 0:
        pytest.skip("only root can look as another account")
    names = [str(path) for path in sorted(folder.rglob("*")) if not path.is_symlink()]
    python = shutil.which("python3", path="/usr/bin:/usr/local/bin") or sys.executable
    looked = subprocess.run(
        [python, "-I", "-S", "-c", LOOK, str(folder), *names], user=NOBODY, group=NOBODY, extra_groups=[],
        capture_output=True, text=True, check=True, cwd="/",
    )  # fmt: skip
    return sorted(set(looked.stdout.split()))


def old_site(var: Path) -> None:
    """A VAR folder as earlier versions left it: open to all."""
    for name in (*PRIVATE_FOLDERS, "env", "mine"):
        (var / name / "below").mkdir(parents=True)
        (var / name / "below" / "file").write_text("x")
    (var / "state.json").write_text("{}")
    (var / "secret_key").write_text("x")
    for path in [var, *var.rglob("*")]:
        path.chmod(0o755 if path.is_dir() else 0o644)


def test_an_old_sites_files_are_closed_at_the_next_start(shared_folder: Path) -> None:
    var = shared_folder / "var"
    old_site(var)
    assert str(var / "uploads/below/file") in readable_by_another_account(var)
    Locations(var).make()
    # What is not the site's stays as it is.
    left = [str(var / name / rest) for name in ("env", "mine") for rest in ("", "below", "below/file")]
    assert readable_by_another_account(var) == left
    assert stat.S_IMODE(var.stat().st_mode) == 0o711
    assert (var / "uploads/below/file").read_text() == "x"


def test_a_stricter_mode_stays(tmp_path: Path) -> None:
    var = tmp_path / "var"
    (var / "uploads").mkdir(parents=True)
    (var / "uploads").chmod(0o500)
    var.chmod(0o700)
    Locations(var).make()
    assert [stat.S_IMODE(path.stat().st_mode) for path in (var, var / "uploads")] == [0o700, 0o500]


def test_links_and_the_folders_of_others_are_left_alone(tmp_path: Path) -> None:
    var, outside = tmp_path / "var", tmp_path / "data"
    for folder in (var, outside):
        folder.mkdir(mode=0o755)
    (outside / "password").write_text("x")
    (outside / "password").chmod(0o644)
    (var / "datasets").symlink_to(outside)
    (var / "old.password").symlink_to(outside / "password")
    os.mkfifo(var / "fifo.password", 0o644)
    (var / "postgres").mkdir(mode=0o755)
    if os.geteuid() == 0:
        os.chown(var / "postgres", NOBODY, NOBODY)
    Locations(var).make()
    assert [stat.S_IMODE(path.stat().st_mode) for path in (outside, outside / "password")] == [0o755, 0o644]
    if os.geteuid() == 0:
        assert stat.S_IMODE((var / "postgres").stat().st_mode) == 0o755


def test_every_folder_that_the_settings_put_below_var_is_private() -> None:
    source = (REPOSITORY / "leaderboard_site" / "settings.py").read_text()
    named = {part.partition('"')[0] for part in source.split('VAR_DIR / "')[1:]}
    assert named - {"secret_key", "maintenance"} <= set(PRIVATE_FOLDERS)
    locations = Locations()
    assert {path.name for path in (locations.logs, locations.postgres, locations.valkey, locations.mlflow)} <= set(
        PRIVATE_FOLDERS
    )


def status(port: int, path: str, header: str = "", method: str = "GET") -> int:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        connection.request(method, path, headers={"Authorization": header} if header else {})
        return connection.getresponse().status
    finally:
        connection.close()


def basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def test_mlflows_port_answers_nothing_without_the_secret(mlflow_url: str) -> None:
    port = urlsplit(mlflow_url).port or 0
    paths = ["/", "/version", "/graphql", "/api/2.0/mlflow/experiments/search", "/static-files/index.html", "/openapi.json",
             "//health", "/health/", "/health/../version", "/v1/traces", "/ajax-api/3.0/mlflow/server-info",
             "/api/2.0/mlflow-artifacts/artifacts/x", "/get-artifact?path=x&run_uuid=y"]  # fmt: skip
    for path in paths:
        for header in ("", "Basic x", "Bearer x", basic("leadersboard", "wrong"), basic("admin", "password1234")):
            assert status(port, path, header) == 401, (path, header)
        assert status(port, path, method="PUT") == 401
    assert status(port, "/health") == 200, "for health checks"
    secret = Path(os.environ["MLFLOW_TRACKING_PASSWORD_FILE"])
    assert stat.S_IMODE(secret.stat().st_mode) == 0o600
    assert status(port, "/version", basic("leadersboard", secret.read_text().strip())) == 200


@pytest.mark.slow
def test_a_running_site_keeps_all_it_writes_to_itself(shared_folder: Path) -> None:
    """`make run` with its demonstration, under a shell that would leave files open to all."""
    var, port = shared_folder / "var", free_port()
    of_the_tests = ("DATABASE_URL", "REDIS_URL", "UPLOAD_TEMP_DIR", "SECRET_KEY", "STATIC_MANIFEST")
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("MLFLOW_") and not name.endswith("_ROOT") and name not in of_the_tests
    }
    site = subprocess.Popen(
        [sys.executable, "-m", "leaderboard_site.embedded.run", "--port", str(port)], cwd=REPOSITORY, umask=0o022,
        env=environment | {"LEADERSBOARD_VAR": str(var)}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    said = []
    try:
        assert site.stdout is not None
        for line in site.stdout:
            said.append(line)
            if "Ctrl-C stops everything" in line:
                break
        assert "Serving at" in "".join(said), "".join(said)
        assert http_answers(port, "/healthz")
        stored = [path for name in ("uploads", "artifacts") for path in (var / name).rglob("*") if path.is_file()]
        assert stored and all(path.stat().st_mode & 0o077 == 0 for path in stored)
        assert wait_for(lambda: any((var / "mlflow").rglob("log.txt")), seconds=60)
        assert readable_by_another_account(var) == []
        parts = json.loads((var / "state.json").read_text())
        assert status(parts["mlflow_port"], "/api/2.0/mlflow/experiments/search") == 401
    finally:
        site.send_signal(signal.SIGINT)
        site.communicate(timeout=60)
