"""The interpreter of a run: its environment and its Python, at places that are the same on every host.

An environment names its own place and its Python's by full paths: in pyvenv.cfg, in links, in scripts. A patch consists of
files that hide those of the same name and name the places in the sandbox instead.
"""

import functools
import os
import sysconfig
from dataclasses import dataclass, field
from pathlib import Path

ENVIRONMENT, PYTHON = "/opt/environment", "/opt/python"
# A folder with links to libpython only. Some interpreters look for it at the place that they were built for.
LIBPYTHON = "/opt/libpython"

# Prefixes shared with everything else on the machine: only the interpreter's own files of them are shown.
_SHARED_PREFIXES = (Path("/usr"), Path("/usr/local"))
_LARGEST_SCRIPT = 64 * 1024

# Files that hide those of the same relative path: bytes are a file's content, text is a link's target.
Patch = dict[str, bytes | str]


@dataclass(frozen=True)
class Source:
    path: str
    patch: Patch = field(default_factory=dict)


@dataclass
class Interpreter:
    """How a run sees VENV/bin/python."""

    program: str
    # By the place in the sandbox.
    sources: dict[str, Source] = field(default_factory=dict)
    # Symbolic links: place -> target.
    links: dict[str, str] = field(default_factory=dict)
    # Paths of this host at which unpatched files look for the interpreter: path -> its place in the sandbox.
    aliases: dict[str, str] = field(default_factory=dict)

    @property
    def library_path(self) -> str:
        """The value of LD_LIBRARY_PATH; empty if the interpreter needs none."""
        return LIBPYTHON if self.links else ""


def interpreter_of(python: str) -> Interpreter:
    """Return how a run sees VENV/bin/python, or an interpreter without an environment."""
    environment = Path(python).parent.parent
    configuration = environment / "pyvenv.cfg"
    settings = _read_configuration(configuration) if configuration.is_file() else None
    real = _real_interpreter(Path(python), settings)
    seen = Interpreter(f"{PYTHON}/bin/{real.name}")
    _add_base(seen, real, on_path=settings is None)
    if settings is not None:
        seen.program = f"{ENVIRONMENT}/bin/{Path(python).name}"
        patch = _script_patch(environment, ENVIRONMENT) | {"pyvenv.cfg": _configuration(settings)}
        for name in {Path(python).name, *_python_names(environment / "bin")}:
            patch[f"bin/{name}"] = f"{PYTHON}/bin/{real.name}"
        seen.sources[ENVIRONMENT] = Source(str(environment), patch)
    _add_aliases(seen, Path(python), real)
    return seen


def _read_configuration(path: Path) -> dict[str, str]:
    pairs = (line.partition("=") for line in path.read_text(encoding="utf-8").splitlines() if "=" in line)
    return {name.strip().lower(): value.strip() for name, _, value in pairs}


def _configuration(settings: dict[str, str]) -> bytes:
    kept = {name: value for name, value in settings.items() if "/" not in value} | {"home": f"{PYTHON}/bin"}
    return "".join(f"{name} = {value}\n" for name, value in sorted(kept.items())).encode()


def _real_interpreter(python: Path, settings: dict[str, str] | None) -> Path:
    real = Path(os.path.realpath(python))
    if settings is None or not real.is_relative_to(os.path.realpath(python.parent.parent)):
        return real
    # The environment was made with copies: pyvenv.cfg names its Python.
    version = ".".join(settings.get("version", settings.get("version_info", "3")).split(".")[:2])
    return Path(os.path.realpath(Path(settings.get("home", "/usr/bin"), f"python{version}")))


def _add_base(seen: Interpreter, real: Path, *, on_path: bool) -> None:
    """Add the Python itself. Without an environment (`on_path`), programs look for scripts in its own folder."""
    prefix = real.parent.parent
    version = real.name.removeprefix("python")
    libraries = sorted((prefix / "lib").glob(f"libpython{version}*.so*"))
    if prefix in _SHARED_PREFIXES:
        for path in (real, prefix / "lib" / f"python{version}", *libraries):
            seen.sources[f"{PYTHON}/{path.relative_to(prefix)}"] = Source(str(path))
    else:
        seen.sources[PYTHON] = Source(str(prefix), _script_patch(prefix, PYTHON) if on_path else {})
    for path in libraries:
        seen.links[f"{LIBPYTHON}/{path.name}"] = f"{PYTHON}/lib/{path.name}"


def _script_patch(folder: Path, place: str) -> Patch:
    """Return the scripts of folder/bin that name the folder, with its place in the sandbox instead."""
    names = {os.fsencode(path) for path in (folder, os.path.realpath(folder))}
    patch: Patch = {}
    with os.scandir(folder / "bin") as entries:
        for entry in entries:
            if entry.is_file(follow_symlinks=False) and (text := _script(entry)):
                changed = functools.reduce(lambda text, name: text.replace(name, place.encode()), names, text)
                if changed != text:
                    patch[f"bin/{entry.name}"] = changed
    return patch


def _script(entry: "os.DirEntry[str]") -> bytes:
    """Return the text of a script; empty for another program."""
    if entry.stat().st_size > _LARGEST_SCRIPT:
        return b""
    with open(entry.path, "rb") as file:
        text = file.read(2)
        return text + file.read() if text == b"#!" or entry.name.lower().startswith("activate") else b""


def _python_names(folder: Path) -> list[str]:
    return [name for name in os.listdir(folder) if name.startswith("python") and (folder / name).is_symlink()]


def _add_aliases(seen: Interpreter, python: Path, real: Path) -> None:
    seen.aliases = {source.path: place for place, source in seen.sources.items()}
    hop = python
    while hop.is_symlink():
        hop = Path(os.path.normpath(hop.parent / os.readlink(hop)))
        if not any(hop.is_relative_to(path) for path in seen.aliases):
            seen.aliases[str(hop)] = f"{PYTHON}/bin/{real.name}"


@functools.cache
def _triplet() -> str:
    """What this machine's folders of libraries are named after. Python has it in a module of a thousand names."""
    return sysconfig.get_config_var("MULTIARCH") or f"{os.uname().machine}-linux-gnu"


def system_library_paths() -> tuple[list[str], list[tuple[str, str]]]:
    """(folders of shared libraries and the dynamic loader, links of the root folder), for this machine."""
    triplet = _triplet()
    folders = [f"/usr/lib/{triplet}", "/usr/lib64", "/etc/ld.so.cache"]
    if os.uname().machine == "aarch64":
        folders.append("/usr/lib/ld-linux-aarch64.so.1")
    paths = [path for path in folders if os.path.exists(path)]
    links = []
    for name in ("/lib", "/lib64"):
        if os.path.islink(name):
            links.append((os.readlink(name), name))
        elif os.path.isdir(f"{name}/{triplet}"):
            paths.append(f"{name}/{triplet}")
        elif name == "/lib64" and os.path.isdir(name):
            paths.append(name)
    return paths, links
