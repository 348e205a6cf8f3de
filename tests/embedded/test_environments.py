"""Environments are made once, made again when half made, and say why when they cannot be made."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from leaderboard_site.embedded import environments, locations
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
    (half / environments.HALF_MADE).touch()
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


@pytest.fixture
def outdated(pins: Path) -> Path:
    """Make an environment in the named folder that is complete for other requirements and has content."""
    assert environments.main(["runner"]) == 0
    pins.write_text("# other requirements\n")
    place = environments.folder("runner")
    (place / "precious").write_text("x")
    return place


def refused(place: Path, capsys: pytest.CaptureFixture[str], reason: str) -> None:
    before = sorted(path.name for path in place.iterdir())
    capsys.readouterr()
    assert environments.main(["runner"]) == 1
    told = capsys.readouterr().err
    assert reason in told
    assert f"rm -r {place}" in told
    assert "LEADERSBOARD_ENVIRONMENTS" in told
    assert sorted(path.name for path in place.iterdir()) == before


@pytest.mark.parametrize("is_stamped", [True, False], ids=["stale", "half-made"])
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder to another user")
def test_what_another_user_made_is_left_alone(
    outdated: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, is_stamped: bool
) -> None:
    if not is_stamped:
        (outdated / environments.STAMP).unlink()
    os.chown(outdated, 65534, 65534)
    refused(outdated, capsys, "was made by user 65534, and this is user 0")
    # The repository's own folder is no different.
    monkeypatch.setattr(environments, "environments_folder", lambda: outdated.parent)
    monkeypatch.delenv("LEADERSBOARD_ENVIRONMENTS")
    refused(outdated, capsys, "was made by user 65534, and this is user 0")


@pytest.mark.parametrize("is_stamped", [True, False], ids=["stale", "half-made"])
def test_what_another_python_made_is_left_alone_in_a_named_folder(
    outdated: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], is_stamped: bool
) -> None:
    other = tmp_path / "python3.99"
    other.write_text("")
    (outdated / "bin" / "python").unlink()
    (outdated / "bin" / "python").symlink_to(other)
    stamp = outdated / environments.STAMP
    stamp.write_text(stamp.read_text().replace(" python3.", " python3.99."))
    if not is_stamped:
        stamp.rename(outdated / environments.HALF_MADE)
    refused(outdated, capsys, f"was made by another Python, {other}")
    # Its Python is gone: nothing can run on it any more.
    other.unlink()
    assert environments.main(["runner"]) == 0
    assert environments.is_complete("runner") and not (outdated / "precious").exists()


def test_what_another_python_made_is_made_again_below_the_repository(
    outdated: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "python3.99").write_text("")
    (outdated / "bin" / "python").unlink()
    (outdated / "bin" / "python").symlink_to(tmp_path / "python3.99")
    monkeypatch.setattr(environments, "environments_folder", lambda: outdated.parent)
    monkeypatch.delenv("LEADERSBOARD_ENVIRONMENTS")
    assert environments.main(["runner"]) == 0
    assert environments.is_complete("runner") and not (outdated / "precious").exists()


def test_a_folder_that_was_never_an_environment_of_a_site_is_left_alone(
    pins: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = environments.folder("runner")
    place.mkdir(parents=True)
    (place / "thesis.txt").write_text("x")
    refused(place, capsys, "was not made by LeadersBoard")


@pytest.mark.parametrize("what", ["runner", "runner.lock"])
def test_no_link_leads_out(outdated: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], what: str) -> None:
    elsewhere = tmp_path / "elsewhere"
    path = outdated.parent / what
    if what == "runner":
        outdated.rename(elsewhere)
    else:
        elsewhere.write_text("precious")
        path.unlink()
    path.symlink_to(elsewhere)
    assert environments.main(["runner"]) == 1
    told = capsys.readouterr().err
    assert ("is a link" if what == "runner" else "runner.lock cannot be written") in told
    assert (elsewhere / "precious" if what == "runner" else elsewhere).read_text()


def test_other_accounts_can_run_submissions_on_an_environment(pins: Path) -> None:
    """It must hold under any umask, because a worker that is root steps down for a run."""
    before = os.umask(0o077)
    try:
        assert environments.main(["runner"]) == 0
    finally:
        os.umask(before)
    for path in environments.folder("runner").rglob("*"):
        if not path.is_symlink():
            assert path.stat().st_mode & 0o044 == 0o044, path


def test_a_folder_that_cannot_be_written_is_refused_with_what_to_do(
    pins: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # Stands for somebody else's file: permissions hold nothing back from root, who runs this in a container.
    (environments.environments_folder() / "runner.lock").mkdir(parents=True)
    assert environments.main(["runner"]) == 1
    told = capsys.readouterr()
    assert "runner.lock cannot be written (" in told.out + told.err
    assert "Let LEADERSBOARD_ENVIRONMENTS name a folder that belongs to you" in told.out + told.err


@pytest.mark.parametrize(
    ("marks", "chosen"),
    [
        ([".complete"], "worker-cpu"),
        ([], "runner"),
        ([".half-made"], "runner"),
        ([".complete", ".half-made"], "runner"),
    ],
)
def test_submissions_run_on_a_complete_environment_alone(pins: Path, marks: list[str], chosen: str) -> None:
    for name, marked in (("runner", [".complete"]), ("worker-cpu", marks)):
        python = environments.python(name)
        python.parent.mkdir(parents=True)
        python.symlink_to(sys.executable)
        for mark in marked:
            (environments.folder(name) / mark).touch()
    assert locations.runner_python() == environments.python(chosen)
    unfinished = [] if chosen == "worker-cpu" else [environments.folder("worker-cpu")]
    assert locations.unfinished_environments() == unfinished
