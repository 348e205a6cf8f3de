"""Which names a file may have, and which names may stand beside each other."""

import re
import unicodedata
from typing import NoReturn

from django.utils.translation import gettext_lazy

from core import junk
from submissions.archive.limits import DEFAULT_LIMITS, ArchiveLimits, printable, refuse

# Control, format (bidi, zero width), surrogate, private, unassigned; line and paragraph separators.
# Plain spaces (Zs) stay: the ideographic space is at home in Japanese names.
_INVISIBLE_CATEGORIES = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}

_DRIVE = re.compile(r"[A-Za-z]:")


def check_path(path: str, limits: ArchiveLimits = DEFAULT_LIMITS) -> str:
    """The path as we keep it: relative, posix, NFC, without `.` and empty parts. Raises ArchiveRefused."""
    # Before anything that costs more than its length.
    if len(path) > limits.path_characters:
        _refuse_name(
            path,
            gettext_lazy("The name %(name)s has %(count)d characters; a path may have at most %(most)d bytes."),
            count=len(path),
            most=limits.path_bytes,
        )
    _check_spelling(path)
    parts = [part for part in unicodedata.normalize("NFC", path).split("/") if part not in ("", ".")]
    if not parts or path.endswith("/."):
        _refuse_name(path, gettext_lazy("The name %(name)s ends without a file name."))
    if ".." in parts:
        _refuse_name(path, gettext_lazy('The name %(name)s contains "..", which leads out of its folder.'))
    normalised = "/".join(parts)
    if _DRIVE.match(normalised):
        _refuse_name(path, gettext_lazy("The name %(name)s begins with a drive letter."))
    _check_size(path, parts, limits)
    return normalised


def _check_spelling(path: str) -> None:
    for character in path:
        if unicodedata.category(character) in _INVISIBLE_CATEGORIES:
            _refuse_name(
                path,
                gettext_lazy("The name %(name)s contains the character %(character)s, which is not printable."),
                character=f"U+{ord(character):04X}",
            )
    if "\\" in path:
        _refuse_name(path, gettext_lazy("The name %(name)s contains a backslash; folders are separated by /."))
    if path.startswith("/"):
        _refuse_name(path, gettext_lazy("The name %(name)s is absolute; paths must be relative."))
    if path.endswith("/") or not path:
        _refuse_name(path, gettext_lazy("The name %(name)s ends without a file name."))


def _check_size(path: str, parts: list[str], limits: ArchiveLimits) -> None:
    if len(parts) > limits.depth:
        _refuse_name(
            path,
            gettext_lazy("The name %(name)s is %(count)d levels deep; at most %(most)d are allowed."),
            count=len(parts),
            most=limits.depth,
        )
    for part in parts:
        if len(part.encode()) > limits.component_bytes:
            _refuse_name(
                path,
                gettext_lazy("The name %(name)s has a part of %(count)d bytes; at most %(most)d are allowed."),
                count=len(part.encode()),
                most=limits.component_bytes,
            )
    count = len("/".join(parts).encode())
    if count > limits.path_bytes:
        _refuse_name(
            path,
            gettext_lazy("The name %(name)s has %(count)d bytes; at most %(most)d are allowed."),
            count=count,
            most=limits.path_bytes,
        )


def _refuse_name(path: str, sentence: object, **parameters: object) -> NoReturn:
    refuse(sentence, "bad_file_name", name=printable(path), **parameters)


def decode_name(raw: bytes) -> str:
    """The UTF-8 name. Junk is passed over whatever the rest of its name is; any other name that is not UTF-8 is refused."""
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        name = raw.decode("utf-8", "replace")
        if is_junk(name):
            return name
        refuse_undecoded(raw)


def refuse_undecoded(raw: bytes) -> NoReturn:
    refuse(
        gettext_lazy("The name %(name)s is not UTF-8; pack the archive again with UTF-8 names."),
        "bad_file_name",
        name=printable(raw.decode("utf-8", "backslashreplace")),
    )


def is_junk(name: str) -> bool:
    """Whether the member is one that macOS or Windows adds by itself; a directory's name ends in a slash.

    Asked before the name is checked, so that junk with a name that breaks a rule does not cost a good archive. A name that
    leads out of the archive is never junk.
    """
    if len(name) > DEFAULT_LIMITS.path_characters or name.startswith("/") or ".." in name.split("/")[:-1]:
        return False
    return junk.is_junk(name)


def _is_root(name: str) -> bool:
    """Whether a directory is the archive's own: `tar -C folder .` begins with `./`, some packers of zips with `/`."""
    return all(part in ("", ".") for part in name.split("/"))


class Tree:
    """The names of one archive so far. No two may be one name to a file system that folds case or form, or that drops dots
    and spaces at the end."""

    def __init__(self, limits: ArchiveLimits) -> None:
        self._limits = limits
        self._paths: dict[str, str] = {}
        self._files: set[str] = set()
        self._directories: set[str] = set()

    def add(self, name: str, *, is_directory: bool) -> str | None:
        """The checked path, or None for a member to pass over (the root itself, junk)."""
        if is_directory:
            if _is_root(name):
                return None
            name = name.rstrip("/")
        if is_junk(f"{name}/" if is_directory else name):
            return None
        path = check_path(name, self._limits)
        parts = path.split("/")
        for depth in range(1, len(parts)):
            self._add_directory("/".join(parts[:depth]), path)
        key = _fold(path)
        if is_directory:
            if key in self._directories:
                _refuse_pair(
                    gettext_lazy("%(name)s and %(other)s are the same directory twice."), path, self._paths[key]
                )
            self._add_directory(path, path)
            self._directories.add(key)
        else:
            if key in self._files:
                _refuse_pair(gettext_lazy("%(name)s and %(other)s are the same name twice."), path, self._paths[key])
            if key in self._paths:
                _refuse_pair(
                    gettext_lazy("%(name)s and %(other)s are a file and a directory of one name."),
                    path,
                    self._paths[key],
                )
            self._paths[key] = path
            self._files.add(key)
        return path

    def _add_directory(self, directory: str, path: str) -> None:
        key = _fold(directory)
        if key in self._files:
            _refuse_pair(
                gettext_lazy("%(name)s and %(other)s are a directory and a file of one name."), path, self._paths[key]
            )
        if self._paths.setdefault(key, directory) != directory:
            _refuse_pair(
                gettext_lazy("%(name)s and %(other)s are one directory spelled in two ways."),
                directory,
                self._paths[key],
            )


def _fold(path: str) -> str:
    folded = unicodedata.normalize("NFC", unicodedata.normalize("NFD", path).casefold())
    # Windows drops them, and people do not see them. A part of nothing else (`...`) stays as it is.
    return "/".join(part.rstrip(". ") or part for part in folded.split("/"))


def _refuse_pair(sentence: object, path: str, other: str) -> None:
    refuse(sentence, "bad_file_name", name=printable(path), other=printable(other))
