"""Removing what a run left in its folder, beside the next run's beginning."""

from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from jobs.workspace import remove_folder


class Tidying:
    """A thread that removes the folders of runs that are over, one at a time: whoever brings the next waits for the last.

    No run sees another's folder, so nothing but the disk's room depends on when it goes.
    """

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, "tidying")
        self._last: Future[None] | None = None

    def remove(self, folder: Path) -> None:
        """Begin to."""
        self.wait()
        self._last = self._thread.submit(remove_folder, folder)

    def wait(self) -> None:
        """Until nothing is left to be removed."""
        if self._last is not None:
            self._last.result()
            self._last = None

    def close(self) -> None:
        self._thread.shutdown()
