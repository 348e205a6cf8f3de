"""The worker's end of the pipe to a supervisor."""

import contextlib
import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

from . import cgroup, engine, janitor, linux
from .bubblewrap import find_bwrap
from .spec import Result, RunSpec

_SUPERVISOR = Path(__file__).with_name("supervisor.py")
_CLOSE_SECONDS = 15.0

Event = Mapping[str, Any]


class Supervisor:
    """A supervisor process: start it early, give it one spec, poll it until `result` is there, close it.

    Start it from the main thread: a sandbox dies with the thread that started its supervisor's parent chain, and threads end.
    """

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process
        self._rest = b""
        self._started_ticks = linux.process_started(process.pid)
        self.spec: RunSpec | None = None
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
            env={"PATH": os.environ.get("PATH", os.defpath), "LANG": "C.UTF-8"},
        )
        return cls(process)

    @property
    def pid(self) -> int:
        return self._process.pid

    def fileno(self) -> int:
        """For select: readable when `poll` has something."""
        assert self._process.stdout is not None
        return self._process.stdout.fileno()

    def run(self, spec: RunSpec) -> None:
        """Hand over the run. Without a `bwrap` in the spec, the one that this environment has is taken."""
        spec.check()
        if spec.executor == "bubblewrap" and not spec.bwrap:
            spec = replace(spec, bwrap=find_bwrap())
        self.spec = spec
        janitor.mark_as_ours(Path(spec.run_dir))
        self._send(spec.to_json())

    def extend(self, seconds: float) -> None:
        """The job is still ours: the run may go on for `seconds` from now without another word."""
        self._send(json.dumps({"command": "extend", "seconds": seconds}))

    def kill(self, reason: str = "cancelled") -> None:
        self._send(json.dumps({"command": "kill", "reason": reason}))

    def poll(self, timeout: float = 0.0) -> list[Event]:
        """Events that came within `timeout` seconds; the last one of a run is "ended", also when the supervisor died."""
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
        try:
            self._process.wait(_CLOSE_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self.result is None or self.result.detail == _DIED:
            self._sweep()

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
