"""The whole site in the foreground: what is started again, in which order it ends, and what is said."""

from __future__ import annotations

import io
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from leaderboard_site.embedded import run
from leaderboard_site.embedded.locations import REPOSITORY, Locations
from leaderboard_site.embedded.processes import Part, PartError, processes_of
from leaderboard_site.embedded.progress import Progress
from leaderboard_site.embedded.stack import Stack, StopAsked

from .conftest import wait_for

STUBBORN = """
import signal, sys, time
signals = []
signal.signal(signal.SIGTERM, lambda *_: signals.append(1))
print("up", flush=True)
while len(signals) < 2:
    time.sleep(0.02)
print("second", flush=True)
"""


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Stack]:
    stack = Stack(Locations(tmp_path / "var"), Progress(io.StringIO()))
    stack.claim(web_port=None)
    yield stack
    stack.stop([])
    assert processes_of(stack.locations) == {}


def said(stack: Stack) -> str:
    assert isinstance(stack.progress.stream, io.StringIO)
    return stack.progress.stream.getvalue()


def python_part(stack: Stack, name: str, code: str, **options: str) -> Part:
    return Part(name=name, title=name, command=[sys.executable, "-c", code], locations=stack.locations, **options)  # type: ignore[arg-type]


def look_until(stack: Stack, condition: Callable[[], bool], seconds: float = 10) -> bool:
    """What `serve` does, with an end."""

    def look() -> bool:
        for kept in stack._kept:
            stack._look_after(kept)
        return condition()

    return wait_for(look, seconds=seconds)


def test_a_crashed_part_is_started_again_and_named(stack: Stack) -> None:
    part = python_part(stack, "worker", "import time; time.sleep(60)")
    stack.start(part, part.spawn)
    first = part.pid
    assert wait_for(lambda: len(processes_of(stack.locations)) == 2)
    (child,) = [pid for pid in processes_of(stack.locations) if pid != first]
    os.kill(child, signal.SIGKILL)
    assert look_until(stack, lambda: part.pid != first and part.is_running())
    assert "worker ended with exit code 137; starting it again in 1 s" in said(stack)
    assert str(part.log) in said(stack)
    assert "worker is up again." in said(stack)


def test_a_part_whose_guard_was_killed_does_not_run_twice(stack: Stack) -> None:
    part = python_part(stack, "worker", "import time; time.sleep(60)")
    stack.start(part, part.spawn)
    assert wait_for(lambda: len(processes_of(stack.locations)) == 2)
    first = part.pid
    assert first is not None
    os.kill(first, signal.SIGKILL)
    assert look_until(stack, lambda: part.pid != first and part.is_running())
    assert wait_for(lambda: len(processes_of(stack.locations)) == 2)


def test_grandchildren_end_with_their_part(stack: Stack) -> None:
    code = "import subprocess, sys; subprocess.Popen(['sleep', '60'], start_new_session=True)"
    part = python_part(stack, "worker", code)
    part.run_to_its_end(seconds=20)
    assert processes_of(stack.locations) == {}


def test_a_stubborn_part_is_asked_twice_then_killed(stack: Stack) -> None:
    twice = python_part(stack, "worker", STUBBORN, stop_plan="TERM:0.5,TERM:5")
    never = python_part(
        stack, "web", STUBBORN.replace("while len(signals) < 2", "while True"), stop_plan="TERM:0.3,TERM:0.3"
    )
    for part in (twice, never):
        stack.start(part, part.spawn)
        assert wait_for(lambda part=part: "\nup" in part.log.read_text())  # type: ignore[misc]
    stack.stop([("web", "worker")])
    assert twice.exit_code == 0
    assert "second" in twice.log.read_text()
    assert never.exit_code == 128 + signal.SIGKILL


def test_parts_end_in_the_given_order(stack: Stack) -> None:
    for name in ("postgres", "worker"):
        part = python_part(stack, name, "import time; time.sleep(60)")
        stack.start(part, part.spawn)
    stack.stop([("worker",), ("postgres",)])
    lines = [line.split()[0] for line in said(stack).splitlines() if "stopped" in line]
    assert lines == ["worker", "postgres"]


def test_a_failed_part_is_named_with_its_last_words_and_its_log(stack: Stack) -> None:
    part = python_part(stack, "migrate", "import sys; sys.exit('the disk is full')")
    with pytest.raises(PartError) as failure:
        part.run_to_its_end(seconds=20)
    assert "migrate ended with exit code 1" in str(failure.value)
    assert "the disk is full" in str(failure.value)
    assert str(part.log) in str(failure.value)


def test_only_the_first_signal_counts(stack: Stack) -> None:
    with pytest.raises(StopAsked):
        stack._on_signal()
    stack._on_signal()


def test_a_busy_port_is_said_before_anything_starts(tmp_path: Path) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        answer = subprocess.run(
            [sys.executable, "-m", "leaderboard_site.embedded.run", "--port", str(port)],
            cwd=REPOSITORY,
            env=os.environ | {"LEADERSBOARD_VAR": str(tmp_path / "var")},
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
    assert answer.returncode == 1
    assert f"Port {port} is in use by another program. Choose another one: make run PORT={port + 1}" in answer.stdout
    assert not (tmp_path / "var" / "postgres").exists()


def test_collected_static_files_do_not_count_as_their_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Or they would be collected anew at every start."""
    for name in ("requirements/local.txt", "static/site.css", "jobs/static/jobs.css", "var/static/site.123.css"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")
    monkeypatch.setattr(run, "REPOSITORY", tmp_path)
    before = run.static_fingerprint()
    (tmp_path / "var/static/site.456.css").write_text("y")
    assert run.static_fingerprint() == before
    (tmp_path / "jobs/static/jobs.css").write_text("changed")
    assert run.static_fingerprint() != before


def test_a_command_by_hand_names_the_port_that_the_site_was_given(tmp_path: Path) -> None:
    ask = [
        sys.executable,
        "manage.py",
        "shell",
        "-v",
        "0",
        "-c",
        "from django.conf import settings; print(settings.SITE_URL)",
    ]
    told = {name: value for name, value in os.environ.items() if name not in ("SITE_URL", "DATABASE_URL")}
    for port, expected in ((None, "8010"), (18110, "18110")):
        Locations(tmp_path).write_state(web_port=port)
        answer = subprocess.run(
            ask,
            cwd=REPOSITORY,
            env=told | {"LEADERSBOARD_VAR": str(tmp_path)},
            capture_output=True,
            text=True,
            check=True,
        )
        assert answer.stdout.strip() == f"http://127.0.0.1:{expected}"
