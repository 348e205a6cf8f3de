"""No isolation at all: for a developer's own code on a developer's own machine. Limits and the kill protocol only.

The site lets it be chosen only with DEBUG and an explicit setting, and every result carries its name.
"""

import os
from dataclasses import replace
from pathlib import Path

from . import bubblewrap, cgroup, code_copy
from .launch import Prepared, SandboxError
from .spec import RunSpec
from .volumes import Volumes


def prepare(spec: RunSpec, group: cgroup.Group) -> Prepared:
    code = code_copy.open_source(spec.code_dir) if spec.has_writable_code else None
    try:
        limits = replace(spec.limits, in_memory_bytes=-1)
        writable = Volumes(spec.run_dir, limits, os.geteuid(), os.getegid(), code)
        writable.use_unmounted()
    except OSError as error:
        raise SandboxError(f"the run's folders could not be made: {error}") from error
    folder = Path(writable.root)
    scratch = folder / "tmp"
    environment = bubblewrap.environment(spec) | {
        "PATH": f"{Path(spec.python).parent}:/usr/bin:/bin",
        "HOME": str(scratch),
        "TMPDIR": str(scratch),
        "MPLCONFIGDIR": str(scratch),
    }
    if spec.dataset_dir:
        environment["DATASET_DIR"] = spec.dataset_dir
    environment |= {f"{name.upper()}_DIR": folder for name, folder in spec.folders.items()}
    return Prepared(
        isolation="unsafe-local",
        argv=[spec.python, "-u", spec.entrypoint, "--config", spec.config_path, "--output", str(folder / "output")],
        environment=environment,
        working_directory=str(folder / code_copy.NAME) if code else spec.code_dir,
        output=writable.descriptors["output"],
        volumes=writable,
        applied={
            "network": "none", "filesystem": "none", "system_calls": "none", **writable.applied, "shm": "none",
            # RLIMIT_NPROC would count every process of the developer.
            "processes": group.held("pids") or "",
        },
        exit_code=_exit_code,
    )  # fmt: skip


def _exit_code(wait_status: int) -> int:
    code = os.waitstatus_to_exitcode(wait_status)
    return 128 - code if code < 0 else code
