"""A run's log on its way to people: cleaned, shipped to PostgreSQL in chunks while it runs, stored when it ended."""

import codecs
import re
from pathlib import Path
from uuid import UUID

from django.db import connection

MAX_CHUNK_BYTES = 128 * 1024
# Colours (SGR) stay; every other escape sequence could move a terminal's cursor, set its title or its clipboard.
_ESCAPES = re.compile(
    r"\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)?"  # OSC: titles, links, the clipboard
    r"|\x1b[PX^_][^\x1b]*(?:\x1b\\)?"  # DCS, SOS, PM, APC
    r"|\x1b\[[0-?]*[ -/]*[@-ln-~]"  # CSI other than ...m
    r"|\x1b\[[0-?]*[ -/]+m|\x1b\[[<-?][0-?]*m"  # ...m with something private in it
    r"|\x1b[^\[\]PX^_]"  # two-character sequences
    r"|\x1b$"
)
# Control characters but tab, newline and ESC (handled above); C1; bidirectional overrides, which forge what is read.
_CONTROLS = re.compile("[\x00-\x08\x0b-\x1a\x1c-\x1f\x7f-\x9f\u200e\u200f\u061c\u202a-\u202e\u2066-\u2069\ufeff]")
# A sequence that is not finished at the end of what came so far is kept for the next part, up to this length.
_UNFINISHED = re.compile(r"\x1b(?:\[[0-?]*[ -/]*|\][^\x07\x1b]{0,200}|)$")

_INSERT = """
INSERT INTO jobs_joblogchunk (job_id, attempt, "offset", content)
SELECT id, attempt, %s, %s FROM jobs_job WHERE id = %s AND status = 'running' AND attempt = %s
ON CONFLICT DO NOTHING
"""


class LogCleaner:
    """Turns a run's bytes, in pieces as they come, into UTF-8 that is safe to show: no controls, only colours."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._rest = ""

    def clean(self, raw: bytes, *, is_last: bool = False) -> bytes:
        text = self._rest + self._decoder.decode(raw, final=is_last)
        self._rest = ""
        if not is_last and (unfinished := _UNFINISHED.search(text)):
            text, self._rest = text[: unfinished.start()], unfinished.group()
        # A progress bar rewrites its line by carriage returns; each state becomes a line of its own.
        text = text.replace("\r\n", "\n").replace("\r", "\n")
        text = _CONTROLS.sub("", _ESCAPES.sub("", text))
        return text.encode("utf-8", "replace")


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

    @property
    def size_bytes(self) -> int:
        return self.cleaned.stat().st_size if self.cleaned.exists() else 0

    def last_line(self) -> str:
        """The last line that says something, for the error message of a run that failed."""
        if not self.cleaned.exists():
            return ""
        with self.cleaned.open("rb") as cleaned:
            cleaned.seek(max(0, self.size_bytes - 4096))
            lines = [line.strip() for line in cleaned.read().decode("utf-8", "replace").splitlines()]
        return next((re.sub(r"\x1b\[[0-9;:]*m", "", line)[:300] for line in reversed(lines) if line), "")
