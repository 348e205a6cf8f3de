"""Looking into a stored submission, on a page: one small file of a small archive, or nothing."""

from typing import BinaryIO, cast

from django.core.files.storage import storages

from submissions.archive import ArchiveKind, ArchiveLimits, ArchiveRefused, read_member
from submissions.models import Submission
from submissions.storage import STORAGE_ERRORS

MIB = 1024 * 1024
# A page waits for it: what is larger is not looked into.
STORED_MAX_BYTES = 16 * MIB
LIMITS = ArchiveLimits(total_bytes=64 * MIB, file_bytes=64 * MIB, seconds=3)
CONFIG_MAX_BYTES = 64 * 1024


def read_config_file(submission: Submission) -> str | None:
    """The text of the submission's config file; None when it has none, or one that cannot be shown for editing."""
    path = f"{submission.root_folder}/{submission.config_file}" if submission.root_folder else submission.config_file
    if submission.size_bytes > STORED_MAX_BYTES or all(file["path"] != path for file in submission.manifest):
        return None
    try:
        with storages["submissions"].open(submission.object_name) as stored:
            kind = cast(ArchiveKind, submission.kind)
            content = read_member(
                cast(BinaryIO, stored), kind=kind, path=path, most_bytes=CONFIG_MAX_BYTES, limits=LIMITS
            )
        return None if content is None else content.decode()
    except (*STORAGE_ERRORS, ArchiveRefused, UnicodeDecodeError):
        return None
