"""Names of a run's files in MLflow, which takes fewer than runs may choose.

MLflow decodes `%`, takes what follows `#` and `?` for other parts of an address, and a folder called `C:` for a drive.
Those characters and a name of spaces become `_` there; a name that is then taken gets a number.
"""

from collections.abc import Iterable

from jobs.execution.names import MAX_NAME_BYTES

_QUOTED = str.maketrans("%#?:", "____")


def artifact_names(paths: Iterable[str]) -> dict[str, str]:
    """Return the path in MLflow of each of a run's files. Those that MLflow takes as they are keep their names."""
    names: dict[tuple[str, str], str] = {}
    taken: set[str] = set()
    found: dict[str, str] = {}
    for path in sorted(paths, key=lambda path: path != "/".join(map(_quoted, path.split("/")))):
        place = ""
        for part in path.split("/"):
            if (place, part) not in names:
                names[place, part] = _free(f"{place}/" if place else "", _quoted(part), taken)
            place = names[place, part]
        found[path] = place
    return found


def _quoted(name: str) -> str:
    return name.translate(_QUOTED) if name.strip() else "_"


def _free(folder: str, name: str, taken: set[str]) -> str:
    number, candidate = 1, folder + name
    while candidate in taken:
        number += 1
        stem = name.encode()[: MAX_NAME_BYTES - 5].decode(errors="ignore")
        candidate = f"{folder}{stem}_{number}"
    taken.add(candidate)
    return candidate
