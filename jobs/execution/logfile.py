"""The log of a run: the beginning live, the last part at the end, everything counted."""

import os

TAIL_BYTES = 64 * 1024


class LogFile:
    """Raw bytes of the run's standard output and error. The first `kept` bytes are written as they come, so that people can
    watch; of the rest only the last 64 KiB stay in memory and are appended by `finish` after a line that says what is missing."""

    def __init__(self, folder: int, kept: int) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
        self._descriptor = os.open("log", flags, 0o600, dir_fd=folder)
        self._kept = kept
        self._tail = bytearray()
        self._newest = b""
        self.total = 0

    def add(self, chunk: bytes) -> None:
        room = max(0, self._kept - self.total)
        self.total += len(chunk)
        self._newest = chunk or self._newest
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

    def _write(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            try:
                view = view[os.write(self._descriptor, view) :]
            except OSError:
                return  # the worker's disk is full: the run goes on, its log has a gap
