"""Reading masks: PNG files whose pixels are good (0) or defective (255), in whatever way programs write that.

Masks are decoded here with the standard library, because the site has no imaging library. Scorers read `mask > 127`, so a
mask of 0 and 1 would have no defective pixel.
"""

import itertools
import struct
import zlib
from dataclasses import dataclass

from leaderboards.pictures import UnknownPicture, is_png, picture_size, png_from, png_parts

_GREY, _RGB, _PALETTE, _GREY_ALPHA, _RGBA = 0, 2, 3, 4, 6
_CHANNELS = {_GREY: 1, _RGB: 3, _PALETTE: 1, _GREY_ALPHA: 2, _RGBA: 4}
_DEPTHS = {_GREY: (1, 2, 4, 8, 16), _PALETTE: (1, 2, 4, 8), _RGB: (8, 16), _GREY_ALPHA: (8, 16), _RGBA: (8, 16)}
_AS_WHITE = bytes(255 if value else 0 for value in range(256))
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
        if picture_size(raw) != size:
            raise BadMask("has another size than its image: {}x{}, not {}x{}".format(*picture_size(raw), *size))
        head, pixels = _decoded(raw)
    except (UnknownPicture, struct.error, zlib.error, IndexError) as error:
        raise BadMask(str(error) if isinstance(error, UnknownPicture) else "is a broken PNG") from error
    values = set(pixels)
    if not values <= {0, 255} and not values <= {0, 1}:
        shown = ", ".join(map(str, sorted(values)[:_MOST_VALUES_SHOWN]))
        more = f" and {len(values) - _MOST_VALUES_SHOWN} more" if len(values) > _MOST_VALUES_SHOWN else ""
        raise BadMask(f"has the values {shown}{more}; a mask has only 0 and 255, or only 0 and 1")
    is_plain = (head.depth, head.colours) == (8, _GREY) and values <= {0, 255}
    return Mask(values <= {0}, is_plain, raw if is_plain else _written(pixels.translate(_AS_WHITE), size))


@dataclass(frozen=True)
class _Head:
    width: int
    height: int
    depth: int
    colours: int

    @property
    def step(self) -> int:
        """The bytes between a byte and its neighbour to the left, as the filters of PNG count them."""
        return max(1, self.depth * _CHANNELS[self.colours] // 8)

    @property
    def row_bytes(self) -> int:
        return (self.width * self.depth * _CHANNELS[self.colours] + 7) // 8


def _decoded(raw: bytes) -> tuple[_Head, bytes]:
    """Return the head and a value from 0 to 255 for each pixel. Raises BadMask, UnknownPicture, struct.error, zlib.error."""
    content: dict[bytes, bytes] = {}
    for name, part in png_parts(raw):
        if zlib.crc32(part[4:-4]) != struct.unpack(">I", part[-4:])[0]:
            raise UnknownPicture("is a damaged PNG")
        content[name] = content.get(name, b"") + part[8:-4]
    width, height, depth, colours, _, _, interlace = struct.unpack(">IIBBBBB", content.get(b"IHDR", b""))
    if depth not in _DEPTHS.get(colours, ()) or not width or not height:
        raise UnknownPicture("is a broken PNG")
    if interlace:
        raise BadMask("is an interlaced PNG: save it without")
    if content.get(b"tRNS", b"").strip(b"\xff"):
        raise BadMask("has transparent pixels: save it without transparency")
    head = _Head(width, height, depth, colours)
    rows = _unfiltered(_inflated(content.get(b"IDAT", b""), (head.row_bytes + 1) * height), head)
    grey = _palette(content.get(b"PLTE", b"")) if colours == _PALETTE else None
    return head, b"".join(_values(row, head, grey) for row in rows)


def _inflated(packed: bytes, size: int) -> bytes:
    pixels = zlib.decompressobj().decompress(packed, size)
    if len(pixels) != size:
        raise UnknownPicture("is a broken PNG")
    return pixels


def _unfiltered(pixels: bytes, head: _Head) -> list[bytes]:
    rows, above = [], bytes(head.row_bytes)
    for start in range(0, len(pixels), head.row_bytes + 1):
        line = pixels[start + 1 : start + 1 + head.row_bytes]
        above = _unfiltered_row(pixels[start], line, above, head.step)
        rows.append(above)
    return rows


def _unfiltered_row(kind: int, line: bytes, above: bytes, step: int) -> bytes:
    """Undo one row's filter. Most rows of a mask are all good, which needs no loop."""
    is_first = not any(above)
    if kind == 0 or (not any(line) and is_first):
        return line
    if kind == 2:
        return bytes((value + up) & 255 for value, up in zip(line, above, strict=True))
    if kind == 1 or (kind == 4 and is_first):
        row = bytearray(line)
        for channel in range(step):
            row[channel::step] = bytes(value & 255 for value in itertools.accumulate(line[channel::step]))
        return bytes(row)
    if kind not in (3, 4):
        raise UnknownPicture("is a broken PNG")
    row, before = bytearray(step + len(line)), bytes(step) + above
    for place, value in enumerate(line, step):
        left, up = row[place - step], before[place]
        row[place] = (value + ((left + up) // 2 if kind == 3 else _paeth(left, up, before[place - step]))) & 255
    return bytes(row[step:])


def _paeth(left: int, up: int, corner: int) -> int:
    to_left, to_up, to_corner = abs(up - corner), abs(left - corner), abs(left + up - 2 * corner)
    if to_left <= to_up and to_left <= to_corner:
        return left
    return up if to_up <= to_corner else corner


def _palette(colours: bytes) -> list[int | None]:
    """Return the grey value of each entry; None for one that is a colour."""
    entries = zip(colours[::3], colours[1::3], colours[2::3], strict=True)
    return [red if red == green == blue else None for red, green, blue in entries]


def _values(row: bytes, head: _Head, palette: list[int | None] | None) -> bytes:
    """Return a row's pixels as values from 0 to 255."""
    if head.depth == 16:
        row = _eight_bits(row)
    elif head.depth < 8:
        row = _unpacked(row, head)
    if palette is not None:
        try:
            colours = {index: palette[index] for index in set(row)}
        except IndexError:
            raise UnknownPicture("is a broken PNG") from None
        if None in colours.values():
            raise BadMask("has colours: save it as grey with the values 0 and 255")
        return row.translate(bytes(colours.get(index) or 0 for index in range(256)))
    count = _CHANNELS[head.colours]
    if head.colours in (_GREY_ALPHA, _RGBA) and row[count - 1 :: count].strip(b"\xff"):
        raise BadMask("has transparent pixels: save it without transparency")
    if head.colours in (_RGB, _RGBA) and not row[::count] == row[1::count] == row[2::count]:
        raise BadMask("has channels that differ: save it as grey with the values 0 and 255")
    return row[::count]


def _eight_bits(row: bytes) -> bytes:
    high, low = row[::2], row[1::2]
    if high == low or not any(high):  # 0 and 65535, or small numbers in a large type
        return low
    raise BadMask("has 16 bits and other values than 0 and 65535, 0 and 255, or 0 and 1")


def _unpacked(row: bytes, head: _Head) -> bytes:
    """Return a byte for each pixel of less than 8 bits; grey becomes as bright as viewers and scorers show it."""
    scale = 255 // (2**head.depth - 1) if head.colours == _GREY else 1
    shifts = range(8 - head.depth, -1, -head.depth)
    table = [bytes((byte >> shift & 2**head.depth - 1) * scale for shift in shifts) for byte in range(256)]
    return b"".join([table[byte] for byte in row])[: head.width]


def _written(pixels: bytes, size: tuple[int, int]) -> bytes:
    width, height = size
    rows = b"".join(b"\0" + pixels[start : start + width] for start in range(0, width * height, width))
    head = struct.pack(">IIBBBBB", width, height, 8, _GREY, 0, 0, 0)
    return png_from((b"IHDR", head), (b"IDAT", zlib.compress(rows, 9)), (b"IEND", b""))
