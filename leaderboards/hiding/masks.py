"""Reading masks: PNG files whose pixels are good (0) or defective (255), in whatever way programs write that.

Scorers read `mask > 127`, so a mask of 0 and 1 would have no defective pixel.
"""

import io
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image

from leaderboards.pictures import UnknownPicture, is_png, picture_size, without_metadata

_PNG_ONLY = ("PNG",)
_MOST_VALUES_SHOWN = 6


class BadMask(ValueError):
    """The file is not a mask; the message says why, as the end of a sentence that begins with the file."""


@dataclass(frozen=True)
class Mask:
    """A mask's defective pixels, and its file as scorers read it."""

    is_empty: bool
    # False: `content` was written anew, with 0 and 255 in one channel of 8 bits.
    is_as_it_was: bool
    content: bytes


def read_mask(raw: bytes, size: tuple[int, int]) -> Mask:
    """Return the mask of an image of this (width, height). Raises BadMask."""
    if not is_png(raw):
        raise BadMask("is no PNG")
    try:
        found = picture_size(without_metadata(raw))
    except UnknownPicture as error:
        raise BadMask(str(error)) from error
    if found != size:  # by its head, before anything is decoded
        raise BadMask("has another size than its image: {}x{}, not {}x{}".format(*found, *size))
    picture = _decoded(raw)
    levels = _levels(picture)
    values = set(levels)
    if not any(values <= {0, white} for white in (1, 255, 65535)):
        shown = ", ".join(map(str, sorted(values)[:_MOST_VALUES_SHOWN]))
        more = f" and {len(values) - _MOST_VALUES_SHOWN} more" if len(values) > _MOST_VALUES_SHOWN else ""
        raise BadMask(f"has the values {shown}{more}; a mask has only 0 and 255, or only 0 and 1")
    # Pillow brings smaller depths to 8 bits; byte 24 of a PNG is the depth that the file has.
    is_plain = (picture.mode, raw[24]) == ("L", 8) and values <= {0, 255}
    return Mask(values <= {0}, is_plain, raw if is_plain else _written(levels, size))


def _decoded(raw: bytes) -> Image.Image:
    try:
        picture = Image.open(io.BytesIO(raw), formats=_PNG_ONLY)
        picture.load()
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise BadMask(f"is a broken PNG: {error}") from error
    if "transparency" in picture.info and picture.convert("RGBA").getchannel("A").getextrema() != (255, 255):
        raise BadMask("has transparent pixels: save it without transparency")
    return picture


def _levels(picture: Image.Image) -> Sequence[int]:
    """Return the value of each pixel. Raises BadMask where that is a colour, or transparent."""
    if picture.mode.startswith("I"):
        return memoryview(picture.convert("I").tobytes()).cast("i")
    if picture.mode in ("1", "L"):
        return picture.convert("L").tobytes()
    red, green, blue, alpha = (band.tobytes() for band in picture.convert("RGBA").split())
    if alpha.strip(b"\xff"):
        raise BadMask("has transparent pixels: save it without transparency")
    if not red == green == blue:
        raise BadMask("has colours: save it as grey with the values 0 and 255")
    return red


def _written(levels: Sequence[int], size: tuple[int, int]) -> bytes:
    made = io.BytesIO()
    Image.frombytes("L", size, bytes(255 if level else 0 for level in levels)).save(made, "PNG")
    return without_metadata(made.getvalue())
