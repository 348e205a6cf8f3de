"""A small multipart form, read at once: the one plain way of writing it, or None.

Browsers and programs write forms in the one way that is taken here; any freedom of the format beyond (other headers, quoted
names, encodings, preambles) is left to Django's parser.
"""

import re
from dataclasses import dataclass, field
from io import SEEK_CUR, SEEK_END, SEEK_SET, BufferedReader, BytesIO, RawIOBase
from typing import Any, BinaryIO

from leaderboard_site.lane.search import find

MOST_PARTS = 100
MOST_FIELD_BYTES = 64 * 1024
COPIED_BYTES = 64 * 1024
_TYPE = re.compile(r'multipart/form-data; ?boundary=("?)([A-Za-z0-9_-]{1,70})\1')
_DISPOSITION = re.compile(rb'form-data; name="([a-z_]{1,32})"(?:; filename="([A-Za-z0-9_][A-Za-z0-9_.-]{0,99})")?')
_MEDIA_TYPE = re.compile(rb"[a-z0-9.+-]{1,60}/[a-z0-9.+-]{1,60}(; ?charset=(utf-8|UTF-8))?")


@dataclass
class Part:
    """An uploaded file as the services look at it; its content is a part of the body, which is not copied."""

    name: str
    content: memoryview

    @property
    def size(self) -> int:
        return len(self.content)

    @property
    def file(self) -> BinaryIO:
        return BytesIO(self.content) if self.size <= COPIED_BYTES else BufferedReader(_View(self.content), COPIED_BYTES)


class _View(RawIOBase):
    """Memory as a file, where BytesIO would copy all of it."""

    def __init__(self, content: memoryview) -> None:
        self._content, self._at = content, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = SEEK_SET) -> int:
        self._at = max(0, offset + {SEEK_SET: 0, SEEK_CUR: self._at, SEEK_END: len(self._content)}[whence])
        return self._at

    def readinto(self, buffer: Any) -> int:
        came = self._content[self._at : self._at + len(buffer)]
        buffer[: len(came)] = came
        self._at += len(came)
        return len(came)


@dataclass
class SmallForm:
    fields: dict[str, str] = field(default_factory=dict)
    # `Part`, or what a larger form has in its place (large_form.py).
    files: list[Any] = field(default_factory=list)


def boundary_of(content_type: str) -> bytes | None:
    matched = _TYPE.fullmatch(content_type)
    return matched[2].encode() if matched else None


def read_form(body: bytes, boundary: bytes, *, file_field: str) -> SmallForm | None:
    """Fields, each once, and the files of one field; None for whatever is not plain."""
    edge = b"--" + boundary
    if not body.startswith(edge + b"\r\n"):
        return None
    form = SmallForm()
    at = len(edge) + 2
    for _ in range(MOST_PARTS):
        head_end = body.find(b"\r\n\r\n", at, at + 1000)
        end = find(body, edge, len(body), start=head_end + 4) - 2
        # Django's parser recognises a boundary inside a line, too.
        if head_end < 0 or end < head_end + 4 or not body.startswith(b"\r\n", end):
            return None
        if not _take(form, body[at:head_end], memoryview(body)[head_end + 4 : end], file_field):
            return None
        at = end + 2 + len(edge)
        following = body[at : at + 4]
        if following.startswith(b"\r\n"):
            at += 2
        else:
            return form if following in (b"--", b"--\r\n") and at + len(following) == len(body) else None
    return None


def file_name(head: bytes, file_field: str) -> str | None:
    """The name of the file whose part begins so; None for a field, and for what is not plain."""
    read = _read_head(head, file_field)
    return read[1] if read else None


def _read_head(head: bytes, file_field: str) -> tuple[str, str | None] | None:
    """The field's name and, of the one that has files, the file's; None when it is not plain."""
    found: dict[bytes, bytes] = {}
    for line in head.split(b"\r\n"):
        header, colon, value = line.partition(b": ")
        if not colon or header.lower() in found:
            return None
        found[header.lower()] = value
    matched = _DISPOSITION.fullmatch(found.pop(b"content-disposition", b""))
    if matched is None or not _MEDIA_TYPE.fullmatch(found.pop(b"content-type", b"text/plain")) or found:
        return None
    name, file = matched[1].decode(), matched[2]
    if (file is not None) != (name == file_field):
        return None
    return name, None if file is None else file.decode()


def _take(form: SmallForm, head: bytes, content: memoryview, file_field: str) -> bool:
    """Add the part; False when it is not plain."""
    read = _read_head(head, file_field)
    if read is None:
        return False
    name, file = read
    if file is not None:
        form.files.append(Part(file, content))
        return True
    if name in form.fields or len(content) > MOST_FIELD_BYTES:
        return False
    try:
        form.fields[name] = bytes(content).decode()
    except UnicodeDecodeError:
        return False
    return "\0" not in form.fields[name]
