"""POST /api/submissions: checked by the same services, written once, recorded. A small one is read at once, a large archive
as it comes (large_form.py). All others stream through Django's parser (submissions/uploads.py).

Of all that have come in together the files are synced side by side, and the rows are one transaction (record.py).
"""

import hashlib
import io
import logging
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast
from uuid import UUID, uuid4

from django.conf import settings
from django.core.files.storage import storages
from django.core.files.uploadedfile import UploadedFile
from django.utils import timezone

from accounts.refusals import RequestRefused
from leaderboard_site.lane.answers import Answer, answer, away
from leaderboard_site.lane.calls import BODY_MOST_BYTES, Call
from leaderboard_site.lane.database import rows
from leaderboard_site.lane.form import SmallForm, boundary_of, read_form
from leaderboard_site.lane.large_form import IncomingFile
from leaderboard_site.lane.record import Stored, record_all
from leaderboards.models import DEFAULT_SLUG
from leaderboards.openness import seen_by_members_sql
from submissions.archive import ArchiveKind, ArchiveRefused, ManifestEntry, inspect_archive, write_archive
from submissions.incoming import IncomingArchive
from submissions.models import Submission
from submissions.services import Form, check_contents, check_form
from submissions.storage import STORAGE_ERRORS, DurableFileSystemStorage
from submissions.uploads import ENVELOPE_BYTES

logger = logging.getLogger(__name__)

MOST_BYTES = 2 * 1024 * 1024
ALLOW = "GET, POST, HEAD, OPTIONS"
FIELDS = frozenset(["name", "entrypoint", "config_file", "metadata", "leaderboard", "paths", "writable_code"])

_WHOSE = "SELECT user_id FROM live_token WHERE digest = %s"
# Who asks, and what lets them: an open leaderboard that they see, and what is left of their quota. No row: the site says why.
_ADMIT = f"""
SELECT asked.number, token.user_id, board.id, use.remaining
FROM unnest(%s::text[], %s::text[]) WITH ORDINALITY AS asked(slug, digest, number)
CROSS JOIN LATERAL (SELECT user_id FROM live_token WHERE digest = asked.digest LIMIT 1) token
JOIN leaderboards_leaderboard board ON board.slug = asked.slug AND {seen_by_members_sql("board")}
JOIN open_leaderboard open ON open.id = board.id
CROSS JOIN LATERAL hourly_use('submission', token.user_id, %s, statement_timestamp()) use
"""  # noqa: S608 - of our own words


@dataclass(frozen=True, slots=True)
class Wish:
    """A call whose form is plain."""

    number: int
    call: Call
    sent: SmallForm
    slug: str


@dataclass(frozen=True, slots=True)
class Packed:
    """One object to store, what is in it, and whose it will be."""

    wish: Wish
    user_id: int
    board_id: int
    form: Form
    content: bytes | memoryview | IncomingArchive
    manifest: list[ManifestEntry]
    root: str

    def keep(self) -> None:
        """What was stored is a row's now."""
        if isinstance(self.content, IncomingArchive):
            self.content.is_kept = True


def may_read(call: Call, length: int) -> bool:
    """Whether so large a body is the lane's, and is read before anything is asked."""
    if length > min(MOST_BYTES, settings.UPLOAD_MAX_BYTES) or boundary_of(call.content_type) is None:
        return False
    return length <= BODY_MOST_BYTES or bool(rows(_WHOSE, call.digest))


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
    """An answer to each, None where the site must. All files are on disk before the first row is written."""
    answers: list[Answer | None] = [None] * len(calls)
    storage = storages["submissions"]
    # Other storages stream; their round trips are what an upload to them costs.
    if not isinstance(storage, DurableFileSystemStorage):
        return answers
    wishes = [wish for number, call in enumerate(calls) if (wish := _wish(number, call, storage)) is not None]
    packed = [
        one for wish, user_id, board_id in _admitted(wishes) if (one := _packed(wish, user_id, board_id)) is not None
    ]
    stored = _store(packed, storage)
    if stored:
        _record(stored, storage, answers)
    return answers


def _wish(number: int, call: Call, storage: DurableFileSystemStorage) -> Wish | None:
    boundary = boundary_of(call.content_type)
    if boundary is None:
        return None
    sent = call.form or read_form(call.body, boundary, file_field="files")
    if sent is None or not FIELDS.issuperset(sent.fields):
        return None
    if call.form is not None and not _begin_to_keep(sent, storage):
        return None
    return Wish(number, call, sent, sent.fields.get("leaderboard") or DEFAULT_SLUG)


def _begin_to_keep(sent: SmallForm, storage: DurableFileSystemStorage) -> bool:
    """Have the disk at work while the rest is looked at; what is refused then is removed again."""
    try:
        sent.files[0].archive.keep_as(storage)
    except STORAGE_ERRORS:
        logger.exception("storing a submission")
        return False
    return True


def _admitted(wishes: list[Wish]) -> list[tuple[Wish, int, int]]:
    """With whose it is and which board's, in the order in which they came; of one person no more than the quota has left, so
    that nobody can have more than that looked into while all others wait."""
    if not wishes:
        return []
    slugs, digests = [wish.slug for wish in wishes], [wish.call.digest for wish in wishes]
    found = rows(_ADMIT, slugs, digests, settings.SUBMISSIONS_PER_HOUR)
    admitted = []
    taken: Counter[int] = Counter()
    for place, user_id, board_id, left in sorted(found):
        if taken[user_id] < left:
            taken[user_id] += 1
            admitted.append((wishes[place - 1], user_id, board_id))
    return admitted


def _packed(wish: Wish, user_id: int, board_id: int) -> Packed | None:
    """Checked as the services check it; None for what they refuse."""
    try:
        form = _checked(wish.sent)
        content, manifest = _content(wish.sent, form)
        if content is None:
            return None
        return Packed(wish, user_id, board_id, form, content, manifest, check_contents(manifest, form))
    except (RequestRefused, ArchiveRefused):
        return None


def _checked(sent: SmallForm) -> Form:
    return check_form(
        cast(list[UploadedFile], sent.files),
        name=sent.fields.get("name", ""),
        entrypoint=sent.fields.get("entrypoint") or "main.py",
        config_file=sent.fields.get("config_file") or "config.yaml",
        metadata=sent.fields.get("metadata"),
        paths=sent.fields.get("paths"),
        writable_code=sent.fields.get("writable_code"),
    )


def _content(sent: SmallForm, form: Form) -> tuple[bytes | memoryview | IncomingArchive | None, list[ManifestEntry]]:
    """What is to be stored, and its manifest; None for an archive that `paths` gives another kind of name."""
    if isinstance(sent.files[0], IncomingFile):
        archive = sent.files[0].archive
        return (archive, archive.manifest()) if archive.kind == form.kind.value else (None, [])
    if form.kind != Submission.Kind.TAR:
        [file] = sent.files
        kind = cast(ArchiveKind, form.kind.value)
        return file.content, inspect_archive(cast(BinaryIO, file.file), kind=kind, hashes=False)
    target = io.BytesIO()
    members = ((name, cast(BinaryIO, file.file)) for name, file in zip(form.names, sent.files, strict=True))
    manifest = write_archive(target, members, hashes=False)
    return target.getvalue(), manifest


def _store(packed: list[Packed], storage: DurableFileSystemStorage) -> list[tuple[Packed, Stored]]:
    """Each with its object, which is on disk when this returns. What the disk does not take is not among them."""
    stored = []
    small: dict[str, bytes | memoryview] = {}
    for one in packed:
        if isinstance(one.content, IncomingArchive):
            try:
                one.content.wait_until_kept()
            except STORAGE_ERRORS:
                logger.exception("storing a submission")
                continue
            there = _as_stored(one, one.content.id, one.content.size, one.content.sha256)
        else:
            there = _as_stored(one, uuid4(), len(one.content), hashlib.sha256(one.content).hexdigest())
            small[there.name] = one.content
        stored.append((one, there))
    try:
        storage.save_all(small)
    except STORAGE_ERRORS:
        logger.exception("storing %d submissions", len(small))
        return [(one, there) for one, there in stored if there.name not in small]
    return stored


def _as_stored(one: Packed, submission_id: UUID, size: int, sha256: str) -> Stored:
    name = f"{submission_id}.{one.form.kind.value}"
    return Stored(submission_id, one.user_id, one.board_id, one.form, name, size, sha256, one.root, one.manifest)


def _record(
    stored: list[tuple[Packed, Stored]], storage: DurableFileSystemStorage, answers: list[Answer | None]
) -> None:
    """Put in the answers of all whose row is made; a file that no row will name is removed."""
    recorded = record_all([there for _, there in stored])
    for one, there in stored:
        call = one.wish.call
        if there.id in recorded.made:
            one.keep()
            receipt = _receipt(there.id, one.form, one.wish.slug, there.sha256, recorded.made[there.id])
            answers[one.wish.number] = answer(call, 201, receipt, allow=ALLOW)
        elif there.id in recorded.uncertain:
            # The row may stand. A file that no row names goes in a day.
            one.keep()
            answers[one.wish.number] = away(call, allow=ALLOW)
        else:
            with suppress(*STORAGE_ERRORS):
                storage.delete(there.name)
            if there.id in recorded.too_slow:
                answers[one.wish.number] = away(call, allow=ALLOW)


def _receipt(submission_id: UUID, form: Form, slug: str, sha256: str, created_at: Any) -> dict[str, Any]:
    return {
        "submission_id": submission_id,
        "name": form.name,
        "entrypoint": form.entrypoint,
        "config_file": form.config_file,
        "leaderboard": slug,
        "sha256": sha256,
        "created_at": timezone.localtime(created_at),
    }
