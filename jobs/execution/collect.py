"""Taking over what a run left: read as written by an enemy, copied by descriptor, kept under canonical names.

Called only after everything of the run is dead, so nothing changes under our hands; links and special files are still
there, and every number in the folder is a lie until counted. What is left out is told.
"""

import contextlib
import errno
import hashlib
import os
import stat
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from jobs.execution.names import MAX_DEPTH, canonical, readable, why_refused
from jobs.execution.told import Told as _

METRICS_NAME = "metrics.json"
METRICS_BYTES = 1024 * 1024
PREDICTIONS_NAME = "predictions"
MAX_ARTIFACTS = 2000
MAX_ENTRIES = 20_000
MOST_TOLD = 20
_CHUNK = 1024 * 1024
# The machine's own trouble, which must not cost a run its files.
_PLATFORM_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE, errno.ENOMEM}

_OPEN_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# O_NONBLOCK: opening a FIFO must not wait for a writer.
_OPEN_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class Refused(Exception):
    """A file that is not taken over; the message says why."""


class LeftOut:
    """The files that were not taken over: all counted, the first few in sentences."""

    def __init__(self) -> None:
        self._count = 0
        self._told: list[str] = []

    def add(self, path: str, why: str) -> None:
        self._count += 1
        if len(self._told) < MOST_TOLD:
            self._told.append(_("%(path)s was left out: %(why)s.", path=readable(path), why=why))

    @property
    def sentences(self) -> list[str]:
        more = self._count - len(self._told)
        return [*self._told, *([_("%(count)d more were left out.", count=more)] if more else [])]


class Links:
    """The number of names that each file has within the output folder.

    A file with several is taken over only if all of them lie there: a further one would be the name of something that the
    run was not given to write. In a sandbox the folder is a file system of its own, and none can lead out of it.
    """

    def __init__(self, output: int) -> None:
        self._output = output
        self._names: Counter[tuple[int, int]] | None = None
        self._entries = 0

    def are_inside(self, state: os.stat_result) -> bool:
        if self._names is None:
            self._names = Counter()
            self._count(self._output, 1, self._names)
        return self._names[state.st_dev, state.st_ino] == state.st_nlink

    def _count(self, folder: int, depth: int, names: Counter[tuple[int, int]]) -> None:
        for name in os.listdir(folder):
            self._entries += 1
            if self._entries > MAX_ENTRIES:
                return
            state = os.stat(name, dir_fd=folder, follow_symlinks=False)
            if stat.S_ISREG(state.st_mode):
                names[state.st_dev, state.st_ino] += 1
            elif stat.S_ISDIR(state.st_mode) and depth < MAX_DEPTH:
                inner = os.open(name, _OPEN_FOLDER, dir_fd=folder)
                try:
                    self._count(inner, depth + 1, names)
                finally:
                    os.close(inner)


@dataclass
class Collected:
    links: Links
    left_out: LeftOut = field(default_factory=LeftOut)
    metrics_error: str | None = None
    predictions_error: str | None = None
    most: int = field(default_factory=lambda: MAX_ARTIFACTS)
    skipped: tuple[str, ...] = (METRICS_NAME,)
    # Before the paths in sentences, where a folder of the output is taken over by itself.
    place: str = ""
    artifacts: list[dict[str, Any]] = field(default_factory=list)
    entries: int = 0
    total: int = 0

    def leave_out(self, path: str, why: str) -> None:
        self.left_out.add(self.place + path, why)


def collect(output: int, run_folder: int, max_bytes: int, *, takes_predictions: bool = False) -> Collected:
    """Stage metrics.json and artifacts/ of the folder `output` in `run_folder`, both given as descriptors.

    With `takes_predictions` the folder predictions/ is staged by itself: all of it that can be taken over.
    """
    found = Collected(Links(output))
    if takes_predictions:
        found.skipped = (METRICS_NAME, PREDICTIONS_NAME)
    try:
        _copy(output, METRICS_NAME, run_folder, METRICS_NAME, METRICS_BYTES, found.links)
    except Refused as refusal:
        found.metrics_error = refusal.args[0]
    if not takes_predictions and os.listdir(output) in ([], [METRICS_NAME]):
        return found
    os.mkdir("artifacts", 0o700, dir_fd=run_folder)
    target = os.open("artifacts", _OPEN_FOLDER, dir_fd=run_folder)
    try:
        if takes_predictions:
            found.predictions_error = _take_predictions(output, run_folder, target, max_bytes, found)
        _walk(output, target, "", 1, max_bytes, found)
    finally:
        os.close(target)
    return found


def _take_predictions(output: int, run_folder: int, artifacts: int, max_bytes: int, found: Collected) -> str | None:
    """Stage what can be of predictions/; why there is nothing to score, or None. Files at its top are artifacts too."""
    taken = Collected(found.links, found.left_out, most=MAX_ENTRIES, skipped=(), place=f"{PREDICTIONS_NAME}/")
    try:
        source = os.open(PREDICTIONS_NAME, _OPEN_FOLDER, dir_fd=output)
    except FileNotFoundError:
        return _("missing")
    except OSError:
        return _("not a folder")
    try:
        os.mkdir(PREDICTIONS_NAME, 0o700, dir_fd=run_folder)
        target = os.open(PREDICTIONS_NAME, _OPEN_FOLDER, dir_fd=run_folder)
        try:
            _walk(source, target, "", 1, max_bytes, taken)
            if not taken.artifacts:
                first = next(iter(found.left_out.sentences), "")
                return _("nothing in it could be taken over (%(first)s)", first=first) if first else _("empty")
            _keep_tops(taken, target, artifacts, found)
        finally:
            os.close(target)
    finally:
        os.close(source)
    return None


def _keep_tops(taken: Collected, source: int, artifacts: int, found: Collected) -> None:
    tops = [item for item in taken.artifacts if "/" not in item["path"]]
    if not tops:
        return
    os.mkdir(PREDICTIONS_NAME, 0o700, dir_fd=artifacts)
    kept = os.open(PREDICTIONS_NAME, _OPEN_FOLDER, dir_fd=artifacts)
    try:
        for item in tops:
            path = f"{PREDICTIONS_NAME}/{item['path']}"
            if len(found.artifacts) >= found.most:
                found.leave_out(path, _("more than %(most)d files", most=found.most))
                continue
            # Both names are ours by now, on one file system.
            os.link(item["path"], item["path"], src_dir_fd=source, dst_dir_fd=kept)
            found.artifacts.append({**item, "path": path})
            found.total += item["bytes"]
    finally:
        os.close(kept)


def _walk(source: int, target: int, prefix: str, depth: int, max_bytes: int, found: Collected) -> None:
    """Take over a folder. Of names that become equal the canonical one comes first, and stays."""
    kept = set()
    for name in sorted(os.listdir(source), key=lambda name: (canonical(name), name != canonical(name), name)):
        new_name = canonical(name)
        path = prefix + new_name
        found.entries += 1
        if found.entries > MAX_ENTRIES:
            if found.entries == MAX_ENTRIES + 1:
                found.leave_out(path, _("this and all that follows: more than %(most)d entries", most=MAX_ENTRIES))
            return
        if path in found.skipped:
            continue
        is_folder = False
        try:
            if why := why_refused(new_name, found.place + path):
                raise Refused(why)
            if new_name in kept:
                raise Refused(_("another spelling of its name was kept"))
            is_folder = stat.S_ISDIR(os.stat(name, dir_fd=source, follow_symlinks=False).st_mode)
            if is_folder:
                _walk_folder(source, target, name, path, depth, max_bytes, found)
            else:
                _take(source, target, name, path, max_bytes, found)
            kept.add(new_name)
        except Refused as refusal:
            found.leave_out(prefix + name + "/" * is_folder, refusal.args[0])
        except OSError as error:
            if error.errno in _PLATFORM_ERRORS:
                raise
            found.leave_out(path + "/" * is_folder, _("could not be read: %(why)s", why=error.strerror))


def _walk_folder(source: int, target: int, name: str, path: str, depth: int, max_bytes: int, found: Collected) -> None:
    if depth >= MAX_DEPTH:
        raise Refused(_("deeper than %(most)d folders", most=MAX_DEPTH))
    new_name = canonical(name)
    inner = os.open(name, _OPEN_FOLDER, dir_fd=source)
    try:
        os.mkdir(new_name, 0o700, dir_fd=target)
        inner_target = os.open(new_name, _OPEN_FOLDER, dir_fd=target)
        try:
            _walk(inner, inner_target, path + "/", depth + 1, max_bytes, found)
        finally:
            os.close(inner_target)
        with contextlib.suppress(OSError):
            os.rmdir(new_name, dir_fd=target)  # only if nothing of it was taken
    finally:
        os.close(inner)


def _take(source: int, target: int, name: str, path: str, max_bytes: int, found: Collected) -> None:
    if len(found.artifacts) >= found.most:
        raise Refused(_("more than %(most)d files", most=found.most))
    size, digest = _copy(source, name, target, canonical(name), max_bytes - found.total, found.links)
    found.total += size
    found.artifacts.append({"path": path, "bytes": size, "sha256": digest})


def _copy(source: int, name: str, target: int, new_name: str, room: int, links: Links) -> tuple[int, str]:
    """Copy one regular file; (size, SHA-256). Refused for anything else, or when it is larger than `room`."""
    try:
        descriptor = os.open(name, _OPEN_FILE, dir_fd=source)
    except FileNotFoundError:
        raise Refused(_("missing")) from None
    except OSError as error:
        if error.errno in _PLATFORM_ERRORS:
            raise
        # A symbolic link (ELOOP), a socket (ENXIO) or a device without a driver.
        raise Refused(_("not a regular file")) from None
    try:
        state = os.fstat(descriptor)
        if not stat.S_ISREG(state.st_mode):
            raise Refused(_("not a regular file"))
        if state.st_nlink != 1 and not links.are_inside(state):
            raise Refused(_("a file with another name outside the output folder"))
        # The size is checked before a byte is read: a sparse file of a terabyte costs its writer nothing.
        if state.st_size > room:
            raise Refused(_("too large"))
        return _copy_bytes(descriptor, target, new_name, room)
    finally:
        os.close(descriptor)


def _copy_bytes(descriptor: int, target: int, name: str, room: int) -> tuple[int, str]:
    digest = hashlib.sha256()
    size = 0
    written = os.open(name, _CREATE, 0o600, dir_fd=target)
    try:
        while chunk := os.read(descriptor, _CHUNK):
            size += len(chunk)
            if size > room:
                raise Refused(_("too large"))
            digest.update(chunk)
            view = memoryview(chunk)
            while view:
                view = view[os.write(written, view) :]
    except BaseException:
        os.unlink(name, dir_fd=target)
        raise
    finally:
        os.close(written)
    return size, digest.hexdigest()
