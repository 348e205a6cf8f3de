"""Reading the test images and masks of a source: sizes, digests, and every one that cannot be used."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

from leaderboards.hiding.masks import BadMask, Mask, read_mask
from leaderboards.hiding.source import CannotHide, Source, SourceImage, shown
from leaderboards.pictures import UnknownPicture, picture_size, without_metadata

# Called with what is being done, and how many of how many files are done.
Report = Callable[[str, int, int], None]
_MOST_FAULTS = 20


@dataclass(frozen=True)
class Read:
    """A test image of the source as it was read; `size` is (width, height)."""

    test: SourceImage
    size: tuple[int, int]
    source_sha256: str
    # Of the image as runs read it, without metadata.
    sha256: str
    mask_sha256: str = ""
    # False: the mask is written anew with the values 0 and 255.
    is_mask_as_it_was: bool = True
    is_mask_empty: bool = False


def read_images(source: Source, *, empty_masks: bool, report: Report) -> dict[str, list[Read]]:
    """Read each test image and its mask, by category. Raises CannotHide, which names all that cannot be used."""
    total, done = sum(map(len, source.tests.values())), 0
    read: dict[str, list[Read]] = {category: [] for category in source.tests}
    faults: list[str] = []
    for category, tests in source.tests.items():
        for test in tests:
            report("Reading test images and masks", done, total)
            try:
                read[category].append(_read(test, empty_masks=empty_masks))
            except (UnknownPicture, BadMask) as error:
                faults.append(str(error))
            done += 1
    report("Reading test images and masks", done, total)
    if faults:
        more = f"\n  and {len(faults) - _MOST_FAULTS:,} more" if len(faults) > _MOST_FAULTS else ""
        lines = "\n  ".join(faults[:_MOST_FAULTS])
        raise CannotHide(f"Test images and masks that cannot be used: {len(faults):,}\n  {lines}{more}")
    return read


def _read(test: SourceImage, *, empty_masks: bool) -> Read:
    raw = test.path.read_bytes()
    try:
        bare = without_metadata(raw)
        size = picture_size(bare)
    except UnknownPicture as error:
        raise UnknownPicture(f"{shown(test.name)} {error}") from error
    if test.mask is None:
        return Read(test, size, digest(raw), digest(bare))
    mask_raw = test.mask.read_bytes()
    try:
        mask = read_mask(mask_raw, size)
        if mask.is_empty and not empty_masks:
            raise BadMask("marks no pixel of a defective image: correct it, or give --allow-empty-masks")
    except BadMask as error:
        raise BadMask(f"{shown(test.mask_name)} {error}") from error
    return Read(test, size, digest(raw), digest(bare), digest(mask_raw), mask.is_as_it_was, mask.is_empty)


def image_content(image: Read) -> bytes:
    """Return the image as runs read it."""
    return without_metadata(image.test.path.read_bytes())


def mask_content(image: Read) -> bytes:
    """Return the image's mask as scorers read it."""
    assert image.test.mask is not None
    mask: Mask = read_mask(image.test.mask.read_bytes(), image.size)
    return mask.content


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
