"""POST /api/submissions: checked by the same services, written once, recorded. A small one is read at once, a large archive
as it comes (large_form.py). All others stream through Django's parser (submissions/uploads.py).
"""

import hashlib
import io
import json
import logging
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO, cast
from uuid import UUID, uuid4

from django.conf import settings
from django.core.files.storage import storages
from django.core.files.uploadedfile import UploadedFile
from django.db import Error, transaction
from django.utils import timezone

from accounts.refusals import RequestRefused
from leaderboard_site.lane.answers import Answer, answer, away
from leaderboard_site.lane.calls import Call
from leaderboard_site.lane.database import columns_and_values, cursor, forget, is_answer_lost, rows
from leaderboard_site.lane.form import SmallForm, boundary_of, read_form
from leaderboard_site.lane.large_form import IncomingFile
from leaderboards.models import DEFAULT_SLUG
from submissions.archive import ArchiveKind, ArchiveRefused, ManifestEntry, inspect_archive, write_archive
from submissions.incoming import IncomingArchive
from submissions.models import Submission
from submissions.services import PLATFORM_FAULTS, Form, check_contents, check_form
from submissions.storage import STORAGE_ERRORS, DurableFileSystemStorage
from submissions.uploads import ENVELOPE_BYTES

logger = logging.getLogger(__name__)

MOST_BYTES = 2 * 1024 * 1024
# Beyond, whose token it is is asked before the body is read.
READ_FOR_ANYBODY_BYTES = 64 * 1024
ALLOW = "GET, POST, HEAD, OPTIONS"
FIELDS = frozenset(["entrypoint", "config_file", "metadata", "leaderboard", "paths"])

_WHOSE = """
SELECT person.id FROM accounts_apitoken token JOIN accounts_user person ON person.id = token.user_id AND person.is_active
WHERE token.digest = %s AND token.revoked_at IS NULL
    AND (token.expires_at IS NULL OR token.expires_at > statement_timestamp())
"""
# The submissions of the last hour, but those whose job the platform failed.
_RECENT = """
SELECT count(*) FROM submissions_submission made
WHERE made.user_id = person.id AND made.created_at > statement_timestamp() - interval '1 hour'
    AND NOT EXISTS (SELECT FROM jobs_job WHERE submission_id = made.id AND error_code = ANY (%s::text[]))
"""
# Who asks, and what lets them: the quota and an open leaderboard that they see. No row: the site says why.
_ADMIT = f"""
SELECT person.id, board.id
FROM accounts_apitoken token
JOIN accounts_user person ON person.id = token.user_id AND person.is_active
JOIN leaderboards_leaderboard board ON board.slug = %s AND board.visibility IN ('public', 'members')
    AND board.takes_submissions AND (board.opens_at IS NULL OR board.opens_at <= statement_timestamp())
    AND (board.closes_at IS NULL OR board.closes_at > statement_timestamp())
WHERE token.digest = %s AND token.revoked_at IS NULL
    AND (token.expires_at IS NULL OR token.expires_at > statement_timestamp())
    AND NOT EXISTS (SELECT FROM leaderboards_pause WHERE leaderboard_id = board.id)
    AND ({_RECENT}) < coalesce(person.submissions_per_hour, %s)
"""  # noqa: S608 - of our own words
_LOCK = "SELECT FROM accounts_user WHERE id = %s FOR UPDATE"
_INSERT = f"""
INSERT INTO submissions_submission ({{columns}}) SELECT {{values}} FROM accounts_user person
WHERE person.id = %s AND person.is_active AND ({_RECENT}) < coalesce(person.submissions_per_hour, %s) RETURNING created_at
"""  # noqa: S608 - of our own words
_GIVEN = (
    "id", "user_id", "leaderboard_id", "entrypoint", "config_file", "metadata", "kind", "object_name", "size_bytes",
    "sha256", "root_folder", "manifest",
)  # fmt: skip


@dataclass(frozen=True)
class Packed:
    """One object to store, and what is in it."""

    content: bytes | memoryview | IncomingArchive
    manifest: list[ManifestEntry]
    root: str

    def store(self, storage: DurableFileSystemStorage, kind: str) -> tuple[UUID, int, str]:
        """Return when it is on disk as `<id>.<kind>`: its id, size and SHA-256. Raises OSError."""
        if isinstance(self.content, IncomingArchive):
            self.content.wait_until_kept()
            return self.content.id, self.content.size, self.content.sha256
        submission_id = uuid4()
        storage.save_bytes(f"{submission_id}.{kind}", self.content)
        return submission_id, len(self.content), hashlib.sha256(self.content).hexdigest()

    def keep(self) -> None:
        """What was stored is a row's now."""
        if isinstance(self.content, IncomingArchive):
            self.content.is_kept = True


def may_read(call: Call, length: int) -> bool:
    """Whether so large a body is the lane's, and is read before anything is asked."""
    if length > min(MOST_BYTES, settings.UPLOAD_MAX_BYTES) or boundary_of(call.content_type) is None:
        return False
    return length <= READ_FOR_ANYBODY_BYTES or bool(rows(_WHOSE, call.digest))


def may_stream(call: Call, length: int) -> bool:
    """Whether a larger body is read as it comes: one that may hold what is taken, of somebody, for files on this disk."""
    if not MOST_BYTES < length <= settings.UPLOAD_MAX_BYTES + ENVELOPE_BYTES or boundary_of(call.content_type) is None:
        return False
    storage = storages["submissions"]
    if not isinstance(storage, DurableFileSystemStorage):
        return False
    # A rename is all that it takes from the one folder into the other.
    if Path(storage.location).stat().st_dev != Path(settings.FILE_UPLOAD_TEMP_DIR).stat().st_dev:
        return False
    return bool(rows(_WHOSE, call.digest))


def answer_all(calls: list[Call]) -> list[Answer | None]:
    return [_submit(call) for call in calls]


def _submit(call: Call) -> Answer | None:
    storage = storages["submissions"]
    boundary = boundary_of(call.content_type)
    # Other storages stream; their round trips are what an upload to them costs.
    if boundary is None or not isinstance(storage, DurableFileSystemStorage):
        return None
    sent = call.form or read_form(call.body, boundary, file_field="files")
    if sent is None or not FIELDS.issuperset(sent.fields):
        return None
    if call.form is not None and not _begin_to_keep(sent, storage):
        return None
    slug = sent.fields.get("leaderboard") or DEFAULT_SLUG
    admitted = rows(_ADMIT, slug, call.digest, list(PLATFORM_FAULTS), settings.SUBMISSIONS_PER_HOUR)
    if not admitted:
        return None
    try:
        form = _checked(sent)
        packed = _packed(sent, form)
    except (RequestRefused, ArchiveRefused):
        return None
    if packed is None:
        return None
    return _stored(call, storage, slug, admitted[0], form, packed)


def _begin_to_keep(sent: SmallForm, storage: DurableFileSystemStorage) -> bool:
    """Have the disk at work while the rest is looked at; what is refused then is removed again."""
    try:
        sent.files[0].archive.keep_as(storage)
    except STORAGE_ERRORS:
        logger.exception("storing a submission")
        return False
    return True


def _checked(sent: SmallForm) -> Form:
    return check_form(
        cast(list[UploadedFile], sent.files),
        entrypoint=sent.fields.get("entrypoint") or "main.py",
        config_file=sent.fields.get("config_file") or "config.yaml",
        metadata=sent.fields.get("metadata"),
        paths=sent.fields.get("paths"),
    )


def _packed(sent: SmallForm, form: Form) -> Packed | None:
    content: bytes | memoryview | IncomingArchive
    if isinstance(sent.files[0], IncomingFile):
        content = sent.files[0].archive
        if content.kind != form.kind.value:  # `paths` gives it another name
            return None
        manifest = content.manifest()
    elif form.kind != Submission.Kind.TAR:
        [file] = sent.files
        manifest = inspect_archive(cast(BinaryIO, file.file), kind=cast(ArchiveKind, form.kind.value), hashes=False)
        content = file.content
    else:
        target = io.BytesIO()
        members = ((name, cast(BinaryIO, file.file)) for name, file in zip(form.names, sent.files, strict=True))
        manifest = write_archive(target, members, hashes=False)
        content = target.getvalue()
    return Packed(content, manifest, check_contents(manifest, form))


def _stored(
    call: Call, storage: DurableFileSystemStorage, slug: str, admitted: tuple[Any, ...], form: Form, packed: Packed
) -> Answer | None:
    user_id, board_id = admitted
    try:
        submission_id, size, sha256 = packed.store(storage, form.kind.value)
    except STORAGE_ERRORS:
        logger.exception("storing a submission")
        return None
    name = f"{submission_id}.{form.kind.value}"
    manifest = json.dumps([{"path": entry.path, "bytes": entry.bytes} for entry in packed.manifest])
    values = (
        submission_id, user_id, board_id, form.entrypoint, form.config_file, json.dumps(form.metadata), form.kind.value,
        name, size, sha256, packed.root, manifest,
    )  # fmt: skip
    is_written, made = False, None
    try:
        with transaction.atomic(), cursor() as asked:
            asked.execute(_LOCK, [user_id])
            asked.execute(_statement(), [*values, user_id, list(PLATFORM_FAULTS), settings.SUBMISSIONS_PER_HOUR])
            made = asked.fetchone()
            is_written = True
    except Error as error:
        if is_written and is_answer_lost(error):
            forget()
            # The row may stand. A file that no row names goes in a day.
            packed.keep()
            return away(call, allow=ALLOW)
        storage.delete(name)
        raise
    if made is None:
        storage.delete(name)
        return None
    packed.keep()
    return answer(call, 201, _receipt(submission_id, form, slug, sha256, made[0]), allow=ALLOW)


def _receipt(submission_id: UUID, form: Form, slug: str, sha256: str, created_at: Any) -> dict[str, Any]:
    return {
        "submission_id": submission_id,
        "entrypoint": form.entrypoint,
        "config_file": form.config_file,
        "leaderboard": slug,
        "sha256": sha256,
        "created_at": timezone.localtime(created_at),
    }


@cache
def _statement() -> str:
    given = {name: "%s::jsonb" if name in ("metadata", "manifest") else "%s" for name in _GIVEN}
    columns, values = columns_and_values(Submission, given)
    return _INSERT.format(columns=columns, values=values)
