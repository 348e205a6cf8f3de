"""Clearing up after workers and supervisors that were killed. To be called when a worker starts."""

import functools
import json
import os
import time
from pathlib import Path

from . import cgroup, disk, engine, linux
from .spec import Container

_OWNER = ".owner"
_UNOWNED_SECONDS = 3600.0


def mark_as_ours(run_dir: Path) -> None:
    """Write down which process reads this run folder, so that nobody else clears it away."""
    (run_dir / _OWNER).write_text(_owner(os.getpid()))


@functools.lru_cache(maxsize=1)
def _owner(pid: int) -> str:
    return json.dumps({"pid": pid, "started": linux.process_started(pid)})


def clear_stale(runs_root: Path | None = None, container: Container | None = None) -> list[str]:
    """Remove containers and control groups of dead supervisors and, below `runs_root`, run folders of dead workers; what
    was removed. Containers only of the engine that is given."""
    # First the kernel, whose word that all are dead can be taken; then the engine, for what it knows of them.
    removed = cgroup.remove_stale()
    if container:
        removed += engine.remove_stale(container) + cgroup.remove_stale()
    if runs_root is not None and runs_root.is_dir():
        for folder in sorted(runs_root.iterdir()):
            if folder.is_dir() and not folder.is_symlink() and _is_stale(folder):
                linux.unmount_below(str(folder))
                disk.remove(folder)
                removed.append(folder.name)
    return removed


def _is_stale(folder: Path) -> bool:
    try:
        owner = json.loads((folder / _OWNER).read_text())
        return bool(linux.process_started(int(owner["pid"])) != owner["started"])
    except (OSError, ValueError, KeyError, TypeError):
        # Made a moment ago and not marked yet, or never finished.
        return time.time() - folder.stat().st_mtime > _UNOWNED_SECONDS
