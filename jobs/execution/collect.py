"""Taking over what a run left: read as written by an enemy, copied by descriptor, renamed by rule.

Called only after everything of the run is dead, so nothing changes under our hands; links and special files are still
there, and every number in the folder is a lie until counted.
"""

import contextlib
import hashlib
import os
import stat
from dataclasses import dataclass, field
from typing import Any

from jobs.execution.told import Told as _

METRICS_NAME = "metrics.json"
METRICS_BYTES = 1024 * 1024
PREDICTIONS_NAME = "predictions"
# Of the predictions, the files that stay as artifacts too: those at the top, up to so many; maps below are only scored.
PREDICTIONS_KEPT = 20
MAX_ARTIFACTS = 1000
MAX_ENTRIES = 20_000
MAX_DEPTH = 8
MAX_NAME_BYTES = 100
_REASONS_KEPT = 10
_CHUNK = 1024 * 1024

_OPEN_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# O_NONBLOCK: opening a FIFO must not wait for a writer.
_OPEN_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class Refused(Exception):
    """A file that is not taken over; the message says why."""


@dataclass
class Collected:
    metrics_error: str | None = None
    predictions_error: str | None = None
    most: int = field(default_factory=lambda: MAX_ARTIFACTS)
    skipped: tuple[str, ...] = (METRICS_NAME,)
    artifacts: list[dict[str, Any]] = field(default_factory=list)
    dropped: int = 0
    reasons: list[str] = field(default_factory=list)
    first: str = ""
    entries: int = 0
    total: int = 0

    def drop(self, path: str, reason: str) -> None:
        self.dropped += 1
        if len(self.reasons) < _REASONS_KEPT:
            # The name is the run's: shown as ASCII, so that it can be neither a control character nor a bidi trick.
            told = _("%(path)s: %(why)s", path=ascii(path[:200])[1:-1], why=reason)
            self.first = self.first or told
            self.reasons.append(told)


def collect(output: int, run_folder: int, max_bytes: int, *, takes_predictions: bool = False) -> Collected:
    """Stage metrics.json and artifacts/ of the folder `output` in `run_folder`, both given as descriptors.

    With `takes_predictions` the folder predictions/ is staged by itself, whole or not at all.
    """
    found = Collected()
    if takes_predictions:
        found.skipped = (METRICS_NAME, PREDICTIONS_NAME)
    try:
        _copy(output, METRICS_NAME, run_folder, METRICS_NAME, METRICS_BYTES)
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
    """Stage predictions/; why that could not be done for all of it, or None. What is at its top is an artifact too."""
    taken = Collected(most=MAX_ENTRIES, skipped=())
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
            if taken.dropped:
                return taken.first
            if not taken.artifacts:
                return _("empty")
            _keep_tops(taken, target, artifacts, found)
        finally:
            os.close(target)
    finally:
        os.close(source)
    return None


def _keep_tops(taken: Collected, source: int, artifacts: int, found: Collected) -> None:
    tops = [item for item in taken.artifacts if "/" not in item["path"]][:PREDICTIONS_KEPT]
    if not tops:
        return
    os.mkdir(PREDICTIONS_NAME, 0o700, dir_fd=artifacts)
    kept = os.open(PREDICTIONS_NAME, _OPEN_FOLDER, dir_fd=artifacts)
    try:
        for item in tops:
            # Both names are ours by now, on one file system.
            os.link(item["path"], item["path"], src_dir_fd=source, dst_dir_fd=kept)
            found.artifacts.append({**item, "path": f"{PREDICTIONS_NAME}/{item['path']}"})
            found.total += item["bytes"]
    finally:
        os.close(kept)


def _walk(source: int, target: int, prefix: str, depth: int, max_bytes: int, found: Collected) -> None:
    for name in sorted(os.listdir(source)):
        path = prefix + name
        found.entries += 1
        if found.entries > MAX_ENTRIES:
            found.drop(path, _("more than %(most)d entries", most=MAX_ENTRIES))
            return
        if path in found.skipped:
            continue
        if not _is_safe(name):
            found.drop(path, _("unsafe name"))
            continue
        try:
            if stat.S_ISDIR(os.stat(name, dir_fd=source, follow_symlinks=False).st_mode):
                _walk_folder(source, target, name, path, depth, max_bytes, found)
            else:
                _take(source, target, name, path, max_bytes, found)
        except Refused as refusal:
            found.drop(path, refusal.args[0])
        except OSError as error:
            found.drop(path, _("could not be read: %(why)s", why=error.strerror))


def _walk_folder(source: int, target: int, name: str, path: str, depth: int, max_bytes: int, found: Collected) -> None:
    if depth >= MAX_DEPTH:
        raise Refused(_("deeper than %(most)d folders", most=MAX_DEPTH))
    inner = os.open(name, _OPEN_FOLDER, dir_fd=source)
    try:
        os.mkdir(name, 0o700, dir_fd=target)
        inner_target = os.open(name, _OPEN_FOLDER, dir_fd=target)
        try:
            _walk(inner, inner_target, path + "/", depth + 1, max_bytes, found)
        finally:
            os.close(inner_target)
        with contextlib.suppress(OSError):
            os.rmdir(name, dir_fd=target)  # only if nothing of it was taken
    finally:
        os.close(inner)


def _take(source: int, target: int, name: str, path: str, max_bytes: int, found: Collected) -> None:
    if len(found.artifacts) >= found.most:
        raise Refused(_("more than %(most)d files", most=found.most))
    size, digest = _copy(source, name, target, name, max_bytes - found.total)
    found.total += size
    found.artifacts.append({"path": path, "bytes": size, "sha256": digest})


def _copy(source: int, name: str, target: int, new_name: str, room: int) -> tuple[int, str]:
    """Copy one regular file; (size, SHA-256). Refused for anything else, or when it is larger than `room`."""
    try:
        descriptor = os.open(name, _OPEN_FILE, dir_fd=source)
    except FileNotFoundError:
        raise Refused(_("missing")) from None
    except OSError:
        # A symbolic link (ELOOP), a socket (ENXIO) or a device without a driver.
        raise Refused(_("not a regular file")) from None
    try:
        state = os.fstat(descriptor)
        if not stat.S_ISREG(state.st_mode) or state.st_nlink != 1:
            raise Refused(
                _("not a regular file") if not stat.S_ISREG(state.st_mode) else _("a file with several names")
            )
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


def _is_safe(name: str) -> bool:
    """Letters and digits of any script and a few marks: nothing for a shell, a spreadsheet, a terminal or a web page."""
    if not (name[0].isalnum() or name[0] == "_") or len(name.encode("utf-8", "surrogateescape")) > MAX_NAME_BYTES:
        return False
    return all(character.isalnum() or character in "._-+=@, ()[]" for character in name)
