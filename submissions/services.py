"""Taking a submission in: check, store, record."""

import logging
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from tempfile import NamedTemporaryFile
from typing import Any, BinaryIO, cast
from uuid import uuid4

from django.conf import settings
from django.core.files.storage import storages
from django.core.files.uploadedfile import UploadedFile
from django.db import InterfaceError, OperationalError, transaction
from django.utils.translation import gettext_lazy as _

from accounts.models import User
from accounts.quota import HourlyUse, hourly_use
from accounts.refusals import InvalidInput, NotFound, QuotaExceeded, TooLarge, Unavailable, reason_of
from accounts.services import lock_person
from core.names import invisible_character, plain_name
from core.sizes import bytes_beyond, human_bytes
from core.untrusted import Bounds, load_json, storable_json_bytes
from leaderboards.models import DEFAULT_SLUG, Leaderboard
from leaderboards.services import refuse_closed
from submissions.archive import (
    ArchiveKind,
    ArchiveRefused,
    ManifestEntry,
    archive_kind,
    inspect_archive,
    write_archive,
)
from submissions.models import NAME_MAX_LENGTH, Submission
from submissions.storage import STORAGE_ERRORS, StoredContent

logger = logging.getLogger(__name__)
METADATA_MAX_BYTES = 16 * 1024
# Both come as fields of a form, which may have a mebibyte in all. Each token of JSON takes a byte or more.
_METADATA = Bounds(bytes=1024 * 1024, tokens=METADATA_MAX_BYTES)
_PATHS = Bounds(bytes=1024 * 1024)
DEFAULT_CONFIG_FILE = "config.yaml"
BARE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}")


def create_submission(
    user: User,
    *,
    files: Sequence[UploadedFile],
    name: str = "",
    entrypoint: str = "main.py",
    config_file: str = "config.yaml",
    metadata: dict[str, Any] | str | None = None,
    leaderboard: str = "",
    paths: Sequence[str] | str | None = None,
    writable_code: bool | str | None = None,
    form_key: str = "",
) -> Submission:
    """Check the files (several, or one archive), store them as one object and record the submission.

    `paths` gives each file its place in a folder ("src/model.py"), which an upload's own file name cannot: browsers and
    multipart parsers cut it down to its last part. A list, or the same as JSON.

    `form_key` is kept with the submission, so that the same form sent again finds it.

    The record is committed only when the object is stored and its size and SHA-256 are known. A refusal stores nothing.

    Raises InvalidInput, NotFound (leaderboard), Conflict (closed), TooLarge, QuotaExceeded, Forbidden (banned meanwhile).
    """
    refuse_over_quota(user)  # before any work; decided again under the lock below
    board = _open_leaderboard(user, leaderboard)
    form = check_form(
        files,
        name=name,
        entrypoint=entrypoint,
        config_file=config_file,
        metadata=metadata,
        paths=paths,
        writable_code=writable_code,
    )
    with _as_one_file(files, form.names, form.kind) as (content, manifest):
        root = check_contents(manifest, form)
        submission = Submission(
            id=uuid4(), user=user, leaderboard=board, name=form.name, entrypoint=form.entrypoint,
            config_file=form.config_file, metadata=form.metadata, has_writable_code=form.has_writable_code, kind=form.kind,
            size_bytes=content.size, sha256=content.sha256, root_folder=root, form_key=form_key,
            manifest=[{"path": entry.path, "bytes": entry.bytes} for entry in manifest],
        )  # fmt: skip
        _store(submission, content)
    submission.refresh_from_db(fields=["created_at"])
    return submission


@dataclass(frozen=True)
class Form:
    """What an upload says of itself, after a look at it without its contents."""

    name: str
    entrypoint: str
    config_file: str
    metadata: dict[str, Any]
    names: list[str]
    kind: Submission.Kind
    has_writable_code: bool = False


def check_form(
    files: Sequence[UploadedFile],
    *,
    name: str,
    entrypoint: str,
    config_file: str,
    metadata: dict[str, Any] | str | None,
    paths: Sequence[str] | str | None,
    writable_code: bool | str | None = None,
) -> Form:
    """Raises InvalidInput and TooLarge for what can be told from names, sizes and fields."""
    name = check_name(name)
    entrypoint, config_file = check_names(entrypoint, config_file)
    parsed = _metadata(metadata)
    names = _names(files, paths)
    return Form(name, entrypoint, config_file, parsed, names, _kind_of(files, names), _is_writable(writable_code))


def _is_writable(given: bool | str | None) -> bool:
    """Read a flag of the form, which is text there."""
    if isinstance(given, bool):
        return given
    known = {"": False, "false": False, "0": False, "off": False, "true": True, "1": True, "on": True}
    text = (given or "").lower()
    if text not in known:
        raise InvalidInput(
            "invalid", _("must be true or false, not %(value)r."), field="writable_code", value=text[:60]
        )
    return known[text]


def _store(submission: Submission, content: StoredContent) -> None:
    storage = storages["submissions"]
    try:
        submission.object_name = storage.save(f"{submission.id}.{submission.kind}", content)
    except STORAGE_ERRORS as error:
        logger.exception("storing submission %s", submission.id)
        raise Unavailable(
            "storage_unavailable", _("Files cannot be stored just now. Nothing was kept; try again.")
        ) from error
    try:
        with transaction.atomic():
            lock_person(submission.user)
            refuse_over_quota(submission.user)
            submission.save(force_insert=True)
    except (OperationalError, InterfaceError):
        # The answer to the commit may be what was lost: the row may stand. A file that no row names goes in a day.
        raise
    except BaseException:
        storage.delete(submission.object_name)
        raise


def _names(files: Sequence[UploadedFile], paths: Sequence[str] | str | None) -> list[str]:
    """What each file is called, with its folders where `paths` names them."""
    if paths is None or paths == "":
        return [file.name or "" for file in files]
    try:
        parsed = load_json(paths, _PATHS) if isinstance(paths, str) else list(paths)
    except ValueError as error:
        why = reason_of(error)
        raise InvalidInput("bad_paths", _("is not valid JSON (%(why)s)."), field="paths", why=why) from error
    if not (isinstance(parsed, list) and all(isinstance(path, str) for path in parsed)):
        raise InvalidInput("bad_paths", _("must be a list of file names."), field="paths")
    if len(parsed) != len(files):
        raise InvalidInput(
            "bad_paths", _("must name every file once: %(count)d names for %(files)d files."), field="paths",
            count=len(parsed), files=len(files),
        )  # fmt: skip
    return parsed


def _kind_of(files: Sequence[UploadedFile], names: Sequence[str]) -> Submission.Kind:
    """What the upload is, after a look at names and sizes alone."""
    if not files:
        raise InvalidInput(
            "no_files", _("at least one file must be sent, in form fields called `files`."), field="files"
        )
    if len(files) > settings.UPLOAD_MAX_FILES:
        raise InvalidInput(
            "too_many_files", _("at most %(most)d files, not %(count)d."), field="files",
            most=settings.UPLOAD_MAX_FILES, count=len(files),
        )  # fmt: skip
    total = sum(file.size or 0 for file in files)
    if total > settings.UPLOAD_MAX_BYTES:
        raise TooLarge(
            "too_large", _("at most %(most)s in all, not %(total)s."), field="files",
            most=human_bytes(settings.UPLOAD_MAX_BYTES), total=bytes_beyond(total, settings.UPLOAD_MAX_BYTES),
        )  # fmt: skip
    for name in names:
        if not name.lower().endswith(settings.UPLOAD_EXTENSIONS):
            known = " ".join(settings.UPLOAD_EXTENSIONS)
            raise InvalidInput(
                "bad_extension", _("%(name)r must end in one of %(known)s"), field="files", name=name[:100], known=known
            )
    archives = [kind for name in names if (kind := archive_kind(name))]
    if archives and len(files) > 1:
        raise InvalidInput("bad_archive", _("send one archive alone, or single files, not both."), field="files")
    return Submission.Kind(archives[0]) if archives else Submission.Kind.TAR


@contextmanager
def _as_one_file(
    files: Sequence[UploadedFile], names: Sequence[str], kind: Submission.Kind
) -> Iterator[tuple[StoredContent, list[ManifestEntry]]]:
    """The object to store and what is in it: the archive as it came, or the single files packed into one."""
    try:
        if kind != Submission.Kind.TAR:
            file = files[0]
            manifest = inspect_archive(cast(BinaryIO, file.file), kind=cast(ArchiveKind, kind.value), hashes=False)
            yield StoredContent.of_upload(file), manifest
            return
        with NamedTemporaryFile(dir=settings.FILE_UPLOAD_TEMP_DIR, prefix="packed-", delete=False) as packed:
            content = StoredContent(packed)
            try:
                members = ((name, cast(BinaryIO, file.file)) for name, file in zip(names, files, strict=True))
                manifest = write_archive(cast(BinaryIO, content.hashing_writer()), members, hashes=False)
                yield content, manifest
            finally:
                content.discard()
    except ArchiveRefused as refusal:
        refused = TooLarge if refusal.code == "too_large" else InvalidInput
        raise refused(refusal.code, refusal, field="files") from refusal


def _root_folder(manifest: list[ManifestEntry], entrypoint: str) -> str:
    """ "" or the one folder that wraps everything, when the entrypoint lies in it (how people zip a folder)."""
    paths = [entry.path for entry in manifest]
    if entrypoint in paths:
        return ""
    tops = {path.partition("/")[0] for path in paths}
    if len(tops) == 1 and f"{(top := tops.pop())}/{entrypoint}" in paths:
        return top
    return ""


def check_contents(manifest: list[ManifestEntry], form: Form) -> str:
    """The folder that wraps everything ("": none); raises InvalidInput when what the form names is not there."""
    entrypoint, config_file = form.entrypoint, form.config_file
    root = _root_folder(manifest, entrypoint)
    paths = {entry.path for entry in manifest}
    prefix = f"{root}/" if root else ""
    if prefix + entrypoint not in paths:
        found = ", ".join(sorted(path for path in paths if path.endswith(".py"))[:5]) or _("no .py file")
        raise InvalidInput(
            "missing_entrypoint", _("%(name)r is not among the files (%(found)s)."), field="entrypoint",
            name=entrypoint, found=found,
        )  # fmt: skip
    # A run without any config file is fine; one that was asked for by another name must be there.
    if config_file != DEFAULT_CONFIG_FILE and prefix + config_file not in paths:
        raise InvalidInput(
            "missing_config_file", _("%(name)r is not among the files."), field="config_file", name=config_file
        )
    return root


def submissions_this_hour(user: User) -> HourlyUse:
    """Return the user's use of the hourly quota of submissions."""
    return hourly_use("submission", user)


def refuse_over_quota(user: User) -> None:
    """Raise QuotaExceeded when the user has no submission left in this hour."""
    recent = submissions_this_hour(user)
    if recent.left() > 0:
        return
    raise QuotaExceeded(
        "hourly_limit",
        _("You made %(count)d submissions within the last hour, which is the limit."),
        retry_after=recent.seconds_until_free(),
        count=recent.reached,
    )


def _open_leaderboard(user: User, slug: str) -> Leaderboard:
    slug = slug or DEFAULT_SLUG
    board = Leaderboard.objects.visible_to(user).filter(slug=slug).first() if "\0" not in slug else None
    if board is None:
        raise NotFound("not_found", _("there is none called %(name)r."), field="leaderboard", name=slug[:100])
    refuse_closed(board)
    return board


def check_name(name: str) -> str:
    """Return a submission's name in NFC with single spaces; raises InvalidInput. Empty: it has none."""
    name = plain_name(name.strip())
    if character := invisible_character(name):
        raise InvalidInput(
            "bad_name", _("the character %(character)s cannot be seen."), field="name", character=character
        )
    name = " ".join(name.split())
    if len(name) > NAME_MAX_LENGTH:
        raise InvalidInput(
            "bad_name", _("at most %(most)d characters, not %(count)d."), field="name", most=NAME_MAX_LENGTH,
            count=len(name),
        )  # fmt: skip
    return name


def check_names(entrypoint: str, config_file: str) -> tuple[str, str]:
    """Both must be bare file names: no folder, no `..`. Returns them; raises InvalidInput."""
    for field, name in (("entrypoint", entrypoint), ("config_file", config_file)):
        if not BARE_NAME.fullmatch(name):
            raise InvalidInput(
                f"bad_{field}",
                _("must be a bare file name (letters, digits, _ . -), without a folder, not %(name)r."),
                field=field,
                name=name[:100],
            )
    if not entrypoint.endswith(".py"):
        raise InvalidInput("bad_entrypoint", _("must end in .py, not %(name)r."), field="entrypoint", name=entrypoint)
    if not config_file.endswith((".yaml", ".yml", ".json")):
        raise InvalidInput(
            "bad_config_file", _("must end in .yaml, .yml or .json, not %(name)r."), field="config_file",
            name=config_file,
        )  # fmt: skip
    return entrypoint, config_file


def _metadata(metadata: dict[str, Any] | str | None) -> dict[str, Any]:
    if metadata is None or metadata == "":
        return {}
    try:
        parsed = load_json(metadata, _METADATA) if isinstance(metadata, str) else metadata
        size = storable_json_bytes(parsed)
    except ValueError as error:
        why = reason_of(error)
        raise InvalidInput("bad_metadata", _("is not valid JSON (%(why)s)."), field="metadata", why=why) from error
    if not isinstance(parsed, dict):
        raise InvalidInput(
            "bad_metadata", _("must be a JSON object, not %(kind)s."), field="metadata", kind=type(parsed).__name__
        )
    if size > METADATA_MAX_BYTES:
        raise InvalidInput(
            "bad_metadata", _("at most %(most)s, not %(size)s."), field="metadata",
            most=human_bytes(METADATA_MAX_BYTES), size=bytes_beyond(size, METADATA_MAX_BYTES),
        )  # fmt: skip
    return parsed
