"""Standard output and error. What a console cannot show is replaced, and no fault of a stream is taken for the site's."""

from __future__ import annotations

import errno
import json
import os
import re
import unicodedata
from collections.abc import Sequence
from typing import Any, TextIO

from leaderboard_site.client.faults import LocalFault, PipeClosed, reason
from leaderboard_site.client.language import say

_COLOUR = re.compile(r"\x1b\[[0-9;:]*m")


class Console:
    """What a command says: results on standard output, all else on standard error."""

    def __init__(self, out: TextIO | None, err: TextIO | None) -> None:
        self.out, self.err, self.is_json = _tolerant(out), _tolerant(err), False

    def show(self, text: str) -> None:
        """Show a part of a log: on standard output, unless that is for one JSON object."""
        stream = self.err if self.is_json else self.out
        text = text if stream is not None and stream.isatty() else _COLOUR.sub("", text)
        if self.is_json:
            self._whisper(text)
        else:
            self._write(text)

    def result(self, value: Any, words: str) -> None:
        """Write the result: its words, or one JSON object."""
        if self.is_json:
            is_unicode = "utf" in (getattr(self.out, "encoding", None) or "utf-8").lower()
            words = json.dumps(value, ensure_ascii=not is_unicode)
        self._write(words + "\n")

    def tell(self, words: str) -> None:
        self._whisper(words + "\n")

    def progress(self, words: str, *, is_last: bool) -> None:
        """Show one line that the next call replaces, on a terminal only."""
        if self.err is not None and self.err.isatty():
            self._whisper(f"\r  {words}   " + ("\n" if is_last else ""))

    def _write(self, text: str) -> None:
        if self.out is None:
            return
        try:
            _put(self.out, text)
        except OSError as error:
            # Windows says EINVAL where a pipe has been closed.
            if isinstance(error, BrokenPipeError) or (os.name == "nt" and error.errno == errno.EINVAL):
                raise PipeClosed from error
            raise LocalFault(say("Standard output cannot be written: {why}.").format(why=reason(error))) from error

    def _whisper(self, text: str) -> None:
        if self.err is None:
            return
        try:
            _put(self.err, text)
        except OSError:
            silence(self.err)
            self.err = None  # it has no reader


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns as wide as their longest cell; a Japanese letter takes two places."""
    lines = [list(heads), *map(list, rows)]
    widths = [max(_width(line[index]) for line in lines) for index in range(len(heads))]
    padded = (
        "  ".join(cell + " " * (widths[index] - _width(cell)) for index, cell in enumerate(line)) for line in lines
    )
    return "\n".join(line.rstrip() for line in padded)


def silence(stream: TextIO | None) -> None:
    """Point a stream nowhere, so that Python's own flush at the end does not complain."""
    try:
        if stream is not None:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    except (OSError, ValueError):
        pass  # closed already, or no file


def _width(text: str) -> int:
    return sum(2 if unicodedata.east_asian_width(letter) in "WF" else 1 for letter in text)


def _tolerant(stream: TextIO | None) -> TextIO | None:
    if stream is not None and hasattr(stream, "reconfigure"):
        stream.reconfigure(errors="replace")
    return stream


def _put(stream: TextIO, text: str) -> None:
    stream.write(text)
    stream.flush()
