"""Runs in containers of podman or docker, for sites that want an image for a leaderboard.

The engine gives the file system and the namespaces. The rest is ours, as with bubblewrap: groups whose counters outlive the
container, sized file systems for all that can be written, the same list of refused system calls. That list is given to the
engine by name, and loaded once more by number inside the container, before the submission's first line: an engine drops
the names that its own library does not know yet.

It takes a supervisor that is root: it mounts file systems where a daemon can see them, and makes groups beside the worker's.
"""

import os
import resource
import signal
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

from . import bubblewrap, cgroup, code_copy, engine, etc, launch, linux, procfs, seccomp
from .launch import Prepared, SandboxError
from .spec import Container, RunSpec
from .stage import Stage

# Should nobody be left to end the container, podman does so itself.
_LAST_RESORT_SECONDS = 120
_GUARD_SECONDS = 60.0
_USERS_PROCESSES = 32768

# Of each volume, in the container.
_PLACES = {"output": "/sandbox/output", "tmp": "/tmp", "shm": "/dev/shm", code_copy.NAME: code_copy.PLACE}

# The program that the container starts with: the filter, then the submission in its place.
_ENTRY = """
import ctypes, os, sys

class Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p)]

code = bytes.fromhex(sys.argv[1])
libc = ctypes.CDLL(None, use_errno=True)
program = Program(len(code) // 8, code)
if libc.prctl(38, 1, 0, 0, 0) or libc.prctl(22, 2, ctypes.byref(program), 0, 0):
    sys.exit("the system call filter was not taken: " + os.strerror(ctypes.get_errno()))
os.execv(sys.executable, [sys.executable, *sys.argv[2:]])
"""


def prepare(spec: RunSpec, group: cgroup.Group) -> Prepared:
    container = spec.container
    assert container is not None
    _check_machine(group)
    run = _Run(container, cgroup.own_name(spec.run_id), Path(spec.run_dir), group)
    try:
        bubblewrap.let_read(spec.code_dir)
        bubblewrap.let_read(spec.config_path)
        profile = Path(spec.run_dir, "seccomp.json")
        profile.write_text(seccomp.engine_profile())
        run.guard()
        root = Path(spec.run_dir, "volumes")
        root.mkdir(mode=0o700)
        stage = Stage(str(root))
        sources = _sources(spec, stage)
        stage.build()
        volumes = _volumes(spec, stage)
        if spec.has_writable_code:
            code, uid = code_copy.open_source(spec.code_dir), spec.sandbox_uid
            volumes[code_copy.NAME] = bubblewrap.code_volume(stage, code, spec.limits, uid, uid)
        argv = [
            *engine.command(container),
            "run",
            *_options(spec, container, run.name, profile),
            *_binds(sources, stage.root, volumes),
            *_environment(spec),
            *gpu_options(spec, container),
            *_program(spec, container),
        ]
    except (OSError, SandboxError) as error:
        run.close()
        raise SandboxError(f"the container could not be made ready: {error}") from error
    run.prepared = Prepared(
        isolation="container",
        argv=argv,
        environment=dict(os.environ),
        output=volumes["output"],
        volumes=volumes,
        applied={
            "network": "namespace", "filesystem": "namespace", "system_calls": "seccomp",
            "output": "tmpfs", "tmp": "tmpfs", "shm": "tmpfs", "processes": group.held("pids") or "",
            **({"code": "tmpfs"} if spec.has_writable_code else {}),
        },
        exit_code=run.exit_code,
        is_client=True,
        stop=run.stop,
        close=run.close,
    )  # fmt: skip
    return run.prepared


class _Run:
    """The one container of this supervisor."""

    def __init__(self, container: Container, name: str, folder: Path, group: cgroup.Group) -> None:
        self.name = name
        self.prepared: Prepared | None = None
        self._container = container
        self._folder = folder
        self._group = group
        self._state: engine.State | None = None
        self._is_gone = False

    def stop(self) -> bool:
        """Kill and remove it; False when it could not be. How the program ended is asked before it is removed."""
        if self._is_gone:
            return True
        # First the client, when it is still there: one that is just making the container must not go on.
        if self.prepared and self.prepared.pid:
            with suppress(ProcessLookupError):
                os.kill(self.prepared.pid, signal.SIGKILL)
            self.prepared.pid = 0
        self._state = engine.state(self._container, self.name)
        self._group.kill()
        self._is_gone = engine.remove(self._container, self.name)
        return self._is_gone

    def exit_code(self, wait_status: int) -> int:
        if self._state is None or not self._state.has_started:
            raise SandboxError(f"{self._container.engine} made no container ({wait_status >> 8})")
        if self._state.is_running:
            raise SandboxError(f"{self._container.engine} went away from its running container")
        return self._state.exit_code

    def close(self) -> None:
        linux.unmount_below(str(self._folder))

    def guard(self) -> None:
        """A process that ends the container when this one is killed: a container does not die with those who started it."""
        reader, writer = os.pipe()
        if os.fork():
            os.close(reader)
            os.set_inheritable(writer, False)
            return
        try:
            os.setsid()
            null = os.open("/dev/null", os.O_RDWR)
            for descriptor in (0, 1, 2):
                os.dup2(null, descriptor)
            launch.keep_only({0, 1, 2, reader})
            os.read(reader, 1)
            self._clear_up()
        finally:
            os._exit(0)

    def _clear_up(self) -> None:
        until = linux.now() + _GUARD_SECONDS
        _patiently(self._group.kill, until)
        _patiently(lambda: engine.remove(self._container, self.name), until)
        self.close()
        self._group.remove()


def _patiently(action: Callable[[], bool], until: float) -> None:
    while linux.now() < until:
        try:
            if action():
                return
        except OSError:
            continue


def _check_machine(group: cgroup.Group) -> None:
    if os.geteuid() != 0:
        raise SandboxError("EXECUTOR=container needs a worker that is root; an ordinary user's has bubblewrap")
    missing = [name for name in ("memory", "pids") if not group.held(name)]
    if missing:
        told = "; ".join(group.missing.values())
        raise SandboxError(f"no control group for {' and '.join(missing)} can be made for a container: {told}")


def _volumes(spec: RunSpec, stage: Stage) -> dict[str, int]:
    """Sized file systems below the run folder, where an engine's daemon finds them too; gone after the run."""
    sizes = bubblewrap.volume_sizes(spec.limits)
    return {
        name: stage.volume(name, size, inodes, mode, spec.sandbox_uid, spec.sandbox_uid, flags)
        for name, (size, inodes, mode, flags) in sizes.items()
    }


def _options(spec: RunSpec, container: Container, name: str, profile: Path) -> list[str]:
    limits = spec.limits
    options = [
        "--name", name, "--label", f"{engine.LABEL}={engine.family()}", "--pull", "never", "--init",
        "--cgroup-parent", f"/{name}", "--log-driver", "none", "--oom-score-adj", "1000",
        "--network", "none", "--ipc", "private", "--cgroupns", "private", "--hostname", "sandbox",
        "--user", f"{spec.sandbox_uid}:{spec.sandbox_uid}",
        "--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges",
        "--security-opt", f"seccomp={profile}", "--workdir", code_copy.PLACE, "--entrypoint", container.python,
    ]  # fmt: skip
    seconds = max(1, int(limits.cpu_seconds))
    # Lowered from our own at most, as nobody here may raise them. The group counts a run's processes; this limit counts all
    # of the user's, in all containers, and podman has lowered its own to this number.
    for what, which, soft, hard in (
        ("core", resource.RLIMIT_CORE, 0, 0),
        ("nofile", resource.RLIMIT_NOFILE, limits.open_files, limits.open_files),
        ("fsize", resource.RLIMIT_FSIZE, limits.file_bytes, limits.file_bytes),
        ("memlock", resource.RLIMIT_MEMLOCK, 64 * 1024, 64 * 1024),
        ("cpu", resource.RLIMIT_CPU, seconds, seconds + 5),
        ("nproc", resource.RLIMIT_NPROC, _USERS_PROCESSES, _USERS_PROCESSES),
    ):
        soft, hard = linux.possible_limit(which, soft, hard)
        options += ["--ulimit", f"{what}={soft}:{hard}"]
    if engine.is_podman(container):
        options += ["--cgroups=no-conmon", "--read-only-tmpfs=false", "--http-proxy=false", "--no-hosts"]
        options += ["--timeout", str(int(limits.wall_seconds) + _LAST_RESORT_SECONDS)]
        # docker has no such option and hides only its own list.
        files, folders = procfs.hidden(has_gpu=bool(spec.gpus))
        masked = [*files, *folders, *([] if spec.gpus else ["/sys"])]
        options += ["--security-opt", f"mask={':'.join(masked)}"]
    return options


def _sources(spec: RunSpec, stage: Stage) -> dict[str, str]:
    """Return the read-only sources: place in the container -> path on the stage."""
    sources = {"/sandbox/config.yaml": stage.add(spec.config_path, follow=False)}
    if not spec.has_writable_code:
        sources[code_copy.PLACE] = stage.add(spec.code_dir, follow=False)
    if spec.dataset_dir:
        sources["/sandbox/dataset"] = stage.add(spec.dataset_dir)
    sources |= {f"/sandbox/{name}": stage.add(folder, follow=False) for name, folder in spec.folders.items()}
    sources |= {path: stage.add(path) for path in spec.read_only_paths}
    if os.path.isdir(etc.TIME_ZONES):
        sources[etc.TIME_ZONES] = stage.add(etc.TIME_ZONES)
    # Otherwise the engine copies the host's name servers into the container.
    texts = procfs.replaced(spec.limits) | etc.files(spec.sandbox_uid) | {"/etc/resolv.conf": b""}
    return sources | {path: stage.add_text(text) for path, text in texts.items()}


def _binds(sources: dict[str, str], root: str, volumes: Iterable[str]) -> list[str]:
    binds = [(source, target, ",readonly") for target, source in sources.items()]
    binds += [(f"{root}/{name}", _PLACES[name], "") for name in volumes]
    arguments = []
    for source, target, suffix in binds:
        if any(sign in source + target for sign in ',"\n'):
            raise SandboxError(f"cannot show {source!r} to a container: its name has a comma, a quote or a line's end")
        arguments += ["--mount", f"type=bind,source={source},target={target}{suffix}"]
    return arguments


def _environment(spec: RunSpec) -> list[str]:
    """Return the options that lay our environment over the image's, without PATH, which the image knows."""
    found = bubblewrap.environment(spec)
    return [word for name, value in found.items() for word in ("--env", f"{name}={value}")]


def gpu_options(spec: RunSpec, container: Container) -> list[str]:
    return [container.gpu_option.format(index=index) for index in spec.gpus]


def _program(spec: RunSpec, container: Container) -> list[str]:
    entry = ["-I", "-S", "-c", _ENTRY, seccomp.build_filter().hex()]
    return [container.image, *entry, "-u", spec.entrypoint, *bubblewrap.program_arguments()]
