"""One part as a process under its guard, and the search for what a killed start left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from leaderboard_site.embedded.locations import REPOSITORY, Locations

GUARD = Path(__file__).with_name("guard.py")
PART_VARIABLE = "LEADERSBOARD_PART"
LONGEST_LOG_BYTES = 20_000_000


class PartError(RuntimeError):
    """A part did not start or did not answer. The message names it, says why and where its log is."""


class Part:
    """A command that runs under a guard, with a log of its own and an orderly end."""

    def __init__(
        self,
        *,
        name: str,
        title: str,
        command: Sequence[str],
        locations: Locations,
        environment: Mapping[str, str] | None = None,
        stop_plan: str = "TERM:8",
        death_signal: str = "TERM",
        not_as_root: bool = False,
        folder: Path = REPOSITORY,
        output_shown: bool = False,
    ) -> None:
        self.name = name
        self.title = title
        self.command = list(command)
        self.locations = locations
        self.environment = dict(environment or {})
        self.stop_plan = stop_plan
        self.death_signal = death_signal
        self.not_as_root = not_as_root
        self.folder = folder
        self.output_shown = output_shown
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> Path:
        return self.locations.log(self.name)

    def spawn(self) -> None:
        self.log.parent.mkdir(parents=True, exist_ok=True)
        if self.log.exists() and self.log.stat().st_size > LONGEST_LOG_BYTES:
            self.log.replace(self.log.with_suffix(".log.1"))
        environment = os.environ | self.environment
        environment[PART_VARIABLE] = f"{self.locations.marker}:{self.name}"
        guard = [
            sys.executable,
            "-I",
            "-S",
            str(GUARD),
            self.name,
            str(os.getpid()),
            self.stop_plan,
        ]
        guard += [self.death_signal, str(int(self.not_as_root)), "--", *self.command]
        with self.log.open("ab") as log:
            log.write(f"--- {time.strftime('%Y-%m-%d %H:%M:%S')} {self.title} starts\n".encode())
            log.flush()
            # A session of its own: Ctrl-C in the terminal reaches us, and we stop the parts in their order.
            self.process = subprocess.Popen(
                guard, stdin=subprocess.DEVNULL, stdout=None if self.output_shown else log,
                stderr=None if self.output_shown else log, env=environment,
                cwd=self.folder, start_new_session=True,
            )  # fmt: skip

    @property
    def pid(self) -> int | None:
        return self.process.pid if self.process else None

    def is_running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    @property
    def exit_code(self) -> int | None:
        return self.process.poll() if self.process else None

    def wait_until(self, answers: Callable[[], bool], *, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        pause = 0.01
        while not answers():
            if not self.is_running():
                raise PartError(self.why(f"ended with exit code {self.exit_code}"))
            if time.monotonic() > deadline:
                self.stop()
                raise PartError(self.why(f"did not answer within {seconds:.0f} s"))
            time.sleep(pause)
            pause = min(pause * 1.5, 0.2)

    def run_to_its_end(self, *, seconds: float) -> None:
        """For a part that does one thing and ends; raises unless it ended well."""
        self.spawn()
        assert self.process is not None
        try:
            code = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.stop()
            raise PartError(self.why(f"did not finish within {seconds:.0f} s")) from None
        if code != 0:
            raise PartError(self.why(f"ended with exit code {code}"))

    def why(self, problem: str) -> str:
        if self.output_shown:
            return f"{self.title} {problem}."
        lines = "".join(f"\n    {line}" for line in last_lines(self.log))
        return f"{self.title} {problem}. Its log: {self.log}{lines}"

    def ask_to_stop(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()

    def stop(self, *, seconds: float = 25.0) -> None:
        if self.process is None:
            return
        self.ask_to_stop()
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        # Only when the guard itself was killed is there anything left to find.
        if self.process.returncode == -signal.SIGKILL:
            end_leftovers(self.locations, part=self.name)


def last_lines(log: Path, count: int = 8) -> list[str]:
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - 8192))
            lines = file.read().decode(errors="replace").splitlines()
    except OSError:
        return []
    starts = [number for number, line in enumerate(lines) if line.startswith("--- ") and line.endswith(" starts")]
    lines = lines[starts[-1] + 1 :] if starts else lines
    return [line for line in lines if line.strip()][-count:]


def start_time(pid: int) -> int | None:
    """When the process started, in clock ticks since the boot: with the pid it names one process for good."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
    except (OSError, IndexError, ValueError):
        return None


def is_zombie(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except (OSError, IndexError):
        return True


def processes_of(locations: Locations, part: str | None = None) -> dict[int, int]:
    """{pid: start time} of every living process started for this VAR folder, by the mark in its environment."""
    mark = f"{PART_VARIABLE}={locations.marker}:{part or ''}".encode()
    found = {}
    for entry in os.listdir("/proc"):
        if not entry.isdigit() or int(entry) == os.getpid():
            continue
        try:
            variables = Path(f"/proc/{entry}/environ").read_bytes().split(b"\0")
        except OSError:
            continue
        if any(v == mark if part else v.startswith(mark) for v in variables) and not is_zombie(int(entry)):
            ticks = start_time(int(entry))
            if ticks is not None:
                found[int(entry)] = ticks
    return found


def end_leftovers(locations: Locations, part: str | None = None, *, seconds: float = 10.0) -> int:
    """End what an earlier start of this folder left running; returns how many processes that were.

    A pid file is not believed: only a living process that carries our mark is signalled, and only while its start
    time is still the one seen. The caller holds the folder's lock, so nobody rightful is running.
    """
    first = found = processes_of(locations, part)
    number, deadline = signal.SIGTERM, time.monotonic() + seconds
    # SIGTERM makes PostgreSQL wait for its clients; SIGINT, its fast shutdown, leaves the other parts' guards unmoved.
    while found:
        for pid, ticks in found.items():
            if start_time(pid) == ticks:
                try:
                    os.kill(pid, _polite_signal(pid) if number == signal.SIGTERM else number)
                except (ProcessLookupError, PermissionError):
                    pass
        time.sleep(0.2)
        if time.monotonic() > deadline:
            number = signal.SIGKILL
        if time.monotonic() > deadline + 5:
            raise PartError(f"Processes of an earlier start do not end: {', '.join(map(str, found))}")
        found = processes_of(locations, part)
    return len(first)


def _polite_signal(pid: int) -> int:
    try:
        name = Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return signal.SIGTERM
    return signal.SIGINT if name == "postgres" else signal.SIGTERM
