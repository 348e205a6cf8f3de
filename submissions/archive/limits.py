"""What an archive may cost, how a refusal is told, and the running count that compares the two."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NoReturn

from django.utils.translation import gettext_lazy

from core.sizes import GIB, KIB, MIB, bytes_beyond, human_bytes

# Archives are read and unpacked in pieces of this size: memory does not grow with the archive.
CHUNK_BYTES = 64 * KIB

# Small files of zeros are ordinary (masks, empty weights), so the ratio speaks only past this much output.
RATIO_FREE_BYTES = MIB

PRINTED_CHARACTERS = 120


class ArchiveRefused(Exception):
    """An archive or a file name that is not taken, with a code for programs and a sentence for people.

    The message is safe to print anywhere plain text goes; it still has to be escaped for HTML.
    """

    def __init__(self, code: str, sentence: object, **parameters: object) -> None:
        super().__init__(code)
        self.code = code
        self.sentence = sentence
        self.parameters = parameters

    @property
    def message(self) -> str:
        """What is wrong, in the language that is active now."""
        return str(self.sentence) % self.parameters if self.parameters else str(self.sentence)

    def __str__(self) -> str:
        return self.message


def refuse(sentence: object, code: str = "bad_archive", **parameters: object) -> NoReturn:
    raise ArchiveRefused(code, sentence, **parameters)


def printable(name: str) -> str:
    """The name in quotes, cut, with every control, bidi and other invisible character spelled out."""
    cut = name if len(name) <= PRINTED_CHARACTERS else name[:PRINTED_CHARACTERS] + "…"
    spelled = (c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in cut)
    return f'"{"".join(spelled)}"'


@dataclass(frozen=True)
class ArchiveLimits:
    total_bytes: int = GIB
    file_bytes: int = 512 * MIB
    members: int = 2000
    ratio: int = 200
    depth: int = 12
    component_bytes: int = 100
    path_bytes: int = 240
    seconds: float = 60

    @property
    def path_characters(self) -> int:
        """What is longer cannot become a path: NFC shortens a name three times at the most."""
        return 4 * self.path_bytes


DEFAULT_LIMITS = ArchiveLimits()


@dataclass(frozen=True)
class ManifestEntry:
    path: str
    bytes: int
    sha256: str


@dataclass(frozen=True)
class Seen:
    """What a member's packed bytes are, for who has read them already (see follow.py)."""

    method: int
    packed_bytes: int
    file_bytes: int
    crc: int


@dataclass
class Member:
    """One file or directory as a reader finds it; the name is decoded but not yet checked."""

    name: str
    is_directory: bool
    is_executable: bool
    chunks: Iterator[bytes]
    # All that its chunks would tell but their content: they need not be read.
    seen: Seen | None = None


class Budget:
    """Counts what really went in and came out during one pass, and refuses at the first limit passed."""

    def __init__(self, limits: ArchiveLimits, clock: Callable[[], float] = time.monotonic) -> None:
        self.limits = limits
        self._clock = clock
        self._deadline = clock() + limits.seconds
        self._members = 0
        self._read_bytes = 0
        self._unpacked_bytes = 0
        self._content_bytes = 0

    def check_time(self) -> None:
        if self._clock() > self._deadline:
            refuse(
                gettext_lazy("The archive takes longer than %(seconds)g seconds to read."),
                "too_large",
                seconds=self.limits.seconds,
            )

    def check_members(self, count: int) -> None:
        if count > self.limits.members:
            refuse(
                gettext_lazy("The archive holds more than %(members)s members, which is the most allowed."),
                "too_large",
                members=self.limits.members,
            )

    def add_member(self) -> None:
        """Ignored members and global headers count too: they cost as much as any other."""
        self.check_time()
        self._members += 1
        self.check_members(self._members)

    def add_unpacked(self, *, read_bytes: int, unpacked_bytes: int) -> None:
        """A decompressor took so much in and gave so much out."""
        self.check_time()
        self._read_bytes += read_bytes
        self._unpacked_bytes += unpacked_bytes
        if self._unpacked_bytes > RATIO_FREE_BYTES and self._unpacked_bytes > self.limits.ratio * self._read_bytes:
            refuse(
                gettext_lazy(
                    "The archive unpacks to more than %(ratio)s times its size (%(packed)s gave %(unpacked)s), which is the most allowed."
                ),
                "too_large",
                ratio=self.limits.ratio,
                packed=human_bytes(self._read_bytes),
                unpacked=human_bytes(self._unpacked_bytes),
            )

    def check_claim(self, name: str, claimed_bytes: int) -> None:
        """Refuse early what the archive itself says is too large; a smaller claim proves nothing."""
        if claimed_bytes > self.limits.file_bytes:
            refuse(
                gettext_lazy("%(name)s has %(size)s; at most %(most)s a file are allowed."),
                "too_large",
                name=printable(name),
                size=bytes_beyond(claimed_bytes, self.limits.file_bytes),
                most=human_bytes(self.limits.file_bytes),
            )

    def add_seen(self, name: str, seen: Seen) -> None:
        """A whole member at once, which has been read."""
        self.check_claim(name, seen.file_bytes)
        self.add_unpacked(read_bytes=seen.packed_bytes, unpacked_bytes=seen.file_bytes)
        self.add_content(name, chunk_bytes=seen.file_bytes, file_bytes=seen.file_bytes)

    def add_content(self, name: str, *, chunk_bytes: int, file_bytes: int) -> None:
        """A chunk of a member came out, which makes the member `file_bytes` long so far."""
        self.check_claim(name, file_bytes)
        self._content_bytes += chunk_bytes
        if self._content_bytes > self.limits.total_bytes:
            refuse(
                gettext_lazy(
                    "The files of the archive have more than %(most)s together (passed in %(name)s), which is the most allowed."
                ),
                "too_large",
                most=human_bytes(self.limits.total_bytes),
                name=printable(name),
            )
