"""PNG, JPEG and BMP by their parts alone: how large a picture is, and its bytes without what is not picture."""

import struct
import zlib
from collections.abc import Iterator
from typing import NamedTuple

_PNG = b"\x89PNG\r\n\x1a\n"
# What a picture needs to look the same; times, texts, EXIF and private parts go.
_PNG_KEPT = {b"IHDR", b"PLTE", b"IDAT", b"IEND", b"tRNS", b"gAMA", b"cHRM", b"sRGB", b"iCCP", b"sBIT", b"pHYs"}
_BMP = b"BM"
_BMP_HEAD, _BMP_FILE_HEAD = struct.Struct("<IiiHHIIiiII"), struct.Struct("<2sIII")
_BMP_DEPTHS = {1, 4, 8, 24, 32}
_JPEG_SIZES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
_JPEG_COMMENT = 0xFE
# JFIF, the colour profile and Adobe's colour transform change what is seen; EXIF and other applications' parts do not.
_JPEG_APPLICATIONS = {*range(0xE0, 0xF0)} - {0xE0, 0xE2, 0xEE}
_START_OF_SCAN = 0xDA


class UnknownPicture(ValueError):
    """Neither a PNG nor a JPEG nor a BMP, or a broken one."""


def is_png(raw: bytes) -> bool:
    return raw.startswith(_PNG)


def png_from(*parts: tuple[bytes, bytes]) -> bytes:
    """Return the PNG of these parts, each as (name, content)."""
    return _PNG + b"".join(
        struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
        for name, content in parts
    )


def picture_size(raw: bytes) -> tuple[int, int]:
    """(width, height) in pixels; UnknownPicture."""
    if is_png(raw):
        if len(raw) < 24 or raw[12:16] != b"IHDR":
            raise UnknownPicture("is a broken PNG")
        width, height = struct.unpack(">II", raw[16:24])
        return width, height
    if raw.startswith(_BMP):
        return _bmp(raw).size
    for marker, part in _jpeg_parts(raw):
        if marker in _JPEG_SIZES and len(part) >= 9:
            height, width = struct.unpack(">HH", part[5:9])
            return width, height
    raise UnknownPicture("is a JPEG without a size")


def without_metadata(raw: bytes) -> bytes:
    """The same picture, byte for byte what is seen of it; UnknownPicture."""
    if is_png(raw):
        return _PNG + b"".join(part for name, part in png_parts(raw) if name in _PNG_KEPT)
    if raw.startswith(_BMP):
        return _bmp(raw).content
    kept = [part for marker, part in _jpeg_parts(raw) if marker not in {_JPEG_COMMENT, *_JPEG_APPLICATIONS}]
    return b"\xff\xd8" + b"".join(kept)


def png_parts(raw: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield each part of a PNG as (name, the part with its length and checksum). Raises UnknownPicture."""
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
        raise UnknownPicture("is neither a PNG nor a JPEG nor a BMP")
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


class _Bmp(NamedTuple):
    size: tuple[int, int]
    content: bytes


def _bmp(raw: bytes) -> _Bmp:
    """Return the size of a BMP, and its bytes with the plainest head: no resolution, profile, gap or end. UnknownPicture."""
    try:
        _, _, _, start = _BMP_FILE_HEAD.unpack_from(raw)
        head_bytes, width, height, _, depth, compression, _, _, _, colours, _ = _BMP_HEAD.unpack_from(raw, 14)
    except struct.error:
        raise UnknownPicture("is a broken BMP") from None
    if head_bytes < _BMP_HEAD.size or depth not in _BMP_DEPTHS or compression:
        raise UnknownPicture("is a BMP of a rare kind: save it as PNG")
    used, pad = (width * depth + 7) // 8, -((width * depth + 7) // 8) % 4
    count = (colours or 2**depth) if depth <= 8 else 0
    palette = raw[14 + head_bytes : 14 + head_bytes + 4 * count]
    pixels = raw[start : start + (used + pad) * abs(height)]
    if (
        width <= 0
        or not height
        or count > 2**depth
        or len(palette) != 4 * count
        or len(pixels) != (used + pad) * abs(height)
    ):
        raise UnknownPicture("is a broken BMP")
    rows = (pixels[place : place + used] + bytes(pad) for place in range(0, len(pixels), used + pad))
    offset = _BMP_FILE_HEAD.size + _BMP_HEAD.size + len(palette)
    head = _BMP_HEAD.pack(_BMP_HEAD.size, width, height, 1, depth, 0, len(pixels), 0, 0, count, 0)
    file_head = _BMP_FILE_HEAD.pack(_BMP, offset + len(pixels), 0, offset)
    return _Bmp((width, abs(height)), file_head + head + palette + b"".join(rows))
