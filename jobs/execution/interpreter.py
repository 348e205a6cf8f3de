"""What of the file system an interpreter needs to be seen: its environment, its base installation, the links between."""

import functools
import os
import sysconfig
from pathlib import Path

# Prefixes shared with everything else on the machine: only the interpreter's own files of them are shown.
_SHARED_PREFIXES = (Path("/usr"), Path("/usr/local"))


def interpreter_paths(python: str) -> tuple[list[str], list[tuple[str, str]]]:
    """(paths to show read-only at their own place, (target, place) of symbolic links to make) for VENV/bin/python."""
    environment = Path(python).parent.parent
    shown = [environment] if (environment / "pyvenv.cfg").is_file() else []
    real = Path(os.path.realpath(python))
    shown += _base(real)
    links = []
    hop = Path(python)
    while hop.is_symlink():
        target = os.readlink(hop)
        if not _covered(hop, shown):
            links.append((target, str(hop)))
        hop = Path(os.path.normpath(hop.parent / target))
    return [str(path) for path in dict.fromkeys(shown)], links


def _covered(path: Path, shown: list[Path]) -> bool:
    return any(path.is_relative_to(folder) for folder in shown)


def _base(real: Path) -> list[Path]:
    prefix = real.parent.parent
    if prefix not in _SHARED_PREFIXES:
        return [prefix]
    version = real.name.removeprefix("python")
    libraries = sorted((prefix / "lib").glob(f"libpython{version}*.so*"))
    return [real, prefix / "lib" / f"python{version}", *libraries]


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
