"""Is the sandbox tight on this machine, now? Real submissions that try, and what came of it.

A worker runs this before it takes work and takes none while something is open. A probe that gives no answer counts as open.
"""

import json
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from core.sizes import MIB

from . import disk, engine, probes, procfs
from .client import Supervisor
from .spec import Container, Limits, Result, RunSpec

_SECRET_NAME = "LEADERSBOARD_PREFLIGHT_SECRET"
_WAIT_SECONDS = 30.0
PROBE_LIMITS = Limits(
    wall_seconds=10, cpu_seconds=10, cpus=4, memory_bytes=160 * MIB, processes=40, output_bytes=4 * MIB, output_inodes=100,
    tmp_bytes=16 * MIB,
)  # fmt: skip


@dataclass(frozen=True)
class Probe:
    name: str
    # What was tried, as a sentence.
    what: str
    contained: bool
    # What stopped it, or what came out.
    how: str


class Findings(list[Probe]):
    """What came of each attempt; and what holds each limit of a run here, by its name."""

    def __init__(self, found: Iterable[Probe] = (), limits_applied: dict[str, str] | None = None) -> None:
        super().__init__(found)
        self.limits_applied = limits_applied or {}


ATTEMPTS = {
    "host_file": "read a world-readable file of the host",
    "other_users_file": "read a file of another run, owned by the sandbox's own user",
    "loopback": "connect to a listener on 127.0.0.1",
    "abstract_socket": "connect to an abstract unix socket of the host",
    "kernel_knob": "open /proc/sys/kernel/core_pattern for writing",
    "leaked_descriptor": "find a descriptor that was left open",
    "environment": "find a secret of the worker's environment, its own or another process's",
    "host_state": "read the host's locks, keyrings and counters below /proc",
    "user_namespace": "make a user namespace",
    "mount": "mount a file system",
    "file_address": "ask the file system where on the disk a file lies",
    "privileges": "be root, hold a capability or gain privileges",
    "output_quota": "write more than the output folder may hold",
    "processes": "start more processes than allowed",
    "memory": "use more memory than allowed, spread over several processes",
    "daemon": "leave a process behind that outlives the run",
}


def probe(
    executor: str,
    python: str,
    *,
    sandbox_uid: int = RunSpec.sandbox_uid,
    bwrap: str = "",
    container: Container | None = None,
    start: Callable[[], Supervisor] = Supervisor.start,
) -> Findings:
    """Try everything in `ATTEMPTS` inside the executor. Takes a second or two."""
    with tempfile.TemporaryDirectory(prefix="leadersboard-preflight-") as scratch, ExitStack() as stack:
        root = Path(scratch)
        root.chmod(0o755)
        targets = stack.enter_context(_targets(root, sandbox_uid))
        targets["hidden"] = _hidden_files(container)
        spec = RunSpec(
            run_id="preflight", executor=executor, python=python, code_dir=str(root / "code"),
            config_path=str(root / "config.yaml"), run_dir="/", limits=PROBE_LIMITS, sandbox_uid=sandbox_uid,
            bwrap=bwrap, container=container, environment={"LEADERSBOARD_PROBE_TARGETS": json.dumps(targets)},
        )  # fmt: skip
        _write_code(root)

        applied: dict[str, str] = {}

        def run(entrypoint: str) -> tuple[Result, dict[str, Any]]:
            result, said = _run(replace(spec, entrypoint=entrypoint), root / entrypoint, start)
            applied.update(result.limits_applied)
            return result, said

        found = [*_look_around(run), _processes(run), _memory(run), _daemon(run, targets["marker"])]
        return Findings(found, applied)


def is_tight(found: list[Probe]) -> bool:
    return bool(found) and all(one.contained for one in found)


_Run = Callable[[str], tuple[Result, dict[str, Any]]]


def _write_code(root: Path) -> None:
    code = root / "code"
    code.mkdir()
    (root / "config.yaml").write_text("{}\n")
    for entrypoint, text in probes.PROGRAMS.items():
        (code / entrypoint).write_text(text)


def _hidden_files(container: Container | None) -> list[str]:
    """List the files that must be empty; none with docker, which hides only its own list."""
    can_hide = container is None or engine.is_podman(container)
    return procfs.hidden(has_gpu=False)[0] if can_hide else []


@contextmanager
def _targets(root: Path, sandbox_uid: int) -> Iterator[dict[str, Any]]:
    """Things worth reaching, and how to name them to the programs."""
    marker = root.name
    public, private = root / "public", root / "private"
    public.write_text(marker)
    private.write_text(marker)
    private.chmod(0o600)
    if os.geteuid() == 0:
        os.chown(private, sandbox_uid, sandbox_uid)
    # In the worker's environment, to be inherited, and in that of another process, to be found in /proc.
    os.environ[_SECRET_NAME] = f"secret-{marker}"
    bystander = subprocess.Popen([sys.executable, "-I", "-S", "-c", "input()"], stdin=subprocess.PIPE)
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.socket(socket.AF_UNIX) as abstract:
        abstract.bind(f"\0{marker}")
        abstract.listen()
        try:
            yield {
                "marker": marker,
                "public": str(public),
                "private": str(private),
                "port": listener.getsockname()[1],
                # Not spelled out: the program would find its own copy in its own environment.
                "secret_parts": ["secret-", marker],
                "output_bytes": PROBE_LIMITS.output_bytes,
                "processes": PROBE_LIMITS.processes,
                "memory_bytes": PROBE_LIMITS.memory_bytes,
            }
        finally:
            del os.environ[_SECRET_NAME]
            bystander.kill()
            bystander.communicate()


def _run(spec: RunSpec, folder: Path, start: Callable[[], Supervisor]) -> tuple[Result, dict[str, Any]]:
    """One probing run: its result, and what its program said (the last line of its log, as JSON)."""
    folder.mkdir(mode=0o700)
    with start() as supervisor:
        supervisor.run(replace(spec, run_dir=str(folder)))
        result = supervisor.wait(_WAIT_SECONDS) or Result("sandbox_error", detail="the probe did not end")
    said: dict[str, Any] = {}
    if (folder / "log").exists():
        for line in (folder / "log").read_text(errors="replace").splitlines():
            if line.startswith("{"):
                said = json.loads(line)
    disk.remove(folder)
    return result, said


def _look_around(run: _Run) -> list[Probe]:
    """The probes that one run can make together: the program says for each what stopped it, or "OPEN: ..."."""
    result, said = run("look_around.py")
    names = [name for name in ATTEMPTS if name not in ("processes", "memory", "daemon")]
    found = []
    for name in names:
        how = str(said.get(name, f"OPEN: no answer ({result.reason}: {result.detail})"))
        found.append(Probe(name, ATTEMPTS[name], not how.startswith("OPEN"), how))
    return found


def _processes(run: _Run) -> Probe:
    result, said = run("fork.py")
    started, limit = said.get("started"), PROBE_LIMITS.processes
    contained = isinstance(started, int) and 0 < started <= limit
    how = f"{started} of {limit} were started, by {result.limits_applied.get('processes')}"
    return Probe("processes", ATTEMPTS["processes"], contained, how if started is not None else result.detail)


def _memory(run: _Run) -> Probe:
    result, said = run("memory.py")
    # Python's own MemoryError in a child is not enough: the limit must hold over the sum of the processes.
    contained = result.reason == "out_of_memory" and not said.get("survived")
    how = f"{result.detail}, by {result.limits_applied.get('memory')}"
    return Probe("memory", ATTEMPTS["memory"], contained, how)


def _daemon(run: _Run, marker: str) -> Probe:
    result, said = run("daemon.py")
    left = _processes_named(f"daemon-{marker}")
    contained = bool(said.get("left_behind")) and not left and not result.leftovers
    if not said:
        return Probe("daemon", ATTEMPTS["daemon"], False, f"no answer ({result.reason}: {result.detail})")
    return Probe("daemon", ATTEMPTS["daemon"], contained, f"still running: {left}" if left else "dead with the run")


def _processes_named(text: str) -> list[int]:
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            if text.encode() in Path("/proc", name, "cmdline").read_bytes() and int(name) != os.getpid():
                found.append(int(name))
        except OSError:
            continue
    return found
