"""Tools to test that file metadata of a data set does not tell its labels, for everything that mounts data sets for runs.

`assert_nothing_tells` judges what a run in the sandbox (`LOOK`) or the host (`seen_on_host`) sees of test images.
"""

import csv
import errno
import fcntl
import hashlib
import os
import random
import struct
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from leaderboards import traces
from leaderboards.pictures import without_metadata
from leaderboards.traces import Image, leak, shown_by, tellings

FS_IOC_FIEMAP = 0xC020660B
_MOST_EXTENTS = 16

# A program for the sandbox, next to attack.py: it tries requests to the file system that must be refused, and collects metadata.
LOOK = (
    Path(traces.__file__).read_text()
    + r"""
from attack import *
import fcntl

DATA = os.environ["DATASET_DIR"]
REQUESTS = {
    "FIBMAP": 0x1, "FS_IOC_FIEMAP": 0xC020660B, "FS_IOC_GETFSMAP": 0xC0C0583B, "FS_IOC_GETFLAGS": 0x80086601,
    "FS_IOC_FSGETXATTR": 0x801C581F, "FS_IOC_GETVERSION": 0x80087601, "EXT4_IOC_GETVERSION": 0x80086603,
    "EXT4_IOC_GET_ES_CACHE": 0xC020662A, "FS_IOC_GETFSUUID": 0x80111500, "BTRFS_IOC_INO_LOOKUP": 0xD0009412,
    "FIEMAP in 64 bits": 1 << 32 | 0xC020660B,
}
IOCTL = {"x86_64": 16, "aarch64": 29}[os.uname().machine]

def refused(number, path):
    with open(path, "rb") as file:
        return call(IOCTL, file.fileno(), ctypes.c_ulong(number), ctypes.create_string_buffer(8192)) == 1  # EPERM

pictures = sorted(os.path.relpath(os.path.join(folder, name), DATA)
                  for folder, _, names in os.walk(DATA) for name in names if folder.endswith("/test"))
for name, number in REQUESTS.items():
    attempt(name, lambda: not refused(number, os.path.join(DATA, pictures[0])))
seen = {}
for name in pictures:
    path = os.path.join(DATA, name)
    open(path, "rb").read()
    seen[name] = {**shown_by(path), "attributes": len(os.listxattr(path)),
                  "place in the listing": os.listdir(os.path.dirname(path)).index(os.path.basename(path))}
os.makedirs(OUTPUT + "/predictions")
leave("predictions/seen.json", json.dumps(seen))
"""
)


def picture(seed: int, *, is_mask: bool = False) -> bytes:
    """Make a PNG of incompressible noise, of a size that differs from picture to picture; or a mask for it, in one block."""
    noise = random.Random(seed)
    width, height = 64, noise.randrange(40, 160)
    rows = b"".join(b"\0" + (b"\xff" + bytes(width - 1) if is_mask else noise.randbytes(width)) for _ in range(height))
    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    parts = [(b"IHDR", head), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
        for name, content in parts
    )


def make_source(
    root: Path, *, images: int = 120, exchanged: bool = False, categories: Iterable[str] = ("bottle", "screw")
) -> Path:
    """Make data in the layout of MVTec AD. With `exchanged`, the same pictures with good and defective exchanged."""
    for offset, category in enumerate(categories):
        for kind in ("train/good", "test/good", "test/crack", "ground_truth/crack"):
            (root / category / kind).mkdir(parents=True)
        for number in range(20):
            (root / category / "train" / "good" / f"{number:03}.png").write_bytes(picture(-1 - number))
        for number in range(images):
            seed = offset * images + number
            is_defective = (number % 2 == 0) != exchanged
            folder = root / category / "test" / ("crack" if is_defective else "good")
            (folder / f"{number:03}.png").write_bytes(picture(seed))
            if is_defective:
                mask = root / category / "ground_truth" / "crack" / f"{number:03}_mask.png"
                mask.write_bytes(picture(seed, is_mask=True))
    (root / "LICENSE").write_text("CC0")
    return root


def one_shuffle(images: list[Any]) -> list[Any]:
    """Stand in for hiding._shuffled: put the same pictures into the same order, however they are labelled."""
    return sorted(images, key=lambda image: hashlib.sha256(image.test.path.read_bytes()).digest())


def hide_with_masks_between(source: Path, data: Path, labels: Path) -> None:
    """Make the first layout of `hide_labels`, with each mask right behind its image, which told the labels."""
    rows = []
    for category in sorted(path.name for path in source.iterdir() if path.is_dir()):
        (data / category / "train" / "good").mkdir(parents=True)
        for path in sorted((source / category / "train" / "good").iterdir()):
            _write_as_before(data / category / "train" / "good" / path.name, path.read_bytes())
        (data / category / "test").mkdir()
        (labels / "masks" / category).mkdir(parents=True)
        pictures = [
            path for kind in ("crack", "good") for path in sorted((source / category / "test" / kind).iterdir())
        ]
        by_content = sorted(pictures, key=lambda path: hashlib.sha256(path.read_bytes()).digest())
        for number, path in enumerate(by_content, 1):
            name, kind = f"{number:04}.png", path.parent.name
            _write_as_before(data / category / "test" / name, without_metadata(path.read_bytes()))
            mask = "" if kind == "good" else f"masks/{category}/{name}"
            if mask:
                drawn = source / category / "ground_truth" / kind / f"{path.stem}_mask.png"
                _write_as_before(labels / mask, drawn.read_bytes())
            rows.append([f"{category}/test/{name}", kind, int(kind != "good"), mask, 1, 1])
    with (labels / "labels.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([["image", "kind", "defect", "mask", "height", "width"], *rows])


def _write_as_before(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    path.chmod(0o644)
    os.utime(path, (0, 0))


def defective(labels: Path) -> dict[str, bool]:
    """Return for each test image whether it is defective."""
    with (labels / "labels.csv").open(newline="") as file:
        return {row["image"]: row["defect"] == "1" for row in csv.DictReader(file)}


def addresses(path: Path) -> list[tuple[int, int]] | None:
    """Return (address on the disk, length) of each extent; None if the file system does not tell."""
    request = bytearray(struct.pack("=QQIIII", 0, 2**64 - 1, 1, 0, _MOST_EXTENTS, 0) + bytes(56 * _MOST_EXTENTS))
    descriptor = os.open(path, os.O_RDONLY)
    try:
        fcntl.ioctl(descriptor, FS_IOC_FIEMAP, request)
    except OSError as error:
        if error.errno in (errno.EOPNOTSUPP, errno.ENOTTY, errno.EINVAL):
            return None
        raise
    finally:
        os.close(descriptor)
    (count,) = struct.unpack_from("=I", request, 20)
    # Each extent is 56 bytes: place in the file, place on the disk, length, and more.
    return [struct.unpack_from("=8xQQ", request, 32 + 56 * number) for number in range(count)]


def seen_on_host(data: Path, names: Iterable[str]) -> dict[str, dict[str, int]]:
    """Return the metadata of each file on the host, with its address on the disk if the file system tells it."""
    seen = {}
    for name in names:
        path = data / name
        seen[name] = {**shown_by(path), "place in the listing": os.listdir(path.parent).index(path.name)}
        if extents := addresses(path):
            seen[name]["address"] = extents[0][0]
    return seen


def images_of(seen: dict[str, dict[str, int]], labels: dict[str, bool]) -> list[Image]:
    return [Image(os.path.dirname(name), labels[name], seen[name]) for name in sorted(labels, key=os.fsencode)]


def assert_nothing_tells(seen: dict[str, dict[str, int]], labels: dict[str, bool]) -> None:
    """Assert that no number that was seen, and no gap between numbers, tells defective images from good ones."""
    assert set(seen) == set(labels)
    images = images_of(seen, labels)
    categories = [
        [image for image in images if image.category == name] for name in {image.category for image in images}
    ]
    telling = [one for one in tellings(categories) if abs(one[2]) >= traces.CLEAR]
    assert not telling and not leak(images), telling
