"""A connection of the lane's worker, with what its main loop knows of it."""

import socket
import threading
import time
from typing import Any

from gunicorn.workers.gthread import TConn

# A refused client that sends on is read for so long and so much: if it were closed at once, it might never see why.
LINGER_SECONDS, LINGER_BYTES = 2.0, 64 * 1024


class LaneConnection(TConn):
    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.received = b""
        # The pool that answers it, or the status line that refuses it (wire.py).
        self.way = ""
        # How many bytes must have come before it is looked at again.
        self.wanted = 0
        # How many more bytes are read before it is closed; None while it is open.
        self.lingers: int | None = None
        # Whether one of its calls is being answered. Cleared and sent under the lock, so that answers keep their order.
        self.is_busy = False
        self.lock = threading.Lock()

    def init(self) -> None:
        super().init()
        if self.is_http2:
            return
        if self.received:
            unreader = self.parser.unreader
            unreader.unread(unreader.take_buffered() + self.received)
            self.received = b""

    def close(self, graceful: bool = False) -> None:
        """Close without waiting. gthread waits here, in its main loop, until the other side has closed too."""
        if not graceful:
            super().close()
            return
        try:
            self.sock.setblocking(False)
            self.sock.shutdown(socket.SHUT_WR)
        except OSError:
            super().close()
        else:
            self.lingers, self.timeout = LINGER_BYTES, time.monotonic() + LINGER_SECONDS

    @property
    def has_more_buffered(self) -> bool:
        return self.parser is not None and bool(self.parser.unreader.buf.getvalue())


class Kept(dict[LaneConnection, None]):
    """The connections that wait for their next request. gthread has a list here, which it searches."""

    def append(self, conn: LaneConnection) -> None:
        self[conn] = None

    def remove(self, conn: LaneConnection) -> None:
        self.pop(conn, None)
