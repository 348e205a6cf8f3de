"""The floor under a run: for each line on stdin, one `python main.py` (an empty file) by bwrap; its seconds on stdout.

The stage (mounts, sized file systems) is made once. No limits are watched, nothing is read or recorded.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

from jobs.execution import bubblewrap, cgroup, launch
from jobs.execution.spec import Limits, RunSpec


def main() -> None:
    python, place = sys.argv[1], Path(sys.argv[2])
    limits = Limits()
    spec = RunSpec(
        run_id="bare", executor="bubblewrap", python=python, code_dir=str(place / "code"),
        config_path=str(place / "config.yaml"), run_dir=str(place / "run"), limits=limits, bwrap=bubblewrap.find_bwrap() or "",
    )  # fmt: skip
    group = cgroup.Group()
    prepared = bubblewrap.prepare(spec, group)
    log = os.open(os.devnull, os.O_WRONLY)
    for _ in sys.stdin:
        began = time.monotonic()
        for descriptor in prepared.descriptors:
            os.lseek(descriptor, 0, os.SEEK_SET) if _is_file(descriptor) else None
        pid = launch.start(prepared, limits, group, (log, log))
        _, status = os.waitpid(pid, 0)
        if status:
            sys.exit(f"the sandbox ended with wait status {status}")
        print(time.monotonic() - began, flush=True)


def _is_file(descriptor: int) -> bool:
    """The seccomp filter is read from a file, and would be at its end the second time."""
    try:
        os.lseek(descriptor, 0, os.SEEK_CUR)
    except OSError:
        return False
    return True


if __name__ == "__main__":
    main()
