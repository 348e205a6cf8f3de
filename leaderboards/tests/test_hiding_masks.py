"""Masks as programs write them: each way of writing 0 and 255 is read, everything else is refused with its reason."""

import io

import pytest
from PIL import Image

from leaderboards.hiding.masks import BadMask, read_mask
from leaderboards.tests.made_pictures import GREY_ALPHA, PALETTE, RGB, RGBA, part, png, png_of

SIZE = (4, 3)
PIXELS = [b"\0\xff\xff\0", b"\0\0\xff\xff", b"\xff\xff\xff\xff"]
PLAIN = png_of([b"\0" + row for row in PIXELS], width=4)
BLACK_AND_WHITE = part(b"PLTE", b"\0\0\0\xff\xff\xff\xff\0\0")


def rows(convert):
    return [b"\0" + b"".join(convert(value) for value in row) for row in PIXELS]


def filtered(kind):
    """Return the rows with one filter of PNG, written out from its definition."""
    lines, above = [], bytes(4)
    for row in PIXELS:
        line = bytearray([kind])
        for place, value in enumerate(row):
            left, corner = (row[place - 1], above[place - 1]) if place else (0, 0)
            up = above[place]
            nearest = min((left, up, corner), key=lambda one: abs(left + up - corner - one))
            line.append((value - (0, left, up, (left + up) // 2, nearest)[kind]) & 255)
        lines.append(bytes(line))
        above = row
    return lines


def pixels_of(mask):
    """Return the rows of a mask that was written anew."""
    picture = Image.open(io.BytesIO(mask.content))
    assert (picture.format, picture.mode, picture.size) == ("PNG", "L", SIZE)
    pixels = picture.tobytes()
    return [pixels[:4], pixels[4:8], pixels[8:]]


@pytest.mark.parametrize("kind", range(5))
def test_plain_mask_stays_byte_for_byte(kind):
    mask = read_mask(raw := png_of(filtered(kind), width=4), SIZE)
    assert (mask.content, mask.is_as_it_was, mask.is_empty) == (raw, True, False)


@pytest.mark.parametrize(
    "raw",
    [
        png_of(rows(lambda value: bytes([value // 255])), width=4),
        png_of([bytes([line[0], *(byte // 255 for byte in line[1:])]) for line in rows(lambda v: bytes([v]))], width=4),
        png_of([b"\0\x60", b"\0\x30", b"\0\xf0"], width=4, depth=1),
        png_of([b"\0\x3c", b"\0\x0f", b"\0\xff"], width=4, depth=2),
        png_of([b"\0\x0f\xf0", b"\0\x00\xff", b"\0\xff\xff"], width=4, depth=4),
        png_of([b"\0\x60", b"\0\x30", b"\0\xf0"], width=4, depth=1, colours=PALETTE, before=BLACK_AND_WHITE),
        png_of(rows(lambda v: bytes([v // 255])), width=4, colours=PALETTE, before=BLACK_AND_WHITE),
        png_of(rows(lambda v: bytes([v] * 3)), width=4, colours=RGB),
        png_of(rows(lambda v: bytes([v] * 3 + [255])), width=4, colours=RGBA),
        png_of(rows(lambda v: bytes([v, 255])), width=4, colours=GREY_ALPHA),
        png_of(rows(lambda v: bytes([v, v])), width=4, depth=16),
        png_of(rows(lambda v: bytes([0, v])), width=4, depth=16),
        png_of(rows(lambda v: bytes([0, v // 255])), width=4, depth=16),
    ],
)
def test_other_ways_of_writing_a_mask_become_plain(raw):
    mask = read_mask(raw, SIZE)
    assert (pixels_of(mask), mask.is_as_it_was, mask.is_empty) == (PIXELS, False, False)
    assert read_mask(mask.content, SIZE).is_as_it_was


def test_empty_mask_is_told():
    assert read_mask(png(0), SIZE).is_empty
    assert read_mask(png_of([b"\0\0"] * 3, width=4, depth=1), SIZE).is_empty


@pytest.mark.parametrize(
    ("raw", "told"),
    [
        (b"\xff\xd8", "is no PNG"),
        (png(255, width=9), "has another size than its image: 9x3, not 4x3"),
        (png(7), "has the values 7; a mask has only 0 and 255, or only 0 and 1"),
        (
            png_of([b"\0\0\1\2\3", b"\0\4\5\6\7", b"\0\xff\xff\0\0"], width=4),
            "has the values 0, 1, 2, 3, 4, 5 and 3 more; a mask has only 0 and 255, or only 0 and 1",
        ),
        (
            png_of([b"\0\x90"] * 3, width=4, depth=2),
            "has the values 0, 85, 170; a mask has only 0 and 255, or only 0 and 1",
        ),
        (
            png_of(rows(lambda v: bytes([v, 0, 0])), width=4, colours=RGB),
            "has colours: save it as grey with the values 0 and 255",
        ),
        (
            png_of(rows(lambda v: bytes([v // 255 * 2])), width=4, colours=PALETTE, before=BLACK_AND_WHITE),
            "has colours: save it as grey with the values 0 and 255",
        ),
        (
            png_of(rows(lambda v: bytes([v, v])), width=4, colours=GREY_ALPHA),
            "has transparent pixels: save it without transparency",
        ),
        (
            png_of(rows(lambda v: bytes([v])), width=4, before=part(b"tRNS", b"\0\0")),
            "has transparent pixels: save it without transparency",
        ),
        (
            png_of(rows(lambda v: b"\1\2"), width=4, depth=16),
            "has the values 258; a mask has only 0 and 255, or only 0 and 1",
        ),
        (PLAIN[:45] + b"\0" + PLAIN[46:], "is a broken PNG"),
        (PLAIN[:-13], "is a broken PNG"),
        (png_of([b"\x09" + PIXELS[0]] * 3, width=4), "is a broken PNG"),
        (png_of([b"\0\xff"] * 3, width=4), "is a broken PNG"),
        (png_of(filtered(0), width=4, depth=3), "is a broken PNG"),
        (b"\x89PNG\r\n\x1a\n", "is a broken PNG"),
    ],
)
def test_what_is_no_mask_is_refused(raw, told):
    with pytest.raises(BadMask) as refused:
        read_mask(raw, SIZE)
    assert str(refused.value).partition(": ")[0] == told.partition(": ")[0]
