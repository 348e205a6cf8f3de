"""Connections of slow clients, which must not hold a thread of the pool.

A body must come at a minimum rate. The part of an answer that a client does not take at once is kept, and one thread sends
it on to all such clients.
"""

import errno
import os
import selectors
import socket
import struct
import tempfile
import termios
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from fcntl import ioctl
from functools import partial
from typing import Any

from django.conf import settings
from gunicorn.workers.gthread import PollableMethodQueue

# After the grace period, a transfer below this average rate is given up.
LEAST_BYTES_PER_SECOND = 8 * 1024
GRACE_SECONDS = 20
# The most of an answer that is kept on disk, unless it is a file; beyond it, the thread waits for the client.
MOST_KEPT_BYTES = 16 * 1024 * 1024
SEND_BYTES = 256 * 1024
SWEEP_SECONDS = 1.0


@dataclass
class Piece:
    """A part of a file, to be sent."""

    descriptor: int
    at: int
    end: int
    # Whether the file was made here for bytes that the client did not take, and can grow.
    is_ours: bool

    def send(self, sock: socket.socket) -> int:
        size = min(SEND_BYTES, self.end - self.at)
        try:
            count = os.sendfile(sock.fileno(), self.descriptor, self.at, size)
        except OSError as error:
            if error.errno != errno.EINVAL:  # some file systems do not support it
                raise
            count = sock.send(os.pread(self.descriptor, size, self.at))
        # If the file has become shorter, the rest never comes.
        self.at = self.at + count if count else self.end
        return count


@dataclass
class Unsent:
    """The rest of an answer, in order."""

    # Bytes that the kernel had taken before and the client had not.
    queued_bytes: int
    pieces: deque[Piece] = field(default_factory=deque)
    began: float = field(default_factory=time.monotonic)
    sent_bytes: int = 0

    def add(self, data: memoryview) -> None:
        if not self.pieces or not self.pieces[-1].is_ours:
            with tempfile.TemporaryFile(dir=settings.FILE_UPLOAD_TEMP_DIR) as file:
                self.pieces.append(Piece(os.dup(file.fileno()), 0, 0, True))
        last = self.pieces[-1]
        while data:
            count = os.pwrite(last.descriptor, data, last.end)
            last.end, data = last.end + count, data[count:]

    def add_file(self, descriptor: int, at: int, end: int) -> None:
        self.pieces.append(Piece(os.dup(descriptor), at, end, False))

    @property
    def kept_bytes(self) -> int:
        return sum(piece.end for piece in self.pieces if piece.is_ours)

    def send_some(self, sock: socket.socket) -> bool:
        """Send one portion; return whether all is sent. Raises BlockingIOError if the client takes no more at the moment."""
        while self.pieces:
            piece = self.pieces[0]
            if piece.at < piece.end:
                self.sent_bytes += piece.send(sock)
                return False
            os.close(self.pieces.popleft().descriptor)
        return True

    def is_too_slow(self, sock: socket.socket) -> bool:
        return _is_too_slow(self.began, self._taken_bytes(sock))

    def lead_bytes(self, sock: socket.socket) -> float:
        """Return how much more the client has taken than at the least rate; negative for one that is behind."""
        return self._taken_bytes(sock) - (time.monotonic() - self.began) * LEAST_BYTES_PER_SECOND

    def _taken_bytes(self, sock: socket.socket) -> int:
        return self.queued_bytes + self.sent_bytes - _queued_bytes(sock)

    def close(self) -> None:
        while self.pieces:
            os.close(self.pieces.popleft().descriptor)


def _queued_bytes(sock: socket.socket) -> int:
    """Return how many bytes the kernel holds that the client has not taken."""
    count: int = struct.unpack("i", ioctl(sock, termios.TIOCOUTQ, bytes(4)))[0]
    return count


def _is_too_slow(began: float, count: int) -> bool:
    seconds = time.monotonic() - began - GRACE_SECONDS
    return seconds > 0 and count < seconds * LEAST_BYTES_PER_SECOND


class ClientSocket(socket.socket):
    """A client's connection that measures what comes, and keeps what the client does not take."""

    def __init__(self, accepted: socket.socket) -> None:
        super().__init__(fileno=accepted.detach())
        self.unsent: Unsent | None = None
        self._began, self._received_bytes = 0.0, 0

    def begin(self) -> None:
        """Start to measure how fast a body comes."""
        self._began, self._received_bytes = time.monotonic(), 0

    def recv(self, *args: Any) -> bytes:
        data = super().recv(*args)
        self._count(len(data))
        return data

    def recv_into(self, *args: Any) -> int:
        count = super().recv_into(*args)
        self._count(count)
        return count

    def _count(self, count: int) -> None:
        self._received_bytes += count
        if self._began and count and _is_too_slow(self._began, self._received_bytes):
            raise TimeoutError(errno.ETIMEDOUT, "the body comes too slowly")

    def end(self) -> None:
        """Stop measuring: the main loop reads what comes next and has its own deadline."""
        self._began = 0.0

    def sendall(self, data: Any, flags: int = 0) -> None:
        """Send what the client takes at once and keep the rest."""
        view = memoryview(data).cast("B")
        while view and self.unsent is None:
            try:
                view = view[self.send(view, flags | socket.MSG_DONTWAIT) :]
            except BlockingIOError:
                self.unsent = Unsent(_queued_bytes(self))
        if self.unsent is not None and view:
            self.unsent.add(view)
            if self.unsent.kept_bytes > MOST_KEPT_BYTES:
                self._send_unsent(self.unsent)

    def sendfile(self, file: Any, offset: int = 0, count: int | None = None) -> int:
        """Leave the whole file to the thread for slow readers; nothing is copied."""
        end = os.fstat(file.fileno()).st_size if count is None else offset + count
        self.unsent = self.unsent or Unsent(_queued_bytes(self))
        self.unsent.add_file(file.fileno(), offset, end)
        return end - offset

    def _send_unsent(self, unsent: Unsent) -> None:
        """Wait in this thread until the client has taken what is kept."""
        self.setblocking(True)
        while not unsent.send_some(self):
            if unsent.is_too_slow(self):
                raise TimeoutError(errno.ETIMEDOUT, "the answer is read too slowly")
        self.unsent = None

    def close(self) -> None:
        if self.unsent is not None:
            self.unsent.close()
            self.unsent = None
        super().close()


def _lead_bytes(sock: ClientSocket) -> float:
    return sock.unsent.lead_bytes(sock) if sock.unsent else 0.0


class SlowReaders(threading.Thread):
    """Send kept answers to slow clients, at most so many at a time; the slowest makes room for a new one."""

    def __init__(self, most: int) -> None:
        super().__init__(name="slow readers", daemon=True)
        self._most = most
        self._calls = PollableMethodQueue()
        self._calls.init()
        self._poller = selectors.DefaultSelector()
        self._poller.register(self._calls.fileno(), selectors.EVENT_READ, self._calls.run_callbacks)
        self._waiting: dict[ClientSocket, Callable[[bool], None]] = {}

    def take(self, sock: ClientSocket, done: Callable[[bool], None]) -> None:
        """Send what the socket keeps, then call `done` with whether all was sent."""
        self._calls.defer(self._add, sock, done)

    def run(self) -> None:
        swept_at = 0.0
        while True:
            for key, _ in self._poller.select(SWEEP_SECONDS):
                key.data(key.fileobj)
            if time.monotonic() - swept_at > SWEEP_SECONDS:
                swept_at = time.monotonic()
                for sock in [one for one in self._waiting if one.unsent is None or one.unsent.is_too_slow(one)]:
                    self._end(sock, False)

    def _add(self, sock: ClientSocket, done: Callable[[bool], None]) -> None:
        if len(self._waiting) >= self._most:
            self._end(min(self._waiting, key=_lead_bytes), False)
        try:
            sock.setblocking(False)
            self._poller.register(sock, selectors.EVENT_WRITE, partial(self._send, sock))
        except (OSError, ValueError):
            done(False)
        else:
            self._waiting[sock] = done

    def _send(self, sock: ClientSocket, _: Any) -> None:
        # What happened before it in this round of events may have ended and closed it.
        if sock not in self._waiting:
            return
        try:
            is_sent = sock.unsent is None or sock.unsent.send_some(sock)
        except BlockingIOError:
            return
        except OSError:
            self._end(sock, False)
        else:
            if is_sent:
                sock.unsent = None
                self._end(sock, True)

    def _end(self, sock: ClientSocket, is_sent: bool) -> None:
        self._poller.unregister(sock)
        self._waiting.pop(sock)(is_sent)
