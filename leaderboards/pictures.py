"""PNG and JPEG by their parts alone: how large a picture is, and its bytes without what is not picture."""

import struct
from collections.abc import Iterator

_PNG = b"\x89PNG\r\n\x1a\n"
# What a picture needs to look the same; times, texts, EXIF and private parts go.
_PNG_KEPT = {b"IHDR", b"PLTE", b"IDAT", b"IEND", b"tRNS", b"gAMA", b"cHRM", b"sRGB", b"iCCP", b"sBIT", b"pHYs"}
_JPEG_SIZES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
_JPEG_COMMENT = 0xFE
# JFIF, the colour profile and Adobe's colour transform change what is seen; EXIF and other applications' parts do not.
_JPEG_APPLICATIONS = {*range(0xE0, 0xF0)} - {0xE0, 0xE2, 0xEE}
_START_OF_SCAN = 0xDA


class UnknownPicture(ValueError):
    """Neither a PNG nor a JPEG, or a broken one."""


def picture_size(raw: bytes) -> tuple[int, int]:
    """(width, height) in pixels; UnknownPicture."""
    if raw.startswith(_PNG):
        if len(raw) < 24 or raw[12:16] != b"IHDR":
            raise UnknownPicture("is a broken PNG")
        width, height = struct.unpack(">II", raw[16:24])
        return width, height
    for marker, part in _jpeg_parts(raw):
        if marker in _JPEG_SIZES and len(part) >= 9:
            height, width = struct.unpack(">HH", part[5:9])
            return width, height
    raise UnknownPicture("is a JPEG without a size")


def without_metadata(raw: bytes) -> bytes:
    """The same picture, byte for byte what is seen of it; UnknownPicture."""
    if raw.startswith(_PNG):
        return _PNG + b"".join(part for name, part in _png_parts(raw) if name in _PNG_KEPT)
    kept = [part for marker, part in _jpeg_parts(raw) if marker not in {_JPEG_COMMENT, *_JPEG_APPLICATIONS}]
    return b"\xff\xd8" + b"".join(kept)


def _png_parts(raw: bytes) -> Iterator[tuple[bytes, bytes]]:
    at = len(_PNG)
    while at < len(raw):
        if at + 12 > len(raw):
            raise UnknownPicture("is a broken PNG")
        (length,) = struct.unpack(">I", raw[at : at + 4])
        name, end = raw[at + 4 : at + 8], at + 12 + length
        if end > len(raw):
            raise UnknownPicture("is a broken PNG")
        yield name, raw[at:end]
        if name == b"IEND":
            return  # what hangs on behind it is no picture
        at = end
    raise UnknownPicture("is a broken PNG")


def _jpeg_parts(raw: bytes) -> Iterator[tuple[int, bytes]]:
    """(marker, the part with its marker) of each; the last one is the scans, to the end of the picture."""
    if not raw.startswith(b"\xff\xd8"):
        raise UnknownPicture("is neither a PNG nor a JPEG")
    at = 2
    while at + 4 <= len(raw) and raw[at] == 0xFF:
        marker = raw[at + 1]
        if marker == _START_OF_SCAN:
            end = raw.rfind(b"\xff\xd9")
            if end < at:
                raise UnknownPicture("is a broken JPEG")
            yield marker, raw[at : end + 2]
            return
        (length,) = struct.unpack(">H", raw[at + 2 : at + 4])
        yield marker, raw[at : at + 2 + length]
        at += 2 + length
    raise UnknownPicture("is a broken JPEG")
