"""A run's log on its way to people: cleaned, shipped to PostgreSQL in chunks while it runs, stored when it ended."""

import codecs
import re
from pathlib import Path
from uuid import UUID

from django.db import connection

MAX_CHUNK_BYTES = 128 * 1024
# Control characters but tab, newline and those that begin something; C1; bidirectional overrides, which forge what is read.
_CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u061c\u202a-\u202e\u2066-\u2069\ufeff]")
_STRING_ENDS = re.compile("[\x07\x1b\n]")
_COLOUR = re.compile(r"[0-9;:]*")
_COLOURS = re.compile(r"\x1b\[[0-9;:]*m")
# Longer ones are no colours; what is kept of an unfinished one is bounded by it.
_LONGEST_SEQUENCE = 64

_INSERT = """
INSERT INTO jobs_joblogchunk (job_id, attempt, "offset", content)
SELECT id, attempt, %s, %s FROM jobs_job WHERE id = %s AND status = 'running' AND attempt = %s
-- A part whose answer was lost comes again, perhaps longer by now.
ON CONFLICT (job_id, attempt, "offset") DO UPDATE SET content = excluded.content
"""


class LogCleaner:
    """Turns a run's bytes, in pieces as they come, into UTF-8 that is safe to show: no controls, only colours.

    Every escape sequence but colours (SGR) goes: it could move a terminal's cursor, set its title or its clipboard. A
    machine of four states rather than expressions over the text, because taking one sequence out must not leave the parts
    of another to meet, and because a sequence can be cut anywhere between two pieces.
    """

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._state = self._plain
        self._sequence = ""
        self._after_return = False

    def clean(self, raw: bytes, *, is_last: bool = False) -> bytes:
        text = self._decoder.decode(raw, final=is_last)
        kept: list[str] = []
        at = 0
        while at < len(text):
            at = self._state(text, at, kept)
        return "".join(kept).encode()

    def _plain(self, text: str, at: int, kept: list[str]) -> int:
        end = text.find("\x1b", at)
        if end != at:
            kept.append(self._shown(text[at:] if end < 0 else text[at:end]))
        if end < 0:
            return len(text)
        self._state = self._escape
        return end + 1

    def _shown(self, text: str) -> str:
        """A progress bar rewrites its line by carriage returns; each state becomes a line of its own."""
        skip = self._after_return and text.startswith("\n")
        self._after_return = text.endswith("\r")
        lines = text[skip:].replace("\r\n", "\n").replace("\r", "\n")
        return _CONTROLS.sub("", lines)

    def _escape(self, text: str, at: int, kept: list[str]) -> int:
        """After ESC: what kind of sequence it is. One of two characters ends here."""
        char = text[at]
        if char == "[":
            self._state, self._sequence = self._control, ""
        elif char in "]PX^_":
            self._state = self._string
        elif char != "\x1b":
            self._state = self._plain
            # Not a sequence at all: a control character means what it means.
            return at if char < " " else at + 1
        return at + 1

    def _control(self, text: str, at: int, kept: list[str]) -> int:
        """CSI: parameters, then one final character."""
        char = text[at]
        if " " <= char <= "?":
            self._sequence += char if len(self._sequence) <= _LONGEST_SEQUENCE else ""
            return at + 1
        self._state = self._plain
        if not "@" <= char <= "~":
            return at
        if char == "m" and len(self._sequence) <= _LONGEST_SEQUENCE and _COLOUR.fullmatch(self._sequence):
            kept.append(f"\x1b[{self._sequence}m")
        return at + 1

    def _string(self, text: str, at: int, kept: list[str]) -> int:
        """OSC, DCS and their like, up to BEL or ST; a line's end ends them too, or one could hide all that follows."""
        end = _STRING_ENDS.search(text, at)
        if end is None:
            return len(text)
        self._state = self._escape if end.group() == "\x1b" else self._plain
        return end.start() if end.group() == "\n" else end.end()


def plain_line(text: str) -> str:
    """The text as one line that is safe to show, without control characters and colours."""
    cleaned = LogCleaner().clean(text.encode("utf-8", "replace"), is_last=True).decode()
    return " ".join(_COLOURS.sub("", cleaned).split())


class LogShipper:
    """Follows the supervisor's log file; the cleaned whole lies in `cleaned`, its parts go to PostgreSQL."""

    def __init__(self, source: Path, cleaned: Path, *, job_id: UUID, attempt: int) -> None:
        self._source = source
        self.cleaned = cleaned
        self._job_id, self._attempt = job_id, attempt
        self._cleaner = LogCleaner()
        self._read_bytes = 0
        self._shipped_bytes = 0

    def collect(self, *, is_last: bool = False) -> None:
        """Clean what the run has written since."""
        raw = b""
        if self._source.exists():
            with self._source.open("rb") as source:
                source.seek(self._read_bytes)
                raw = source.read()
        self._read_bytes += len(raw)
        with self.cleaned.open("ab") as target:
            target.write(self._cleaner.clean(raw, is_last=is_last))

    def ship(self) -> None:
        """Send what was cleaned since. A database error propagates; the next call sends the same part again."""
        if not self.cleaned.exists():
            return
        with self.cleaned.open("rb") as cleaned:
            cleaned.seek(self._shipped_bytes)
            while part := cleaned.read(MAX_CHUNK_BYTES):
                with connection.cursor() as cursor:
                    cursor.execute(_INSERT, [self._shipped_bytes, part, self._job_id, self._attempt])
                self._shipped_bytes += len(part)

    def conclude(self, sentences: list[str]) -> None:
        """Add the platform's own sentences below what the run said; after the last `collect`."""
        if not sentences:
            return
        with self.cleaned.open("a+b") as target:
            target.seek(max(0, self.size_bytes - 1))
            is_within_a_line = target.read(1) not in (b"", b"\n")
            target.write(b"\n" * is_within_a_line + "".join(f"LeadersBoard: {one}\n" for one in sentences).encode())

    @property
    def size_bytes(self) -> int:
        return self.cleaned.stat().st_size if self.cleaned.exists() else 0
