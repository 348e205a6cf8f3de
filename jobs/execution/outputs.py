"""A run's standard output and standard error, each through a pipe of its own."""

import os
import select

READ_BYTES = 64 * 1024
# Edge-triggered: only so does epoll name two pipes in the order in which something came.
_EVENTS = select.EPOLLIN | select.EPOLLET


class Outputs:
    """The ends that the supervisor reads, by descriptor: 0 for standard output, 1 for standard error."""

    def __init__(self) -> None:
        pipes = os.pipe(), os.pipe()
        self.streams = {reader: stream for stream, (reader, _) in enumerate(pipes)}
        self.writers = pipes[0][1], pipes[1][1]
        for reader in self.streams:
            os.set_blocking(reader, False)

    def close_writers(self) -> None:
        for writer in self.writers:
            os.close(writer)

    def register(self, poll: select.epoll) -> None:
        for reader in self.streams:
            poll.register(reader, _EVENTS)

    def read(self, reader: int, poll: select.epoll | None = None) -> bytes:
        """Return what is there, at most READ_BYTES; `poll` will tell of the rest."""
        try:
            chunk = os.read(reader, READ_BYTES)
        except BlockingIOError:
            return b""
        if poll is not None and len(chunk) == READ_BYTES:
            poll.modify(reader, _EVENTS)
        return chunk
