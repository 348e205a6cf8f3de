"""Receiving files: written once to disk and hashed on the way, refused as soon as they are too large."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import IO, Any, TypeVar, cast

from django.conf import settings
from django.core.exceptions import RequestDataTooBig, TooManyFieldsSent, TooManyFilesSent
from django.core.files.uploadedfile import TemporaryUploadedFile
from django.core.files.uploadhandler import FileUploadHandler, StopUpload
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _
from rest_framework.parsers import DataAndFiles, MultiPartParser

from accounts.refusals import InvalidInput, RequestRefused, TooLarge
from core.sizes import human_bytes

FILE_FIELD = "files"
# Beside the files themselves, a multipart body has its boundaries, headers and small fields.
ENVELOPE_BYTES = 1024 * 1024


CHUNK_BYTES = 64 * 1024


View = TypeVar("View", bound=Callable[..., Any])
# Set by `takes_files` on a view, read by the middleware that refuses files everywhere else.
_TAKES_FILES = "takes_files"


@dataclass(frozen=True)
class FileRule:
    """The files that a view takes. `most_bytes` defaults to UPLOAD_MAX_BYTES."""

    most_bytes: int | None = None
    is_for_staff: bool = False

    @property
    def most_body_bytes(self) -> int:
        return (settings.UPLOAD_MAX_BYTES if self.most_bytes is None else self.most_bytes) + ENVELOPE_BYTES

    def allows(self, user: Any) -> bool:
        return bool(user.is_authenticated and (user.is_staff or not self.is_for_staff))


def takes_files(*, most_bytes: int | None = None, is_for_staff: bool = False) -> Callable[[View], View]:
    """Mark a view whose form may have files. All other pages refuse files before a byte is stored."""

    def mark(view: View) -> View:
        setattr(view, _TAKES_FILES, FileRule(most_bytes, is_for_staff))
        return view

    return mark


def file_rule(view: Callable[..., Any]) -> FileRule | None:
    return getattr(view, _TAKES_FILES, None)


class FilesNotTaken(RequestRefused):
    status = 415


class LengthRequired(RequestRefused):
    status = 411


class UnsupportedEncoding(RequestRefused):
    status = 415


def too_large() -> TooLarge:
    most = human_bytes(settings.UPLOAD_MAX_BYTES)
    return TooLarge("too_large", _("at most %(most)s in all."), field="files", most=most)


class HashingUploadHandler(FileUploadHandler):
    """Into a temporary file beside the stored ones, so that storing it is a rename. Stops the moment the cap is passed."""

    chunk_size = 1024 * 1024

    def __init__(self, request: HttpRequest | None = None) -> None:
        super().__init__(request)
        self.received_bytes = 0
        self.is_over = False
        self._opened: list[TemporaryUploadedFile] = []

    def new_file(self, *args: Any, **kwargs: Any) -> None:
        super().new_file(*args, **kwargs)
        # Not an attribute called `file`: Django would close that one, and only that one, on errors (see `discard`).
        self._opened.append(
            TemporaryUploadedFile(self.file_name or "", self.content_type, 0, self.charset, self.content_type_extra)
        )
        self.hash = hashlib.sha256()

    def receive_data_chunk(self, raw_data: bytes, start: int) -> None:
        self.received_bytes += len(raw_data)
        if self.received_bytes > settings.UPLOAD_MAX_BYTES:
            self.is_over = True
            self.discard()
            raise StopUpload(connection_reset=True)
        self.hash.update(raw_data)
        self._opened[-1].write(raw_data)

    def file_complete(self, file_size: int) -> TemporaryUploadedFile:
        done = self._opened[-1]
        done.seek(0)
        done.size = file_size
        done.sha256 = self.hash.hexdigest()  # type: ignore[attr-defined]
        return done

    def upload_interrupted(self) -> None:
        self.discard()

    def discard(self) -> None:
        """Remove every temporary file of a body that is refused, the finished ones too."""
        for file in self._opened:
            file.close()
        self._opened.clear()


class NoFilesHandler(FileUploadHandler):
    """Refuse the first file of a form before anything of it is stored."""

    def new_file(self, *args: Any, **kwargs: Any) -> None:
        raise FilesNotTaken("unsupported_media_type", _("This page takes no files. Nothing was stored."))

    def receive_data_chunk(self, raw_data: bytes, start: int) -> None:
        raise NotImplementedError

    def file_complete(self, file_size: int) -> None:
        raise NotImplementedError


class WholeBody:
    """The request's stream, which remembers how much came and its last bytes: a body cut short must not pass."""

    TAIL = 256

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self.count = 0
        self.tail = b""

    def read(self, size: int = -1) -> bytes:
        data = self._stream.read(size)
        self.count += len(data)
        self.tail = (self.tail + data[-self.TAIL :])[-self.TAIL :]
        return data

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def refuse_bad_length(request: HttpRequest) -> int:
    """The announced length of the body; raises when there is none, or when it is too large, before anything is read.

    A body in chunks is read up to the cap and thrown away, so that its sender gets told which of the two it was.
    """
    encoding = request.META.get("HTTP_CONTENT_ENCODING", "")
    if encoding.lower() not in ("", "identity"):
        raise UnsupportedEncoding(
            "unsupported_media_type", _("bodies are taken as they are, not compressed."), field="Content-Encoding"
        )
    announced = request.META.get("CONTENT_LENGTH") or ""
    if not announced.isdigit():
        if _is_too_large_in_chunks(request):
            raise too_large()
        raise LengthRequired(
            "length_required", _("must be given; chunked bodies are not taken."), field="Content-Length"
        )
    if int(announced) > settings.UPLOAD_MAX_BYTES + ENVELOPE_BYTES:
        raise too_large()
    return int(announced)


def _is_too_large_in_chunks(request: HttpRequest) -> bool:
    # The server's word that a read ends where the body does; without it, it would wait for what never comes.
    if not request.META.get("wsgi.input_terminated") or "HTTP_TRANSFER_ENCODING" not in request.META:
        return False
    left = settings.UPLOAD_MAX_BYTES + ENVELOPE_BYTES
    try:
        while left >= 0 and (data := request.META["wsgi.input"].read(CHUNK_BYTES)):
            left -= len(data)
    except OSError:  # chunks that are none, or that end early
        return False
    return left < 0


class UploadParser(MultiPartParser):
    """multipart/form-data with the cap acting while it streams, and truncated bodies refused."""

    def parse(self, stream: Any, media_type: str | None = None, parser_context: Any = None) -> DataAndFiles:
        request = parser_context["request"]
        try:
            return self._parse(request, stream, media_type, parser_context)
        except BaseException:
            for handler in request.upload_handlers:
                if isinstance(handler, HashingUploadHandler):
                    handler.discard()
            raise

    def _parse(self, request: Any, stream: Any, media_type: str | None, parser_context: Any) -> DataAndFiles:
        length = refuse_bad_length(request)
        whole = WholeBody(stream)
        try:
            parsed = super().parse(cast(IO[Any], whole), media_type=media_type, parser_context=parser_context)
        except TooManyFilesSent:
            raise InvalidInput(
                "too_many_files", _("at most %(most)d in one upload."), field="files", most=settings.UPLOAD_MAX_FILES
            )
        except TooManyFieldsSent:
            raise InvalidInput(
                "too_many_fields",
                _("At most %(most)d fields in one form."),
                most=settings.DATA_UPLOAD_MAX_NUMBER_FIELDS,
            )
        except RequestDataTooBig:
            raise TooLarge(
                "too_large",
                _("Fields beside the files: at most %(most)s in all."),
                most=human_bytes(settings.DATA_UPLOAD_MAX_MEMORY_SIZE),
            )
        if any(getattr(handler, "is_over", False) for handler in request.upload_handlers):
            raise too_large()
        if whole.count < length or not whole.tail.rstrip().endswith(b"--"):
            raise InvalidInput(
                "truncated",
                _("The body ended after %(count)d of %(length)d bytes; nothing was stored."),
                count=whole.count,
                length=length,
            )
        if stray := parsed.files.keys() - {FILE_FIELD}:
            raise InvalidInput("invalid", _("takes no file."), field=min(stray)[:100])
        return parsed
