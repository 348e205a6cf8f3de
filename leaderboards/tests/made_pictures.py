"""Small pictures made by hand, and a folder of them in the layout of MVTec AD."""

import struct
import zlib
from pathlib import Path

GREY, RGB, PALETTE, GREY_ALPHA, RGBA = 0, 2, 3, 4, 6


def part(name, content):
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def png_of(rows, *, width, depth=8, colours=GREY, interlace=0, before=b""):
    """Return a PNG of raw rows, each with its filter's byte at its beginning; `before` are parts ahead of the pixels."""
    head = struct.pack(">IIBBBBB", width, len(rows), depth, colours, 0, 0, interlace)
    pixels = part(b"IDAT", zlib.compress(b"".join(rows)))
    return b"\x89PNG\r\n\x1a\n" + part(b"IHDR", head) + before + pixels + part(b"IEND", b"")


def png(shade, *, width=4, height=3, text=b""):
    """Return a grey picture of one shade, with a comment."""
    comment = part(b"tEXt", b"Comment\0" + text) if text else b""
    return png_of([b"\0" + bytes([shade]) * width] * height, width=width, before=comment)


def bmp(shade, *, width=4, height=3, resolution=0, end=b""):
    """Return a picture of one shade with 24 bits a pixel."""
    row = bytes([shade]) * 3 * width
    pixels = (row + bytes(-len(row) % 4)) * height
    head = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 24, 0, len(pixels), resolution, resolution, 0, 0)
    return b"BM" + struct.pack("<III", 54 + len(pixels) + len(end), 0, 54) + head + pixels + end


def jpeg_part(marker, content):
    return bytes([0xFF, marker]) + struct.pack(">H", len(content) + 2) + content


JPEG = (
    b"\xff\xd8" + jpeg_part(0xE0, b"JFIF\0") + jpeg_part(0xE1, b"Exif\0\0defect") + jpeg_part(0xFE, b"defect")
    + jpeg_part(0xC0, b"\x08" + struct.pack(">HH", 30, 40) + b"\x01") + jpeg_part(0xDA, b"\0") + b"scan\xff\xd9defect"
)  # fmt: skip


def make_parts(root: Path) -> Path:
    """Make two categories: 3 images to learn from, 5 good ones to test, 4 cracks and 4 dents. Each has a shade of its own."""
    for category in ("bottle", "screw"):
        shades = iter(range(1, 200))
        for folder, count in (("train/good", 3), ("test/good", 5), ("test/crack", 4), ("test/dent", 4)):
            (root / category / folder).mkdir(parents=True)
            for number in range(count):
                path = root / category / folder / f"{number:03}.png"
                path.write_bytes(png(next(shades), text=folder.encode()))
        for kind in ("crack", "dent"):
            (root / category / "ground_truth" / kind).mkdir(parents=True)
            for number in range(4):
                (root / category / "ground_truth" / kind / f"{number:03}_mask.png").write_bytes(png(255))
    (root / "license.txt").write_text("CC BY-NC")
    return root
