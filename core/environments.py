"""Checks that a Python environment of this site is complete. Standard library only: they run before anything is installed."""

from __future__ import annotations

import os
from pathlib import Path

# In an environment's folder: it was made completely for some requirements; it is being made or changed.
STAMP = ".complete"
HALF_MADE = ".half-made"


def is_usable(environment: Path) -> bool:
    """Return whether the environment was made completely at some time and is not being changed now."""
    has_python = os.access(environment / "bin" / "python", os.X_OK)
    return has_python and (environment / STAMP).exists() and not (environment / HALF_MADE).exists()


def is_half_made(python: Path | str) -> bool:
    """Return whether the interpreter's environment is being made or changed, or that was interrupted."""
    return (Path(python).parent.parent / HALF_MADE).exists()
