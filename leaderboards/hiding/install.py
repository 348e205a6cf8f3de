"""Putting new folders and files in the place of old ones: after an interruption all is old, or the next run makes all new.

All that is new is complete and on disk before a journal says so. From then on only renames are left, and whoever finds the
journal can finish them.
"""

import ctypes
import errno
import fcntl
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from leaderboards.hiding.source import CannotHide

_AT_FDCWD, _RENAME_EXCHANGE = -100, 2


@dataclass(frozen=True)
class Place:
    """A folder or file to be put in place, and the hidden names next to it."""

    target: Path

    @property
    def new(self) -> Path:
        return self.target.with_name(f".{self.target.name}.new")

    @property
    def previous(self) -> Path:
        """The old folder, which is kept: runs that have begun still read it, and old labels serve an old score version."""
        return self.target.with_name(f".{self.target.name}.previous")

    def clear(self) -> None:
        """Remove what an interrupted run left unfinished."""
        _remove(self.new)


def journal_of(labels: Path) -> Path:
    return labels.with_name(f".{labels.name}.exchange")


@contextmanager
def alone(labels: Path) -> Iterator[None]:
    """Keep other commands from the labels' parent folder. Raises CannotHide when one is at work."""
    descriptor = os.open(labels.parent, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError as error:
        raise CannotHide(f"Another hide_labels is at work in {labels.parent}: wait for it to end.") from error
    finally:
        os.close(descriptor)


def put_in_place(places: Sequence[Place], journal: Path) -> None:
    """Exchange each target for its new content, in this order."""
    steps = [[str(place.target), place.new.stat().st_ino] for place in places]
    for place in places:
        _sync(place.new.parent)
    unfinished = journal.with_name(f"{journal.name}.new")
    with unfinished.open("w", encoding="utf-8") as file:
        json.dump(steps, file)
        file.flush()
        os.fsync(file.fileno())
    unfinished.replace(journal)
    _sync(journal.parent)
    finish(journal)


def finish(journal: Path) -> bool:
    """Do what is left of an exchange that was interrupted; return whether there was one."""
    try:
        steps = json.loads(journal.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return False
    for target, inode in steps:
        _exchange(Place(Path(target)), inode)
    journal.unlink()
    _sync(journal.parent)
    return True


def _exchange(place: Place, inode: int) -> None:
    """Bring the new content, known by its inode, to the target; what was there becomes the previous one."""
    if place.new.exists() and place.new.stat().st_ino == inode:
        if place.new.is_file():
            place.new.replace(place.target)
        elif not place.target.exists():
            place.new.rename(place.target)
        else:
            _remove(place.previous)
            _swap(place)
    if place.new.exists():
        _remove(place.previous)
        place.new.rename(place.previous)
    _sync(place.target.parent)


def _swap(place: Place) -> None:
    """Exchange two folders in one step; in two where the file system cannot."""
    names = (os.fsencode(path) for path in (place.new, place.target))
    old, new = names
    renameat2 = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if renameat2 is not None:
        if not renameat2(_AT_FDCWD, old, _AT_FDCWD, new, _RENAME_EXCHANGE):
            return
        if ctypes.get_errno() not in (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP):
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), str(place.target))
    place.target.rename(place.previous)
    place.new.rename(place.target)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
