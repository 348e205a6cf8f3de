"""One module for each command of the program.

Each has `summary()`, `EXAMPLES` (lines of a command and what it does), `add_arguments(parser)` and `run(session)`, which
returns the exit code. To add a command, write its module and name it here.
"""

from __future__ import annotations

from importlib import import_module
from types import ModuleType

NAMES = ("submit", "follow", "cancel", "list", "results", "withdraw", "restore")
DEFAULT = "submit"


def load(name: str) -> ModuleType:
    return import_module(f"{__name__}.{name}")
