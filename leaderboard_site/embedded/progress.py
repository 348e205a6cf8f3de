"""Lines that say what happened and how long it took, and on a terminal what is being waited for."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

FRAMES = "|/-\\"


class Progress:
    """Safe to use from several threads. Without a terminal it prints finished lines only."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self.stream = stream or sys.stdout
        self.is_terminal = self.stream.isatty()
        self.began = time.monotonic()
        self._waiting: dict[str, tuple[float, str]] = {}
        self._lock = threading.RLock()
        self._ticker: threading.Thread | None = None
        self._frame = 0

    def say(self, text: str = "") -> None:
        with self._lock:
            self._clear()
            print(text, file=self.stream, flush=True)

    @contextmanager
    def step(self, title: str) -> Iterator[Step]:
        """One line when the step has ended: its title, what `step.result` says, and the seconds it took."""
        step = Step(self, title)
        with self._lock:
            self._waiting[title] = (step.began, "")
            self._start_ticker()
        try:
            yield step
        except BaseException:
            self._end(title)
            self.say(f"  {title:<22} failed after {time.monotonic() - step.began:.1f} s")
            raise
        self._end(title)
        self.say(f"  {title:<22} {step.result:<44} {time.monotonic() - step.began:6.1f} s")

    def note(self, title: str, detail: str) -> None:
        with self._lock:
            if title in self._waiting:
                self._waiting[title] = (self._waiting[title][0], detail)

    def _end(self, title: str) -> None:
        with self._lock:
            self._clear()
            self._waiting.pop(title, None)

    def _clear(self) -> None:
        if self.is_terminal:
            self.stream.write("\r\x1b[K")

    def _start_ticker(self) -> None:
        if self.is_terminal and self._ticker is None:
            self._ticker = threading.Thread(target=self._tick, daemon=True)
            self._ticker.start()

    def _tick(self) -> None:
        while True:
            time.sleep(0.15)
            with self._lock:
                if not self._waiting:
                    self._ticker = None
                    return
                self._frame += 1
                now = time.monotonic()
                parts = [
                    f"{title} {now - began:.0f} s{' ' + detail if detail else ''}"
                    for title, (began, detail) in self._waiting.items()
                ]
                line = f"  {FRAMES[self._frame % 4]} {'; '.join(parts)}"
                self.stream.write("\r\x1b[K" + line[:100])
                self.stream.flush()


class Step:
    def __init__(self, progress: Progress, title: str) -> None:
        self.began = time.monotonic()
        self.result = "ready"
        self._progress = progress
        self._title = title

    def note(self, detail: str) -> None:
        self._progress.note(self._title, detail)
