"""A part of a small form as a file: what it says is what a file of its bytes says."""

import random
from io import SEEK_CUR, SEEK_END, SEEK_SET, BytesIO

import pytest

from leaderboard_site.lane.form import COPIED_BYTES, Part, read_form

CONTENT = random.Random(3).randbytes(3 * COPIED_BYTES)


@pytest.mark.parametrize("size", [0, 1, COPIED_BYTES, COPIED_BYTES + 1, len(CONTENT)])
def test_a_part_reads_as_a_file_of_its_bytes(size):
    chance = random.Random(size)
    part, file = Part("a.zip", memoryview(CONTENT)[:size]).file, BytesIO(CONTENT[:size])
    for _ in range(200):
        whence = chance.choice([SEEK_SET, SEEK_CUR, SEEK_END])
        offset = chance.randint(0, size) - (size if whence == SEEK_END else 0)
        assert part.seek(offset, whence) == file.seek(offset, whence)
        count = chance.choice([0, 1, 22, 30_000, 2 * COPIED_BYTES, -1])
        assert part.read(count) == file.read(count)
        assert part.tell() == file.tell()


def test_a_large_part_is_not_copied_out_of_its_body():
    body = b'--b\r\nContent-Disposition: form-data; name="files"; filename="a.zip"\r\n\r\n' + CONTENT + b"\r\n--b--\r\n"
    [part] = read_form(body, b"b", file_field="files").files
    assert (part.size, part.content.obj) == (len(CONTENT), body)
    assert part.content == CONTENT
