"""Names in a zip: UTF-8, Info-ZIP's field for Unicode names, or the Shift JIS of Japanese Windows.

A zip says of each name only whether it is UTF-8 (bit 11). Names without that bit are UTF-8 from most packers, and in the
code page of the machine from Windows: which of the two is decided for the whole directory, never name by name.
"""

import re
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from django.utils.translation import gettext_lazy

from submissions.archive.limits import ArchiveLimits, printable, refuse
from submissions.archive.names import check_path, decode_name, is_junk, refuse_undecoded

UTF8_FLAG = 1 << 11
# Where names come from systems whose folders are separated by backslashes: FAT, NTFS (by the format and by Info-ZIP), VFAT.
_WINDOWS_SYSTEMS = {0, 10, 11, 14}
# Version of the field, checksum of the name in the header.
_UNICODE_PATH_HEAD_BYTES = 5

# Half-width katakana, controls, private use and the no-break space: other code pages read as Shift JIS are full of them.
_IMPLAUSIBLE = re.compile("[\uff61-\uff9f\u0080-\u00a0\ue000-\uf8ff]")
_JAPANESE_RUN = re.compile("[^\u0000-\u007f]{2}")
# An accented letter of a Western code page swallows the letter behind it: "Mod\u00e8le" is read as "Mod\u78bae".
_SWALLOWED = re.compile("[A-Za-z][^\u0000-\u007f]")


@dataclass(frozen=True)
class Spelling:
    """A member's name as the directory has it."""

    raw: bytes
    is_utf8: bool
    system: int
    unicode_path: bytes | None

    def check(self, limits: ArchiveLimits) -> None:
        """Refuse a second name that differs from the first, or that is too long to be kept until all names are read."""
        told = self.unicode_path
        if told is None:
            return
        if len(told) > _UNICODE_PATH_HEAD_BYTES + 4 * limits.path_characters:
            check_path(told.decode("utf-8", "replace"), limits)
        if _is_utf8(self.raw) and told[_UNICODE_PATH_HEAD_BYTES:] != self.raw:
            _refuse_two_names(self.raw.decode("utf-8"))

    def check_local(self, name: str, is_utf8: bool, unicode_path: bytes | None) -> None:
        """Refuse a member's own header that gives the same bytes another meaning than the directory does."""
        if _is_utf8(self.raw):
            agrees = unicode_path is None or unicode_path[_UNICODE_PATH_HEAD_BYTES:] == self.raw
        else:
            second = _unicode_name(self.raw, unicode_path)
            agrees = is_utf8 == self.is_utf8 and (second is None or self._separated(second) == name)
        if not agrees and not is_junk(name):
            _refuse_two_names(name)

    def decoded(self, *, is_japanese: bool) -> str:
        if (name := self._told) is None:
            name = self.raw.decode("cp932") if is_japanese and self.is_of_the_code_page else decode_name(self.raw)
        return self._separated(name)

    @property
    def is_of_the_code_page(self) -> bool:
        """Whether nothing but its bytes tells what the name is. Junk is passed over, whatever it is called."""
        return not self.is_utf8 and self._told is None and not is_junk(self.raw.decode("utf-8", "replace"))

    @property
    def _told(self) -> str | None:
        return None if self.is_utf8 else _unicode_name(self.raw, self.unicode_path)

    def _separated(self, name: str) -> str:
        # After decoding: the second byte of a character may be that of a backslash.
        return name.replace("\\", "/") if self.system in _WINDOWS_SYSTEMS else name


def decoded_names(spellings: Sequence[Spelling]) -> list[str]:
    """The names of a whole directory, not yet checked as paths. Raises ArchiveRefused."""
    of_the_code_page = [spelling.raw for spelling in spellings if spelling.is_of_the_code_page]
    undecoded = next((raw for raw in of_the_code_page if not _is_utf8(raw)), None)
    if undecoded is not None and not _are_japanese(of_the_code_page):
        refuse_undecoded(undecoded)
    return [spelling.decoded(is_japanese=undecoded is not None) for spelling in spellings]


def _are_japanese(names: Iterable[bytes]) -> bool:
    """Whether all of them are Shift JIS that a person may have written, not the letters of another code page."""
    try:
        text = "\n".join(raw.decode("cp932") for raw in names)
    except UnicodeDecodeError:
        return False
    if _IMPLAUSIBLE.search(text):
        return False
    return bool(_JAPANESE_RUN.search(text)) or not _SWALLOWED.search(text)


def _unicode_name(raw: bytes, unicode_path: bytes | None) -> str | None:
    """The name in Info-ZIP's field, if the field is about this name: a program that renames may leave the old field."""
    if unicode_path is None or len(unicode_path) < _UNICODE_PATH_HEAD_BYTES or unicode_path[0] != 1:
        return None
    if int.from_bytes(unicode_path[1:_UNICODE_PATH_HEAD_BYTES], "little") != zlib.crc32(raw):
        return None
    return decode_name(unicode_path[_UNICODE_PATH_HEAD_BYTES:])


def _is_utf8(raw: bytes) -> bool:
    try:
        raw.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _refuse_two_names(name: str) -> None:
    refuse(gettext_lazy("%(name)s has two different names."), "bad_file_name", name=printable(name))
