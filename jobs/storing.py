"""Putting what a run left into the storage, the log beside what the end of the job needs otherwise."""

import logging
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import wait as wait_for
from pathlib import Path
from typing import Any, Protocol, cast

from django.core.files.storage import storages

from jobs.execution.told import Told as _
from jobs.workspace import StorageDown
from submissions.storage import STORAGE_ERRORS

logger = logging.getLogger(__name__)

# What a run left is worth waiting for; the deadline allows for it.
STORE_SECONDS = 300.0
AT_ONCE = 8
# So long the end's transaction, which holds rows, waits for a log that is being stored meanwhile.
LOCKED_SECONDS = 0.05


class ReplacingStorage(Protocol):
    """What both storages of ours can beyond Django's (submissions/storage.py, submissions/object_storage.py)."""

    def replace(self, name: str, source: Path) -> str:
        """Store the file under exactly this name, which is returned, in the place of what is there."""


class Storing:
    """For one worker. `is_pointless` says when trying again is: the job is given back, or no longer ours."""

    def __init__(self, is_pointless: Callable[[], bool]) -> None:
        self._is_pointless = is_pointless
        self._thread = ThreadPoolExecutor(1, "storing")
        self._begun: Future[str] | None = None
        # Whether the last file took longer than rows may be kept locked for it: then the next will, too.
        self.is_slow = False

    def store(self, name: str, source: Path) -> str:
        """Store a file under the attempt's own name, which is returned; what an earlier try left there is replaced.
        Raises StorageDown."""
        storage = cast(ReplacingStorage, storages["artifacts"])
        began, delay = time.monotonic(), 1.0
        while True:
            try:
                stored = storage.replace(name, source)
                self.is_slow = time.monotonic() - began > LOCKED_SECONDS
                return stored
            except STORAGE_ERRORS as error:
                logger.warning("storing %s: %s", name, error)
                if self._is_pointless() or time.monotonic() + delay > began + STORE_SECONDS:
                    reason = _("The run's files cannot be stored just now: %(error)s.", error=type(error).__name__)
                    raise StorageDown(reason) from error
            time.sleep(delay)
            delay = min(delay * 2, 15.0)

    def store_artifacts(self, prefix: str, folder: Path, artifacts: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Store the files under numbers, since a run's own names need not be such that a storage bears; each with its name."""
        names = [f"{prefix}/{number:04d}" for number in range(len(artifacts))]
        with ThreadPoolExecutor(AT_ONCE) as threads:  # a disk syncs many files in hardly more time than one
            stored = list(threads.map(self.store, names, (folder / item["path"] for item in artifacts)))
        return [{**item, "name": name} for item, name in zip(artifacts, stored, strict=True)]

    def begin(self, name: str, source: Path) -> None:
        """Store it on a thread; one file at a time, `settle` before the next."""
        self._begun = self._thread.submit(self.store, name, source)

    def wait(self, seconds: float | None = None) -> None:
        """Until what was begun is stored. Raises StorageDown; TimeoutError when `seconds` were not enough."""
        if self._begun is not None:
            self._begun.result(seconds)

    def settle(self) -> None:
        """Until nothing reads the file any more, whatever came of it."""
        if self._begun is not None:
            wait_for([self._begun])
            self._begun = None

    def close(self) -> None:
        self._thread.shutdown()
