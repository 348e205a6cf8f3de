"""A multipart form that is read from its files while it is sent."""

from __future__ import annotations

import io
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from core.names import shown
from leaderboard_site.client.faults import LocalFault, Wrong, reason
from leaderboard_site.client.language import say

Progress = Callable[[int, int], None]


class UploadBody:
    def __init__(self, fields: dict[str, str], files: Sequence[Path], progress: Progress) -> None:
        self.boundary = uuid.uuid4().hex
        self._pieces: list[tuple[bytes | Path, int]] = []
        for name, value in fields.items():
            self._add(self._head(f'name="{name}"'), value.encode("utf-8", "surrogateescape"), b"\r\n")
        for path in files:
            self._add(self._head(f'name="files"; filename="{_checked(path.name)}"'))
            self._pieces.append((path, _size_of(path)))
            self._add(b"\r\n")
        self._add(f"--{self.boundary}--\r\n".encode())
        self.length = sum(size for _piece, size in self._pieces)
        self._progress, self._sent = progress, 0
        self._open: Any = None
        self._left = 0

    def _add(self, *pieces: bytes) -> None:
        self._pieces += [(piece, len(piece)) for piece in pieces]

    def _head(self, disposition: str) -> bytes:
        return f"--{self.boundary}\r\nContent-Disposition: form-data; {disposition}\r\n\r\n".encode()

    def read(self, size: int = -1) -> bytes:
        """Return the next part of the body, as `http.client` asks for it; a fault of a file is a LocalFault."""
        while True:
            if self._open is None:
                if not self._pieces:
                    return b""
                piece, self._left = self._pieces.pop(0)
                self._open = io.BytesIO(piece) if isinstance(piece, bytes) else opened(piece)
            try:
                part = self._open.read(self._left if size < 0 else min(size, self._left))
            except OSError as error:
                raise LocalFault(say("A file cannot be read: {why}.").format(why=reason(error))) from error
            if part:
                self._left -= len(part)
                self._sent += len(part)
                self._progress(self._sent, self.length)
                return bytes(part)
            self._open.close()
            self._open = None
            if self._left:
                raise LocalFault(say("A file became shorter while it was sent. Nothing was stored."))


def opened(path: Path) -> Any:
    try:
        return path.open("rb")
    except OSError as error:
        raise LocalFault(say("A file cannot be read: {why}.").format(why=reason(error))) from error


def _size_of(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError as error:
        raise LocalFault(say("A file cannot be read: {why}.").format(why=reason(error))) from error


def _checked(name: str) -> str:
    """Return the name of a file if a form can carry it."""
    is_utf8 = name.encode("utf-8", "replace").decode() == name
    if not is_utf8 or any(letter < " " or letter in '"\\\x7f' for letter in name):
        sentence = say(
            "PATH: the name {name} cannot be sent: it is not UTF-8, or has a quotation mark or a control character. Rename the file."
        )
        raise Wrong(sentence.format(name=shown(name, 300)))
    return name
