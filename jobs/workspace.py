"""The scratch folder of one run: its code unpacked, its effective config, its log and what it left."""

import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

import yaml
from django.conf import settings
from django.core.files.storage import storages
from django.utils.functional import Promise
from django.utils.translation import override

from core.config_merge import ConfigRefused, check_replacements, merge
from core.sizes import bytes_beyond, human_bytes
from core.untrusted import Bounds, TextRefused, load_json, load_yaml
from jobs.execution import disk, janitor
from jobs.execution.told import Told as _
from jobs.models import Job
from submissions.archive import ArchiveKind, ArchiveRefused, extract_archive
from submissions.models import Submission
from submissions.storage import STORAGE_ERRORS

CHUNK = 1024 * 1024
MAX_MERGED_BYTES = 256 * 1024
# A run's config may contain what the database cannot store, and no request waits for it.
_CONFIG_FILE = Bounds(bytes=MAX_MERGED_BYTES, tokens=200_000, aliases=1000, storable=False)


class BadSubmission(Exception):
    """The submission's own files are at fault; the message is for its author."""


class StorageDown(Exception):
    """Stored files cannot be reached, or are not what was stored: the platform's fault."""


@dataclass(frozen=True)
class Workspace:
    folder: Path
    code: Path
    config: Path

    @property
    def run(self) -> Path:
        """Where the supervisor writes: log, metrics.json, artifacts/."""
        return self.folder / "run"


def make_folder(name: str) -> Path:
    """A scratch folder for one run: code/, run/ and an empty config.yaml."""
    try:
        made = tempfile.mkdtemp(prefix=f"{name}-", dir=settings.WORK_ROOT)
    except FileNotFoundError:
        settings.WORK_ROOT.mkdir(parents=True, exist_ok=True)
        made = tempfile.mkdtemp(prefix=f"{name}-", dir=settings.WORK_ROOT)
    folder = Path(made)
    janitor.mark_as_ours(folder)  # so that another worker's start does not take it for left over
    for inner in ("code", "run"):
        (folder / inner).mkdir(mode=0o700)
    os.close(os.open(f"{made}/config.yaml", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644))
    return folder


def remove_folder(folder: Path) -> None:
    disk.remove(folder)


@contextmanager
def workspace(
    job: Job, folder: Path | None = None, remove: Callable[[Path], object] = remove_folder
) -> Iterator[Workspace]:
    """Unpack the job's submission, into a folder of `make_folder` that is given or made; has everything removed at the end.
    Raises BadSubmission, StorageDown."""
    folder = folder or make_folder(f"{job.pk}-{job.attempt}")
    try:
        place = Workspace(folder, folder / "code", folder / "config.yaml")
        _unpack(job.submission, place.code)
        # Written over, not replaced: a sandbox that was made ahead shows this very file.
        place.config.write_bytes(effective_config(place.code / job.submission.config_file, job.config))
        yield place
    finally:
        remove(folder)


def _unpack(submission: Submission, target: Path) -> None:
    """The submission's files into `target`, without the folder that wraps them in their archive."""
    unpacked = target.with_name("unpacked") if submission.root_folder else target
    unpacked.mkdir(mode=0o700, exist_ok=True)
    with tempfile.SpooledTemporaryFile(CHUNK, mode="w+b", dir=str(target.parent)) as archive:
        _fetch(submission, cast(BinaryIO, archive))
        try:
            extract_archive(cast(BinaryIO, archive), kind=cast(ArchiveKind, submission.kind), destination=unpacked)
        except ArchiveRefused as refusal:
            raise BadSubmission(_told(refusal)) from refusal
    if submission.root_folder:
        for inner in (unpacked / submission.root_folder).iterdir():
            inner.rename(target / inner.name)


def _told(refusal: ArchiveRefused) -> _:
    """Its sentence is a lazy translation: without any language it is what translations are looked up by."""
    with override(None):
        values = {
            name: str(value) if isinstance(value, Promise) else value for name, value in refusal.parameters.items()
        }
        return _(str(refusal.sentence), **values)


def _fetch(submission: Submission, target: BinaryIO) -> None:
    """Copy the stored object and check that it is what was stored."""
    digest = hashlib.sha256()
    try:
        with storages["submissions"].open(submission.object_name) as stored:
            while chunk := stored.read(CHUNK):
                digest.update(chunk)
                target.write(chunk)
    except STORAGE_ERRORS as error:
        told = _("The submission's files cannot be read just now: %(error)s.", error=type(error).__name__)
        raise StorageDown(told) from error
    if digest.hexdigest() != submission.sha256:
        raise StorageDown(_("The submission's files are not what was stored: their SHA-256 differs."))
    target.seek(0)


def effective_config(path: Path, overrides: dict[str, Any]) -> bytes:
    """The config file with the job's config laid over it (core/config_merge.py).

    Without overrides the file stays byte for byte as it is; no file counts as an empty one. Raises BadSubmission.
    """
    raw = path.read_bytes() if path.is_file() else b""
    if not overrides:
        return raw
    # The worker reads it, outside of any sandbox and before the run's time begins to count.
    if len(raw) > MAX_MERGED_BYTES:
        raise BadSubmission(
            _(
                "%(file)s has %(size)s, more than the %(most)s that a job's config can be laid over.",
                file=path.name, size=bytes_beyond(len(raw), MAX_MERGED_BYTES), most=human_bytes(MAX_MERGED_BYTES),
            )
        )  # fmt: skip
    is_json = path.suffix == ".json"
    try:
        # Not YAML for .json: aliases would be written out in full, and a few lines of them fill the memory.
        base = (load_json(raw or b"{}", _CONFIG_FILE) if is_json else load_yaml(raw, _CONFIG_FILE)) or {}
        if isinstance(base, dict):
            check_replacements(overrides)  # of jobs from before it was checked when they were made
            return _written(merge(base, overrides), is_json)
    except ConfigRefused as refusal:
        why = _(refusal.sentence, **refusal.values)
        raise BadSubmission(
            _("The job's config cannot be laid over %(file)s: %(why)s.", file=path.name, why=why)
        ) from refusal
    except (ValueError, TypeError, RecursionError, yaml.YAMLError) as error:
        raise BadSubmission(_told_of(error, path.name, "JSON" if is_json else "YAML")) from error
    raise BadSubmission(_("%(file)s must hold an object for the job's config to be laid over it.", file=path.name))


def _written(merged: dict[Any, Any], is_json: bool) -> bytes:
    if is_json:
        return json.dumps(merged, indent=2, ensure_ascii=False, default=str).encode()
    return yaml.safe_dump(merged, allow_unicode=True, sort_keys=False).encode()


def _told_of(error: Exception, file: str, kind: str) -> _:
    line = error.line if isinstance(error, TextRefused) else None
    if isinstance(error, TextRefused) and not error.is_syntax:
        problem = _(error.sentence, **error.values)
        return _(
            "%(file)s is too much for the job's config to be laid over it: %(problem)s (line %(line)d).",
            file=file, problem=problem, line=line or 1,
        )  # fmt: skip
    if line is None:
        return _("%(file)s is not valid %(kind)s, so the job's config cannot be laid over it.", file=file, kind=kind)
    return _(
        "%(file)s is not valid %(kind)s in line %(line)d, so the job's config cannot be laid over it.",
        file=file, kind=kind, line=line,
    )  # fmt: skip
