"""The platform's own reading of masks and BMP, compared with OpenCV and Pillow in the runner's environment."""

import os
import subprocess

from .conftest import REPOSITORY

COMPARE = r"""
import io
import cv2
import numpy as np
from PIL import Image
from leaderboards.hiding.masks import read_mask
from leaderboards.pictures import picture_size, without_metadata

rng = np.random.default_rng(0)
compared = 0

def decoded(raw, how=cv2.IMREAD_UNCHANGED):
    return cv2.imdecode(np.frombuffer(raw, np.uint8), how)

def saved(image, form, **options):
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()

def ways(mask):
    white = mask.astype(np.uint8) * 255
    for mode in ("L", "1", "RGB", "RGBA", "LA"):
        yield saved(Image.fromarray(white).convert(mode), "png")
    indexed = Image.fromarray(mask.astype(np.uint8))
    indexed.putpalette([0, 0, 0, 255, 255, 255, 7, 8, 9])
    yield saved(indexed, "png")
    for value, kind in ((1, np.uint8), (1, np.uint16), (255, np.uint16), (65535, np.uint16)):
        yield cv2.imencode(".png", mask.astype(kind) * kind(value))[1].tobytes()
    for filters in (8, 16, 32, 64, 128, 248):  # none, sub, up, average, Paeth, all
        for pixels in (white, np.repeat(white[..., None], 3, axis=2)):
            yield cv2.imencode(".png", pixels, [cv2.IMWRITE_PNG_FILTER, filters])[1].tobytes()

for share in (0.02, 0.5, 0.98) * 5:
    height, width = (int(side) for side in rng.integers(1, 70, 2))
    mask = rng.random((height, width)) < share
    for raw in ways(mask):
        read = decoded(read_mask(raw, (width, height)).content)
        assert (read.dtype, read.shape) == (np.uint8, mask.shape)
        assert np.array_equal(read > 127, mask)
        compared += 1

for mode in ("L", "RGB", "1", "P", "RGBA"):
    for width in (1, 5, 7, 32):
        image = Image.fromarray(rng.integers(0, 255, (9, width, 4), dtype=np.uint8))
        raw = saved(image if mode == "RGBA" else image.convert("RGB").convert(mode), "bmp", dpi=(72, 72))
        bare = without_metadata(raw + b"behind its end")
        assert picture_size(bare) == (width, 9) and without_metadata(bare) == bare
        assert np.array_equal(decoded(bare, cv2.IMREAD_COLOR), decoded(raw, cv2.IMREAD_COLOR))
        compared += 1
print(compared)
"""


def test_masks_and_bmp_are_read_as_opencv_and_pillow_read_them(runner: str) -> None:
    done = subprocess.run(
        [runner, "-B", "-c", COMPARE], cwd=REPOSITORY, env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert (done.stdout, done.stderr) == ("350\n", "")
