"""One process per run: starts it, watches it, ends it, and only then reads what it left.

    python -I -S supervisor.py      spec and commands as JSON lines on stdin, events as JSON lines on stdout

It is started before it is needed (nothing of Django is imported), as a process or as a fork of the nursery, and can be told to
stage the run ahead: then its sandbox stands, empty, and waits for the word before it becomes the program. It knows nothing of jobs: the worker extends its deadman
while the job is still the worker's, and a supervisor that hears nothing kills the run by itself. Closing stdin has the same
effect. The run cannot outlive it: the sandbox dies with its parent, and mounts die with the mount namespace.
"""

import contextlib
import json
import os
import select
import signal
import sys
from pathlib import Path
from typing import Any

if __package__ in (None, ""):
    # Run as a file, isolated: the package is found from here, behind the standard library.
    sys.path.append(str(Path(__file__).resolve().parents[2]))

from core.sizes import human_bytes
from jobs.execution import (
    bubblewrap,
    cgroup,
    collect,
    container,
    launch,
    limit_table,
    linux,
    local,
    seccomp,
    watchdog,
)
from jobs.execution.exit_sentence import exit_sentence
from jobs.execution.failure_reason import last_words
from jobs.execution.logfile import LogFile
from jobs.execution.outputs import Outputs
from jobs.execution.spec import BadSpec, Limits, Result, RunSpec
from jobs.execution.told import Told as _

_PREPARE = {"bubblewrap": bubblewrap.prepare, "container": container.prepare, "unsafe-local": local.prepare}
# Before a spec: make the sandbox for one like it, and wait; before the spec itself, when the run's files are there.
STAGE, START = b"stage ", b"start "
_TICK_SECONDS = 0.2
_READ_BYTES = 64 * 1024


class Commands:
    """JSON lines on stdin, read without ever waiting for one."""

    def __init__(self) -> None:
        self._rest = b""
        self.closed = False

    def fileno(self) -> int:
        return 0

    def read(self) -> list[dict[str, Any]]:
        chunk = os.read(0, _READ_BYTES)
        self.closed = not chunk
        self._rest += chunk
        return self.waiting()

    def waiting(self) -> list[dict[str, Any]]:
        """What came along with an earlier line."""
        *lines, self._rest = self._rest.split(b"\n")
        commands = []
        for line in lines:
            with contextlib.suppress(ValueError):
                commands.append(json.loads(line))
        return [command for command in commands if isinstance(command, dict)]

    def line(self, meanwhile: int | None = None) -> bytes | None:
        """The next line; None when the worker closed the pipe without one. SandboxError when the process of the descriptor
        `meanwhile` ends before it comes."""
        poll = select.poll()
        poll.register(0, select.POLLIN)
        if meanwhile is not None:
            poll.register(meanwhile, select.POLLIN)
        while b"\n" not in self._rest:
            if any(descriptor == meanwhile for descriptor, _ in poll.poll()):
                raise launch.SandboxError("the sandbox that was made ahead has ended")
            chunk = os.read(0, _READ_BYTES)
            if not chunk:
                return None
            self._rest += chunk
        line, _, self._rest = self._rest.partition(b"\n")
        return line


class Run:
    """The state of the one run of this process."""

    def __init__(self, spec: RunSpec, commands: Commands) -> None:
        self.spec = spec
        self.commands = commands
        self.folder = os.open(spec.run_dir, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self.log = LogFile(self.folder, spec.limits.log_kept_bytes)
        self.group = cgroup.Group()
        self.prepared = launch.Prepared("", [], {}, -1, {})
        self.started = linux.now()
        self.fence = self.started + spec.fence_seconds if spec.fence_seconds else None
        self.first_output: float | None = None
        self.peak_seen = 0
        self.reason = ""
        self.detail = ""
        self.statuses: dict[int, int] = {}
        self.applied: dict[str, str] = {}
        self.pid = -1

    def end(self, reason: str, detail: str = "") -> None:
        """The first reason stands."""
        if not self.reason:
            self.reason, self.detail = reason, detail

    def make(self, *, is_gated: bool = False) -> None:
        """Start the run; with `is_gated` everything but its program, which waits for `begin`."""
        limits = self.spec.limits
        make_group = cgroup.create_parent if self.spec.executor == "container" else cgroup.create
        self.group = make_group(self.spec.run_id, limits)
        if is_gated:
            self.prepared = bubblewrap.prepare(self.spec, self.group, is_gated=True)
        else:
            self.prepared = _PREPARE[self.spec.executor](self.spec, self.group)
        self.applied = {**self.prepared.applied, **limit_table.applied(limits, self.group)}
        self.outputs = Outputs()
        self.started = linux.now()
        try:
            self.pid = launch.start(self.prepared, limits, self.group, self.outputs.writers)
        finally:
            self.outputs.close_writers()

    def wait_for_start(self) -> bool:
        """Hold the staged run until its files are there; False when it is not needed any more."""
        pidfd = os.pidfd_open(self.pid)
        line = self.commands.line(meanwhile=pidfd)
        os.close(pidfd)
        if line is None:
            return False
        spec = RunSpec.from_json(line.removeprefix(START))
        if not spec.fits_stage_of(self.spec):
            raise BadSpec("the run is not like the one that was staged")
        self.spec = spec
        # Only now does anything count: nothing of the run's was there to use it up.
        self.started = linux.now()
        self.fence = self.started + spec.fence_seconds if spec.fence_seconds else None
        self.prepared.open_gate()
        return True

    def execute(self) -> Result:
        """Follow what was made to its end."""
        self._follow(self.commands.waiting())
        self._watch(self.pid, self.prepared)
        # The worker can look up what it needs for the end, while the rest is killed and collected.
        emit({"event": "ending"})
        result = self._conclude(self.pid, self.prepared)
        result.isolation, result.limits_applied = self.prepared.isolation, self.applied
        return result

    def dismantle(self) -> None:
        """Everything away, whatever state it is in."""
        launch.kill_everything(self.prepared, self.group, {})
        self.prepared.close()
        self.group.remove()

    def _watch(self, pid: int, prepared: launch.Prepared) -> None:
        """Until the run ends by itself or has a reason to be ended."""
        pidfd = os.pidfd_open(pid)
        poll = select.epoll()
        for descriptor in (0, pidfd):
            poll.register(descriptor, select.EPOLLIN)
        self.outputs.register(poll)
        next_look = 0.0
        while not self.reason:
            # In the order in which they became ready, which is the order of the two outputs in the log.
            ready = [descriptor for descriptor, _ in poll.poll(self._pause())]
            # First of all: after a stop of this process or of the machine, commands that waited in the pipe count no more.
            self._check_clocks()
            if self.reason:
                return
            if 0 in ready:
                self._obey()
            for descriptor in ready:
                if descriptor in self.outputs.streams:
                    self._read_output(descriptor, poll)
            if linux.now() >= next_look:
                self._look(prepared)
                next_look = linux.now() + _TICK_SECONDS
            if pidfd in ready:
                return

    def _pause(self) -> float:
        deadlines = [self.started + self.spec.limits.wall_seconds, *([self.fence] if self.fence else [])]
        return max(0.0, min(_TICK_SECONDS, min(deadlines) - linux.now())) + 0.001

    def _check_clocks(self) -> None:
        now = linux.now()
        if self.fence is not None and now > self.fence:
            self.end("fenced", "the worker could not show in time that the job was still its own")
        limit = self.spec.limits.wall_seconds
        if now - self.started > limit:
            used = _("%(used)d of %(limit)d seconds of wall time", used=round(now - self.started), limit=round(limit))
            self.end("timeout", used)

    def _obey(self) -> None:
        self._follow(self.commands.read())
        if self.commands.closed:
            self.end("worker_lost", "the worker went away")

    def _follow(self, commands: list[dict[str, Any]]) -> None:
        for command in commands:
            if command.get("command") == "extend":
                self.fence = linux.now() + float(command["seconds"])
            elif command.get("command") == "kill":
                self.end("released" if command.get("reason") == "released" else "cancelled")

    def _read_output(self, reader: int, poll: select.epoll | None = None) -> bool:
        """Take what is there; False when there is nothing."""
        chunk = self.outputs.read(reader, poll)
        if not chunk:
            return False
        if self.first_output is None:
            self.first_output = linux.now() - self.started
        self.log.add(chunk, self.outputs.streams[reader])
        limit = self.spec.limits.log_kill_bytes
        if self.log.counted > limit:
            self.end("log_limit", _("more than %(limit)s of output on stdout and stderr", limit=human_bytes(limit)))
        return True

    def _look(self, prepared: launch.Prepared) -> None:
        """What no descriptor tells: memory, CPU and disk."""
        limits = self.spec.limits
        self.log.show_unfinished()
        # Files that were unlinked but held open fill a folder too, and are gone at the end.
        if prepared.volumes:
            prepared.volumes.look(self.end)
        if self.group.held("memory"):
            if self.group.oom_kills():
                self.end("out_of_memory")
        else:
            used = watchdog.memory_in_use(prepared.volumes.in_memory if prepared.volumes else {}, limits.memory_bytes)
            self.peak_seen = max(self.peak_seen, used)
            if used > limits.memory_bytes:
                self.end("out_of_memory")
        used_cpu = self.group.cpu_seconds()
        used_cpu = watchdog.cpu_seconds() if used_cpu is None else used_cpu
        if used_cpu > limits.cpu_seconds:
            self.end("cpu_limit", _cpu_sentence(used_cpu, limits))

    def _conclude(self, pid: int, prepared: launch.Prepared) -> Result:
        """Kill what is left, then find out why it ended, then read what it left: in this order."""
        wall = linux.now() - self.started
        clean = launch.kill_everything(prepared, self.group, self.statuses)
        # All writers are dead, so this ends; were one left, an empty pipe would end it too.
        for reader in self.outputs.streams:
            while self._read_output(reader):
                pass
        self.log.finish()
        self._check_clocks_at_end()
        result = self._measured(prepared)
        result.wall_seconds, result.leftovers = wall, not clean
        self._name_the_end(pid, prepared, result)
        result.reason, result.detail = self.reason, self.detail
        if clean and result.reason not in ("worker_lost", "fenced"):
            self._collect(prepared, result)
        prepared.close()
        return result

    def _check_clocks_at_end(self) -> None:
        if self.fence is not None and linux.now() > self.fence and not self.reason:
            self.end("fenced", "the worker could not show in time that the job was still its own")

    def _measured(self, prepared: launch.Prepared) -> Result:
        cpu, largest = launch.rusage()
        counted = self.group.cpu_seconds()
        return Result(
            reason="",
            cpu_seconds=cpu if counted is None else counted,
            peak_memory_bytes=self.group.peak_memory() or max(self.peak_seen, largest),
            oom_kills=self.group.oom_kills(),
            output_full="output" in self._full(prepared),
            log_bytes=self.log.total,
            log_truncated=self.log.left_out > 0,
            first_output_seconds=self.first_output,
        )

    def _name_the_end(self, pid: int, prepared: launch.Prepared, result: Result) -> None:
        """Which limit it was, by what was counted and never by what the program says of itself."""
        limits = self.spec.limits
        if result.oom_kills and self.reason in ("", "out_of_memory"):
            self.reason = "out_of_memory"
        if self.reason == "out_of_memory":
            self.detail = _memory_sentence(result.peak_memory_bytes, limits, is_counted=bool(self.group.held("memory")))
        if self.reason:
            return
        try:
            code = prepared.exit_code(self.statuses[pid])
        except launch.SandboxError as error:
            newest = self.log.last(500).decode(errors="replace").strip()
            raise launch.SandboxError(f"{error}: {newest}") from error
        result.exit_code = code
        result.signal = code - 128 if 128 < code < 128 + signal.NSIG else None
        used = result.cpu_seconds
        if result.signal in (signal.SIGXCPU, signal.SIGKILL) and used >= int(limits.cpu_seconds):
            self.end("cpu_limit", _cpu_sentence(used, limits))
        elif code != 0 and prepared.volumes and (full := self._full(prepared)):
            # The output first: what is missing there is the result.
            self.end("disk_limit", prepared.volumes.sentence(min(full, key=["output", "code", "tmp", "shm"].index)))
        else:
            self.end("exited", exit_sentence(code, result.signal))
            if code != 0:
                words = last_words(self.log.end_of(0), self.log.end_of(1), code)
                result.reason_line, result.last_line = words.reason, words.last_line

    def _full(self, prepared: launch.Prepared) -> set[str]:
        """Return the folders that were full at some time, looking once more at those that the kernel bounds."""
        if prepared.volumes is None:
            return set()
        prepared.volumes.note_full()
        return prepared.volumes.full

    def _collect(self, prepared: launch.Prepared, result: Result) -> None:
        found = collect.collect(
            prepared.output,
            self.folder,
            self.spec.limits.output_bytes,
            takes_predictions=self.spec.takes_predictions,
        )
        result.metrics_error, result.predictions_error = found.metrics_error, found.predictions_error
        result.artifacts = found.artifacts
        result.left_out = found.left_out.sentences


def _cpu_sentence(used: float, limits: Limits) -> str:
    return _("%(used)d of %(limit)d seconds of CPU time", used=round(used), limit=round(limits.cpu_seconds))


def _memory_sentence(used: float, limits: Limits, *, is_counted: bool) -> str:
    """`is_counted`: the kernel counted; else the watchdog added up."""
    numbers = {"used": human_bytes(used), "limit": human_bytes(limits.memory_bytes)}
    if is_counted:
        return _("%(used)s of %(limit)s", **numbers)
    return _("%(used)s of %(limit)s, added up over its processes", **numbers)


def emit(event: dict[str, Any]) -> None:
    """One line to the worker. When the worker is gone nobody is left to be told."""
    data = memoryview(json.dumps(event).encode() + b"\n")
    with contextlib.suppress(BrokenPipeError):
        while data:
            data = data[os.write(1, data) :]


def main() -> None:
    # A terminal's or a service manager's signals are for the worker, who then decides about the run.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    linux.adopt_orphans()
    commands = Commands()
    line = commands.line()
    if line is None:
        return
    run = None
    try:
        run = Run(RunSpec.from_json(line.removeprefix(STAGE)), commands)
        is_staged = line.startswith(STAGE)
        run.make(is_gated=is_staged)
        if is_staged and not run.wait_for_start():
            run.dismantle()
            return
        result = run.execute()
    except (BadSpec, launch.SandboxError, seccomp.UnsupportedMachine, OSError) as error:
        told = error.args[0] if error.args and isinstance(error.args[0], _) else str(error)
        result = Result("sandbox_error", detail=told)
        if run is not None:
            run.dismantle()
    emit(result.to_event())
    if run is not None:
        # Empty folders by now: nobody needs to wait for the kernel to let go of them.
        run.group.remove()


if __name__ == "__main__":
    main()
