"""Environments are made once, made again when half made, and say why when they cannot be made."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from leaderboard_site.embedded import environments
from leaderboard_site.embedded.locations import REPOSITORY

from .conftest import wait_for


@pytest.fixture
def pins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A requirements file of our own for the environment `runner`; empty, so that no package is fetched."""
    pins = tmp_path / "runner.txt"
    pins.write_text("# nothing\n")
    monkeypatch.setenv("LEADERSBOARD_VAR", str(tmp_path / "var"))
    monkeypatch.setenv("LEADERSBOARD_ENVIRONMENTS", str(tmp_path / "env"))
    monkeypatch.setattr(environments, "requirements", lambda name: pins)
    # Unpacking pip takes 5 s each time; without ensurepip our own pip installs from outside.
    monkeypatch.setattr(environments, "has_ensurepip", lambda: False)
    return pins


def test_an_environment_is_made_once(
    pins: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(environments, "has_ensurepip", lambda: True)
    assert environments.main(["runner"]) == 0
    assert "environment runner" in capsys.readouterr().out
    python = environments.python("runner")
    prefix = subprocess.run([python, "-c", "import sys; print(sys.prefix)"], capture_output=True, text=True, check=True)
    assert Path(prefix.stdout.strip()) == environments.folder("runner")
    made_at = (environments.folder("runner") / environments.STAMP).stat().st_mtime_ns
    assert environments.main(["runner"]) == 0
    assert capsys.readouterr().out == ""
    assert (environments.folder("runner") / environments.STAMP).stat().st_mtime_ns == made_at


def test_a_half_made_environment_is_made_again(pins: Path) -> None:
    half = environments.folder("runner")
    (half / "bin").mkdir(parents=True)
    (half / "left-over").touch()
    assert not environments.is_complete("runner")
    assert environments.main(["runner"]) == 0
    assert environments.is_complete("runner")
    assert not (half / "left-over").exists()


def test_other_requirements_make_it_incomplete_and_are_brought_up_to_date(
    pins: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    environments.main(["runner"])
    pins.write_text("# still nothing, in other words\n")
    assert not environments.is_complete("runner")
    capsys.readouterr()
    assert environments.main(["runner"]) == 0
    assert "brought up to date" in capsys.readouterr().out
    assert environments.is_complete("runner")


def test_a_failure_names_environment_reason_and_log(pins: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pins.write_text("./no-such-folder-here\n")
    assert environments.main(["runner"]) == 1
    error = capsys.readouterr().err
    assert "The environment runner could not be made" in error
    assert "no-such-folder-here" in error
    log = Path(error.rpartition("The whole log: ")[2].strip())
    assert log.name == "env-runner.log"
    assert "no-such-folder-here" in log.read_text()
    assert not environments.is_complete("runner")


def test_two_at_once_make_one(pins: Path) -> None:
    outcomes: list[int] = []
    threads = [threading.Thread(target=lambda: outcomes.append(_make_quietly())) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert outcomes == [0, 0]
    assert environments.is_complete("runner")


def _make_quietly() -> int:
    environments.Maker().make(["runner"])
    return 0


def test_ctrl_c_ends_pip_and_leaves_no_stamp(tmp_path: Path) -> None:
    """Interrupted while the virtual environment is being made; the real requirements are never reached."""
    process = subprocess.Popen(
        [sys.executable, "-m", "leaderboard_site.embedded.environments", "runner"],
        cwd=REPOSITORY,
        env=os.environ
        | {"LEADERSBOARD_VAR": str(tmp_path / "var"), "LEADERSBOARD_ENVIRONMENTS": str(tmp_path / "env")},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    folder = tmp_path / "env" / "runner"
    assert wait_for((folder / "pyvenv.cfg").exists)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "Interrupted" in error
    assert not (folder / environments.STAMP).exists()
    assert wait_for(lambda: not [line for line in command_lines() if str(folder) in line], seconds=3)


def command_lines() -> list[str]:
    lines = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            lines.append(path.read_bytes().replace(b"\0", b" ").decode(errors="replace"))
        except OSError:
            continue
    return lines


def test_a_folder_that_cannot_be_written_is_refused_with_what_to_do(
    pins: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # Stands for somebody else's file: permissions hold nothing back from root, who runs this in a container.
    (environments.environments_folder() / "runner.lock").mkdir(parents=True)
    assert environments.main(["runner"]) == 1
    told = capsys.readouterr()
    assert "runner.lock cannot be written (" in told.out + told.err
    assert "Let LEADERSBOARD_ENVIRONMENTS name a folder that belongs to you" in told.out + told.err
