"""A request's body as the socket gives it, in pieces as large as they are asked for.

gunicorn's own reader of a body goes through it 1024 bytes at a time and copies what it holds at each step: for 50 MB more
processor time than parsing and hashing them. Only bodies of a known length; chunked ones are gunicorn's.
"""

import io
from typing import Any

from gunicorn.http.body import Body, LengthReader
from gunicorn.http.unreader import SocketUnreader

BUFFER_BYTES = 64 * 1024


class SocketBody(io.RawIOBase):
    """The next `length` bytes of a connection: first what was read of it already, then straight from the socket."""

    def __init__(self, unreader: SocketUnreader, length: int) -> None:
        self._unreader, self._left = unreader, length

    def readable(self) -> bool:
        return True

    @property
    def is_read(self) -> bool:
        return not self._left

    def readinto(self, buffer: Any) -> int:
        room = memoryview(buffer).cast("B")[: self._left]
        if not room:
            return 0
        if waiting := self._unreader.take_buffered():
            count = min(len(waiting), len(room))
            room[:count] = waiting[:count]
            self._unreader.unread(waiting[count:])
        else:
            count = self._unreader.sock.recv_into(room)
        self._left -= count
        return count


def is_read(request: Any) -> bool:
    """Whether the request's body has been read to its end."""
    raw = getattr(request.body, "raw", None)
    return isinstance(raw, SocketBody) and raw.is_read


def read_straight(request: Any) -> None:
    """Give gunicorn's request a body that reads straight from its socket, where its length is known."""
    body = request.body
    if type(body) is Body and type(body.reader) is LengthReader and type(body.reader.unreader) is SocketUnreader:
        request.body = io.BufferedReader(SocketBody(body.reader.unreader, body.reader.length), BUFFER_BYTES)
