"""The log of a run: the beginning live, the last part at the end, everything counted."""

import os
import re

TAIL_BYTES = 64 * 1024


# What a run says about itself (docs/submissions.md): such lines are for programs too.
REPORT_WORDS = (b"::progress ", b"::metric ")
LONGEST_REPORT = 4096
_LINE_ENDS = re.compile(rb"[\r\n]")


class ReportLines:
    """Picks the lines that report progress or a metric out of a run's output, however its bytes are cut."""

    def __init__(self) -> None:
        self._rest = b""

    def among(self, chunk: bytes) -> bytes:
        """Those that `chunk` completes, each with its newline; overlong ones are dropped."""
        *lines, rest = _LINE_ENDS.split(self._rest + chunk)
        # One byte more than allowed is enough to know that the line is too long.
        self._rest = rest[: LONGEST_REPORT + 1]
        return b"".join(line + b"\n" for line in lines if line.startswith(REPORT_WORDS) and len(line) <= LONGEST_REPORT)

    def last(self) -> bytes:
        """The line that the end of the output completes."""
        return self.among(b"\n")


class LogFile:
    """Raw bytes of the run's standard output and error. The first `kept` bytes are written as they come, so that people can
    watch; of the rest only the last 64 KiB stay in memory and are appended by `finish` after a line that says what is missing.

    Lines that report progress or a metric are written to a second file, `reports`, also those beyond `kept`; it is made when
    the first one comes."""

    def __init__(self, folder: int, kept: int) -> None:
        self._folder = folder
        self._descriptor = self._make("log")
        self._reports = -1
        self._report_lines = ReportLines()
        self._kept = kept
        self._tail = bytearray()
        self._newest = b""
        self.total = 0

    def _make(self, name: str) -> int:
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
        return os.open(name, flags, 0o600, dir_fd=self._folder)

    def add(self, chunk: bytes) -> None:
        room = max(0, self._kept - self.total)
        self.total += len(chunk)
        self._newest = chunk or self._newest
        self._report(self._report_lines.among(chunk))
        if room:
            self._write(chunk[:room])
        self._tail += chunk[room:]
        if len(self._tail) > 2 * TAIL_BYTES:
            del self._tail[:-TAIL_BYTES]

    def last(self, count: int) -> bytes:
        """The end of what came last, for an error message."""
        return self._newest[-count:]

    @property
    def left_out(self) -> int:
        return max(0, self.total - self._kept - TAIL_BYTES)

    def finish(self) -> None:
        if self.left_out:
            self._write(b"\n[... %d bytes of the log were left out here ...]\n" % self.left_out)
        self._write(bytes(self._tail[-TAIL_BYTES:]))
        os.close(self._descriptor)
        self._report(self._report_lines.last())
        if self._reports >= 0:
            os.close(self._reports)

    def _report(self, lines: bytes) -> None:
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
