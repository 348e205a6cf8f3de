"""Control groups: the only limits on memory and processes that count a whole run, and the counters that tell why it ended.

Version 1 (one tree a controller) and version 2 (one tree) are both in use; a container or an ordinary user often may write
neither. What is possible is found out by trying. The groups are named after the supervisor that made them, so that a
janitor can tell the live from the left over.
"""

import contextlib
import functools
import os
import re
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from . import linux
from .spec import Limits

_PREFIX = "leadersboard-run-"
_NAME = re.compile(_PREFIX + r"(\d+)-(\d+)-.*")
_PERIOD_MICROSECONDS = 100_000
_MOUNTS, _GROUPS = Path("/proc/self/mountinfo"), Path("/proc/self/cgroup")


@dataclass
class Group:
    """The groups of one run. `version` 0: there are none."""

    version: int = 0
    # v1: a folder for each controller; v2: the same folder under every controller it has.
    folders: dict[str, Path] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)
    # Folders of the same name in the hierarchies that set no limit: an engine makes groups in all of them.
    beside: list[Path] = field(default_factory=list)
    # Counts what the kernel said of memory having run out, where the counters themselves go with the container.
    oom_events: int | None = None
    oom_seen: int = 0

    def held(self, controller: str) -> str | None:
        """How a limit of this controller is enforced, for `limits_applied`; None when it is not."""
        return f"cgroup-v{self.version}" if controller in self.folders else None

    def entry_descriptors(self) -> list[int]:
        """Open `cgroup.procs` of each folder; a process that writes "0" to all of them is in."""
        return [os.open(folder / "cgroup.procs", os.O_WRONLY | os.O_CLOEXEC) for folder in self._unique()]

    def members(self) -> set[int]:
        pids: set[int] = set()
        for folder in self._all():
            with contextlib.suppress(OSError):
                pids.update(int(line) for line in (folder / "cgroup.procs").read_text().split())
        return pids

    def kill(self, timeout: float = 5.0) -> bool:
        """SIGKILL all members until there are none; False when some are left after `timeout`."""
        deadline = time.monotonic() + timeout
        while members := self.members():
            # Opened before the kill: a group can be empty a moment before the process is gone for everybody else.
            processes = list(filter(None, map(linux.Process.find, members)))
            for folder in self._unique():
                with contextlib.suppress(OSError):
                    (folder / "cgroup.kill").write_text("1")
            for process in processes:
                process.kill()
            are_gone = [process.wait(max(0.0, deadline - time.monotonic())) for process in processes]
            if not all(are_gone) or time.monotonic() > deadline:
                return False
            time.sleep(0 if processes else 0.005)
        return True

    def remove(self) -> None:
        """Remove the folders; they must be empty. The kernel may need a moment after the last member's end."""
        for folder in reversed(self._all()):
            for _ in range(20):
                try:
                    folder.rmdir()
                except FileNotFoundError:
                    break
                except OSError:
                    time.sleep(0.01)
                else:
                    break

    def oom_kills(self) -> int:
        name = {1: "memory.oom_control", 2: "memory.events"}.get(self.version, "")
        if self.oom_events is not None:
            with contextlib.suppress(BlockingIOError):
                self.oom_seen += os.eventfd_read(self.oom_events)
        return max(self.oom_seen, self._counter("memory", name, "oom_kill"))

    def peak_memory(self) -> int:
        name = {1: "memory.max_usage_in_bytes", 2: "memory.peak"}.get(self.version, "")
        return self._counter("memory", name)

    def cpu_seconds(self) -> float | None:
        """CPU time of all members, dead ones too; None where it is not counted."""
        if self.version == 1 and "cpuacct" in self.folders:
            return self._counter("cpuacct", "cpuacct.usage") / 1e9
        if self.version == 2 and "cpu" in self.folders:
            return self._counter("cpu", "cpu.stat", "usage_usec") / 1e6
        return None

    def _unique(self) -> list[Path]:
        return list(dict.fromkeys(self.folders.values()))

    def _all(self) -> list[Path]:
        """Every folder and what an engine made below it, from the top."""
        tops = dict.fromkeys([*self._unique(), *self.beside])
        return [Path(folder) for top in tops for folder, _, _ in os.walk(top)]

    def _counter(self, controller: str, name: str, key: str = "") -> int:
        """The number in a file, or after `key` in a file of lines; 0 where the kernel does not have it."""
        if controller not in self.folders:
            return 0
        with contextlib.suppress(OSError, ValueError):
            text = (self.folders[controller] / name).read_text()
            if not key:
                return int(text)
            for line in text.splitlines():
                first, _, rest = line.partition(" ")
                if first == key:
                    return int(rest)
        return 0


def run_name(run_id: str, pid: int, started: int | None) -> str:
    """What groups and containers of a run are called: it says which supervisor they belong to."""
    return f"{_PREFIX}{pid}-{started}-{run_id}"


def supervisor_of(name: str) -> tuple[int, int] | None:
    """(pid, start time) of the supervisor that made what has this name; None for names of others."""
    match = _NAME.fullmatch(name)
    return (int(match[1]), int(match[2])) if match else None


def own_name(run_id: str) -> str:
    return run_name(run_id, os.getpid(), linux.process_started(os.getpid()))


def create(run_id: str, limits: Limits) -> Group:
    """The groups of a run with its limits set; an empty Group where none can be made."""
    group = _create_v2(own_name(run_id), limits, _v2_parents())
    return group if group.version else _create_v1(own_name(run_id), limits, _v1_parents)


def create_parent(run_id: str, limits: Limits) -> Group:
    """Groups with the run's limits for a container engine to make its own below: `/NAME` in every hierarchy.

    An engine removes its groups with the container, and their counters with them; ours stay until they were read.
    """
    name = own_name(run_id)
    group = _create_v2(name, limits, (place for place, _, kinds in _hierarchies() if "v2" in kinds))
    if not group.version:
        group = _create_v1(name, limits, _v1_tops)
        _watch_memory(group)
    group.beside = [place / name for place, _, _ in _hierarchies()]
    return group


def _watch_memory(group: Group) -> None:
    """In version 1 a kill is counted in the group of the killed alone; but this one is told when its limit was hit."""
    if "memory" not in group.folders:
        return
    folder = group.folders["memory"]
    events = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
    control = os.open(folder / "memory.oom_control", os.O_RDONLY | os.O_CLOEXEC)
    try:
        (folder / "cgroup.event_control").write_text(f"{events} {control}")
    except OSError as error:
        os.close(events)
        group.missing["memory"] = f"no word when memory runs out: {error}"
        group.beside.append(group.folders.pop("memory"))
    else:
        group.oom_events = events
    finally:
        os.close(control)


def _create_v1(name: str, limits: Limits, parents: Callable[[str], Iterator[Path]]) -> Group:
    group = Group()
    for controller, settings in _v1_settings(limits).items():
        for parent in parents(controller):
            try:
                _fill(parent / name, settings)
            except OSError as error:
                group.missing[controller] = str(error)
            else:
                group.version = 1
                group.folders[controller] = parent / name
                break
    return group


def _v1_settings(limits: Limits) -> dict[str, list[tuple[str, str]]]:
    memory = str(limits.memory_bytes)
    settings = {
        # Order matters: memory alone first, then memory with swap, which must not be smaller.
        "memory": [("memory.limit_in_bytes", memory), ("?memory.memsw.limit_in_bytes", memory)],
        "pids": [("pids.max", str(limits.processes))],
        "cpuacct": [],
    }
    if limits.cpus:
        quota = int(limits.cpus * _PERIOD_MICROSECONDS)
        period = ("cpu.cfs_period_us", str(_PERIOD_MICROSECONDS))
        settings["cpu"] = [period, ("cpu.cfs_quota_us", str(quota))]
    return settings


def _create_v2(name: str, limits: Limits, parents: Iterable[Path]) -> Group:
    settings = {
        "memory": [
            ("memory.max", str(limits.memory_bytes)),
            ("?memory.swap.max", "0"),
            ("memory.oom.group", "1"),
        ],
        "pids": [("pids.max", str(limits.processes))],
        "cpu": [],
    }
    if limits.cpus:
        settings["cpu"] = [("cpu.max", f"{int(limits.cpus * _PERIOD_MICROSECONDS)} {_PERIOD_MICROSECONDS}")]
    for parent in parents:
        folder = parent / name
        try:
            offered = (parent / "cgroup.subtree_control").read_text().split()
            if "memory" not in offered:
                continue
            _fill(
                folder,
                [pair for controller in settings if controller in offered for pair in settings[controller]],
            )
        except OSError:
            continue
        return Group(2, {controller: folder for controller in settings if controller in offered})
    return Group()


def _fill(folder: Path, settings: list[tuple[str, str]]) -> None:
    """Make a group and set its files; a name that begins with "?" may be missing in this kernel."""
    folder.mkdir(mode=0o755)
    try:
        for file, value in settings:
            path = folder / file.removeprefix("?")
            if path.exists() or not file.startswith("?"):
                path.write_text(value)
    except OSError:
        folder.rmdir()
        raise


def _hierarchies() -> tuple[tuple[Path, str, set[str]], ...]:
    """Mount point, the group shown there, and the controllers ({"v2"} for version 2) of each cgroup file system."""
    return _read_mounts(_MOUNTS.read_text())


@functools.lru_cache(maxsize=1)
def _read_mounts(text: str) -> tuple[tuple[Path, str, set[str]], ...]:
    """Asked several times for each run, and nearly always of the same text."""
    return tuple(_cgroup_mounts(text))


def _cgroup_mounts(text: str) -> Iterator[tuple[Path, str, set[str]]]:
    for line in text.splitlines():
        before, _, after = line.partition(" - ")
        kind, _, options = after.split(" ", 2)
        if kind in ("cgroup", "cgroup2"):
            parts = before.split()
            yield (
                Path(linux.unescaped(parts[4])),
                linux.unescaped(parts[3]),
                {"v2"} if kind == "cgroup2" else set(options.split(",")),
            )


def _own_group(controller: str) -> str | None:
    for line in _GROUPS.read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if (controllers == "" and controller == "v2") or controller in controllers.split(","):
            return path
    return None


def _own_folder(controller: str) -> Iterator[tuple[Path, Path]]:
    """(mount point, own group's folder) of the controller, where both can be seen."""
    own = _own_group(controller)
    for mount_point, shown, controllers in _hierarchies():
        if own is not None and controller in controllers:
            inside = own[len(shown) :] if shown != "/" and own.startswith(shown) else own
            yield mount_point, mount_point / inside.lstrip("/")


def _v1_parents(controller: str) -> Iterator[Path]:
    """Below our own group, so that the limits of the worker's service hold too; else at the top of what is shown."""
    for mount_point, own in _own_folder(controller):
        yield own
        yield mount_point


def _v1_tops(controller: str) -> Iterator[Path]:
    """The one place that an engine reaches by the same path in every hierarchy."""
    for mount_point, _, controllers in _hierarchies():
        if controller in controllers:
            yield mount_point


def _v2_parents() -> Iterator[Path]:
    """Below our own group when it hands controllers down, else beside it: version 2 wants processes in leaves only."""
    for mount_point, own in _own_folder("v2"):
        yield own
        if own != mount_point:
            yield own.parent


def own_parents() -> list[Path]:
    """Where a run's groups may be made."""
    return [*_v2_parents(), *(place for name in ("memory", "pids", "cpuacct", "cpu") for place in _v1_parents(name))]


def remove_stale() -> list[str]:
    """Kill and remove the groups whose supervisor is dead; the names of what was removed."""
    removed = set()
    for folder, pid, started in _run_groups():
        if linux.process_started(pid) != started:
            _clear(folder)
            removed.add(folder.name)
    return sorted(removed)


def remove_of(pid: int, started: int | None) -> None:
    """Kill and remove the groups that the supervisor `pid`, now dead, had made."""
    for folder, owner, owner_started in _run_groups():
        if owner == pid and started in (None, owner_started):
            _clear(folder)


def _clear(folder: Path) -> None:
    group = Group(1, {"any": folder})
    group.kill()
    group.remove()


def _run_groups() -> Iterator[tuple[Path, int, int]]:
    for mount_point, _, _ in _hierarchies():
        for folder, names, _ in os.walk(mount_point):
            for name in names:
                if owner := supervisor_of(name):
                    yield Path(folder, name), *owner
