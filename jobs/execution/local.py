"""No isolation at all: for a developer's own code on a developer's own machine. Limits and the kill protocol only.

The site lets it be chosen only with DEBUG and an explicit setting, and every result carries its name.
"""

import os
from pathlib import Path

from . import bubblewrap, cgroup, code_copy, linux
from .launch import Prepared, SandboxError
from .spec import RunSpec


def prepare(spec: RunSpec, group: cgroup.Group) -> Prepared:
    output = Path(spec.run_dir, "output")
    scratch = Path(spec.run_dir, "tmp")
    try:
        output.mkdir(mode=0o700)
        scratch.mkdir(mode=0o700)
        code = _own_code(spec) if spec.has_writable_code else spec.code_dir
    except OSError as error:
        raise SandboxError(f"the run's folders could not be made: {error}") from error
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
        argv=[spec.python, "-u", spec.entrypoint, "--config", spec.config_path, "--output", str(output)],
        environment=environment,
        working_directory=code,
        output=os.open(output, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC),
        applied={
            "network": "none", "filesystem": "none", "system_calls": "none", "output": "none", "tmp": "none", "shm": "none",
            # RLIMIT_NPROC would count every process of the developer.
            "processes": group.held("pids") or "",
            **({"code": "none"} if spec.has_writable_code else {}),
        },
        exit_code=_exit_code,
    )  # fmt: skip


def _own_code(spec: RunSpec) -> str:
    """Copy the code folder below the run's; return the copy's path."""
    folder = Path(spec.run_dir, "code")
    folder.mkdir(mode=0o700)
    with linux.opened(os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)) as target:
        code_copy.copy(code_copy.open_source(spec.code_dir), target, os.geteuid(), os.getegid())
    return str(folder)


def _exit_code(wait_status: int) -> int:
    code = os.waitstatus_to_exitcode(wait_status)
    return 128 - code if code < 0 else code
