"""The worker's end of the pipe to a supervisor."""

import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import IO, Any, Self

from . import cgroup, engine, janitor, linux
from .bubblewrap import find_bwrap
from .spec import Result, RunSpec

_SUPERVISOR = Path(__file__).with_name("supervisor.py")
_CLOSE_SECONDS = 15.0
# A nursery answers within milliseconds of its start; one that does not is done without.
_ANSWER_SECONDS = 20.0

Event = Mapping[str, Any]


class Supervisor:
    """A supervisor process: start it early, give it one spec, poll it until `result` is there, close it.

    Start it from the main thread: a sandbox dies with the thread that started its supervisor's parent chain, and threads end.
    """

    def __init__(self, process: "subprocess.Popen[bytes] | Fork") -> None:
        self._process = process
        self._rest = b""
        self._started_ticks = linux.process_started(process.pid)
        self.spec: RunSpec | None = None
        self._is_staged = False
        self.result: Result | None = None

    @classmethod
    def start(cls, python: str = sys.executable, script: Path = _SUPERVISOR) -> Self:
        """A supervisor that waits for its spec. It gets no variable of the worker's environment.

        `script` is for tests that need a weakened one.
        """
        process = subprocess.Popen(
            [python, "-I", "-S", str(script)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
            close_fds=True,
            start_new_session=True,
            cwd="/",
            env=_environment(),
        )
        return cls(process)

    @property
    def pid(self) -> int:
        return self._process.pid

    def fileno(self) -> int:
        """For select: readable when `poll` has something."""
        assert self._process.stdout is not None
        return self._process.stdout.fileno()

    def stage(self, spec: RunSpec) -> None:
        """Make the sandbox for a run like this one, whose files will be there when `run` is called. bubblewrap only."""
        self._hand_over(spec, "stage ")
        self._is_staged = True

    def run(self, spec: RunSpec) -> None:
        """Hand over the run. Without a `bwrap` in the spec, the one that this environment has is taken."""
        self._hand_over(spec, "start " if self._is_staged else "")

    def has_staged(self, spec: RunSpec) -> bool:
        """Whether a sandbox stands that fits the run."""
        self.poll()
        fits = self.spec is not None and _complete(spec).fits_stage_of(self.spec)
        return self._is_staged and fits and self.result is None

    def _hand_over(self, spec: RunSpec, word: str) -> None:
        spec.check()
        spec = _complete(spec)
        if self.spec is None:
            janitor.mark_as_ours(Path(spec.run_dir))
        self.spec = spec
        self._send(word + spec.to_json())

    def extend(self, seconds: float) -> None:
        """The job is still ours: the run may go on for `seconds` from now without another word."""
        self._send(json.dumps({"command": "extend", "seconds": seconds}))

    def kill(self, reason: str = "cancelled") -> None:
        self._send(json.dumps({"command": "kill", "reason": reason}))

    def poll(self, timeout: float = 0.0) -> list[Event]:
        """Events that came within `timeout` seconds: "ending" when the program is over, and at last "ended", also when the
        supervisor died."""
        if self.result is not None:
            return []
        readable, _, _ = select.select([self], [], [], timeout)
        if not readable:
            return []
        chunk = os.read(self.fileno(), 1 << 20)
        if not chunk:
            return [self._died()]
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        events = [json.loads(line) for line in lines]
        for event in events:
            if event["event"] == "ended":
                self.result = Result.from_event(event)
        return events

    def wait(self, timeout: float) -> Result | None:
        """Poll until the end of the run; None when it has not ended within `timeout` seconds."""
        deadline = time.monotonic() + timeout
        while self.result is None and time.monotonic() < deadline:
            self.poll(max(0.0, deadline - time.monotonic()))
        return self.result

    def close(self) -> None:
        """End the supervisor and with it the run, if it is still there."""
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()
        # One of the nursery's that has told the end has nothing more to do but to go, and the nursery waits for it.
        if self.result is None or self.result.detail == _DIED or not isinstance(self._process, Fork):
            self._wait_or_kill()
        if isinstance(self._process, Fork):
            self._process.close()
        if self.result is None or self.result.detail == _DIED:
            self._sweep()

    def _wait_or_kill(self) -> None:
        if isinstance(self._process, subprocess.Popen) and self._process.returncode is None:
            # subprocess would look again and again; this is told.
            with contextlib.suppress(OSError), linux.opened(os.pidfd_open(self.pid)) as descriptor:
                select.select([descriptor], [], [], _CLOSE_SECONDS)
        try:
            self._process.wait(_CLOSE_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _send(self, line: str) -> None:
        assert self._process.stdin is not None
        # A dead supervisor is told by `poll`, as the end of the run.
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(line.encode() + b"\n")

    def _died(self) -> Event:
        self._process.wait()
        self.result = Result("sandbox_error", detail=_DIED)
        self._sweep()
        return self.result.to_event()

    def _sweep(self) -> None:
        """Container, mounts and groups of a supervisor that could not remove them itself."""
        cgroup.remove_of(self.pid, self._started_ticks)
        if self.spec is not None and self.spec.container is not None:
            name = cgroup.run_name(self.spec.run_id, self.pid, self._started_ticks)
            is_gone = engine.remove(self.spec.container, name)
            linux.unmount_below(self.spec.run_dir)
            cgroup.remove_of(self.pid, self._started_ticks)
            if self.result is not None:
                self.result.leftovers = not is_gone


_DIED = "supervisor died"


def _complete(spec: RunSpec) -> RunSpec:
    if spec.executor == "bubblewrap" and not spec.bwrap:
        return replace(spec, bwrap=find_bwrap())
    return spec


class Fork:
    """A supervisor that the nursery forked: what `Supervisor` needs of a process that is not its own child."""

    def __init__(self, pid: int, descriptor: int, commands: int, events: int) -> None:
        self.pid, self._descriptor = pid, descriptor
        self.stdin: IO[bytes] | None = os.fdopen(commands, "wb", buffering=0)
        self.stdout: IO[bytes] | None = os.fdopen(events, "rb", buffering=0)

    def wait(self, timeout: float | None = None) -> None:
        if not select.select([self._descriptor], [], [], timeout)[0]:
            raise subprocess.TimeoutExpired("supervisor", timeout or 0)

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._descriptor, signal.SIGKILL)

    def close(self) -> None:
        os.close(self._descriptor)


class Nursery:
    """The worker's end of the process that forks its supervisors (nursery.py); it is started when one is first asked for."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._requests: socket.socket | None = None

    def supervisor(self) -> Supervisor:
        """A supervisor that waits for its spec; a process of its own where the nursery does not answer."""
        for _ in range(2):
            try:
                return Supervisor(self._fork())
            except (OSError, ValueError, IndexError):
                self.close()
        return Supervisor.start()

    def _fork(self) -> Fork:
        if self._requests is None:
            self._start()
        assert self._requests is not None
        commands, commands_writer = os.pipe()
        events_reader, events = os.pipe()
        try:
            socket.send_fds(self._requests, [b"fork"], [commands, events])
            answer, descriptors, _, _ = socket.recv_fds(self._requests, 64, 1)
            return Fork(int(answer), descriptors[0], commands_writer, events_reader)
        except (OSError, ValueError, IndexError):
            os.close(commands_writer)
            os.close(events_reader)
            raise
        finally:
            os.close(commands)
            os.close(events)

    def _start(self) -> None:
        self._requests, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._requests.settimeout(_ANSWER_SECONDS)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", str(_SUPERVISOR.with_name("nursery.py"))],
                stdin=theirs.fileno(), stdout=subprocess.DEVNULL, start_new_session=True, cwd="/", env=_environment(),
            )  # fmt: skip

    def close(self) -> None:
        """End the nursery; its supervisors stay until their own pipes close."""
        if self._requests is not None:
            self._requests.close()
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        self._requests = self._process = None


def _environment() -> dict[str, str]:
    return {"PATH": os.environ.get("PATH", os.defpath), "LANG": "C.UTF-8"}
