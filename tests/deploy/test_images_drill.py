"""The drill's translation of a compose service into podman's words; `make images-drill` is the drill itself."""

import subprocess
import sys
from pathlib import Path

from tests.images.engine import Compose, Podman

from .conftest import ROOT


def compose(tool, tmp_path: Path, *files: str) -> Compose:
    assert tool("docker-compose", "version").returncode == 0
    environment = tmp_path / "env"
    environment.write_text("# a comment\nLEASE_SECONDS=20\n")
    return Compose(*files, environment_file=environment, secrets=tmp_path / "secrets")


def after(words: list[str], option: str) -> list[str]:
    return [words[place + 1] for place, word in enumerate(words) if word == option]


def test_worker_in_podmans_words(tool, tmp_path, monkeypatch):
    monkeypatch.setattr("os.chown", lambda *_: None)
    found = compose(tool, tmp_path, "docker-compose.yml", "deploy/compose/cpu.yml")
    words = found.podman_arguments("worker", volumes=tmp_path)
    assert "--read-only" in words
    assert after(words, "--user") == ["10001:10001"]
    assert after(words, "--cap-drop") == ["ALL"]
    profile = ROOT / "deploy" / "seccomp" / "bubblewrap.json"
    assert after(words, "--security-opt") == ["no-new-privileges", f"seccomp={profile}", "unmask=ALL"]
    assert f"{tmp_path}/secrets/worker_secret_key:/run/secrets/secret_key:ro" in after(words, "--volume")
    assert f"{tmp_path}/datasets:/data/datasets:ro" in after(words, "--volume")
    assert "/data/work" in after(words, "--volume")
    assert {"LEASE_SECONDS=20", "SECRET_KEY_FILE=/run/secrets/secret_key"} <= set(after(words, "--env"))


def test_every_service_of_ours_can_be_translated(tool, tmp_path, monkeypatch):
    monkeypatch.setattr("os.chown", lambda *_: None)
    found = compose(tool, tmp_path, "docker-compose.yml")
    for name, service in found.services.items():
        words = found.podman_arguments(name, volumes=tmp_path)
        assert ("--read-only" in words) == service["read_only"]
        assert after(words, "--user") == [service["user"]]


def test_podmans_state_is_beside_its_store(tmp_path):
    words = Podman(tmp_path / "images").command
    assert after(words, "--root") == [str(tmp_path / "images")]
    assert after(words, "--runroot") == [str(tmp_path / "images-run")]


def test_drill_says_what_it_would_need(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "tests.images.drill", "--store", str(tmp_path)], cwd=ROOT, capture_output=True, text=True,
        timeout=120, check=False, env={"PATH": str(tmp_path), "LANG": "C.UTF-8", "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stdout.startswith("The drill cannot run here: ")
