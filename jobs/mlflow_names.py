"""The names under which MLflow keeps a job's params, metrics and files."""

import re
import unicodedata
from collections.abc import Iterable, Iterator
from typing import Any

# The platform's own files in a run. A run's files of that name get a number, so that neither overwrites the other.
RESERVED = "leadersboard"
LOG_ARTIFACT = f"{RESERVED}/log.txt"
# The place of the log in runs of earlier versions.
OLD_LOG_ARTIFACT = "log.txt"
MOST_CHARACTERS = 250
MOST_BYTES = 255  # of a file name

# MLflow cuts a path at # and ?, decodes %41, and reads `file:x` as an address.
_REFUSED = re.compile(r"[#?\\]|%(?=[0-9A-Fa-f]{2})|^ ")
_SCHEME = re.compile(r"^([A-Za-z][A-Za-z0-9+.\-]*):")


def flatten(params: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield nested params as MLflow's flat ones: {"model": {"layers": 2}} gives ("model.layers", "2").

    Two that come to one name get a number, because MLflow refuses a name with two values.
    """
    for name, value in named(_leaves(params)):
        yield name, value if isinstance(value, str) else repr(value)


def named(values: Iterable[tuple[str, Any]]) -> Iterator[tuple[str, Any]]:
    """Yield the values under names that MLflow takes, each name once."""
    taken: set[str] = set()
    for given, value in values:
        name = plain = safe_name(given)
        number = 2
        while name in taken:
            name = f"{plain[: MOST_CHARACTERS - 10]}_{number}"
            number += 1
        taken.add(name)
        yield name, value


def _leaves(params: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in params.items():
        if isinstance(value, dict) and value:
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def safe_name(name: str) -> str:
    """Return the name of a param or metric as MLflow takes it.

    It takes letters and digits of any script, and _-./: and space, up to 250 characters, but no combining marks and no
    path that has a shorter form.
    """
    composed = unicodedata.normalize("NFC", name)
    allowed = "".join(char if char.isalnum() or char in "_-./: " else "_" for char in composed)[:MOST_CHARACTERS]
    parts = [part for part in allowed.split("/") if part not in ("", ".", "..")]
    return "/".join(parts).strip("./ ") or "_"


def artifact_names(paths: Iterable[str]) -> dict[str, str]:
    """Map the path of each of a run's files to its path in MLflow: the same, unless MLflow would change it.

    No two come to one path, and none into the platform's own folder. The same paths always give the same names.
    """
    folders: dict[str, set[tuple[str, bool]]] = {}
    given = sorted(set(paths))
    for path in given:
        parent, is_folder = path, False
        while parent:
            parent, _, name = parent.rpartition("/")
            folders.setdefault(parent, set()).add((name, is_folder))
            is_folder = True
    places = {("", True): ""}
    # Parents come before their children: a prefix sorts before what it begins.
    for folder in sorted(folders):
        inside = places[folder, True]
        for (name, is_folder), new in _named_in(folders[folder], is_top=not folder).items():
            path = f"{folder}/{name}" if folder else name
            places[path, is_folder] = f"{inside}/{new}" if inside else new
    return {path: places[path, False] for path in given}


def _named_in(children: set[tuple[str, bool]], *, is_top: bool) -> dict[tuple[str, bool], str]:
    """Name what is in one folder. A name that MLflow takes as it is stays; the others get what is left."""
    names: dict[tuple[str, bool], str] = {}
    taken: set[str] = set()
    others = []
    for child in sorted(children):
        name = child[0]
        if _safe_artifact_name(name) == name and not (is_top and _is_reserved(name)) and name not in taken:
            names[child] = name
            taken.add(name)
        else:
            others.append(child)
    for child in others:
        name = plain = _safe_artifact_name(child[0])
        number = 2
        while name in taken or (is_top and _is_reserved(name)):
            name = _numbered(plain, number)
            number += 1
        taken.add(name)
        names[child] = name
    return names


def _is_reserved(name: str) -> bool:
    """Tell whether it is the platform's folder, also for a file system that ignores case."""
    return name.casefold() == RESERVED


def _safe_artifact_name(name: str) -> str:
    return _SCHEME.sub(r"\1_", _REFUSED.sub("_", name))


def _numbered(name: str, number: int) -> str:
    stem, dot, ending = name.rpartition(".")
    if not stem:
        stem, dot, ending = name, "", ""
    room = MOST_BYTES - len(f"_{number}{dot}{ending}".encode())
    return f"{stem.encode()[:room].decode(errors='ignore')}_{number}{dot}{ending}"
