"""Rules for the names of files that runs leave, and their form in sentences for people.

A name is data, not something to clean: what a place cannot bear is quoted at that place's edge. Refused are only names
that are not text, or that hide what they say: control, format and private-use characters.
"""

import unicodedata

from core.names import printable
from jobs.execution.told import Told as _

MAX_NAME_BYTES = 255  # of file systems
# Below 1,024, the length of an object storage's keys, by what MLflow puts before it; and in an address, where each byte
# may take three, below the 4,094 of a request's first line.
MAX_PATH_BYTES = 900
MAX_DEPTH = 32
LONGEST_SHOWN = 200
_REFUSED = {"Cc", "Cf", "Cs", "Co"}


def canonical(name: str) -> str:
    """Return the form under which a file is kept: composed (NFC), as macOS' decomposed names are not."""
    return unicodedata.normalize("NFC", name)


def why_refused(name: str, path: str) -> str | None:
    """Return the rule that the canonical `name` breaks, in a path of that name; None when it breaks none."""
    if any("\udc80" <= char <= "\udcff" for char in name):
        return _("its name is not UTF-8")
    if "\\" in name:
        return _("a backslash in its name")
    odd = next((char for char in name if unicodedata.category(char) in _REFUSED), None)
    if odd is not None:
        return _("a control, invisible or private-use character in its name (%(code)s)", code=f"U+{ord(odd):04X}")
    if len(name.encode()) > MAX_NAME_BYTES:
        return _("a name of more than %(most)d bytes", most=MAX_NAME_BYTES)
    if len(path.encode()) > MAX_PATH_BYTES:
        return _("a path of more than %(most)d bytes", most=MAX_PATH_BYTES)
    return None


def readable(path: str) -> str:
    """Return a stranger's path for a sentence: cut, and as `printable` has it."""
    shown = printable(path[:LONGEST_SHOWN])
    return shown if len(path) <= LONGEST_SHOWN else f"{shown}…"
