"""One folder as a reproducible archive: the same files make the same bytes.

Hard links become files of their own. Symbolic links within the folder are followed; one that leaves it or leads nowhere
is refused, because the run would lack the file.
"""

from __future__ import annotations

import gzip
import os
import stat
import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from core.names import shown
from leaderboard_site.client.faults import LocalFault, Wrong, reason
from leaderboard_site.client.language import say
from leaderboard_site.client.upload_body import opened

# What tools and systems leave in every folder. The site passes over what macOS and Windows add (submissions/archive/names.py);
# a test holds that all of that is left out here too.
JUNK = frozenset(["__pycache__", "__macosx", "desktop.ini", "thumbs.db", "icon\r"])
MOST_FILES = 20_000
MOST_NAMED = 10


def is_left_out(name: str) -> bool:
    """Whether a file or folder of this name stays here: it is hidden, or made by a tool."""
    return name.startswith(".") or name.lower() in JUNK


@dataclass
class Folder:
    """What lies in a folder: the files to send by their names in the archive, and what stays here."""

    root: Path
    files: dict[str, Path] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)
    bad_links: list[str] = field(default_factory=list)

    def read(self) -> Folder:
        self._walk(self.root, "", (_identity(self.root),))
        if self.bad_links:
            sentence = say(
                "PATH: symbolic links that leave the folder or lead nowhere cannot be sent: {names}. Replace them by the files."
            )
            raise Wrong(sentence.format(names=named(self.bad_links)))
        return self

    def _walk(self, folder: Path, prefix: str, above: tuple[tuple[int, int], ...]) -> None:
        for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
            name, path = prefix + entry.name, Path(entry.path)
            if is_left_out(entry.name):
                self.left_out.append(name)
                continue
            if entry.is_symlink() and not self._is_within(path):
                self.bad_links.append(f"{name} -> {path.readlink()}")
                continue
            mode = path.stat().st_mode
            if stat.S_ISDIR(mode):
                identity = _identity(path)
                if identity in above:
                    self.left_out.append(f"{name} -> {path.readlink()}")  # a link to a folder around it
                else:
                    self._walk(path, name + "/", (*above, identity))
            elif stat.S_ISREG(mode):
                self._add(name, path)
            else:
                self.left_out.append(name)  # a pipe, a socket, a device

    def _add(self, name: str, path: Path) -> None:
        if name.encode("utf-8", "replace").decode() != name:
            sentence = say("PATH: the name {name} is not UTF-8. Rename the file.")
            raise Wrong(sentence.format(name=shown(name, 300)))
        if len(self.files) == MOST_FILES:
            raise Wrong(say("PATH: the folder has more than {most} files.").format(most=MOST_FILES))
        self.files[name] = path

    def _is_within(self, path: Path) -> bool:
        try:
            return self.root in (path.resolve(strict=True), *path.resolve(strict=True).parents)
        except (OSError, RuntimeError):  # it leads nowhere, or (before Python 3.13) round in a circle
            return False


@contextmanager
def packed(paths: Sequence[Path]) -> Iterator[tuple[list[Path], list[str]]]:
    """The files to send (those given, or the one folder packed), and the names of what is left out."""
    if not paths:
        raise Wrong(say("PATH: give files, one archive or one folder."))
    for path in paths:
        _refuse_unusable(path)
    if not any(path.is_dir() for path in paths):
        names = [path.name for path in paths]
        if double := {name for name in names if names.count(name) > 1}:
            sentence = say("PATH: two files called {name}: give the folder that holds them instead.")
            raise Wrong(sentence.format(name=double.pop()))
        yield list(paths), []
        return
    if len(paths) > 1:
        raise Wrong(say("PATH: one folder alone, or files."))
    try:
        place = tempfile.TemporaryDirectory()
    except OSError as error:
        sentence = say("There is no folder for temporary files: {why}. TMPDIR can name one.")
        raise LocalFault(sentence.format(why=reason(error))) from error
    with place:
        folder = read_folder(paths[0])
        target = Path(place.name, "code.tar.gz")  # not the folder's name, which may be too long for a file
        _write(folder, target)
        yield [target], folder.left_out


def read_folder(path: Path) -> Folder:
    try:
        return Folder(path.resolve()).read()
    except RecursionError:
        raise Wrong(say("PATH: the folder is nested too deeply.")) from None
    except OSError as error:
        raise LocalFault(say("The folder cannot be read: {why}.").format(why=reason(error))) from error


def named(names: Sequence[str]) -> str:
    """Return the first names, and how many more there are."""
    shown = ", ".join(names[:MOST_NAMED])
    more = len(names) - MOST_NAMED
    return shown if more <= 0 else say("{names} and {more} more").format(names=shown, more=more)


def _write(folder: Folder, target: Path) -> None:
    """Write the archive. Times, owners and the order of the disk do not reach it."""
    try:
        with target.open("wb") as raw, gzip.GzipFile("", "wb", fileobj=raw, mtime=0) as zipped:
            _fill(zipped, folder)
    except OSError as error:
        sentence = say("The folder cannot be packed: {why}. TMPDIR can name another folder for temporary files.")
        raise LocalFault(sentence.format(why=reason(error))) from error


def _fill(target: Any, folder: Folder) -> None:
    with tarfile.open(fileobj=target, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, path in folder.files.items():
            with opened(path) as file:
                member = tarfile.TarInfo(name)
                status = os.fstat(file.fileno())
                member.size, member.mode = status.st_size, 0o755 if status.st_mode & 0o100 else 0o644
                archive.addfile(member, file)


def _refuse_unusable(path: Path) -> None:
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        raise Wrong(say("PATH: there is no {name}.").format(name=path)) from None
    except (OSError, ValueError) as error:
        raise LocalFault(say("PATH: {why}.").format(why=reason(error))) from error
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
        raise Wrong(say("PATH: {name} is neither a file nor a folder.").format(name=path))


def _identity(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_dev, status.st_ino
