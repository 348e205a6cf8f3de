"""Masks of defects, checked and written alike; and pictures of other formats as PNG."""

import io
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image, UnidentifiedImageError

from leaderboards.pictures import UnknownPicture, without_metadata

_PNG = b"\x89PNG\r\n\x1a\n"
# What PNG keeps without loss: black and white, grey of 8 and 16 bits, colours with and without transparency.
_LOSSLESS_MODES = {"1", "L", "I;16", "RGB", "RGBA"}
VALUES_SHOWN = 5


class BadMask(ValueError):
    """No mask, or one whose pixels do not tell defective from good; the message says what is wrong."""


@dataclass(frozen=True)
class Mask:
    """A mask as the scorer reads it: a grey PNG of 8 bits with the values 0 and 255."""

    png: bytes
    width: int
    height: int
    was_scaled: bool  # the source used 0 and 1


def read_mask(raw: bytes) -> Mask:
    """Check a mask and normalise its values. Its pixels are 0 and one other value: 1, 255 or (16 bits) 65535.

    A PNG that is right already keeps its bytes but for its metadata. Raises BadMask.
    """
    picture = _opened(raw)
    width, height = picture.size
    levels = _levels(picture)
    values = sorted(set(levels))
    if values == [0]:
        raise BadMask("marks no pixel as defective")
    if len([value for value in values if value]) != 1 or values[-1] not in (1, 255, 65535):
        shown = ", ".join(map(str, values[:VALUES_SHOWN])) + (", ..." if len(values) > VALUES_SHOWN else "")
        raise BadMask(f"has the values {shown}; a mask has 0 and 255, or 0 and 1")
    if raw.startswith(_PNG) and picture.mode == "L" and values[-1] == 255:
        return Mask(without_metadata(raw), width, height, was_scaled=False)
    normal = Image.frombytes("L", picture.size, bytes(255 if level else 0 for level in levels))
    return Mask(_as_png(normal), width, height, was_scaled=values[-1] == 1)


def as_png(raw: bytes) -> bytes:
    """Return a BMP or TIFF picture as a PNG with the same pixels and no metadata. Raises UnknownPicture."""
    try:
        picture = _opened(raw)
    except BadMask as error:
        raise UnknownPicture(str(error)) from error
    if picture.mode not in _LOSSLESS_MODES:
        raise UnknownPicture(f"has pixels of the kind {picture.mode}, which PNG does not keep: convert it yourself")
    return _as_png(picture)


def _opened(raw: bytes) -> Image.Image:
    try:
        picture = Image.open(io.BytesIO(raw), formats=("PNG", "BMP", "TIFF"))
        if (frames := getattr(picture, "n_frames", 1)) != 1:
            raise BadMask(f"has {frames} pictures in one file")
        picture.load()
    except BadMask:
        raise
    except UnidentifiedImageError as error:
        raise BadMask("is no PNG, BMP or TIFF") from error
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise BadMask(f"cannot be read: {error}") from error
    return picture


def _levels(picture: Image.Image) -> Sequence[int]:
    """Return all pixels of a picture of one band, or whose colours are opaque greys. Raises BadMask."""
    if picture.mode.startswith("I"):
        return memoryview(picture.convert("I").tobytes()).cast("i")
    if picture.mode == "1":
        return picture.convert("L").tobytes()
    if picture.mode == "L":
        return picture.tobytes()
    red, green, blue, alpha = (band.tobytes() for band in picture.convert("RGBA").split())
    if red != green or red != blue or alpha.strip(b"\xff"):
        raise BadMask("has colours or transparency; a mask is grey")
    return red


def _as_png(picture: Image.Image) -> bytes:
    made = io.BytesIO()
    picture.save(made, "PNG")
    return without_metadata(made.getvalue())
