"""The log of a run: the beginning live, the last part at the end, everything counted."""

import os
import time

from core.sizes import human_bytes
from jobs.execution.output_lines import OutputLines, ReportLines

TAIL_BYTES = 64 * 1024
# An unfinished line is shown after this time; the state of a line that is rewritten, when nothing else came for so long.
PARTIAL_SECONDS, STATE_SECONDS = 0.5, 60.0
# A byte that was rewritten counts so much less than one that stays: it costs time, but no space.
REWRITTEN_SHARE = 16


class LogFile:
    """The run's output as lines, in the order in which they end. The first `kept` bytes are written as they come, so that
    people can watch; of the rest only the last 64 KiB stay in memory and are appended by `finish` after a line that says what is
    missing.

    Lines that report progress or a metric are written to a second file, `reports`, also those beyond `kept`; it is made when
    the first one comes."""

    def __init__(self, folder: int, kept: int, streams: int = 2) -> None:
        self._folder = folder
        self._descriptor = self._make("log")
        self._reports = -1
        self._lines = [OutputLines() for _ in range(streams)]
        self._report_lines = [ReportLines() for _ in range(streams)]
        self._changed_at = [0.0] * streams
        # The stream whose line the log ends with, unfinished.
        self._open: int | None = None
        self._written_at = time.monotonic()
        self._kept = kept
        self._tail = bytearray()
        # The last part of each stream, which may say why the run failed.
        self._ends = [bytearray() for _ in range(streams)]
        self._newest = b""
        self.total = self._logged = self._reported = 0

    def _make(self, name: str) -> int:
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
        return os.open(name, flags, 0o600, dir_fd=self._folder)

    def add(self, chunk: bytes, stream: int = 0) -> None:
        self.total += len(chunk)
        self._newest = chunk or self._newest
        self._changed_at[stream] = time.monotonic()
        self._report(self._report_lines[stream].among(chunk))
        self._log(self._lines[stream].add(chunk), stream)

    def show_unfinished(self) -> None:
        """Write the unfinished lines of which nothing more came, so that people see them before they end."""
        now = time.monotonic()
        for stream, lines in enumerate(self._lines):
            if lines.is_rewritten:
                state = lines.held.rstrip(b"\r")
                if state and now - self._written_at >= STATE_SECONDS:
                    self._log(state + b"\n", stream)
            elif now - self._changed_at[stream] >= PARTIAL_SECONDS:
                self._log(lines.give_out(), stream)

    def last(self, count: int) -> bytes:
        """The end of what came last, for an error message."""
        return self._newest[-count:]

    def end_of(self, stream: int) -> bytes:
        return bytes(self._ends[stream][-TAIL_BYTES:])

    @property
    def counted(self) -> int:
        """The size that the limit is for: rewritten states count a sixteenth."""
        lasting = self._logged + sum(len(lines.held) for lines in self._lines)
        return max(lasting + (self.total - lasting) // REWRITTEN_SHARE, self._reported)

    @property
    def left_out(self) -> int:
        return max(0, self._logged - self._kept - TAIL_BYTES)

    def finish(self) -> None:
        for stream in sorted(range(len(self._lines)), key=self._changed_at.__getitem__):
            self._report(self._report_lines[stream].last())
            self._log(self._lines[stream].give_out().rstrip(b"\r"), stream)
        if self.left_out:
            self._write(f"\n[... {human_bytes(self.left_out)} of the log were left out here ...]\n".encode())
        self._write(bytes(self._tail[-TAIL_BYTES:]))
        os.close(self._descriptor)
        if self._reports >= 0:
            os.close(self._reports)

    def _log(self, text: bytes, stream: int) -> None:
        if not text:
            return
        end = self._ends[stream]
        end += text
        if len(end) > 2 * TAIL_BYTES:
            del end[:-TAIL_BYTES]
        if self._open not in (None, stream):
            text = b"\n" + text
        self._open = None if text.endswith(b"\n") else stream
        self._written_at = time.monotonic()
        room = max(0, self._kept - self._logged)
        self._logged += len(text)
        if room:
            self._write(text[:room])
        self._tail += text[room:]
        if len(self._tail) > 2 * TAIL_BYTES:
            del self._tail[:-TAIL_BYTES]

    def _report(self, lines: bytes) -> None:
        self._reported += len(lines)
        if lines and self._reports < 0:
            try:
                self._reports = self._make("reports")
            except OSError:
                return  # as `_write`
        _write(lines, self._reports)

    def _write(self, data: bytes) -> None:
        _write(data, self._descriptor)


def _write(data: bytes, descriptor: int) -> None:
    view = memoryview(data)
    while view:
        try:
            view = view[os.write(descriptor, view) :]
        except OSError:
            return  # the worker's disk is full: the run goes on, its log has a gap
