"""Looking into a stored submission, on a page or for a program: one small file of a small archive, or the archive as it is."""

import logging
from typing import BinaryIO, cast

from django.core.files.base import File
from django.core.files.storage import storages
from django.utils.translation import gettext_lazy as _

from accounts.refusals import Gone, NotFound, TooLarge, Unavailable
from core.sizes import MIB, human_bytes
from submissions.archive import ArchiveKind, ArchiveLimits, ArchiveRefused, read_member
from submissions.models import Submission
from submissions.storage import STORAGE_ERRORS

logger = logging.getLogger(__name__)
# A page waits for it: what is larger is not looked into.
STORED_MAX_BYTES = 16 * MIB
LIMITS = ArchiveLimits(total_bytes=64 * MIB, file_bytes=64 * MIB, seconds=3)
CONFIG_MAX_BYTES = 64 * 1024
FILE_MAX_BYTES = 512 * 1024


def refuse_deleted(submission: Submission) -> None:
    """Raise Gone if its owner has deleted the submission."""
    if submission.deleted_at is not None:
        raise why_deleted(submission)


def why_deleted(submission: Submission) -> Gone:
    """Return the refusal by a submission that its owner has deleted."""
    return Gone(
        "deleted",
        _("Its owner deleted submission %(id)s on %(day)s, with its files and the results of its jobs."),
        id=str(submission.pk)[:8],
        day=f"{submission.deleted_at:%Y-%m-%d}",
    )


def read_config_file(submission: Submission) -> str | None:
    """The text of the submission's config file; None when it has none, or one that cannot be shown for editing."""
    path = f"{submission.root_folder}/{submission.config_file}" if submission.root_folder else submission.config_file
    if submission.size_bytes > STORED_MAX_BYTES or not _has(submission, path):
        return None
    try:
        content = _read(submission, path, CONFIG_MAX_BYTES)
        return None if content is None else content.decode()
    except (*STORAGE_ERRORS, ArchiveRefused, UnicodeDecodeError):
        return None


def read_file(submission: Submission, path: str) -> bytes:
    """Return one file, by its path in the manifest. Raises NotFound, Gone, TooLarge for what only the archive has, Unavailable."""
    refuse_deleted(submission)
    if not _has(submission, path):
        raise NotFound("not_found", _("there is no such file in the submission."), field="path")
    if submission.size_bytes > STORED_MAX_BYTES:
        raise TooLarge(
            "too_large",
            _("An archive of more than %(most)s is not looked into. Download it."),
            most=human_bytes(STORED_MAX_BYTES),
        )
    try:
        content = _read(submission, path, FILE_MAX_BYTES)
    except ArchiveRefused as refusal:
        raise TooLarge("too_large", _("The archive takes too long to look into. Download it.")) from refusal
    except STORAGE_ERRORS as error:
        raise _unreadable(submission) from error
    if content is None:
        raise TooLarge(
            "too_large",
            _("A file of more than %(most)s is not read alone. Download the archive."),
            most=human_bytes(FILE_MAX_BYTES),
        )
    return content


def open_archive(submission: Submission) -> File:
    """Return the stored archive, open for reading. Raises Gone and Unavailable."""
    refuse_deleted(submission)
    try:
        return storages["submissions"].open(submission.object_name)
    except STORAGE_ERRORS as error:
        raise _unreadable(submission) from error


def as_text(content: bytes) -> str | None:
    """Return the content as text; None if it is none."""
    if b"\0" in content:
        return None
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return None


def _has(submission: Submission, path: str) -> bool:
    return any(file["path"] == path for file in submission.manifest)


def _read(submission: Submission, path: str, most_bytes: int) -> bytes | None:
    with storages["submissions"].open(submission.object_name) as stored:
        kind = cast(ArchiveKind, submission.kind)
        return read_member(cast(BinaryIO, stored), kind=kind, path=path, most_bytes=most_bytes, limits=LIMITS)


def _unreadable(submission: Submission) -> Unavailable:
    logger.exception("reading submission %s", submission.pk)
    return Unavailable("storage_unavailable", _("Stored files cannot be read just now. Try again in a minute."))
