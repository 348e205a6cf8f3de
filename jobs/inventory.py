"""The inventory of a worker: what it has of what leaderboards need. It is announced on its row, and claims go by it (jobs/board_needs.py).

A thread of its own looks every INVENTORY_SECONDS, and whenever the worker found no job: hashing gigabytes of labels holds up
neither heartbeats nor the jobs of other leaderboards. What a claim asks for is ready beforehand.
"""

import logging
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db import connection

from core.folder_digest import FolderDigests, FolderRefused, Stopped
from jobs.board_needs import UNSETTLED, boards_with_needs, missing, runnable
from jobs.execution import engine
from jobs.models import Worker
from jobs.pulse import DATABASE_ERRORS, forget_connection
from jobs.runner_environments import RunnerEnvironments
from jobs.sandbox import container
from jobs.scoring import NOT_OF_A_SCORER, ScoringUnavailable, folder_of_labels, folder_of_scorer
from leaderboards.models import Leaderboard
from leaderboards.scoring import BUILT_IN
from leaderboards.versioning import settle

logger = logging.getLogger(__name__)

# After a job, the next one may come at once: looking then would take its processor.
REST_SECONDS = 0.2
# While much is hashed, what is there already is announced that often.
ANNOUNCE_SECONDS = 0.5
GROUND_TRUTHS, SCORERS = "ground_truths", "scorers"
Key = tuple[str, str]


def dataset_folder(name: str) -> Path | None:
    """The folder of a data set on this machine; None when it is not there."""
    root = Path(settings.DATASET_ROOT).resolve()
    folder = (root / name).resolve()
    return folder if folder.is_relative_to(root) and folder.is_dir() else None


class Inventory:
    """The data sets, images, labels and scorers of one worker, and the leaderboards whose jobs it can run with them."""

    def __init__(self, worker_id: int, on_gain: Callable[[], object] = lambda: None) -> None:
        self.digests = FolderDigests(settings.WORK_ROOT)
        # The argument of a claim: a leaderboard's id -> the score version that it was found able for, 0 for none.
        self.boards: dict[int, int] = {}
        self.environments = RunnerEnvironments(self._image_id)
        self._worker_id = worker_id
        self._on_gain = on_gain
        self._announced: dict[str, Any] = {}
        self._announced_at = 0.0
        # Of the labels and scorers: the digest ("" for none), and when it was looked for.
        self._folders: dict[Key, tuple[str, float]] = {}
        self._refused: dict[Key, str] = {}
        self._images: dict[str, tuple[str | None, float]] = {}
        self._forgotten = 0
        self._lock = threading.Lock()
        self._nudge = threading.Event()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        self._thread = threading.Thread(target=self._keep, name="inventory", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        self._nudge.set()
        if self._thread is not None:
            self._thread.join(2)

    def look(self) -> bool:
        """Look soon, in the thread; without one at once, and return whether jobs of further leaderboards can be run."""
        if self._thread is not None:
            self._nudge.set()
            return False
        before = set(self.boards.items())
        try:
            self.refresh()
        except DATABASE_ERRORS:
            forget_connection()
        return bool(set(self.boards.items()) - before)

    def forget(self, board: Leaderboard) -> None:
        """The leaderboard's labels or scorer are not what they were: take none of its jobs until they were looked at."""
        with self._lock:
            self._forgotten += 1
            for key in _folders_of(board):
                self._folders.pop(key, None)
            self.boards = {board_id: version for board_id, version in self.boards.items() if board_id != board.pk}
        self._nudge.set()

    def refresh_what_is_quick(self) -> None:
        """Announce all that is known without reading or walking any folder."""
        boards = list(boards_with_needs())
        self._announce(boards)

    def refresh(self) -> None:
        """Look at everything that leaderboards need, and announce what changed, what is quick to tell first."""
        boards = list(boards_with_needs())
        self._announce(boards)
        for key in dict.fromkeys(key for board in boards for key in _folders_of(board)):
            if self._is_due(key):
                self._look_at(key)
            if time.monotonic() - self._announced_at > ANNOUNCE_SECONDS:
                self._announce(boards)
        self._announce(boards)

    def _keep(self) -> None:
        while not self._stopping.is_set():
            try:
                self.refresh()
            except Stopped:
                break
            except DATABASE_ERRORS as error:
                logger.warning("the inventory is not announced: %s", str(error).strip())
                forget_connection()
            except Exception:  # the thread's outermost edge: the next look tries again
                logger.exception("inventory")
                forget_connection()
            if self._nudge.wait(settings.INVENTORY_SECONDS):
                self._stopping.wait(REST_SECONDS)
            self._nudge.clear()
        connection.close()

    def _announce(self, boards: Sequence[Leaderboard]) -> None:
        """Write what is here to the worker's row if it changed; have score versions settled by it."""
        found = self._taken(boards)
        if found != self._announced:
            Worker.objects.filter(pk=self._worker_id).update(inventory=found)
            logger.info("inventory: %s", ", ".join(f"{len(names)} {kind}" for kind, names in found.items()))
        has_changed, self._announced, self._announced_at = found != self._announced, found, time.monotonic()
        if has_changed or any(UNSETTLED in missing(board, found) for board in boards):
            settle()
            boards = list(boards_with_needs())
        with self._lock:
            able = runnable(boards, {**found, **self._folders_taken(boards, bool(found[SCORERS]))})
            gained = set(able.items()) - set(self.boards.items())
            self.boards = able
        if gained:
            self._on_gain()

    def _taken(self, boards: Sequence[Leaderboard]) -> dict[str, Any]:
        datasets = sorted({board.dataset for board in boards if board.dataset})
        images = sorted({board.image for board in boards if board.image})
        can_score = self._can_score()
        with self._lock:
            folders = self._folders_taken(boards, can_score)
        there = [name for name in images if self._has_image(name)]
        self.environments.look(["", *there])
        return {
            "datasets": [name for name in datasets if dataset_folder(name)],
            "images": there,
            **folders,
            "environments": self.environments.digests(),
        }

    def _folders_taken(self, boards: Sequence[Leaderboard], can_score: bool) -> dict[str, dict[str, Any]]:
        taken: dict[str, dict[str, Any]] = {GROUND_TRUTHS: {}, SCORERS: {}}
        if not can_score:
            return taken
        taken[SCORERS] |= {name: list(scorer.versions) for name, scorer in BUILT_IN.items()}
        for kind, name in sorted({key for board in boards for key in _folders_of(board)}):
            digest, _ = self._folders.get((kind, name), ("", 0.0))
            if digest:
                taken[kind][name] = digest
        return taken

    def _can_score(self) -> bool:
        if settings.EXECUTOR == "unsafe-local":  # it would show the labels to the run
            return False
        return settings.EXECUTOR != "container" or not settings.SCORING_IMAGE or self._has_image(settings.SCORING_IMAGE)

    def _has_image(self, image: str) -> bool:
        return self._image_id(image) is not None

    def _image_id(self, image: str) -> str | None:
        """Return the id of the image ("" is the default one), as it was within INVENTORY_SECONDS; None if it is not here."""
        found, asked_at = self._images.get(image, (None, 0.0))
        lasts = settings.POLL_SECONDS if found is None else settings.INVENTORY_SECONDS
        if image in self._images and time.monotonic() - asked_at < lasts:
            return found
        wanted = container(image)
        try:
            found = engine.image_id(wanted) if wanted is not None else None
        except (OSError, subprocess.TimeoutExpired) as error:
            logger.warning("the image %s could not be asked for: %s", image, error)
            found = None
        self._images[image] = (found, time.monotonic())
        return found

    def _is_due(self, key: Key) -> bool:
        digest, looked_at = self._folders.get(key, ("", 0.0))
        return not digest or time.monotonic() - looked_at >= settings.INVENTORY_SECONDS

    def _look_at(self, key: Key) -> None:
        """Take the digest of one ground truth or scorer; "" where it is not here or has none."""
        kind, name = key
        forgotten, digest, why = self._forgotten, "", ""
        try:
            folder = folder_of_labels(name) if kind == GROUND_TRUTHS else folder_of_scorer(name)
            ignored = () if kind == GROUND_TRUTHS else NOT_OF_A_SCORER
            digest = self.digests.state(folder, ignored, self._stopping.is_set).digest
        except ScoringUnavailable:
            pass  # it is on other machines
        except FolderRefused as error:
            why = str(error)
        if why and self._refused.get(key) != why:
            logger.warning("%s %s has no digest: %s", kind, name, why)
        self._refused[key] = why
        with self._lock:
            # A folder that was forgotten meanwhile may have been read before it changed.
            if forgotten == self._forgotten:
                self._folders[key] = (digest, time.monotonic())


def _folders_of(board: Leaderboard) -> list[Key]:
    if not board.is_scored:
        return []
    own = [] if board.scorer in BUILT_IN else [(SCORERS, board.scorer)]
    return [(GROUND_TRUTHS, board.ground_truth), *own]
