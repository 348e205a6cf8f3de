"""A line about long work now and then, on standard error: each second on a terminal, each half minute in a log."""

import time
from typing import Any

from core.sizes import human_bytes


class Progress:
    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self._is_terminal = bool(getattr(stream, "isatty", lambda: False)())
        self._every = 1.0 if self._is_terminal else 30.0
        self._parts, self._bytes, self._last_name = 0, 0, ""
        self._told_at = time.monotonic()

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *_: Any) -> None:
        if self._is_terminal:
            self._stream.write("\r\x1b[K", ending="")

    def __call__(self, name: str, size: int) -> None:
        self._bytes += size
        if name != self._last_name:
            self._parts += 1
            self._last_name = name
        if time.monotonic() - self._told_at < self._every:
            return
        self._told_at = time.monotonic()
        line = f"  {self._parts} parts, {human_bytes(self._bytes)}: {name[:60]}"
        self._stream.write(f"\r\x1b[K{line}" if self._is_terminal else line, ending="" if self._is_terminal else "\n")
