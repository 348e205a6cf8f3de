"""Every limit of a run, and whether what holds it enforces it or watches it.

Enforced: the kernel refuses what goes beyond. Watched: a process looks and ends the run, so a run can be beyond for a moment;
docs/security.md says how far. Absent: nothing holds it here.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from jobs.execution.cgroup import Group
from jobs.execution.spec import Limits
from jobs.execution.told import Told as _


class Kind(StrEnum):
    ENFORCED = "enforced"
    WATCHED = "watched"
    ABSENT = "absent"


WORDS = {Kind.ENFORCED: _("enforced"), Kind.WATCHED: _("watched"), Kind.ABSENT: _("not limited")}
# By what `limits_applied` names. A name that is not here is of a newer version, and counts as absent.
MECHANISMS = {
    "cgroup-v1": Kind.ENFORCED,
    "cgroup-v2": Kind.ENFORCED,
    "rlimit": Kind.ENFORCED,
    "tmpfs": Kind.ENFORCED,
    "project-quota": Kind.ENFORCED,
    "seccomp": Kind.ENFORCED,
    "namespace": Kind.ENFORCED,
    "watchdog": Kind.WATCHED,
    "supervisor": Kind.WATCHED,
    "none": Kind.ABSENT,
    "": Kind.ABSENT,
}
LABELS = {
    "memory": _("memory"),
    "processes": _("number of processes"),
    "cpus": _("processors at once"),
    "cpu_seconds": _("CPU time"),
    "wall_seconds": _("running time"),
    "output": _("output folder"),
    "tmp": "/tmp",
    "shm": "/dev/shm",
    "code": _("code folder"),
    "log": _("log"),
    "open_files": _("open files"),
    "file_bytes": _("size of a file"),
    "network": _("network"),
    "filesystem": _("file system"),
    "system_calls": _("system calls"),
}
# Only counted by what they name: the supervisor compares and kills.
_COMPARED = {"cpu_seconds"}
# Those that a control group enforces, where a worker can write one.
NEED_CGROUP = ("memory", "cpus", "processes")


@dataclass(frozen=True)
class HeldLimit:
    name: str
    # "cgroup-v2", "watchdog", ...; "none": nothing.
    by: str
    kind: Kind

    @property
    def label(self) -> str:
        return LABELS.get(self.name, self.name)

    @property
    def words(self) -> str:
        return WORDS[self.kind]


def applied(limits: Limits, group: Group) -> dict[str, str]:
    """What holds the limits that are the same in every executor."""
    return {
        "memory": group.held("memory") or "watchdog",
        "cpus": (group.held("cpu") or "none") if limits.cpus else "none",
        "cpu_seconds": "watchdog" if group.cpu_seconds() is None else f"cgroup-v{group.version}",
        "wall_seconds": "supervisor",
        "log": "supervisor",
        "open_files": "rlimit",
        "file_bytes": "rlimit",
    }


def held_limits(applied: Mapping[str, str]) -> list[HeldLimit]:
    """The limits of a run or of a worker, in the table's order; those that only an older or newer version knows come last."""
    names = [*(name for name in LABELS if name in applied), *(name for name in applied if name not in LABELS)]
    return [HeldLimit(name, applied[name] or "none", _kind(name, applied[name])) for name in names]


def lacking(applied: Mapping[str, str]) -> list[HeldLimit]:
    """The limits that a control group would enforce and that nothing enforces here."""
    return [limit for limit in held_limits(applied) if limit.name in NEED_CGROUP and limit.kind != Kind.ENFORCED]


def _kind(name: str, mechanism: str) -> Kind:
    kind = MECHANISMS.get(mechanism, Kind.ABSENT)
    return Kind.WATCHED if name in _COMPARED and kind == Kind.ENFORCED else kind
